"""The route of a session's calls: the hub for new ones, and the state that all of them share."""

from __future__ import annotations

from typing import Any

from ..engine.hub import Hub
from ..errors import Code, RpcError
from ..interfaces import Session
from ..telemetry.events import Events
from .retry import Attempts, Budget, is_repeatable

__all__ = ["Retry", "Route"]


class Route:
    """The route of new calls of a session.

    A session outlives its wire sessions: each call, and each repeat, asks for the present one.

    Attributes:
        hub: The hub for new calls.
        budget: The budget for repeats of all calls together.
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
        """The number of calls so far; their uploads and callbacks count like calls."""
        return self._sent_before + self.hub.endpoint.opened

    @property
    def in_order(self) -> Hub:
        """The hub for notifications: always the same one, so that they arrive in order."""
        return self.hub

    def witnesses(self) -> tuple[Session, Events]:
        """The session and its observers; they are known even where there is no hub."""
        return self.hub.session, self.hub.events

    def lead_to(self, hub: Hub) -> None:
        """Let new calls go through another wire session."""
        self._sent_before += self.hub.endpoint.opened
        self.hub = hub


class Retry:
    """How the calls of one method are repeated.

    Args:
        route: The route of the calls.
        idempotent: Whether the method is declared idempotent.
    """

    __slots__ = ("_idempotent", "route")

    def __init__(self, route: Route, *, idempotent: bool) -> None:
        self.route = route
        self._idempotent = idempotent

    def wants(self, error: RpcError[Any], *, begun: bool = False, refused: bool = False) -> bool:
        """Whether a repeat of the call can be considered.

        Args:
            error: The error of the call.
            begun: Whether an upload of it has begun, which cannot be rewound.
            refused: Whether this side did not even queue the call. It would refuse a repeat too, if
                it lacks room. And a call that must not wait for a slot (SLOT-3) must not wait in
                this way either.
        """
        if refused and error.code == Code.RESOURCE_EXHAUSTED:
            return False
        return (
            not begun
            and not self.route.closed
            and is_repeatable(error, idempotent=self._idempotent)
        )

    def attempts(self, deadline: float | None) -> Attempts:
        """The account of one call, made at its first failure."""
        return Attempts(
            self.route.budget,
            most=self.route.hub.limits.retry_attempts,
            idempotent=self._idempotent,
            deadline=deadline,
        )

    def delay(self, attempts: Attempts, error: RpcError[Any], hub: Hub) -> float | None:
        """Seconds after which to try again, or None; see `Attempts.delay`.

        Args:
            attempts: The account of the call.
            error: The error of the last attempt.
            hub: The hub over which that attempt was made.
        """
        route = self.route
        if route.closed:
            return None
        moved = route.hub is not hub
        return attempts.delay(error, hub.runtime.now(), route.calls_sent, moved=moved)
