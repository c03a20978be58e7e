"""Connections that have not been let in: their number, in all and per address, is bounded.

A connection is pending from the moment in which it is accepted until its peer is authenticated, TLS
and the opening handshake included. So this module bounds all that a stranger can hold without
credentials. When there is no room, a connection that keeps us waiting makes room for the newcomer,
so that a crowd of silent connections cannot lock others out. A connection that waits for us,
because its credentials are being checked or its bytes have yet to be read, never has to leave. A
link for which there is no room yet waits for its turn, in a queue that is bounded too.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio

from ..limits import Limits
from .forwarded import bucket_of
from .principals import Identity

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["Pending", "PendingLinks"]

# Seconds. A connection that has kept us waiting for so long makes room for a newcomer of the same
# kind. In a rush of honest peers no connection has done so, and the newcomer waits: hundreds of
# clients of one busy machine may take seconds for their hellos.
PATIENCE = 3.0

# Seconds after which a waiting link looks anew for a connection that has kept us waiting for too
# long.
LOOK_AGAIN = 0.1

# Links that may wait in any case. Where there are more places, as many links may wait as there are
# places.
QUEUE = 32


class Pending:
    """One connection that has not been let in.

    Attributes:
        address: The address by which it is counted; "" before it is known.
        since: Seconds on the loop's clock. The time at which it was accepted.
        socket: The open socket; None where there is no socket.
        waits: Whether it is the peer's turn to send.
        dismiss: Closes it; must not raise.
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
        self.revoked: list[Identity] = []

    @property
    def gone(self) -> bool:
        """Whether its socket was closed by the code that owns it."""
        return self.socket is not None and self.waits and self.socket.fileno() < 0

    @property
    def unheard(self) -> bool:
        """Whether bytes have come that this side has yet to read: then it is not the peer's turn."""
        if sys.platform == "win32" or self.socket is None:
            return False
        try:
            return any(fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, bytes(4)))
        except (OSError, ValueError):
            # It is closed.
            return False


class _Waiting:
    """A link that waits for a place."""

    __slots__ = ("address", "dismiss", "now", "place", "seated")

    def __init__(
        self, address: str, now: Callable[[], float], dismiss: Callable[[], object]
    ) -> None:
        self.address = address
        self.now = now
        self.dismiss = dismiss
        self.place: Pending | None = None
        self.seated = anyio.Event()


class PendingLinks:
    """The pending connections of one server.

    Attributes:
        departures: The number of connections that left their place by themselves, or were let in.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: dict[Pending, None] = {}
        self._counts: Counter[str] = Counter()
        self._queue: dict[_Waiting, None] = {}
        self.departures = 0

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
            address: The address from which it comes; "" where that is not known yet, and is not
                counted.
            now: Seconds on the loop's clock.
            socket: The open socket.
            dismiss: Closes it, should it have to make room.
        """
        address = bucket_of(address)
        # A connection that leaves after a while makes room for links that have waited.
        latest = -math.inf if self._queue else now - PATIENCE
        if not self._room_from(address, latest) or not self._room(address, now, latest):
            return None
        return self._entered(Pending(address, now, socket, dismiss))

    @property
    def queue_is_full(self) -> bool:
        """Whether no further link may wait for a place."""
        return len(self._queue) >= max(QUEUE, self._limits.max_unauthenticated)

    async def place(
        self, address: str, now: Callable[[], float], *, dismiss: Callable[[], object]
    ) -> Pending | None:
        """Wait for a place for a link whose connection has none.

        Args:
            address: The address from which it comes.
            now: The time on the loop's clock, in seconds.
            dismiss: Closes it, should it have to make room.

        Returns:
            The place; None if there was none within `Limits.hello_timeout`, or too many links wait.
        """
        pending = self.add(address, now(), dismiss=dismiss)
        if pending is not None or self.queue_is_full:
            return pending
        one = _Waiting(bucket_of(address), now, dismiss)
        self._queue[one] = None
        try:
            with anyio.move_on_after(self._limits.hello_timeout):
                while one.place is None:
                    with anyio.move_on_after(LOOK_AGAIN):
                        await one.seated.wait()
                    self._seat_by_force(one)
        except BaseException:
            if one.place is not None:
                self.remove(one.place)
            raise
        finally:
            self._queue.pop(one, None)
        return one.place

    def locate(self, pending: Pending, address: str, now: float) -> bool:
        """Set the address of a connection; returns False if too many come from there."""
        address = bucket_of(address)
        if pending.address == address:
            return True
        if not self._room_from(address, now - PATIENCE):
            return False
        if pending in self._all:
            self._count_down(pending.address)
            self._counts[address] += 1
        pending.address = address
        return True

    def remove(self, pending: Pending) -> None:
        """Count out a connection that was let in, or is gone."""
        if pending in self._all:
            self.departures += 1
            self._left(pending)
            self._seat()

    def revoke(self, who: Identity) -> None:
        """Let in no pending peer that turns out to be this principal."""
        for pending in self._all:
            pending.revoked.append(who)

    def _count_down(self, address: str) -> None:
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]

    def _entered(self, pending: Pending) -> Pending:
        self._all[pending] = None
        self._counts[pending.address] += 1
        return pending

    def _left(self, pending: Pending) -> None:
        del self._all[pending]
        self._count_down(pending.address)

    def _seat(self) -> None:
        """Give free places to waiting links, in the order in which they came."""
        limits = self._limits
        for one in tuple(self._queue):
            if len(self._all) >= limits.max_unauthenticated:
                return
            if self._counts[one.address] < limits.max_unauthenticated_per_address or (
                not one.address
            ):
                self._let_sit(one)

    def _seat_by_force(self, one: _Waiting) -> None:
        """Give a waiting link the place of a connection that has kept us waiting for too long."""
        if one.place is None:
            now = one.now()
            latest = now - PATIENCE
            if self._room_from(one.address, latest) and self._room(one.address, now, latest):
                self._let_sit(one)

    def _let_sit(self, one: _Waiting) -> None:
        del self._queue[one]
        # Its time counts from now: no code read from it while it waited.
        one.place = self._entered(Pending(one.address, one.now(), None, one.dismiss))
        one.seated.set()

    def _room_from(self, address: str, latest: float) -> bool:
        """Whether one more connection may come from this address.

        Args:
            address: The address.
            latest: Seconds on the loop's clock. A connection that came by then makes room for it.
        """
        limit = self._limits.max_unauthenticated_per_address
        if not address or self._counts[address] < limit:
            return True
        self._sweep()
        return self._counts[address] < limit or self._evict(address, latest)

    def _room(self, address: str, now: float, latest: float) -> bool:
        """Whether one more may come at all; a connection that came by `latest` makes room."""
        limit = self._limits.max_unauthenticated
        if len(self._all) < limit:
            return True
        self._sweep()
        if len(self._all) < limit:
            return True
        crowd, size = self._counts.most_common(1)[0] if self._counts else ("", 0)
        if size > self._counts[address] + 1 and self._evict(crowd, now):
            return True
        return self._evict(None, latest)

    def _sweep(self) -> None:
        """Count out connections that ended without a report."""
        for pending in [one for one in self._all if one.gone]:
            self.departures += 1
            self._left(pending)

    def _evict(self, address: str | None, latest: float) -> bool:
        """Close the connection that has kept us waiting longest, if it came by `latest`."""
        for pending in self._all:
            if pending.waits and address in (None, pending.address):
                if pending.since > latest:
                    return False
                if pending.unheard:
                    continue
                self._left(pending)
                pending.dismissed = True
                pending.dismiss()
                return True
        return False
