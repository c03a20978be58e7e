"""Where the calls of a session go now, and what all of them share."""

from __future__ import annotations

from typing import Any

from ..engine.hub import Hub
from ..errors import Code, RpcError
from .retry import Attempts, Budget, is_repeatable

__all__ = ["Retry", "Route"]


class Route:
    """Where new calls of a session go.

    A session outlives its sessions of the wire: whoever makes a call asks for the present one each
    time, also for a repeat.

    Attributes:
        hub: What new calls go through.
        budget: What all calls may spend on repeats together.
        closed: Whether the session has ended for good.
    """

    __slots__ = ("_sent_before", "budget", "closed", "hub")

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.budget = Budget(hub.limits.retry_tokens, hub.limits.retry_refund)
        self.closed = False
        self._sent_before = 0

    @property
    def calls_sent(self) -> int:
        """Calls so far; their uploads and callbacks count like calls."""
        return self._sent_before + self.hub.endpoint.opened

    @property
    def in_order(self) -> Hub:
        """What notifications go through: always the same, so that they arrive in order."""
        return self.hub

    def lead_to(self, hub: Hub) -> None:
        """Let new calls go through another session of the wire."""
        self._sent_before += self.hub.endpoint.opened
        self.hub = hub


class Retry:
    """How the calls of one method are repeated.

    Args:
        route: Where they go.
        idempotent: Whether the method is declared so.
    """

    __slots__ = ("_idempotent", "route")

    def __init__(self, route: Route, *, idempotent: bool) -> None:
        self.route = route
        self._idempotent = idempotent

    def wants(self, error: RpcError[Any], *, begun: bool = False, refused: bool = False) -> bool:
        """Whether it is worth thinking about.

        Args:
            error: What a call came to.
            begun: Whether an upload of it has begun, which cannot be wound back.
            refused: Whether this side did not even queue it. It would do the same again, where that
                was for want of room; and a call that must not wait for a slot (SLOT-3) does not
                wait for one this way either.
        """
        if refused and error.code == Code.RESOURCE_EXHAUSTED:
            return False
        return (
            not begun
            and not self.route.closed
            and is_repeatable(error, idempotent=self._idempotent)
        )

    def attempts(self, deadline: float | None) -> Attempts:
        """The account of one call, opened at its first failure."""
        return Attempts(
            self.route.budget,
            most=self.route.hub.limits.retry_attempts,
            idempotent=self._idempotent,
            deadline=deadline,
        )

    def delay(self, attempts: Attempts, error: RpcError[Any], hub: Hub) -> float | None:
        """Seconds after which to try again, None for not at all; see `Attempts.delay`.

        Args:
            attempts: The call's.
            error: What the last attempt came to.
            hub: Where that was made.
        """
        route = self.route
        if route.closed:
            return None
        moved = route.hub is not hub
        return attempts.delay(error, hub.runtime.now(), route.calls_sent, moved=moved)
