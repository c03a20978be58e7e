"""The bytes that peers make this side hold, by session, by principal and in the whole process.

It is pure arithmetic. A session reports the bytes that it holds as one number; the ledger says
whether it has to wait. A session is `crowded` if it is above its own bound, or is one of the
largest sessions of a principal above its bound, or of the largest principals of a process above its
bound. The other sessions never notice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final
from weakref import WeakValueDictionary

from ..limits import Limits

__all__ = ["STEP", "Account", "Ledger"]

# Bytes. Smaller changes are not reported, so that small calls cost no more than a subtraction.
STEP: Final = 16 * 1024


def _relaxed(bound: int) -> int:
    """Bytes below which a bound that was exceeded holds again; a little less, so that it lasts."""
    return bound - bound // 8


class Holder:
    """One principal, or one address of peers without a principal.

    Attributes:
        held: Bytes, of all its sessions.
        accounts: Its sessions that hold anything.
        over: Whether `held` is above the bound.
    """

    __slots__ = ("__weakref__", "accounts", "held", "key", "over")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.held = 0
        self.accounts: dict[Account, None] = {}
        self.over = False


class Account:
    """The bytes that one session holds.

    Args:
        ledger: The ledger to which it belongs.

    Attributes:
        holder: The principal or address whose account it is.
        held: Bytes, as last reported.
        returned: Bytes that were given back so far.
        crowded: Whether it has to wait, because it, or a sum of which it is a large part, is above
            a bound.
        on_change: Called when `crowded` has changed.
    """

    __slots__ = ("_ledger", "crowded", "held", "holder", "on_change", "returned")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.holder = Holder(id(self))
        self.held = 0
        self.returned = 0
        self.crowded = False
        self.on_change: Callable[[], None] | None = None

    def settle(self, held: int) -> None:
        """Report the bytes that the session holds now.

        Args:
            held: Bytes.
        """
        change = held - self.held
        if -STEP < change < STEP and held:
            return
        if change:
            self._change(held, change)

    def _change(self, held: int, change: int) -> None:
        if change < 0:
            self.returned -= change
        self.held = held
        self._ledger.changed(self, self.holder, change)

    def belongs_to(self, key: Hashable) -> None:
        """Count the session for this principal, or for this address.

        Args:
            key: The same for all of its sessions.
        """
        held = self.held
        self.settle(0)
        self.holder = self._ledger.holder(key)
        if held:
            self._change(held, held)

    @property
    def stopped(self) -> bool:
        """Whether it may not even take the little that other crowded sessions may."""
        return self.crowded and self._ledger.is_far_above(self, self.holder)

    @property
    def shut(self) -> bool:
        """Whether the other sessions of its principal hold so much that it has to wait."""
        return self.holder.over and self._ledger.is_shut(self, self.holder)

    def judge(self) -> None:
        """Find out anew whether it is crowded, and call `on_change` if that has changed."""
        crowded = self._ledger.is_crowded(self, self.holder)
        if crowded != self.crowded:
            self.crowded = crowded
            if self.on_change is not None:
                self.on_change()


class Ledger:
    """The accounts of one server, or of one connecting session.

    Args:
        limits: `max_session_bytes`, `max_principal_bytes` and `max_total_bytes` are the bounds.

    Attributes:
        held: Bytes of all accounts.
    """

    def __init__(self, limits: Limits) -> None:
        self.held = 0
        self._session = limits.max_session_bytes
        self._principal = limits.max_principal_bytes
        self._total = limits.max_total_bytes
        self._slack = max(limits.max_held, limits.max_value) + 2 * limits.replay
        # All holders with an account, and those that hold any bytes.
        self._holders: WeakValueDictionary[Hashable, Holder] = WeakValueDictionary()
        self._holding: dict[Hashable, Holder] = {}
        self._over = False

    def open(self) -> Account:
        """An account for a new session; it has a holder of its own until `belongs_to`."""
        return Account(self)

    def holder(self, key: Hashable) -> Holder:
        """The holder with this key."""
        holder = self._holders.get(key)
        if holder is None:
            holder = self._holders[key] = Holder(key)
        return holder

    def changed(self, account: Account, holder: Holder, change: int) -> None:
        """Count a change of the bytes that an account holds."""
        self.held += change
        holder.held += change
        if account.held:
            holder.accounts[account] = None
            self._holding[holder.key] = holder
        else:
            holder.accounts.pop(account, None)
            if not holder.accounts:
                self._holding.pop(holder.key, None)
        over = holder.held > self._principal
        relaxed = holder.over and holder.held < _relaxed(self._principal)
        # If an account is empty now, the next largest may become crowded.
        gone = not account.held
        if (over and not holder.over) or relaxed or (holder.over and gone):
            holder.over = over or (holder.over and not relaxed)
            self._judge(holder)
        over = self.held > self._total
        relaxed = self._over and self.held < _relaxed(self._total)
        if (over and not self._over) or relaxed or (self._over and gone):
            self._over = over or (self._over and not relaxed)
            for one in list(self._holding.values()):
                self._judge(one)
        account.judge()

    @staticmethod
    def _judge(holder: Holder) -> None:
        for account in list(holder.accounts):
            account.judge()

    def is_crowded(self, account: Account, holder: Holder) -> bool:
        """Whether an account has to wait."""
        held = account.held
        if held > (_relaxed(self._session) if account.crowded else self._session):
            return True
        if not (holder.over or self._over) or not held:
            return False
        # Only accounts with their equal share or more wait. There is always such an account.
        sessions = len(holder.accounts)
        if holder.over and held * sessions >= _relaxed(self._principal):
            return True
        large = holder.held * len(self._holding) >= _relaxed(self._total)
        return self._over and large and held * sessions >= holder.held

    def is_shut(self, account: Account, holder: Holder) -> bool:
        """Whether an empty account waits too, since others put its principal above the bound."""
        return holder.over and holder.held - account.held > self._principal

    def is_far_above(self, account: Account, holder: Holder) -> bool:
        """Whether a bound is exceeded by more than an honest peer needs.

        An honest peer needs the bytes that it may begin in chunks, and the frames of both sides
        that are not acked.
        """
        slack = self._slack
        return (
            account.held > self._session + slack
            or holder.held > self._principal + slack
            or self.held > self._total + slack
        )
