"""What has to outlive a link: the frames that the peer may not have, and the counts of those taken.

Both sides count the numbered frames of a session (protocol.md, Numbering). `Replay` is the sending
half: the bytes of each frame until the peer has acked it, so that they can go again unchanged on
the next link. `Acks` is the receiving half: when the peer has to be told what was taken. A session
that cannot be resumed keeps nothing and tells nothing; only the counts remain.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .outbox import Batch

__all__ = ["ACK_BYTES", "ACK_DELAY", "ACK_FRAMES", "Acks", "Replay"]

# An ack is due after this many frames, bytes or seconds (RESUME-7). One with every batch would cost
# a tenth of a small call.
ACK_FRAMES = 32
ACK_BYTES = 64 * 1024
ACK_DELAY = 1.0


# Most sessions never have anything to carry again, and an empty deque has 760 bytes.
NOTHING: deque[bytes] = deque(maxlen=0)


class Replay:
    """The numbered frames of this side: how many there were, and those not acked.

    Args:
        limit: Bytes kept at most; while they are used up no further frame is numbered, but an
            empty buffer takes one frame of any size (RESUME-6).

    Attributes:
        keeping: Whether frames are kept; not so in a session that ends with its link.
        numbered: Frames numbered in this session so far.
        acked: How many of them the peer has said to have taken.
        bytes: Bytes of the frames kept.
    """

    __slots__ = ("_again", "_carried", "acked", "bytes", "keeping", "limit", "numbered")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.keeping = True
        self.numbered = 0
        self.acked = 0
        self.bytes = 0
        # What this link has carried and the peer has not acked; behind it, what it has yet to carry
        # again.
        self._carried: deque[bytes] = deque()
        self._again = NOTHING

    @property
    def carried(self) -> int:
        """Up to which number this link has carried the frames: what the peer may ack."""
        return self.numbered - len(self._again)

    @property
    def again(self) -> bool:
        """Whether frames of older links have yet to go on this one."""
        return bool(self._again)

    @property
    def full(self) -> bool:
        """Whether further frames wait until the peer acks some."""
        return self.bytes >= self.limit

    def forgo(self) -> None:
        """The session will not be resumed: keep nothing, from the first frame on."""
        self.keeping = False
        self.bytes = 0
        self._carried.clear()
        self._again = NOTHING

    def rewind(self, received: int) -> None:
        """Begin on a new link, whose peer has taken `received` frames; it must fit the counts."""
        self._again = deque((*self._carried, *self._again))
        self._carried.clear()
        self._drop(self._again, received)

    def trim(self, received: int) -> None:
        """The peer acks `received` frames; it must lie between `acked` and `carried`."""
        if self.keeping:
            self._drop(self._carried, received)
        else:
            self.acked = received

    def _drop(self, frames: deque[bytes], received: int) -> None:
        n = received - self.acked
        self.acked = received
        if n == len(frames):
            self.bytes -= sum(map(len, frames))
            frames.clear()
            return
        freed = 0
        for _ in range(n):
            freed += len(frames.popleft())
        self.bytes -= freed

    def fill(self, batch: Batch) -> bool:
        """Put what has to go again into `batch`; whether new frames may follow there."""
        again = self._again
        while again:
            if not batch.repeat(again[0]):
                return False
            self._carried.append(again.popleft())
        if self.bytes:
            room = self.limit - self.bytes
            if room <= 0:
                return False
            batch.bound(room)
        elif self.limit < batch.target:
            # The first frame may have any size, those behind it may not.
            batch.target = min(batch.target, batch.size + self.limit)
        return True

    def number(self, batch: Batch) -> None:
        """Number the new frames of a batch that goes out, and keep them."""
        n = batch.numbered
        self.numbered += n
        if n and self.keeping:
            if n == 1:
                frame = batch.parts[-1]
                self._carried.append(frame)
                self.bytes += len(frame)
            else:
                frames = batch.parts[-n:]
                self._carried += frames
                self.bytes += sum(map(len, frames))


class Acks:
    """When to tell the peer how much was taken.

    At half of what makes an ack due, it goes along with whatever else goes out.

    Attributes:
        told: The count that the peer was told last, by an ack or a hello.
        bytes: Bytes that brought the frames taken since.
        soon: The count from which an ack goes along.
        late: Seconds on the shell's clock. When one goes along; infinite if nothing is owed.
        due: Seconds on the shell's clock. When one goes by itself; infinite if nothing is owed.
    """

    __slots__ = ("bytes", "due", "late", "soon", "told")

    def __init__(self) -> None:
        self.settle(0)

    def settle(self, told: int) -> None:
        """The peer is told this count now."""
        self.told = told
        self.bytes = 0
        self.soon = told + ACK_FRAMES // 2
        self.late = self.due = inf

    def took(self, received: int, size: int, now: float) -> bool:
        """Account for frames taken, in a batch of `size` bytes; whether an ack must go at once."""
        self.bytes += size
        if self.bytes >= ACK_BYTES // 2:
            if self.bytes >= ACK_BYTES:
                return True
            self.soon = self.told
        if self.due == inf:
            self.due = now + ACK_DELAY
            self.late = now + ACK_DELAY / 2
        return received - self.told >= ACK_FRAMES
