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

    __slots__ = ("callback", "order", "when")

    def __init__(self, when: float, order: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.order = order
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: Deadline) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class Deadlines:
    """The deadlines of one session; times are seconds on the runtime's clock."""

    def __init__(self, runtime: Runtime, nursery: Nursery) -> None:
        self._now = runtime.now
        self._heap: list[Deadline] = []
        self._removed = 0
        self._order = count()
        self._timer = nursery.timer(self._fire)

    def add(self, when: float, callback: Callable[[], None]) -> Deadline:
        """Arrange for `callback`, which must not raise."""
        entry = Deadline(when, next(self._order), callback)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._timer.arm(when)
        return entry

    def remove(self, entry: Deadline) -> None:
        """Take an entry back; nothing happens if it has fired."""
        if entry.callback is None:
            return
        entry.callback = None
        self._removed += 1
        if self._removed > 64 and self._removed * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry.callback is not None]
            heapq.heapify(self._heap)
            self._removed = 0

    def _fire(self) -> None:
        now = self._now()
        heap = self._heap
        while heap and (heap[0].callback is None or heap[0].when <= now):
            entry = heapq.heappop(heap)
            callback, entry.callback = entry.callback, None
            if callback is None:
                self._removed -= 1
            else:
                callback()
                heap = self._heap
        if heap:
            self._timer.arm(heap[0].when)
