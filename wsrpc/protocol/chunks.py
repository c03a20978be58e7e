"""Large values in pieces, out and in (protocol.md, Chunks).

A value that would make its frame exceed 64 KiB goes after its frame: the frame carries null and the
value's size, and `chunk` frames bring the encoding piece by piece, mixed with all other traffic.

Out: a lane has at most one value under way. Its frame goes only when the receiver is ready to hold
the sizes of all values that were begun and are unfinished. Until then the lane is parked, first
come first served. One piece goes in each turn: a quantum while other lanes have something to send.

In: the pieces of each value are written where the whole is to stay (`splice.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from .batch import Batch
from .frames import Chunk, Sized, fill
from .splice import Encoded, Gathering
from .window import violation

__all__ = [
    "LARGEST_PIECE",
    "LARGEST_TEXT_PIECE",
    "Carrier",
    "Incoming",
    "IncomingValues",
    "Outgoing",
    "OutgoingValues",
]

# Bytes. The smallest piece that the protocol allows; only the last one may be smaller. In JSON this
# side sends less at a time, since quotes and backslashes double within a string.
SMALLEST_PIECE = 16 * 1024
LARGEST_PIECE = 64 * 1024
LARGEST_TEXT_PIECE = 32 * 1024

# Bytes. A piece that is cut back to a code point loses up to three bytes, and must not fall below
# the least.
SHORT_PIECE = SMALLEST_PIECE + 3

# The frames that may come on an id from a side whose value on it is not complete (CHUNK-4).
BESIDE = frozenset(("chunk", "credit", "cancel", "error"))


class Outgoing:
    """One value on its way out.

    Attributes:
        frame: The frame that announces it, or None where the frame of its call does.
        data: The encoding.
        offset: Bytes that have gone.
        part: The next chunk, encoded, if it had to wait for the next batch.
        begun: Whether its frame has gone.
        dropped: Whether the rest will not be sent. The receiver holds the value until a frame says
            so.
        unasked: Whether it is the arguments of a call that this side makes by itself.
    """

    __slots__ = ("begun", "data", "dropped", "frame", "offset", "part", "unasked")

    def __init__(self, data: Encoded, frame: Sized | None = None, unasked: bool = False) -> None:
        self.data = data
        self.unasked = unasked
        self.frame = frame
        self.offset = 0
        self.part: bytes | None = None
        self.begun = False
        self.dropped = False


class Carrier(Protocol):
    """One id on which values go out, at most one value at a time."""

    id: int
    value: Outgoing | None


C = TypeVar("C", bound=Carrier)


class OutgoingValues(Generic[C]):
    """The values on their way out, and how much of them the receiver is ready to hold.

    Args:
        wake: Lets a lane take part in the outbox's turns again.

    Attributes:
        bytes: Bytes of these values that have not gone.
        kept: Bytes of memory that they take up here. Each is kept whole until all of it has gone.
        unasked: Bytes of these in arguments of calls that this side makes by itself.
        awaited: Whether the peer may wait for other values: one went in chunks, or a callback was given.
        limit: Bytes. The receiver's `max_held`.
        held: Bytes. The sizes of the values begun and unfinished.
        unasked_held: Bytes of these in arguments of calls that this side makes by itself.
        piece: Bytes. The largest piece whose frame is sure to fit the receiver's `max_batch`.
        parked: The lanes whose values wait until they may begin, first to last, except those in
            `unasked_parked`.
        unasked_parked: The parked lanes of calls that this side makes by itself; they come after
            the others.
        terminals: The calls whose answer is not out completely, by id.
    """

    __slots__ = (
        "awaited",
        "bytes",
        "held",
        "kept",
        "limit",
        "parked",
        "piece",
        "terminals",
        "unasked",
        "unasked_held",
        "unasked_parked",
        "wake",
    )

    def __init__(self, wake: Callable[[C], None]) -> None:
        self.wake = wake
        self.bytes = 0
        self.kept = 0
        self.unasked = 0
        self.awaited = False
        self.limit = 0
        self.held = 0
        self.piece = LARGEST_PIECE
        self.unasked_held = 0
        self.parked: dict[C, None] = {}
        self.unasked_parked: dict[C, None] = {}
        self.terminals: dict[int, C] = {}

    def add(self, value: Outgoing) -> None:
        """Count in a value that is to go."""
        self.bytes += len(value.data)
        self._keep(value, len(value.data))
        if not value.unasked:
            self.awaited = True

    def remove(self, value: Outgoing) -> None:
        """Count out a value of which nothing has gone, and nothing will."""
        self.bytes -= len(value.data)
        self._keep(value, -len(value.data))

    def _keep(self, value: Outgoing, size: int) -> None:
        self.kept += size
        if value.unasked:
            self.unasked += size

    def may_begin(self, lane: C, value: Outgoing) -> bool:
        """Reserve the value's bytes of the receiver's `max_held`, or park the lane until then."""
        size = len(value.data)
        queue = self.unasked_parked if value.unasked else self.parked
        late = (value.unasked and self.parked) or next(iter(queue), lane) is not lane
        if late or not self._has_room(value.unasked, size):
            queue[lane] = None
            return False
        queue.pop(lane, None)
        self._hold(value, size)
        self._wake_first()
        return True

    def _has_room(self, unasked: bool, size: int) -> bool:
        """Whether the receiver is ready to hold another value of this size.

        Half of the bytes that it takes is left to the values that it waits for, once there were
        any. Otherwise those would wait for the arguments of calls that it cannot begin without
        them.
        """
        if unasked and self.awaited:
            beside = self.unasked_held
            if beside and beside + size > self.limit // 2:
                return False
        return self.held + size <= self.limit

    def _hold(self, value: Outgoing, size: int) -> None:
        self.held += size
        if value.unasked:
            self.unasked_held += size

    def _wake_first(self) -> None:
        for lane in self.parked or self.unasked_parked:
            self.wake(lane)
            break

    def _unpark(self, lane: C) -> None:
        """Let the lane wait no more: its value will not go."""
        if self.parked or self.unasked_parked:
            self.parked.pop(lane, None)
            self.unasked_parked.pop(lane, None)
            self._wake_first()

    @property
    def waiting(self) -> list[C]:
        """The lanes whose values wait until they may begin."""
        return [*self.parked, *self.unasked_parked]

    def take(self, lane: C, batch: Batch) -> bool:
        """Put the next piece of the lane's value into `batch`; True when that was the last."""
        value = lane.value
        assert value is not None
        if value.dropped:
            return True
        if not value.begun:
            assert value.frame is not None
            if not batch.fits(0) or not self.may_begin(lane, value):
                return False
            value.begun = True
            batch.add(batch.codec.encode(value.frame))
        part = value.part
        if part is None:
            rest = len(value.data) - value.offset
            if batch.parts and batch.room() < min(SHORT_PIECE, rest):
                # A small piece, cut now, would only make the next batch a small one.
                batch.full = True
                return False
            part = self._cut(lane.id, value, batch)
        if not batch.put(part):
            value.part = part
            return False
        value.part = None
        if value.offset < len(value.data):
            return False
        self.release(lane)
        return True

    def _cut(self, id: int, value: Outgoing, batch: Batch) -> bytes:
        """The next chunk: a short one while others wait for their turn."""
        size = SHORT_PIECE
        if not batch.contended:
            size = max(size, min(self.piece, batch.room()))
        part, end = batch.codec.chunk(id, value.data, value.offset, size)
        self.bytes -= end - value.offset
        value.offset = end
        return part

    def release(self, lane: C) -> None:
        """Free what was reserved: the receiver holds nothing of the lane's value any more."""
        value, lane.value = lane.value, None
        if value is not None:
            self._keep(value, -len(value.data))
        if value is not None and value.begun:
            self._hold(value, -len(value.data))
            self._wake_first()
        if self.terminals:
            self.terminals.pop(lane.id, None)

    def drop(self, lane: C) -> None:
        """Send no more of the lane's value. A begun one stays reserved until a frame says so."""
        value = lane.value
        if value is None or value.dropped:
            return
        self.bytes -= len(value.data) - value.offset
        if value.begun:
            value.dropped = True
            value.part = None
            return
        lane.value = None
        self._keep(value, -len(value.data))
        self._unpark(lane)

    def clear(self) -> None:
        """Forget them all: none will go."""
        self.parked.clear()
        self.unasked_parked.clear()
        self.terminals.clear()

    def forget(self, lane: C) -> None:
        """Forget the lane's value, since its id is finished."""
        if lane.value is not None:
            self.drop(lane)
            self.release(lane)


class Incoming:
    """One value on its way in.

    Attributes:
        frame: The frame that announced it.
        size: Bytes that it will have.
        received: Bytes that have come.
        whole: The pieces that have come, or None where no code wants the value.
        needed: Whether a call of this side cannot end without it.
    """

    __slots__ = ("frame", "needed", "received", "size", "whole")

    def __init__(
        self, frame: Sized, size: int, whole: Gathering | None, needed: bool = False
    ) -> None:
        self.frame = frame
        self.needed = needed
        self.size = size
        self.received = 0
        self.whole = whole


class IncomingValues:
    """The values on their way in, by id.

    Args:
        limit: Bytes. This side's `max_held`.
        gathering: The class that puts the pieces of a value together.

    Attributes:
        held: Bytes. The sizes of the values that were begun, are unfinished and are wanted.
        come: Bytes of these values that have come.
        needed: Grows whenever something comes without which a call of this side cannot end.
        by_id: All unfinished values, including unwanted ones.
    """

    __slots__ = ("_gathering", "by_id", "come", "held", "limit", "needed")

    def __init__(self, limit: int, gathering: type[Gathering]) -> None:
        self._gathering = gathering
        self.limit = limit
        self.held = 0
        self.come = 0
        self.needed = 0
        self.by_id: dict[int, Incoming] = {}

    def check(self, id: int, frame: str) -> None:
        """Check that this frame may come on an id whose value may be incomplete (CHUNK-4).

        Raises:
            ProtocolError: 4505, the frame may not come now; the peer's fault.
        """
        if id in self.by_id and frame not in BESIDE:
            raise violation(f"{frame} on id {id}, amid the chunks of a value")

    def check_taken(self, frame: Sized) -> None:
        """Check that this side takes values in chunks at all.

        Raises:
            ProtocolError: 4505, it does not; the peer's fault.
        """
        if not self.limit:
            raise violation(f"a value in chunks on id {frame.id}, which this side does not take")

    def begin(self, frame: Sized, size: int, needed: bool) -> Incoming:
        """Expect a value.

        Args:
            needed: Whether a call of this side cannot end without it.

        Raises:
            ProtocolError: 4505, it is more than this side is ready to hold; the peer's fault.
        """
        if self.held + size > self.limit:
            raise violation(f"a value of {size} bytes, with {self.held} of {self.limit} held")
        self.held += size
        value = Incoming(frame, size, self._gathering(size), needed)
        self.by_id[frame.id] = value
        return value

    def skip(self, frame: Sized, size: int) -> None:
        """Expect an unwanted value."""
        self.by_id[frame.id] = Incoming(frame, size, None)

    def take(self, chunk: Chunk) -> Incoming | None:
        """Take a piece; returns the value that it completes, in its frame.

        Raises:
            ProtocolError: 4505, the piece is of a wrong size, or nothing was begun.
        """
        value = self.by_id.get(chunk.id)
        if value is None:
            raise violation(f"chunk on id {chunk.id}, where no value was begun")
        piece = chunk.piece
        size = len(piece)
        if not 0 < size <= LARGEST_PIECE or (size < SMALLEST_PIECE and not chunk.last):
            raise violation(f"a chunk of {size} bytes on id {chunk.id}")
        value.received += size
        if value.received > value.size or chunk.last != (value.received == value.size):
            last = ", the last piece included" if chunk.last else ""
            reason = f"{value.received} bytes of a value of {value.size} on id {chunk.id}{last}"
            raise violation(reason)
        whole = value.whole
        if whole is not None:
            self.come += size
            if value.needed:
                self.needed += size
            whole.add(cast(Any, piece))
        if not chunk.last:
            return None
        del self.by_id[chunk.id]
        if whole is not None:
            self.held -= value.size
            self.come -= value.size
            fill(value.frame, whole.value())
        return value

    def unwanted(self, id: int) -> None:
        """Note that the value on this id is unwanted now; its pieces may still come."""
        value = self.by_id.get(id)
        if value is not None and value.whole is not None:
            self.held -= value.size
            self.come -= value.received
            value.whole = None

    def discard(self, id: int) -> None:
        """The rest of the value begun on this id, if there is one, will not come."""
        self.unwanted(id)
        self.by_id.pop(id, None)

    def clear(self) -> None:
        """Forget them all: no more pieces will come."""
        self.by_id.clear()
        self.held = self.come = 0
