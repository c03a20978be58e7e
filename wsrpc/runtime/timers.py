"""The timers of a session, mostly deadlines, in one heap with one timer of the event loop.

A timer and a cancel scope for each call would cost more than the call itself, and almost no
deadline ever fires. So an entry is an element of a heap, and removing it sets a flag. The heap is
rebuilt when most of its entries are removed ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from heapq import heappush
from itertools import count
from typing import Any, TypeAlias

from . import Nursery, Runtime

__all__ = ["TimerEntry", "Timers"]


# One entry: the time, a running number, and the callback, which is None once the entry is removed.
# It is a list because lists compare in C, and because a class would double the cost of an entry.
# The number keeps callbacks from being compared.
TimerEntry: TypeAlias = list[Any]
_number: Callable[[], int] = count().__next__


class Timers:
    """The timers of one session; times are seconds on the runtime's clock."""

    __slots__ = ("_heap", "_now", "_removed", "_timer")

    def __init__(self, runtime: Runtime, nursery: Nursery) -> None:
        self._now = runtime.now
        self._heap: list[TimerEntry] = []
        self._removed = 0
        self._timer = nursery.timer(self._fire)

    def add(self, when: float, callback: Callable[[], None]) -> TimerEntry:
        """Arrange for `callback`, which must not raise."""
        entry = [when, _number(), callback]
        heap = self._heap
        heappush(heap, entry)
        if heap[0] is entry:
            self._timer.arm(when)
        return entry

    def remove(self, entry: TimerEntry) -> None:
        """Remove an entry; has no effect if it has fired."""
        if entry[2] is None:
            return
        entry[2] = None
        self._removed = removed = self._removed + 1
        if removed > 64 and removed * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2] is not None]
            heapq.heapify(self._heap)
            self._removed = 0

    def close(self) -> None:
        """Drop all entries: no callback will be called any more."""
        self._heap.clear()
        self._timer.close()

    def _fire(self) -> None:
        now = self._now()
        heap = self._heap
        while heap and (heap[0][2] is None or heap[0][0] <= now):
            entry = heapq.heappop(heap)
            callback, entry[2] = entry[2], None
            if callback is None:
                self._removed -= 1
            else:
                callback()
                heap = self._heap
        if heap:
            self._timer.arm(heap[0][0])
