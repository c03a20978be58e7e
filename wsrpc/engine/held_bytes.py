"""The bytes that a session holds for its peer, and the waits while they are above the bounds.

The module is compiled where the core is; the waiting itself is in `hub`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..errors import ConnectionLost
from ..protocol.endpoint import Endpoint
from ..protocol.sizes import LEAST_OUTBOX
from ..runtime import Future, Runtime
from ..runtime.compiling import mypyc_attr
from ..runtime.timers import Timers
from .ledger import STEP, Account

__all__ = ["TAKEN", "HeldBytes", "Turn", "UnreadStream"]

# Bytes a second that are read from a peer above its bound on memory; smaller messages, mostly acks,
# do not count. Seconds until the next look where no message is read.
TRICKLE = 2 * 1024 * 1024
TINY = 4096

# The same for a peer far above its bound, which is read only for its acks: it gives back more than
# it adds, or it is closed.
LEAST_TRICKLE = 32 * 1024
LEAST = 128
LOOK_AGAIN = 0.05


class Turn:
    """The place of a call that waits to begin."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter: Future | None = None


class UnreadStream(Protocol):
    """A stream of which items have come that the application has not taken."""

    @property
    def asked_for(self) -> bool:
        """Whether this side's own call opened it, and not the peer."""
        ...

    @property
    def held(self) -> int:
        """Bytes of these items."""
        ...

    @property
    def lag(self) -> int:
        """Items that wait to be taken."""
        ...

    @property
    def decoded(self) -> int:
        """Items that wait and are decoded already; fewer with each one that is taken."""
        ...

    def overrun(self, reason: str) -> None:
        """Drop the items, and end the stream with an error."""


# This stands in the place of `UnreadStream.decoded` where items were taken since.
TAKEN = -1


@mypyc_attr(allow_interpreted_subclasses=True)
class HeldBytes:
    """The part of a hub that keeps its session within the bounds on memory.

    Attributes:
        account: The session's account of bytes held for the peer.
        taken: Bytes of values that were handed over and are still held: arguments until their call
            has ended, items until they are taken.
        unread: The streams with items that were not taken, and the value of `decoded` that each of
            them had at the last look; `TAKEN` where items were taken after it.
        waiting_calls: Calls of the peer that wait to begin until its bounds on memory allow it, in
            their order.
        endpoint: The protocol.
        runtime: The event loop.
        timers: Calls that are due at certain times.
        wake: Tells the driver that the endpoint may have output.
        lost: The reason why the session is over, once it is.
    """

    __slots__ = (
        "_admits",
        "_needed",
        "_waiting_bytes",
        "account",
        "endpoint",
        "limits",
        "lost",
        "runtime",
        "taken",
        "timers",
        "unread",
        "waiting_calls",
        "wake",
    )

    def __init__(
        self, endpoint: Endpoint, runtime: Runtime, timers: Timers, account: Account
    ) -> None:
        self.account = account
        self.taken = 0
        self.unread: dict[UnreadStream, int] = {}
        self.waiting_calls: list[Turn] = []
        self._waiting_bytes = 0
        self._admits = False
        self._needed = 0
        self.endpoint = endpoint
        self.limits = endpoint.limits
        self.runtime = runtime
        self.timers = timers
        self.lost: ConnectionLost | None = None
        self.wake: Callable[[], None] = _nothing

    def _make_room(self) -> None:
        """Wake all that wait for room in the outbox."""
        raise NotImplementedError

    def _awaits_acks(self) -> bool:
        """Whether values wait to go on a link that takes bytes."""
        raise NotImplementedError

    @property
    def held(self) -> int:
        """Bytes that the session holds for its peer."""
        return self.endpoint.held + self.taken

    def settle(self) -> None:
        """Report the bytes held to the ledger, after each message and each large change."""
        endpoint, account = self.endpoint, self.account
        held = endpoint.held + self.taken
        # The account asks the same; asking here saves a function call for each message.
        if not (held and -STEP < held - account.held < STEP):
            account.settle(held)
        if endpoint.crowded:
            self._hesitate(self._is_reluctant())
        if self.waiting_calls:
            self._admit()

    def hold(self, size: int) -> None:
        """Count in a value that was handed over and stays in memory.

        Args:
            size: Bytes.
        """
        self.taken += size
        if size >= STEP:
            self.settle()

    def release(self, size: int) -> None:
        """Count out a value that has gone.

        Args:
            size: Bytes.
        """
        self.taken -= size
        if size >= STEP or self.endpoint.crowded or self.lost is not None:
            self.settle()

    def look(self) -> None:
        """Note how far each stream with items has been read."""
        for stream in self.unread:
            self.unread[stream] = stream.decoded

    def shed(self, reason: str) -> int:
        """End streams of which no item was taken since the last look, until the bounds hold again.

        Only streams that this side has asked for are ended: the peer's own uploads end with its
        session. The streams with the most bytes go first.

        Args:
            reason: The text of their error.

        Returns:
            The number of these streams.
        """
        still = [
            stream
            for stream, mark in self.unread.items()
            if stream.asked_for and stream.lag and mark == stream.decoded
        ]
        still.sort(key=lambda stream: stream.held, reverse=True)
        ended = 0
        for stream in still:
            if not self.account.crowded:
                break
            stream.overrun(reason)
            self.settle()
            ended += 1
        return ended

    def squeeze(self, crowded: bool) -> None:
        """Note that the session is above its bound, or within it again."""
        self.endpoint.squeeze(crowded)
        self._hesitate(crowded)
        if not crowded:
            self._make_room()
            self._admit()
            # The replay buffer has room again.
            self.wake()

    @property
    def exempt(self) -> bool:
        """Whether no wait is needed: the connecting side sends its own values of its own will."""
        return self.endpoint.side == "connecting" and self.taken <= self.limits.max_session_bytes

    def _is_reluctant(self) -> bool:
        """Whether input would only be held here, now that the session is above its bound."""
        if self.exempt:
            return False
        needed = self.endpoint.needed
        if needed != self._needed:
            # Handlers wait for this part of an answer, or of a nested call, and hold values meanwhile.
            self._needed = needed
            return False
        # Incomplete values have to be read on, or they would never be complete.
        return self.endpoint.outgoing + self.taken >= LEAST_OUTBOX

    def _hesitate(self, reluctant: bool) -> None:
        if self.endpoint.reluctant != reluctant:
            self.endpoint.hesitate(reluctant)
            if not reluctant:
                self.wake()

    def delay(self, size: int) -> float:
        """Seconds to wait before the next message is read.

        Args:
            size: Bytes of the last message; 0 where the wait for it is over.
        """
        if not self.endpoint.crowded or self.exempt:
            return 0.0
        if self.account.stopped:
            if not self._awaits_acks():
                return LOOK_AGAIN
            # Without acks the values that wait to go would stay, and no byte would be given back.
            return 0.0 if size <= LEAST else size / LEAST_TRICKLE
        if not self.endpoint.reluctant or size < TINY:
            return 0.0
        return size / TRICKLE

    def _admit(self) -> None:
        """Let the first of the waiting calls begin, if it may; the others follow one by one."""
        if not self.waiting_calls or self._admits:
            return
        # Incomplete values may wait for this call to make room, and acks for its answer.
        rest = self.endpoint.outgoing + self.taken - self._waiting_bytes
        if self.endpoint.crowded and rest >= LEAST_OUTBOX and self.lost is None:
            return
        if self.account.shut and self.lost is None:
            # The call may go on without any change in this session.
            self._admits = True
            self.timers.add(self.runtime.now() + LOOK_AGAIN, self._admit_next)
            return
        # It keeps its place until it has begun, so that no later call overtakes it.
        waiter = self.waiting_calls[0].waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _admit_next(self) -> None:
        self._admits = False
        self._admit()


def _nothing() -> None:
    """Do nothing: there is no driver yet."""
