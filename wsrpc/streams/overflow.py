"""Policies for items that a consumer does not take in time (`clientize(…, overflow=)`).

Under "block" credit comes back as the application takes items, and so the producer waits for it.
Under the other policies credit comes back as items arrive: the producer runs at its own pace, and
items that the consumer does not take in time are dropped here. The other end cannot tell.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from ..errors import StreamOverflow
from ..interfaces import Overflow
from ..limits import COST_UNIT, MAX_CREDIT, Limits
from .consumer import Consumer
from .items import ItemGroup

__all__ = ["CONSUMERS", "first_credit"]


def first_credit(overflow: Overflow, window: int | None, limits: Limits) -> int | None:
    """Items. The credit with which a stream starts, if not the one announced in hello."""
    if overflow in ("block", "latest"):
        return window
    # As many items as fit `window_bytes` at any size; from there on the window grows.
    return max(1, min(window or limits.window, limits.window_bytes // COST_UNIT))


class DropOldest(Consumer):
    """Keeps the newest items, as many as there is room for.

    Items wait one by one and undecoded, so that none is validated only to be dropped. The window
    does not grow beyond the room: all items that arrive at once then fit an empty queue, and a
    consumer that keeps up loses none, however the items fall into batches.
    """

    __slots__ = ("_bytes",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bytes = 0
        self._lane.keep_at_most(self._room)

    def on_items(self, items: list[Raw]) -> None:
        self._observe(len(items))
        if not self.closed:
            lane = self._lane
            if self._hub.endpoint.consumed(lane, lane.untaken, waiting=True):
                self._hub.wake()
            self._admit(items)
            self._notify()

    def _admit(self, items: list[Raw]) -> None:
        groups = self._groups
        gone = max(0, len(items) - self._room)
        self._append(items[gone:])
        oldest, before = 0, self._bytes
        while self._exceeds(len(groups) - oldest, self._bytes - len(groups[-1].data)):
            self._bytes -= len(groups[oldest].data)
            oldest += 1
        del groups[:oldest]
        if oldest:
            # This is not `_give_back`, which would say that the application took them.
            self._held -= before - self._bytes
            self._hub.release(before - self._bytes)
        self._tally.add(gone + oldest)

    def _append(self, items: list[Raw]) -> None:
        codec = self._hub.codec
        self._groups.extend([ItemGroup([item], codec) for item in items])
        size = sum(map(len, items))
        self._bytes += size
        self._keep(size)

    def _exceeds(self, count: int, older: int) -> bool:
        """Whether more items or bytes wait than may.

        Args:
            count: Items that wait.
            older: Bytes of all items but the newest, which may have any size.
        """
        return count > self._room or older > self._hub.limits.window_bytes

    def _decode(self, group: ItemGroup) -> None:
        self._bytes -= len(group.data)
        super()._decode(group)

    def report(self, *, waiting: bool) -> None:
        """Do nothing: credit was given back on arrival."""
        self.taken = 0


class Latest(DropOldest):
    """Keeps the newest item; the window grows as it may, since bursts do no harm."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane.keep_at_most(MAX_CREDIT)
        self._room = 1


class Fail(DropOldest):
    """Keeps all items for as long as there is room, and ends the stream when there is none."""

    __slots__ = ()

    def _admit(self, items: list[Raw]) -> None:
        count = len(self._groups) + len(items)
        size = self._bytes + sum(map(len, items))
        if not self._exceeds(count, size - len(items[-1])):
            self._append(items)
            return
        self._tally.add(count)
        self.stop("cancelled")
        self.fail(
            StreamOverflow(
                f"{self._label}: the consumer fell behind by {count} items ({size} bytes); "
                f"overflow='fail' lets {self._room} items (window=) and "
                f"{self._hub.limits.window_bytes} bytes (Limits.window_bytes) wait"
            )
        )


CONSUMERS: dict[Overflow, type[Consumer]] = {
    "block": Consumer,
    "latest": Latest,
    "drop_oldest": DropOldest,
    "fail": Fail,
}
