"""All that is due on a session, deadlines above all, in one ordered structure with one timer.

A timer and a cancel scope a call would cost more than the call itself, and almost no deadline ever
fires. So an entry is a slot in a heap, and taking it back is a flag; the heap is rebuilt when most
of it is flags.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from heapq import heappush
from itertools import count
from typing import Any, TypeAlias

from . import Nursery, Runtime

__all__ = ["TimerEntry", "Timers"]


# One entry: when, a running number, and what to call then, None once it is removed. It is a list
# because lists compare in C, and because a class of its own would double what an entry costs. The
# number keeps the callbacks from being compared.
TimerEntry: TypeAlias = list[Any]


class Timers:
    """All that is due on one session; times are seconds on the runtime's clock."""

    def __init__(self, runtime: Runtime, nursery: Nursery) -> None:
        self._now = runtime.now
        self._heap: list[TimerEntry] = []
        self._removed = 0
        self._order = count().__next__
        self._timer = nursery.timer(self._fire)

    def add(self, when: float, callback: Callable[[], None]) -> TimerEntry:
        """Arrange for `callback`, which must not raise."""
        entry = [when, self._order(), callback]
        heap = self._heap
        heappush(heap, entry)
        if heap[0] is entry:
            self._timer.arm(when)
        return entry

    def remove(self, entry: TimerEntry) -> None:
        """Take an entry back; nothing happens if it has fired."""
        if entry[2] is None:
            return
        entry[2] = None
        self._removed = removed = self._removed + 1
        if removed > 64 and removed * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2] is not None]
            heapq.heapify(self._heap)
            self._removed = 0

    def close(self) -> None:
        """Nothing will be due any more."""
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
