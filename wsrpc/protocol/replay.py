"""The state that outlives a link: frames that the peer may not have, and counts of those taken.

Both sides count the numbered frames of a session (protocol.md, Numbering). `Replay` is the sending
half: the bytes of each frame until the peer has acked it, so that they can go again unchanged on
the next link. `Acks` is the receiving half: when the peer has to be told what was taken. A session
that cannot be resumed keeps nothing and tells nothing; only the counts remain.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import Batch

__all__ = ["ACK_BYTES", "ACK_DELAY", "ACK_FRAMES", "Acks", "Replay"]

# An ack is due after this many frames, bytes or seconds (RESUME-7). One with every batch would cost
# a tenth of a small call.
ACK_FRAMES = 32
ACK_BYTES = 64 * 1024
ACK_DELAY = 1.0


# Most sessions never have anything to carry again, and an empty deque has 760 bytes.
NOTHING: deque[Any] = deque(maxlen=0)


class Replay:
    """The numbered frames of this side: how many there were, and those not acked.

    Args:
        limit: Bytes kept at most; while they are used up no further frame is numbered, but an
            empty buffer takes one frame of any size (RESUME-6).

    Frames are kept by the batch, since a peer takes batches whole: what it acks is in the end as
    many batches, and neither keeping nor dropping costs more for a batch of many frames.

    Attributes:
        keeping: Whether frames are kept; not so in a session that ends with its link.
        numbered: Frames numbered in this session so far.
        acked: How many of them the peer has said to have taken.
        bytes: Bytes of the frames kept, each with the separator after it.
        again: Frames of older links that this one has yet to carry.
        ample: Bytes up to which there is room for any batch, whatever is in it.
    """

    __slots__ = ("_batches", "acked", "again", "ample", "bytes", "keeping", "limit", "numbered")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ample: float = -1.0
        self.keeping = True
        self.numbered = 0
        self.acked = 0
        self.bytes = 0
        self.again: deque[bytes] = NOTHING
        # What this link has carried and the peer has not acked: up to which number, how many bytes,
        # the frames.
        self._batches: deque[tuple[int, int, list[bytes]]] = NOTHING

    @property
    def carried(self) -> int:
        """Up to which number this link has carried the frames: what the peer may ack."""
        return self.numbered - len(self.again)

    @property
    def full(self) -> bool:
        """Whether further frames wait until the peer acks some."""
        return self.bytes >= self.limit

    def expect(self, largest: int) -> None:
        """No batch will have more bytes than this."""
        if self.keeping:
            self.ample = float(self.limit - largest)

    def resize(self, limit: int) -> None:
        """Keep no more than this from now on; what is kept already stays."""
        self.ample += limit - self.limit
        self.limit = limit

    def forgo(self) -> None:
        """The session will not be resumed: keep nothing, from the first frame on."""
        self.keeping = False
        self.ample = inf
        self.bytes = 0
        self.again = self._batches = NOTHING

    def rewind(self, received: int) -> None:
        """Begin on a new link, whose peer has taken `received` frames; it must fit the counts."""
        kept = [frame for _, _, frames in self._batches for frame in frames]
        kept += self.again
        del kept[: len(kept) - (self.numbered - received)]
        self.acked = received
        self.again = deque(kept) if kept else NOTHING
        self._batches = NOTHING
        self.bytes = sum(map(len, kept)) + len(kept)

    def trim(self, received: int) -> None:
        """The peer acks `received` frames; it must lie between `acked` and `carried`."""
        self.acked = received
        batches = self._batches
        while batches and batches[0][0] <= received:
            self.bytes -= batches.popleft()[1]
        if not batches:
            self._batches = NOTHING

    def fill(self, batch: Batch, *, probe: bool = False) -> bool:
        """Put what has to go again into `batch`; whether new frames may follow there.

        Args:
            batch: The message in the making.
            probe: Whether the first frame that this link carries has to go without others.
        """
        again = self.again
        probe = probe and not self._batches
        while again:
            frame = again[0]
            if not batch.repeat(frame):
                return False
            again.popleft()
            # Until `number` puts it back.
            self.bytes -= len(frame) + 1
            if probe:
                return False
        kept = self.bytes + batch.size - batch.head
        if kept:
            if kept >= self.limit:
                return False
            batch.bound(self.limit - kept)
        elif self.limit < batch.target:
            # The first frame may have any size, those after it may not.
            batch.target = min(batch.target, batch.size + self.limit)
        return True

    def number(self, batch: Batch) -> None:
        """Number the new frames of a batch that goes out, and keep it."""
        self.numbered += batch.numbered
        if self.keeping:
            frames = batch.parts[batch.links :] if batch.links else batch.parts
            if frames:
                if self._batches is NOTHING:
                    self._batches = deque()
                size = batch.size - batch.head
                self.bytes += size
                self._batches.append((self.carried, size, frames))


class Acks:
    """When to tell the peer how much was taken.

    At half of what makes an ack due, it goes along with whatever else goes out.

    Attributes:
        told: The count that the peer was told last, by an ack or a hello.
        bytes: Bytes that brought the frames taken since.
        soon: The count from which an ack goes along.
        must: The count from which it goes by itself.
        late: Seconds on the shell's clock. When one goes along; infinite if nothing is owed.
        due: Seconds on the shell's clock. When one goes by itself; infinite if nothing is owed.
    """

    __slots__ = ("bytes", "due", "late", "must", "soon", "told")

    def __init__(self) -> None:
        self.settle(0)

    def settle(self, told: int) -> None:
        """The peer is told this count now."""
        self.told = told
        self.bytes = 0
        self.soon = told + ACK_FRAMES // 2
        self.must = told + ACK_FRAMES
        self.late = self.due = inf

    def took(self, received: int, size: int, now: float) -> bool:
        """Account for frames taken, in a batch of `size` bytes; whether an ack must go at once."""
        self.bytes += size
        if self.due == inf:
            self.due = now + ACK_DELAY
            self.late = now + ACK_DELAY / 2
        if self.bytes < ACK_BYTES // 2:
            return received >= self.must
        self.soon = self.told
        return received >= self.must or self.bytes >= ACK_BYTES
