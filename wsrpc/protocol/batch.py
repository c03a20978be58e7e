"""One WebSocket message in the making: which frames still fit, and which of them count.

A batch holds the frames that are ready at the moment it is taken: no timer, no added delay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .codec import Codec
from .frames import CallOptions, Frame, LinkFrame

__all__ = ["BATCH_TARGET", "FRAME_OVERHEAD", "QUANTUM", "SMALLEST_QUANTUM", "Batch"]

# Bytes. A batch that is this large takes no more frames. Larger batches would gain nothing per
# item, and would delay the next lane.
BATCH_TARGET = 64 * 1024

# Bytes of one stream that go into a batch before the next id has its turn (protocol.md OUT).
QUANTUM = 16 * 1024

# Bytes. The smallest share of one stream in a batch.
SMALLEST_QUANTUM = 512

# Bytes. No frame is as large.
UNBOUNDED = 2**62

# Bytes. More than any frame needs around its values: name, id, brackets, flags.
FRAME_OVERHEAD = 96


class Batch:
    """One WebSocket message in the making.

    Args:
        codec: The subprotocol's encoding.
        target: Bytes after which no further frame joins.
        open_call: Numbers a call that goes into this batch; returns its options.

    Attributes:
        contended: Whether other lanes wait for their turn.
        size: Bytes so far.
        freed: Bytes of the outbox that this batch gives back.
        full: Whether a frame had to be left for the next batch.
        alone: Bytes that a frame in a batch of its own may have.
        links: Link frames, ahead of the others.
        head: Bytes up to the end of the link frames.
        quantum: Bytes that one lane may take in its turn.
    """

    __slots__ = (
        "alone",
        "codec",
        "contended",
        "freed",
        "full",
        "head",
        "links",
        "open_call",
        "parts",
        "quantum",
        "size",
        "target",
    )

    def __init__(
        self,
        codec: Codec,
        target: int,
        open_call: Callable[[Any], CallOptions | None],
    ) -> None:
        self.codec = codec
        self.target = target
        self.contended = False
        self.open_call = open_call
        self.parts: list[bytes] = []
        self.size = self.head = 2
        self.links = 0
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

    def room(self) -> int:
        """Bytes of values that the next frame may have, if the batch already holds a frame."""
        return self.target - self.size - FRAME_OVERHEAD

    def bound(self, room: int) -> None:
        """Take at most `room` more bytes, in one frame or in many."""
        self.alone = self.size + room
        self.target = min(self.target, self.alone)

    def put(self, part: bytes) -> bool:
        """Append an encoded frame, unless it should wait for the next batch."""
        size = self.size + len(part) + 1
        parts = self.parts
        if size > (self.target if parts else self.alone):
            self.full = True
            return False
        parts.append(part)
        self.size = size
        return True

    def add(self, part: bytes) -> None:
        """Append an encoded frame, for which there is room."""
        self.parts.append(part)
        self.size += len(part) + 1

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
        """The bytes of the message, or None where the batch is empty."""
        return self.codec.join(self.parts) if self.parts else None
