"""Frames that wait for the socket, and the order in which they go (protocol.md, Outbox).

Link frames go first. The lanes follow by deficit round robin, a quantum in each turn, so that no
stream and no large value holds up the others. A lane whose item was larger owes the rest, and skips
turns until it is paid.
"""

from __future__ import annotations

from .batch import QUANTUM, SMALLEST_QUANTUM, Batch
from .chunks import OutgoingValues
from .frames import Ack, Hello, LinkFrame, Pong
from .lanes import Lane

__all__ = ["Outbox"]

# Turns that are over leave the ring together, this many at a time: taking the first of many lanes
# out of a list costs as much as taking out a thousand.
MANY = 1024


class Outbox:
    """The lanes with something to send, and the link frames ahead of them.

    Attributes:
        bytes: Bytes of encoded values that wait, without those that go in chunks.
        values: The values that go in chunks.
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
        # A list, since an empty deque takes 760 bytes.
        self.ring: list[Lane] = []
        self.values: OutgoingValues[Lane] = OutgoingValues(self.add)

    def __bool__(self) -> bool:
        return bool(self.ring) or self.has_link_frames

    @property
    def has_link_frames(self) -> bool:
        """Whether there are frames that concern the link alone."""
        return bool(self.links) or self.ack is not None or self.pong is not None

    @property
    def greets(self) -> bool:
        """Whether this side's hello has yet to go."""
        return bool(self.links) and type(self.links[0]) is Hello

    def greet(self, batch: Batch) -> None:
        """Take the hello into `batch`."""
        batch.add_link(self.links.pop(0))

    def clear(self) -> None:
        """Drop all: no frame will go any more."""
        self.ring.clear()
        self.values.clear()

    def leave_link(self) -> None:
        """Drop the frames that concern the old link alone."""
        self.links.clear()
        self.ack = self.pong = None

    def add(self, lane: Lane, size: int = 0) -> None:
        """Let `lane` take part; `size` bytes of values were added to it."""
        self.bytes += size
        if not lane.queued:
            lane.queued = True
            self.ring.append(lane)

    def add_first(self, lane: Lane) -> None:
        """Let `lane` go ahead of the others: its frames must precede theirs."""
        if not lane.queued:
            lane.queued = True
            self.ring.insert(0, lane)

    def forget(self, freed: int) -> None:
        """Count out values of `freed` bytes, which will not be sent after all."""
        self.bytes -= freed

    def fill_links(self, batch: Batch) -> None:
        """Take the link frames into `batch`; the numbered ones of `fill` come after them."""
        links = self.links
        if self.greets:
            self.greet(batch)
        # The ack goes before the others, since it answers the peer's hello (ACK-1).
        if self.ack is not None:
            batch.add_link(Ack(self.ack))
            self.ack = None
        if self.pong is not None:
            batch.add_link(Pong(self.pong))
            self.pong = None
        while links:
            batch.add_link(links.pop(0))

    def fill(self, batch: Batch) -> None:
        """Take the frames that the lanes have ready into `batch`."""
        ring, values = self.ring, self.values
        if len(ring) * QUANTUM > batch.target:
            # There is no room for a quantum of each.
            share = batch.target // len(ring)
            batch.quantum = max(SMALLEST_QUANTUM, min(batch.quantum, share))
        turns = 0
        while turns < len(ring) and batch.size < batch.target:
            lane = ring[turns]
            turns += 1
            batch.contended = turns < len(ring)
            if lane.take(batch, values):
                lane.queued = False
            elif batch.full:
                # It keeps its place.
                turns -= 1
                break
            else:
                ring.append(lane)
                if turns == MANY:
                    del ring[:turns]
                    turns = 0
        del ring[:turns]
        self.bytes -= batch.freed
