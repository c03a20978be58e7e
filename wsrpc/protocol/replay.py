"""The state that outlives a link: frames that the peer may lack, and counts of frames taken.

Both sides count the numbered frames of a session (protocol.md, Numbering). `Replay` is the sending
half: the bytes of each frame until the peer has acked it, so that they can go again unchanged on
the next link. `Acks` is the receiving half: it decides when to tell the peer how many frames were
taken. A session that cannot be resumed keeps no frames and sends no acks; only the counts remain.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from .batch import QUANTUM

if TYPE_CHECKING:
    from .batch import Batch

__all__ = ["ACK_BYTES", "ACK_DELAY", "ACK_FRAMES", "Acks", "Replay"]

# An ack is due after this many frames, bytes or seconds (RESUME-7). An ack with every batch would
# cost a tenth of a small call.
ACK_FRAMES = 32
ACK_BYTES = 64 * 1024
ACK_DELAY = 1.0

# Bytes of items that are gathered in one frame before the peer has acked any on this link. Smaller
# frames would cost a fast producer twice the time for the first items of each link.
FIRST_SHARE = 1024

# Most sessions never have to send a frame again, and an empty deque takes 760 bytes.
NOTHING: deque[Any] = deque(maxlen=0)


class Replay:
    """The numbered frames of this side: their count, and those that are not acked.

    Args:
        limit: Bytes that are kept at most. While they are used up no further frame is numbered, but
            an empty buffer takes one frame of any size (RESUME-6).

    Frames are kept by the batch, since a peer takes batches whole: an ack covers whole batches in
    the end, and keeping or dropping a batch of many frames costs no more than one of few.

    Attributes:
        keeping: Whether frames are kept; not so in a session that ends with its link.
        numbered: Frames numbered in this session so far.
        acked: The number of frames that the peer has acked.
        bytes: Bytes of the frames kept, each with the separator after it.
        again: Frames of older links that this one has yet to carry.
        ample: Bytes of kept frames up to which there is room for any batch.
        share: Bytes of items that may be gathered in one frame. It is no more than the peer has
            acked on this link, and 1,024 at least. A frame that no link lets through ends the session
            (RESUME-9), so where a middlebox cuts links that have carried little, frames must stay
            smaller than that.
    """

    __slots__ = (
        "_batches",
        "_proven",
        "acked",
        "again",
        "ample",
        "bytes",
        "keeping",
        "limit",
        "numbered",
        "share",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ample: float = -1.0
        self.keeping = True
        self.numbered = 0
        self.acked = 0
        self.bytes = 0
        self.share = FIRST_SHARE
        # Bytes that the peer has acked on this link, up to a quantum.
        self._proven = 0
        self.again: deque[bytes] = NOTHING
        # The batches that this link has carried and the peer has not acked: the number of the last
        # frame, the bytes, the frames.
        self._batches: deque[tuple[int, int, list[bytes]]] = NOTHING

    @property
    def carried(self) -> int:
        """The number of the last frame that this link has carried, and that the peer may ack."""
        return self.numbered - len(self.again)

    @property
    def under_way(self) -> int:
        """Bytes of the frames that this link has carried, and that the peer has not acked."""
        return sum(size for _, size, _ in self._batches)

    @property
    def full(self) -> bool:
        """Whether further frames wait until the peer acks some."""
        return self.bytes >= self.limit

    def expect(self, largest: int) -> None:
        """Set the bytes of the largest batch."""
        if self.keeping:
            self.ample = float(self.limit - largest)

    def resize(self, limit: int) -> None:
        """Keep no more than `limit` bytes from now on; frames that are kept already stay."""
        self.ample += limit - self.limit
        self.limit = limit

    def forgo(self) -> None:
        """The session will not be resumed: keep nothing, from the first frame on."""
        self.keeping = False
        self.ample = inf
        self.bytes = 0
        self.share = QUANTUM
        self.again = self._batches = NOTHING

    def rewind(self, received: int) -> None:
        """Begin on a new link, whose peer has taken `received` frames; that must fit the counts."""
        kept = [frame for _, _, frames in self._batches for frame in frames]
        kept += self.again
        del kept[: len(kept) - (self.numbered - received)]
        self.acked = received
        self.share = FIRST_SHARE
        self._proven = 0
        self.again = deque(kept) if kept else NOTHING
        self._batches = NOTHING
        self.bytes = sum(map(len, kept)) + len(kept)

    def trim(self, received: int) -> None:
        """Drop the frames that the peer acks; `received` must be from `acked` to `carried`."""
        self.acked = received
        batches = self._batches
        while batches and batches[0][0] <= received:
            size = batches.popleft()[1]
            self.bytes -= size
            if self.share < QUANTUM:
                self._proven += size
                self.share = min(QUANTUM, max(FIRST_SHARE, self._proven))
        if not batches:
            self._batches = NOTHING

    def fill(self, batch: Batch, *, probe: bool = False) -> bool:
        """Put frames that have to go again into `batch`; returns whether new ones may follow.

        Args:
            batch: The message in the making.
            probe: Whether the first frame that this link carries has to go without others.
        """
        again = self.again
        probe = probe and not self._batches
        while again:
            frame = again[0]
            if not batch.put(frame):
                return False
            again.popleft()
            # It is left out of the count until `number` puts it back.
            self.bytes -= len(frame) + 1
            if probe:
                return False
        kept = self.bytes + batch.size - batch.head
        if kept:
            if kept >= self.limit:
                return False
            batch.bound(self.limit - kept)
        elif self.limit < batch.target:
            # The first frame may have any size; the frames after it may not.
            batch.target = min(batch.target, batch.size + self.limit)
        return True

    def number(self, batch: Batch, new: int) -> None:
        """Number the last `new` frames of a batch that goes out, and keep it."""
        self.numbered += new
        if self.keeping:
            frames = batch.parts[batch.links :] if batch.links else batch.parts
            if frames:
                if self._batches is NOTHING:
                    self._batches = deque()
                size = batch.size - batch.head
                self.bytes += size
                self._batches.append((self.carried, size, frames))


class Acks:
    """Decides when to tell the peer how many frames were taken.

    Halfway to the point at which an ack is due, it goes along with any other frame that goes out.

    Attributes:
        told: The count that the peer was told last, by an ack or a hello.
        bytes: Bytes of the messages with the frames taken since.
        soon: The count from which an ack goes along with other frames.
        must: The count from which an ack goes by itself.
        late: Seconds on the hub's clock. The time from which an ack goes along; infinite if none is
            owed.
        due: Seconds on the hub's clock. The time at which an ack goes by itself; infinite if none
            is owed.
    """

    __slots__ = ("bytes", "due", "late", "must", "soon", "told")

    def __init__(self) -> None:
        self.settle(0)

    def settle(self, told: int) -> None:
        """Note that the peer is told this count now."""
        self.told = told
        self.bytes = 0
        self.soon = told + ACK_FRAMES // 2
        self.must = told + ACK_FRAMES
        self.late = self.due = inf

    def took(self, received: int, size: int, now: float) -> bool:
        """Count frames taken in a batch of `size` bytes; returns whether to ack at once."""
        self.bytes += size
        if self.due == inf:
            self.due = now + ACK_DELAY
            self.late = now + ACK_DELAY / 2
        if self.bytes < ACK_BYTES // 2:
            return received >= self.must
        self.soon = self.told
        return received >= self.must or self.bytes >= ACK_BYTES
