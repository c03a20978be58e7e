"""Flow control of one stream, counted in credit (protocol.md CREDIT).

An item costs 1, and 1 more for each full 64 KiB of its encoding. The receiver of a stream allows a
number of items; the sender begins an item only while its balance is at least 1, so the balance may
go below zero by the cost of one large item. What the application has consumed is given back.

How the receiver sizes its window
---------------------------------
A window that never changes is either too small for fast streams (each round trip moves one window)
or too large for slow consumers of large items. So it starts small and follows the consumer:

- It doubles when the consumer has emptied the queue and the sender has used up most of its credit:
  then it is the round trip that limits the stream, not the application.
- It never grows beyond `window_bytes` divided by the mean encoded size of an item, and comes down
  to that when items get larger. Credit once granted is not taken back: a shrinking window just
  withholds what consumption would return.
- Credit is returned when a quarter of the window is missing, or at once when the application
  waits on an empty queue and the sender has no credit left.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

from ..errors import ProtocolError
from ..limits import COST_UNIT, MAX_CREDIT

__all__ = ["ReceiveWindow", "SendCredit", "cost_of"]

VIOLATION = 4505


def cost_of(size: int) -> int:
    """What an item of `size` encoded bytes costs (protocol.md CREDIT)."""
    return 1 + size // COST_UNIT


class SendCredit:
    """The sender's balance: how many more items it may begin."""

    __slots__ = ("balance",)

    def __init__(self, initial: int) -> None:
        self.balance = initial

    def grant(self, n: int) -> None:
        """Add what the receiver allowed.

        Raises:
            ProtocolError: 4505, the grant is below 1 or the balance would pass 2**31 - 1.
        """
        if n < 1 or self.balance + n > MAX_CREDIT:
            raise ProtocolError(VIOLATION, f"credit of {n} on a balance of {self.balance}")
        self.balance += n

    def spend(self, size: int) -> None:
        """Begin an item of `size` encoded bytes; the balance must be at least 1."""
        assert self.balance >= 1, "an item was begun without credit"
        self.balance -= 1 + size // COST_UNIT


class ReceiveWindow:
    """The receiver's side: what it has granted, what came, what was consumed.

    Attributes:
        size: Items. The present window: `balance + queued` is brought back up to it.
        balance: Items. What the sender may still begin, as far as this side has told it.
        queued: Items. Arrived and not yet consumed.
        ceiling: Items. What the byte target allows at the present mean item size.
        threshold: Items. How much must be missing before a grant is worth a frame.
    """

    __slots__ = ("balance", "ceiling", "mean", "queued", "size", "target", "threshold")

    def __init__(self, initial: int, target_bytes: int) -> None:
        self.size = initial
        self.balance = initial
        self.queued = 0
        self.mean = 0.0
        self.target = target_bytes
        self.ceiling = max(initial, 1)
        self.threshold = max(1, initial // 4)

    def arrived(self, items: Sequence[Sized]) -> None:
        """Account for a message frame's items, at least one.

        Raises:
            ProtocolError: 4505, an item was begun without credit; the sender's fault.
        """
        count = len(items)
        total = sum(map(len, items))
        if total < COST_UNIT:
            cost = count
            if count > self.balance:
                raise ProtocolError(VIOLATION, "an item beyond the credit granted")
        else:
            cost = 0
            for item in items:
                if cost >= self.balance:
                    raise ProtocolError(VIOLATION, "an item beyond the credit granted")
                cost += cost_of(len(item))
        self.balance -= cost
        self.queued += cost
        mean = total / count
        self.mean = mean if self.mean == 0.0 else self.mean + (mean - self.mean) / 4
        self.ceiling = max(1, int(self.target / max(self.mean, 1.0)))

    def consumed(self, cost: int, *, waiting: bool) -> int:
        """Account for what the application took; returns the credit to grant now, often 0.

        Args:
            cost: The cost of the items consumed since the last call.
            waiting: Whether the queue is empty and the application asks for more.
        """
        self.queued -= cost
        if self.size > self.ceiling:
            self.size = self.ceiling
        elif waiting and self.balance * 2 <= self.size:
            self.size = min(self.size * 2, self.ceiling)
        missing = self.size - self.balance - self.queued
        starving = waiting and self.balance < 1
        if starving:
            missing = max(missing, 1 - self.balance)
        elif missing < self.threshold:
            return 0
        if missing < 1:
            return 0
        self.threshold = max(1, self.size // 4)
        self.balance += missing
        return missing
