"""What waits for the socket, and in which order it goes (protocol.md, Outbox).

Link frames first; then the lanes by deficit round robin, a quantum a turn, so that no stream and no
large value holds up the others. A lane whose item was larger owes the rest, and stands back until
it is paid. A batch is whatever is ready at the moment it is taken: no timer, no added delay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .chunks import OutgoingValues
from .codec import Codec
from .frames import Ack, CallOptions, Frame, Hello, LinkFrame, Pong

if TYPE_CHECKING:
    from .lanes import Lane, OutCall

__all__ = ["BATCH_TARGET", "FRAME_OVERHEAD", "QUANTUM", "Batch", "Outbox"]

# A batch is closed once it is this large. Larger ones would gain nothing per item and delay
# whoever comes next.
BATCH_TARGET = 64 * 1024

# Bytes. How much of one stream goes into a batch before the next id has its turn (protocol.md OUT);
# less where so many have something to send that a batch would not take them all.
QUANTUM = 16 * 1024
SMALLEST_QUANTUM = 512

# Bytes. No frame is as large.
UNBOUNDED = 2**62

# Bytes. More than any frame needs around its values: name, id, brackets, flags.
FRAME_OVERHEAD = 96


class Batch:
    """One WebSocket message in the making.

    Attributes:
        size: Bytes so far.
        numbered: Frames so far that count.
        freed: Bytes of the outbox that this batch gives back.
        full: Whether a frame had to be left for the next batch.
        alone: Bytes that a larger frame may have, which then goes alone.
        links: Link frames, ahead of the others.
        head: Bytes up to the end of the link frames.
        outbox: Where the frames come from.
        quantum: Bytes that one lane may take in its turn.
    """

    __slots__ = (
        "alone",
        "codec",
        "freed",
        "full",
        "head",
        "links",
        "numbered",
        "open_call",
        "outbox",
        "parts",
        "quantum",
        "size",
        "target",
    )

    def __init__(
        self,
        codec: Codec,
        target: int,
        outbox: Outbox,
        open_call: Callable[[OutCall], CallOptions | None],
    ) -> None:
        self.codec = codec
        self.target = target
        self.outbox = outbox
        self.open_call = open_call
        self.parts: list[bytes] = []
        self.size = self.head = 2
        self.links = 0
        self.numbered = 0
        self.freed = 0
        self.full = False
        self.alone = UNBOUNDED
        self.quantum = QUANTUM

    def fits(self, payload: int) -> bool:
        """Whether a frame with this many bytes of values may still join.

        The first one may be larger than others: it goes alone.
        """
        if self.size + payload + FRAME_OVERHEAD > (self.target if self.parts else self.alone):
            self.full = True
            return False
        return True

    def takes(self, part: bytes) -> bool:
        """Whether this frame may still join."""
        if self.size + len(part) + 1 > (self.target if self.parts else self.alone):
            self.full = True
            return False
        return True

    @property
    def contended(self) -> bool:
        """Whether others wait for their turn."""
        return bool(self.outbox.ring)

    def room(self) -> int:
        """How many bytes of values the next frame may have, if there is anything before it."""
        return self.target - self.size - FRAME_OVERHEAD

    def bound(self, room: int) -> None:
        """Take at most `room` more bytes, in one frame or in many."""
        self.alone = self.size + room
        self.target = min(self.target, self.alone)

    def repeat(self, part: bytes) -> bool:
        """Append a frame that was numbered before, unless it should wait for the next batch."""
        if not self.takes(part):
            return False
        self.parts.append(part)
        self.size += len(part) + 1
        return True

    def add(self, part: bytes) -> None:
        """Append an encoded numbered frame."""
        self.parts.append(part)
        self.size += len(part) + 1
        self.numbered += 1

    def add_link(self, frame: LinkFrame) -> None:
        """Append a link frame, which is not numbered."""
        part = self.codec.encode(frame)
        self.parts.append(part)
        self.size += len(part) + 1
        self.head = self.size
        self.links += 1

    def offer(self, frame: Frame, payload: int = 0) -> bool:
        """Append a numbered frame, unless it should wait for the next batch."""
        if not self.fits(payload):
            return False
        self.add(self.codec.encode(frame))
        return True

    def join(self) -> bytes | None:
        """The message, or None where there is nothing to say."""
        return self.codec.join(self.parts) if self.parts else None


class Outbox:
    """The lanes with something to send, and the link frames ahead of them.

    Attributes:
        bytes: Bytes of encoded values waiting, those that go in chunks aside.
        values: Those that go in chunks.
        links: Other link frames to send, first to last.
        ack: The count of an `ack` to send, or None.
        pong: The number of a `pong` to send, or None.
        ring: The lanes in the order of their turns; each stands in it once.
    """

    __slots__ = ("ack", "bytes", "links", "pong", "ring", "values")

    def __init__(self) -> None:
        self.bytes = 0
        self.links: list[LinkFrame] = []
        self.ack: int | None = None
        self.pong: int | None = None
        self.ring: deque[Lane] = deque()
        self.values = OutgoingValues(self.add)

    def __bool__(self) -> bool:
        return bool(self.ring) or self.has_link_frames

    @property
    def has_link_frames(self) -> bool:
        """Whether there are frames that concern the link alone."""
        return bool(self.links) or self.ack is not None or self.pong is not None

    def leave_link(self) -> None:
        """The link is gone, and with it what concerned it alone."""
        self.links.clear()
        self.ack = self.pong = None

    def add(self, lane: Lane, size: int = 0) -> None:
        """Let `lane` take part; `size` bytes of values were added to it."""
        self.bytes += size
        if not lane.queued:
            lane.queued = True
            self.ring.append(lane)

    def add_first(self, lane: Lane) -> None:
        """Let `lane` go ahead of the others: what it sends must precede them."""
        if not lane.queued:
            lane.queued = True
            self.ring.appendleft(lane)

    def forget(self, freed: int) -> None:
        """Values of this many bytes will not be sent after all."""
        self.bytes -= freed

    def fill_links(self, batch: Batch) -> None:
        """Take the link frames into `batch`; the numbered ones of `fill` come behind them."""
        links = self.links
        if links and type(links[0]) is Hello:
            batch.add_link(links.pop(0))
        # Before the others, for it is the answer to the peer's hello (ACK-1).
        if self.ack is not None:
            batch.add_link(Ack(self.ack))
            self.ack = None
        if self.pong is not None:
            batch.add_link(Pong(self.pong))
            self.pong = None
        while links:
            batch.add_link(links.pop(0))

    def fill(self, batch: Batch) -> None:
        """Take what is ready of the lanes into `batch`."""
        ring = self.ring
        if len(ring) * QUANTUM > batch.target:
            batch.quantum = max(SMALLEST_QUANTUM, min(QUANTUM, batch.target // len(ring)))
        while ring and batch.size < batch.target:
            lane = ring.popleft()
            if lane.take(batch):
                lane.queued = False
            elif batch.full:
                ring.appendleft(lane)
                break
            else:
                ring.append(lane)
        self.bytes -= batch.freed
