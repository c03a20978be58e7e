"""Items as they arrived, until the application takes them, and the count of those that it never gets."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Raw

from ..limits import COST_UNIT
from ..protocol.codec import Codec
from ..protocol.window import cost_of

__all__ = ["ItemGroup", "Tally"]


class ItemGroup:
    """The items of one `message`, copied out of the batch that brought them.

    Undecoded items are views of their batch and keep all of it in memory. A slow consumer would
    hold one batch, most of it other streams' items, for each item that waits. The copy costs
    nothing: items have to be joined anyway to be validated in one go. A large item is most of its
    batch, and is not copied.

    Attributes:
        count: Items.
        data: The encoding of an array of them, or of the item itself where there is but one.
        costs: The cost of each, or None where each costs 1.
    """

    __slots__ = ("costs", "count", "data")

    def __init__(self, items: list[Raw], codec: Codec) -> None:
        self.count = len(items)
        self.data: bytes | Raw
        if self.count > 1:
            # For type checkers a Raw is bytes, and at run time it will do.
            parts: list[Any] = items
            self.data = codec.join(parts)
        elif len(items[0]) >= COST_UNIT:
            self.data = items[0]
        else:
            # A third cheaper than bytes(items[0]).
            self.data = b"" + items[0]
        self.costs: deque[int] | None = None
        if len(self.data) >= COST_UNIT:
            self.costs = deque(cost_of(len(item)) for item in items)


class Tally:
    """Counts the items that were dropped.

    Args:
        whole: The tally of the stream that is made of this one and others.

    Attributes:
        dropped: Items.
    """

    __slots__ = ("_whole", "dropped")

    def __init__(self, whole: Tally | None = None) -> None:
        self._whole = whole
        self.dropped = 0

    def add(self, n: int) -> None:
        self.dropped += n
        if self._whole is not None:
            self._whole.add(n)
