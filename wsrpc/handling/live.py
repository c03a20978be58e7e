"""The calls of the peer that run on one session, and the state that their handlers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..context import Authorize
from ..engine.hub import Hub, settle
from ..interfaces import Session
from ..runtime import Future
from .in_order import InOrder
from .target import MethodEntry
from .threads import Threads

__all__ = ["LiveCalls", "Running"]


class Running(Protocol):
    """A handler that runs."""

    @property
    def attached(self) -> bool:
        """Whether it is to be cancelled when the connection is lost."""
        ...

    @property
    def ends_on_drain(self) -> bool:
        """Whether it is to be cancelled when a drain begins."""
        ...

    def stop(self, reason: str) -> None:
        """Cancel it, so that it cleans up.

        Args:
            reason: The code of the error that its caller gets.
        """

    def reap(self) -> None:
        """End it where its task was dropped, as at the end of `asyncio.run`."""


class LiveCalls:
    """The handlers of one session that have not ended.

    Args:
        hub: The session's.
        authorize: Asked before each call of a method, if there is one.
        check: Whether results are validated before they leave.
        debug: Whether unexpected errors cross with their text.
        threads: The threads in which plain functions run.

    Attributes:
        hub: The session's.
        authorize: Asked before each call of a method, if there is one.
        check: Whether results are validated before they leave.
        debug: Whether unexpected errors cross with their text.
        events: Passes events to counters and observers.
        threads: The threads in which plain functions run.
        in_order: Plain notifications, which begin one after the other.
        live: The handlers.
        begin: Counts in a handler that has begun.
        functions: The methods called so far, as `function` gives them, by full name.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        authorize: Authorize | None,
        check: bool,
        debug: bool,
        threads: Threads,
    ) -> None:
        self.hub = hub
        self.authorize = authorize
        self.check = check
        self.debug = debug
        self.events = hub.events
        self.threads = threads
        self.in_order = InOrder(hub, threads)
        self.live: set[Running] = set()
        self.begin: Callable[[Running], None] = self.live.add
        self._idle: list[Future] = []
        self._instances: dict[str, Any] = {}
        self.functions: dict[str, Callable[..., Any]] = {}

    @property
    def session(self) -> Session:
        """The session of these calls."""
        return self.hub.session

    def function(self, entry: MethodEntry) -> Callable[..., Any]:
        """The method, bound to this session's controller: a shared one, or one made for it."""
        try:
            return self.functions[entry.label]
        except KeyError:
            name = entry.exposed.name
            if name not in self._instances:
                self._instances[name] = entry.exposed.instance(self.session)
            function = entry.spec.target(self._instances[name])
            self.functions[entry.label] = function
            return function

    async def idle(self) -> None:
        """Wait until no handler runs any more."""
        while self.live:
            for handler in list(self.live):
                handler.reap()
            if not self.live:
                return
            idle = self.hub.runtime.future()
            self._idle.append(idle)
            await idle

    def end(self, handler: Running) -> None:
        """Count out a handler that is through, its cleanup included."""
        self.live.discard(handler)
        if self._idle and not self.live:
            settle(self._idle)

    def stop_all(self, reason: str = "cancelled") -> None:
        """Cancel every handler, so that it cleans up (CLOSE-5, DRAIN-3).

        Args:
            reason: The code of the error that their callers get, if the session goes on.
        """
        for handler in list(self.live):
            handler.stop(reason)

    def stop_ending(self) -> None:
        """Cancel the streams that end when a drain begins (DRAIN-1)."""
        for handler in list(self.live):
            if handler.ends_on_drain:
                handler.stop("unavailable")

    def stop_attached(self) -> None:
        """Cancel the handlers that do not run on when the link is lost (RESUME-8)."""
        for handler in list(self.live):
            if handler.attached:
                handler.stop("cancelled")
