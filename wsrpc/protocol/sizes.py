"""Whether a value goes to the peer whole, in chunks, or not at all (VALUE-7)."""

from __future__ import annotations

from typing import Literal

from ..limits import FLOOR_MAX_BATCH, Limits
from .batch import BATCH_TARGET, FRAME_OVERHEAD
from .chunks import LARGEST_PIECE, LARGEST_TEXT_PIECE, Outgoing
from .codec import Codec
from .frames import HelloLimits
from .lanes import OutCall
from .link_layer import Continuity

__all__ = ["Sizes", "ValueTooLargeError"]


# Bytes that may wait for a peer that is above its bound on memory.
LEAST_OUTBOX = 64 * 1024


class ValueTooLargeError(Exception):
    """A value that the peer does not accept.

    Attributes:
        size: Bytes of its encoding.
        limit: Bytes that the peer takes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a value of {size} bytes; the other end takes at most {limit}")
        self.size = size
        self.limit = limit


class Sizes(Continuity):
    """The layer of an endpoint that knows how large the values are that the peer takes.

    Attributes:
        peer_max_value: Bytes of the largest value that the peer takes.
        peer_takes_chunks: Whether it takes values in chunks.
    """

    __slots__ = ("_unbroken", "_whole", "peer_max_value", "peer_takes_chunks")

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        self.peer_max_value = FLOOR_MAX_BATCH
        self.peer_takes_chunks = False
        # Bytes of the largest frame that goes whole, and of the largest value.
        self._whole = FLOOR_MAX_BATCH
        self._unbroken = FLOOR_MAX_BATCH - FRAME_OVERHEAD

    def _agree_on_chunks(self, limits: HelloLimits) -> None:
        """Note how large values to the peer may be, and which of them go in chunks."""
        held = limits.max_held or 0
        self.peer_takes_chunks = held > 0
        if not self.peer_takes_chunks:
            self._whole = self.peer_max_batch
            self._unbroken = self.peer_max_value = self._whole - FRAME_OVERHEAD
            return
        # A value above `max_held` could never begin.
        self.peer_max_value = min(limits.max_value or self.peer_max_batch, held)
        self._whole = BATCH_TARGET
        room = self.peer_max_batch - FRAME_OVERHEAD
        values = self._outbox.values
        values.limit = held
        # Quotes and backslashes take two bytes each in a JSON string that holds JSON.
        text = self.codec.text
        values.piece = min(LARGEST_TEXT_PIECE, room // 2) if text else min(LARGEST_PIECE, room)

    @property
    def outbox_bytes(self) -> int:
        """Bytes of encoded values waiting for the socket."""
        return self._outbox.bytes + self._outbox.values.bytes

    @property
    def outbox_full(self) -> bool:
        """Whether senders should wait before they add another value.

        Values that go in chunks do not count: at most one waits for each id, it goes piece by
        piece, and other senders shall not wait until all of it is gone. Where the peer is above its
        bound on memory such values count, and little else may wait beside them.
        """
        outbox = self._outbox
        if outbox.bytes >= self.limits.outbox:
            return True
        return self.crowded and outbox.bytes + outbox.values.kept >= LEAST_OUTBOX

    @property
    def awaited_full(self) -> bool:
        """Whether a value that the peer waits for should wait: an answer, or a nested call.

        Where the peer is above its bound on memory, such a value does not wait for the arguments of
        calls that this side makes by itself: the peer may need it before it can take them.
        """
        outbox, values = self._outbox, self._outbox.values
        if outbox.bytes >= self.limits.outbox:
            return True
        return self.crowded and outbox.bytes + values.kept - values.unasked >= LEAST_OUTBOX

    def check_size(self, size: int) -> None:
        """Refuse a size that `push` would refuse.

        Raises:
            ValueTooLargeError: The peer does not take values of so many bytes.
        """
        self._goes_whole(size)

    def _goes_whole(self, size: int) -> bool:
        """Whether a value of this size goes in its frame, not in chunks.

        Raises:
            ValueTooLargeError: The peer takes it in neither way.
        """
        if size <= self._unbroken:
            return True
        if size > self.peer_max_value:
            raise ValueTooLargeError(size, self.peer_max_value)
        return False

    def _fit(self, call: OutCall) -> None:
        """Put the arguments into chunks if the call is too large for one frame.

        Raises:
            ValueTooLargeError: The peer takes them in neither way.
        """
        if call.pending_bytes <= self._whole:
            return
        args = call.args
        assert args is not None
        size = len(args)
        head = call.pending_bytes - size
        if not self.peer_takes_chunks or head > self.peer_max_batch:
            raise ValueTooLargeError(size, self.peer_max_batch - head)
        if size > self.peer_max_value:
            raise ValueTooLargeError(size, self.peer_max_value)
        call.value = Outgoing(args, unasked=not call.serves_live)
        call.args = None
        call.pending_bytes = head
        values = self._outbox.values
        values.add(call.value)
        if call.callbacks:
            values.awaited = True
