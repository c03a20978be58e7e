"""SIGINT and SIGTERM, for all servers of a process that wait for them.

A process has one handler for a signal, and so has an event loop. If each server set its own, only
the last one would hear of a signal, and a program with two servers could not be stopped.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import anyio

from .. import runtime as runtimes

__all__ = ["arriving_signals"]

# Python's own handlers.
DEFAULTS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class _Watch:
    """The handler of the process, and the servers that it tells.

    It is there for as long as a server in the main thread waits, since only that thread can set one.
    It tells the servers in other threads too.
    """

    def __init__(self) -> None:
        # The handler may come amid a change: it reads the tuple once, and takes no lock.
        self._told: tuple[Callable[[int], None], ...] = ()
        self._lock = threading.Lock()
        self._in_main = 0
        self._before: dict[int, Any] = {}
        self._came = 0

    def join(self, told: Callable[[int], None]) -> None:
        with self._lock:
            self._told = (*self._told, told)
        if _in_main_thread():
            self._in_main += 1
            if self._in_main == 1:
                self._came = 0
                self._before = {one: signal.signal(one, self._on_signal) for one in DEFAULTS}

    def leave(self, told: Callable[[int], None]) -> None:
        with self._lock:
            self._told = tuple(one for one in self._told if one is not told)
        if _in_main_thread():
            self._in_main -= 1
            if self._in_main == 0:
                # Who has sent two signals does not want to wait: an event loop's handler might.
                after = DEFAULTS if self._came > 1 else self._before
                for number, handler in after.items():
                    if signal.getsignal(number) == self._on_signal:
                        signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._came += 1
        for told in self._told:
            told(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_watch = _Watch()


@contextmanager
def arriving_signals() -> Iterator[AsyncIterator[int]]:
    """The numbers of the SIGINTs and SIGTERMs that arrive until the block is left.

    In a thread other than the main one those arrive that come while the main thread waits as well.
    """
    runtime = runtimes.current()
    come, arrived = anyio.create_memory_object_stream[int](math.inf)

    def told(number: int) -> None:
        runtime.call_threadsafe(partial(put, number))

    def put(number: int) -> None:
        with suppress(anyio.ClosedResourceError):
            come.send_nowait(number)

    with come, arrived:
        _watch.join(told)
        try:
            yield arrived
        finally:
            _watch.leave(told)
