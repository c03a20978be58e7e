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
        live: The handlers.
    """

    __slots__ = (
        "_functions",
        "_idle",
        "_in_order",
        "_instances",
        "authorize",
        "check",
        "debug",
        "events",
        "hub",
        "live",
        "threads",
    )

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
        self.live: dict[Running, None] = {}
        self._idle: list[Future] = []
        # Most sessions need none of these.
        self._in_order: InOrder | None = None
        self._instances: dict[str, Any] | None = None
        self._functions: dict[str, Callable[..., Any]] | None = None

    @property
    def session(self) -> Session:
        """The session of these calls."""
        return self.hub.session

    @property
    def in_order(self) -> InOrder:
        """Plain notifications, which begin one after the other."""
        if self._in_order is None:
            self._in_order = InOrder(self.hub, self.threads)
        return self._in_order

    async def passed(self) -> None:
        """Wait until all plain notifications that are there now have begun."""
        if self._in_order is not None:
            await self._in_order.passed()

    def function(self, entry: MethodEntry) -> Callable[..., Any]:
        """The method, bound to this session's controller: a shared one, or one made for it."""
        if entry.function is not None:
            return entry.function
        if self._functions is None or self._instances is None:
            self._functions, self._instances = {}, {}
        function = self._functions.get(entry.label)
        if function is None:
            name = entry.exposed.name
            if name not in self._instances:
                self._instances[name] = entry.exposed.instance(self.session)
            function = self._functions[entry.label] = entry.spec.target(self._instances[name])
        return function

    def begin(self, handler: Running) -> None:
        """Count in a handler that has begun."""
        self.live[handler] = None

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
        self.live.pop(handler, None)
        if not self.live:
            self.emptied()

    def emptied(self) -> None:
        """Note that no handler runs any more."""
        if self._idle:
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
