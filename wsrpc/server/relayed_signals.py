"""Drain on a signal that belongs to the program which hosts this server, then hand it on.

Uvicorn closes its WebSockets as soon as it is told to stop, before it tells the application. So
this module takes the signal first. When the drain is over, the host's own handler gets the signal,
as if it had come only then. Several servers in one application drain at the same time, and the
host's handler gets the signal after the last of them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from ..runtime import Nursery, Runtime

__all__ = ["RelayedSignals"]

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class RelayedSignals:
    """SIGTERM and SIGINT of a host that handles them itself, for one server in it.

    A host that leaves signals to Python's defaults keeps the defaults. In a thread other than the
    main one no signal can be taken.

    Args:
        drain: Runs at the first signal; the second signal is handed on at once.
        runtime: The event loop on which it runs.
        nursery: The parent of its task.
    """

    def __init__(
        self, drain: Callable[[], Awaitable[None]], runtime: Runtime, nursery: Nursery
    ) -> None:
        self._drain = drain
        self._runtime = runtime
        self._nursery = nursery
        self._relay: _Relay | None = None

    def take(self) -> None:
        """Put a handler in front of the host's, or join that of the servers before this one."""
        if threading.current_thread() is threading.main_thread():
            self._relay = _Relay.in_front() or _Relay()
            self._relay.join(self)

    def give_back(self) -> None:
        """Leave; the last of the servers puts the host's handlers back."""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.leave(self)

    def begin(self) -> None:
        """Start the drain; called from the handler of the signal, at any point of the program."""
        self._runtime.call_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._relay is not None:
            self._nursery.spawn(self._drain_and_tell)

    async def _drain_and_tell(self) -> None:
        try:
            await self._drain()
        finally:
            if self._relay is not None:
                self._relay.drained(self)


class _Relay:
    """The handler that stands in front of the host's, for all servers in one application.

    A signal that is held back is handed on when no server drains any more, whether the drains are
    over or their servers have left.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._servers: list[RelayedSignals] = []
        self._draining: set[RelayedSignals] = set()
        self._held: int | None = None
        self._caught = False

    @staticmethod
    def in_front() -> _Relay | None:
        """The relay whose handler would get a signal now."""
        for number in NUMBERS:
            owner = getattr(signal.getsignal(number), "__self__", None)
            if isinstance(owner, _Relay):
                return owner
        return None

    def join(self, server: RelayedSignals) -> None:
        """Drain this server too; the first one takes the signals from the host."""
        self._servers.append(server)
        if len(self._servers) > 1:
            return
        for number in NUMBERS:
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._on_signal)

    def leave(self, server: RelayedSignals) -> None:
        """Do not wait for this server any more; the last one gives the signals back."""
        self._servers.remove(server)
        self.drained(server)
        if not self._servers:
            for number, before in self._before.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, before)

    def drained(self, server: RelayedSignals) -> None:
        """Note that a server has drained; after the last one the host gets the signal."""
        self._draining.discard(server)
        if not self._draining and self._held is not None:
            number, self._held = self._held, None
            self._before[number](number, None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._caught or not self._servers:
            self._before[number](number, frame)
            return
        self._caught = True
        self._held = number
        self._draining.update(self._servers)
        for server in self._servers:
            server.begin()
