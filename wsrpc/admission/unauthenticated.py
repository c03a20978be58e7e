"""Connections that have not been let in: how many, from where, and who makes room for others.

A connection is pending from the moment in which it is accepted until somebody has vouched for it,
TLS and the opening handshake included: all that a stranger can hold without credentials is bounded
here. When there is no room, one that keeps us waiting makes room for the newcomer, so that a crowd
that opens connections and says nothing cannot lock others out. One that waits for us, because its
credentials are being looked at, never does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ..limits import Limits
from .forwarded import bucket_of

__all__ = ["Pending", "PendingLinks"]

# Seconds. Who has kept us waiting for so long makes room for a newcomer of the same kind; in a rush
# of honest peers, where nobody has, the newcomer has to come again.
PATIENCE = 1.0


class Pending:
    """One connection that has not been let in.

    Attributes:
        address: What it is counted by; "" before it is known.
        since: Seconds on the loop's clock. When it was accepted.
        socket: What is open; None where there is no socket.
        waits: Whether it is the peer's turn to say something.
        dismiss: Ends it; must not raise.
        dismissed: Whether it had to make room.
        revoked: Principals that were revoked since it came.
    """

    __slots__ = ("address", "dismiss", "dismissed", "revoked", "since", "socket", "waits")

    def __init__(
        self, address: str, since: float, socket: Any, dismiss: Callable[[], object]
    ) -> None:
        self.address = address
        self.since = since
        self.socket = socket
        self.waits = True
        self.dismiss = dismiss
        self.dismissed = False
        self.revoked: list[Any] = []

    @property
    def gone(self) -> bool:
        """Whether its socket was closed, by whatever has looked after it until then."""
        return self.socket is not None and self.waits and self.socket.fileno() < 0


class PendingLinks:
    """Those of one server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: dict[Pending, None] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        self._sweep()
        return len(self._all)

    def __contains__(self, pending: object) -> bool:
        return pending in self._all

    def add(
        self, address: str, now: float, *, socket: Any = None, dismiss: Callable[[], object]
    ) -> Pending | None:
        """Take in a connection that was accepted, if there is room or room can be made.

        Args:
            address: Where it comes from; "" where that is not known yet, and does not count.
            now: Seconds on the loop's clock.
            socket: What is open.
            dismiss: Ends it, should it have to make room.
        """
        address = bucket_of(address)
        if not self._room_from(address, now) or not self._room(address, now):
            return None
        pending = Pending(address, now, socket, dismiss)
        self._all[pending] = None
        self._counts[address] += 1
        return pending

    def locate(self, pending: Pending, address: str, now: float) -> bool:
        """Where it comes from has become known; False if there are too many from there."""
        address = bucket_of(address)
        if pending.address == address:
            return True
        if not self._room_from(address, now):
            return False
        if pending in self._all:
            self._count_down(pending.address)
            self._counts[address] += 1
        pending.address = address
        return True

    def remove(self, pending: Pending) -> None:
        """It was let in, or is gone."""
        if pending in self._all:
            del self._all[pending]
            self._count_down(pending.address)

    def revoke(self, principal: Any) -> None:
        """Whoever turns out to be this principal is not to be let in on what was known before."""
        for pending in self._all:
            pending.revoked.append(principal)

    def _count_down(self, address: str) -> None:
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]

    def _room_from(self, address: str, now: float) -> bool:
        """Whether one more may come from there."""
        limit = self._limits.max_unauthenticated_per_address
        if not address or self._counts[address] < limit:
            return True
        self._sweep()
        return self._counts[address] < limit or self._evict(address, now - PATIENCE)

    def _room(self, address: str, now: float) -> bool:
        """Whether one more may come at all."""
        limit = self._limits.max_unauthenticated
        if len(self._all) < limit:
            return True
        self._sweep()
        if len(self._all) < limit:
            return True
        crowd, size = self._counts.most_common(1)[0] if self._counts else ("", 0)
        if size > self._counts[address] + 1 and self._evict(crowd, now):
            return True
        return self._evict(None, now - PATIENCE)

    def _sweep(self) -> None:
        """Forget those that ended before anybody came to hear of them."""
        for pending in [one for one in self._all if one.gone]:
            self.remove(pending)

    def _evict(self, address: str | None, latest: float) -> bool:
        """Let the one make room that has kept us waiting longest, if it came by `latest`."""
        for pending in self._all:
            if pending.waits and address in (None, pending.address):
                if pending.since > latest:
                    return False
                self.remove(pending)
                pending.dismissed = True
                pending.dismiss()
                return True
        return False
