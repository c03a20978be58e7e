"""Drain on a signal that belongs to the program which hosts this server, then hand it on.

Uvicorn closes its WebSockets as soon as it is told to stop, before it tells the application. So
this module takes the signal first. When the drain is over, the host's own handler gets the signal,
as if it had come only then.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from ..runtime import Nursery, Runtime

__all__ = ["RelayedSignals"]


class RelayedSignals:
    """SIGTERM and SIGINT of a host that handles them itself.

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
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._caught: int | None = None

    def take(self) -> None:
        """Put this object's handlers in front of the host's."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._on_signal)

    def give_back(self) -> None:
        """Put the host's handlers back."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, before)
        self._before.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._caught is not None:
            self._before[number](number, frame)
            return
        self._caught = number
        self._runtime.call_threadsafe(self._begin)

    def _begin(self) -> None:
        self._nursery.spawn(self._drain_and_hand_on)

    async def _drain_and_hand_on(self) -> None:
        number = self._caught
        assert number is not None
        before = self._before.get(number)
        try:
            await self._drain()
        finally:
            if before is not None:
                before(number, None)
