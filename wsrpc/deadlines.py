"""All deadlines of a session in one ordered structure, served by one timer.

A timer and a cancel scope a call would cost more than the call itself, and almost no deadline ever
fires. So an entry is a slot in a heap, and taking it back is a flag; the heap is rebuilt when most
of it is flags.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from .runtime import Nursery, Runtime

__all__ = ["Deadline", "Deadlines"]


class Deadline:
    """One entry: call `callback` at `when`, unless it is removed before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback


class Deadlines:
    """The deadlines of one session; times are seconds on the runtime's clock."""

    def __init__(self, runtime: Runtime, nursery: Nursery) -> None:
        self._now = runtime.now
        # Tuples, because they compare in C; the running number keeps entries from being compared.
        self._heap: list[tuple[float, int, Deadline]] = []
        self._removed = 0
        self._order = count().__next__
        self._timer = nursery.timer(self._fire)

    def add(self, when: float, callback: Callable[[], None]) -> Deadline:
        """Arrange for `callback`, which must not raise."""
        entry = Deadline(callback)
        heap = self._heap
        heapq.heappush(heap, (when, self._order(), entry))
        if heap[0][2] is entry:
            self._timer.arm(when)
        return entry

    def remove(self, entry: Deadline) -> None:
        """Take an entry back; nothing happens if it has fired."""
        if entry.callback is None:
            return
        entry.callback = None
        self._removed += 1
        if self._removed > 64 and self._removed * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].callback is not None]
            heapq.heapify(self._heap)
            self._removed = 0

    def close(self) -> None:
        """Nothing will be due any more."""
        self._heap.clear()
        self._timer.close()

    def _fire(self) -> None:
        now = self._now()
        heap = self._heap
        while heap and (heap[0][2].callback is None or heap[0][0] <= now):
            entry = heapq.heappop(heap)[2]
            callback, entry.callback = entry.callback, None
            if callback is None:
                self._removed -= 1
            else:
                callback()
                heap = self._heap
        if heap:
            self._timer.arm(heap[0][0])
