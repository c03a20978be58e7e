"""Flow control of one stream, counted in credit (protocol.md, Credit).

An item costs 1, and 1 more for each full 64 KiB of its encoding. The receiver of a stream allows a
number of items; the sender begins an item only while its balance is at least 1, so the balance may
go below zero by the cost of one large item. The receiver gives the cost of consumed items back.

How the receiver sizes its window
---------------------------------
A window that never changes is either too small for fast streams (each round trip moves one window)
or too large for slow consumers of large items. So it starts small and follows the consumer:

- It doubles when the sender has used up most of its credit and the consumer has emptied the queue
  all the same: then the round trip limits the stream, and neither end does. Where round trips are
  long it grows eightfold instead, since each step costs one.
- It never grows beyond `target` bytes divided by the mean number of bytes that one credit moves,
  and comes down to that when items get larger. Credit once granted is not taken back: a shrinking
  window just withholds the credit that consumption would return.
- Credit is returned when a quarter of the window is missing, or at once when the application
  waits on an empty queue and the sender has no credit left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import COST_UNIT, MAX_CREDIT

__all__ = ["ObservedCredit", "ReceiveWindow", "SendCredit", "cost_of", "violation"]


def violation(reason: str) -> ProtocolError:
    """The error for a peer that broke a rule about frames, credit or counts (4505)."""
    return ProtocolError(CloseCode.VIOLATION, reason[:120])


def cost_of(size: int) -> int:
    """The cost in credit of an item of `size` encoded bytes."""
    return 1 + size // COST_UNIT


# Frames of credit that a receiver may send beyond one for each item, so that a window can grow.
SPARE_GRANTS = 64


class SendCredit:
    """The sender's balance: how many more items it may begin."""

    __slots__ = ("_mark", "balance")

    def __init__(self, initial: int) -> None:
        self.balance = initial
        # The balance as if no credit had been spent, plus the grants that may come without an item,
        # minus those of them that came.
        self._mark = initial + SPARE_GRANTS

    def grant(self, n: int) -> bool:
        """Add credit that the receiver granted; returns whether its items called for a grant.

        A receiver that gives back the credit of each item by itself sends one grant for each item.
        Many more grants have another reason than consumption (CALM-1).

        Raises:
            ProtocolError: 4505, the balance would pass 2**31 - 1; the peer's fault.
        """
        if self.balance + n > MAX_CREDIT:
            raise violation(f"credit that lifts {self.balance} above 2^31 - 1")
        called_for = self._mark > self.balance
        self.balance += n
        self._mark += n - 1 if called_for else n
        return called_for

    def spend(self, size: int) -> None:
        """Begin an item of `size` encoded bytes; the balance must be at least 1."""
        assert self.balance >= 1, "an item was begun without credit"
        self.balance -= 1 + size // COST_UNIT

    def spend_many(self, count: int) -> None:
        """Begin `count` items, none of them large; the balance must be at least `count`."""
        assert self.balance >= count, "an item was begun without credit"
        self.balance -= count


class ObservedCredit(SendCredit):
    """A balance that reports every grant to a relay, which passes the items on from elsewhere."""

    __slots__ = ("_granted",)

    def __init__(self, initial: int, granted: Callable[[int], None]) -> None:
        super().__init__(initial)
        self._granted = granted

    def grant(self, n: int) -> bool:
        called_for = super().grant(n)
        self._granted(n)
        return called_for


class ReceiveWindow:
    """The receiver's account of a stream: credit granted, items arrived, items consumed.

    Attributes:
        size: Items. The present window: `granted` is brought back up to it.
        balance: Items. The items that the sender may still begin, as far as this side has told it.
        granted: Items. `balance` and the items that have arrived and are not yet consumed.
        most: Items. The bound beyond which the window never grows.
        target: Bytes. The bytes that the window may hold, once it has grown.
        mean: Bytes that one credit has moved, a moving average; 0 before the first item.
        depleted: Whether the sender has used up most of its credit since the window last grew.
        threshold: Items. The credit that must be missing before a grant is worth a frame.
        growth: By how much the window grows in one step.
    """

    __slots__ = (
        "balance",
        "depleted",
        "granted",
        "growth",
        "mean",
        "most",
        "size",
        "target",
        "threshold",
    )

    def __init__(self, initial: int, target: int) -> None:
        self.size = self.balance = self.granted = initial
        self.most = MAX_CREDIT
        self.target = target
        self.mean = 0.0
        self.depleted = False
        self.growth = 2
        self.threshold = initial // 4 or 1

    @property
    def queued(self) -> int:
        """The cost of the items that have arrived and are not yet consumed."""
        return self.granted - self.balance

    def grant(self, n: int) -> None:
        """Allow the sender `n` more items."""
        self.balance += n
        self.granted += n

    def arrived(self, items: Sequence[Sized]) -> None:
        """Count the items of a message frame, at least one.

        Raises:
            ProtocolError: 4505, an item was begun without credit; the sender's fault.
        """
        count = len(items)
        # Most messages of a stream that waits before each item bring one.
        total = sum(map(len, items)) if count > 1 else len(items[0])
        if total < COST_UNIT:
            cost = needed = count
        else:
            costs = [cost_of(len(item)) for item in items]
            cost = sum(costs)
            # All but the last item must leave a balance of 1 or more for the one after them.
            needed = cost - costs[-1] + 1
        balance = self.balance
        if balance < needed:
            raise violation("an item beyond the credit granted")
        self.balance = balance = balance - cost
        if balance * 2 <= self.size:
            self.depleted = True
        mean = self.mean
        self.mean = mean + (total / cost - mean) / 4 if mean else total / cost

    def consumed(self, cost: int, *, waiting: bool) -> int:
        """Count items that the application took; returns the credit to grant now, often 0.

        Args:
            cost: The cost of the items consumed since the last call.
            waiting: Whether the queue is empty and the application asks for more.
        """
        self.granted -= cost
        if waiting and self.depleted:
            self.depleted = False
            self.size = min(self.size * self.growth or 1, self.most)
        if self.mean:
            self.size = min(self.size, int(self.target / self.mean) or 1)
        self.threshold = self.size // 4 or 1
        missing = self.size - self.granted
        if waiting and self.balance < 1:
            missing = max(missing, 1 - self.balance)
        elif missing < self.threshold:
            return 0
        self.grant(missing)
        return missing
