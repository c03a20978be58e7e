"""A topic's history on one node, and its readers, which are positions in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias

import anyio
from typing_extensions import TypeVar

from ..errors import Code, RpcError
from ..options import checked_seconds
from ..protocol.codec import Codec
from ..runtime import Future, Runtime
from ..runtime.timers import TimerEntry, Timers
from ..stream import NoItemYet, Stream, Tracked
from ..values.tracked import Shared
from .errors import Gap, TopicGap

__all__ = ["OnGap", "Overflow", "Reader", "Ring", "Snapshot", "Source", "Start", "closed_ring"]

S = TypeVar("S")
T = TypeVar("T")

Start: TypeAlias = Literal["snapshot", "earliest", "latest"]
Overflow: TypeAlias = Literal["fail", "drop_oldest", "latest"]
OnGap: TypeAlias = Literal["raise", "snapshot"]

# Bytes. The most that is handed over at a time.
PACKED = 16 * 1024


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[S]):
    """The state of a topic, for a reader that has not followed it so far.

    Attributes:
        snapshot: The state that the producer's `snapshot=` gave, after the item at this position.
    """

    snapshot: S


class Ring:
    """The newest items of one topic, within its bounds.

    Positions count from 1. The items from `first` to `last` are here.

    Args:
        epoch: The name of this history; 8 hex digits.
        last: The position of the newest item so far.
        most: Items that it holds at most.
        most_bytes: Bytes of encoded items that it holds at most.
        charged: Called with the change in bytes.
    """

    def __init__(
        self,
        epoch: str,
        last: int,
        *,
        most: int,
        most_bytes: int,
        charged: Callable[[int], None],
    ) -> None:
        self.epoch = epoch
        self.last = last
        # The newest position that is known of: the items up to it may be yet to come here. None
        # while no code follows it.
        self.newest: int | None = last
        self.bytes = 0
        self.most = most
        self.most_bytes = most_bytes
        # The reason why no more items come, once that is so; and whether it is the regular end.
        self.failure: RpcError[Any] | None = None
        self.ended = False
        self.snapshot: Callable[[], Shared[Any] | None] = lambda: None
        # Whether a reader that begins with a snapshot has to wait for the next one.
        self.awaits_snapshot: Callable[[], bool] = lambda: False
        self._charged = charged
        self._items: deque[tuple[Shared[Any], int]] = deque()
        # The arguments of the last call of `packs`, and its result, if the call before it had the
        # same arguments.
        self._wanted: tuple[int, int, int, str] | None = None
        self._packs: tuple[Sequence[bytes], int] | None = None

    @property
    def first(self) -> int:
        """The oldest position that is left; one more than `last` where none is."""
        return self.last - len(self._items) + 1

    def text(self, position: int) -> str:
        """A position as a text, as readers know it."""
        return f"{self.epoch}.{position}"

    def add(self, item: Shared[Any], size: int) -> None:
        """Add an item, at the position after the last one."""
        self.last += 1
        self._unpack()
        self._items.append((item, size))
        self.bytes += size
        self._charged(size)
        while len(self._items) > self.most or self.bytes > self.most_bytes:
            self.evict()

    def evict(self) -> bool:
        """Drop the oldest item; returns False if there is none."""
        if not self._items:
            return False
        self._unpack()
        size = self._items.popleft()[1]
        self.bytes -= size
        self._charged(-size)
        return True

    def skip(self, last: int) -> None:
        """Skip items that are not available, up to this position."""
        while self.evict():
            pass
        self.last = last

    def drop_before(self, position: int) -> None:
        """Drop the items before a position, which are gone elsewhere, too."""
        if position > self.last + 1:
            self.skip(position - 1)
        while self.first < position and self.evict():
            pass

    def at(self, position: int) -> Shared[Any]:
        """The item at a position from `first` to `last`."""
        return self._items[position - self.last - 1][0]

    def packs(
        self, codec: Codec, position: int, most: int, share: int
    ) -> tuple[Sequence[bytes], int]:
        """The items after a position, encoded in packs, and their number.

        Args:
            codec: A codec of text.
            position: From `first - 1` to `last - 1`.
            most: Items.
            share: Bytes of a pack.
        """
        wanted = (position, min(most, self.last - position), share, codec.name)
        if wanted == self._wanted and self._packs is not None:
            return self._packs
        packs: list[bytes] = []
        parts: list[bytes] = []
        count, size, left = 0, 0, PACKED
        for at in range(position + 1, position + 1 + wanted[1]):
            data = self.at(at).encoded(codec)
            more = len(data) + 1
            left -= more
            if left < 0 or more > share:
                break
            size += more
            if size > share:
                packs.append(b",".join(parts))
                parts, size = [], more
            parts.append(data)
            count += 1
        if parts:
            packs.append(b",".join(parts))
        # They are kept from the second reader on: one that is alone needs none.
        self._packs = (packs, count) if wanted == self._wanted else None
        self._wanted = wanted
        return packs, count

    def _unpack(self) -> None:
        self._packs = self._wanted = None

    def gap(self, asked: str, why: str) -> TopicGap:
        """The error of a reader that cannot go on after `asked`."""
        gap = Gap(asked=asked, first=self.text(self.first), last=self.text(self.last), why=why)
        return TopicGap(gap)


def closed_ring(ring: Ring | None) -> Ring:
    """A history that gets no more items, since its node is going."""
    ring = ring or Ring("", 0, most=1, most_bytes=1, charged=lambda size: None)
    ring.failure = RpcError(Code.UNAVAILABLE, "this node is going; read the topic at another one")
    return ring


class Source(Protocol):
    """The source of readers.

    Attributes:
        runtime: The event loop.
        deadlines: The timers.
        ring: The history, once there is one.
        produced: Whether the topic has a producer, as far as this node knows.
    """

    runtime: Runtime
    deadlines: Timers
    ring: Ring | None
    produced: bool

    def wait(self, reader: Reader[Any]) -> None:
        """Wake a reader at the next change."""

    def left(self, reader: Reader[Any]) -> None:
        """Forget a reader that is through."""

    def is_complete(self, since: float) -> bool:
        """Whether the history was found to have all items that there are, after this time.

        Args:
            since: Seconds on the loop's clock.
        """
        ...


class Reader(Stream[Tracked[T]]):
    """One reader of a topic; a slow one costs no more than its position.

    Args:
        label: Its name in messages.
        source: The source of its items.
        after: The position after which it goes on, or None to begin.
        start: The place where it begins without a position.
        overflow: The policy when the history has dropped items that it has not read.
        on_gap: The policy when items after its position are gone.
        wait: Seconds to wait for a producer while there is none; None: for ever.
        ahead: Seconds to wait for items that another node has delivered already. For as long as
            this node cannot know all items, since NATS is away, it waits on.
    """

    __slots__ = (
        "_after",
        "_ahead",
        "_ahead_since",
        "_busy",
        "_closed",
        "_dropped",
        "_on_gap",
        "_overflow",
        "_pos",
        "_ring",
        "_source",
        "_start",
        "_until",
        "_wait",
        "_waiter",
    )

    def __init__(
        self,
        label: str,
        source: Source,
        *,
        after: str | None,
        start: Start,
        overflow: Overflow,
        on_gap: OnGap,
        wait: float | None,
        ahead: float,
    ) -> None:
        super().__init__(label)
        self._source = source
        self._after = after
        self._start: Start = start
        self._overflow: Overflow = overflow
        self._on_gap: OnGap = on_gap
        self._wait = wait
        self._ahead = ahead
        self._ring: Ring | None = None
        self._pos = 0
        self._dropped = 0
        # Seconds on the loop's clock. The time at which it has waited long enough.
        self._until: float | None = None
        # Seconds on the loop's clock. The time since which this node has not had its position.
        self._ahead_since: float | None = None
        self._waiter: Future | None = None
        self._closed = False
        self._busy = False
        if after is None and start == "latest" and source.ring is not None:
            # Items that are published from now on are for it, even before the first `next`.
            self._enter(source.ring)

    @property
    def lag(self) -> int:
        return 0 if self._ring is None else max(0, self._ring.last - self._pos)

    @property
    def dropped(self) -> int:
        return self._dropped

    def wake(self) -> None:
        """Let it look for items again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __anext__(self) -> Tracked[T]:
        return await self._following(None)

    async def next(self, timeout: float | None = None) -> Tracked[T]:
        return await self._following(checked_seconds("timeout", timeout))

    async def _following(self, timeout: float | None) -> Tracked[T]:
        if self._busy:
            self._refuse_second()
        self._busy = True
        try:
            item = self._take()
            if item is None:
                with anyio.move_on_after(timeout):
                    while item is None:
                        await self._changed()
                        item = self._take()
        except BaseException as error:
            if not self._closed:
                self.cancel()
                # As with any stream, the rest is lost, and must not look complete.
                self._cut = not isinstance(error, Exception)
            raise
        finally:
            self._busy = False
        if item is None:
            raise NoItemYet(f"{self._label}: no item came in time")
        return item

    def at_hand(self, codec: Codec, most: int, share: int) -> tuple[Sequence[bytes], int]:
        """The next items that are there, encoded in packs with commas between them, and their number.

        None if the next step is no plain item.

        Args:
            codec: A codec of text.
            most: Items to return at most.
            share: Bytes of a pack at most.
        """
        ring = self._ring
        if self._closed or ring is not self._source.ring or self._overflow == "latest":
            return (), 0
        if ring is None or not ring.first <= self._pos + 1 <= ring.last:
            return (), 0
        packs, count = ring.packs(codec, self._pos, most, share)
        self._pos += count
        return packs, count

    def _take(self) -> Tracked[T] | None:
        """The next item, if there is one now.

        Raises:
            RpcError: The reader cannot go on.
            StopAsyncIteration: The topic has ended.
        """
        if self._closed:
            self._raise_if_cut()
            raise StopAsyncIteration
        ring = self._source.ring
        item: Tracked[Any] | None = None
        if ring is not None:
            if ring is not self._ring:
                item = self._enter(ring)
            elif self._pos + 1 < ring.first:
                item = self._overtaken(ring)
            if item is None and ring is self._ring:
                item = self._next(ring)
        if item is not None:
            self._until = None
            return item
        self._check_time()
        return None

    def _next(self, ring: Ring) -> Tracked[Any] | None:
        last = ring.last
        if self._pos < last:
            if self._overflow == "latest":
                self._dropped += last - self._pos - 1
                self._pos = last
            else:
                self._pos += 1
            return ring.at(self._pos)
        if ring.failure is not None:
            raise ring.failure
        if ring.ended:
            self._finish()
            raise StopAsyncIteration
        return None

    def _enter(self, ring: Ring) -> Tracked[Any] | None:
        """Find the position in a ring, unless this node has not got that far."""
        asked = self._after if self._ring is None else self._ring.text(self._pos)
        if asked is None:
            if self._start == "snapshot" and ring.awaits_snapshot():
                return None
            if ring.newest is None and ring.failure is None:
                # It may be old: a reader that begins is owed no gap.
                return None
            self._ring = ring
            if self._start == "latest":
                self._pos = max(ring.last, ring.newest or 0)
                return None
            self._pos = ring.first - 1
            return self._snapshot(ring) if self._start == "snapshot" else None
        epoch, _, digits = asked.rpartition(".")
        position = int(digits) if digits.isdecimal() and len(digits) < 20 else -1
        elsewhere = epoch != ring.epoch or position < 0 or position > ring.last
        if elsewhere and ring.failure is not None:
            # It is this node that cannot tell, or is going.
            raise ring.failure
        if epoch != ring.epoch or position < 0:
            return self._gap(ring, asked, "epoch")
        if position > ring.last:
            return self._get_ahead(ring, asked)
        self._ring, self._pos = ring, position
        self._until = self._ahead_since = None
        return self._overtaken(ring) if position + 1 < ring.first else None

    def _get_ahead(self, ring: Ring, asked: str) -> Tracked[Any] | None:
        """Wait for this node to get as far as the one that delivered the last item."""
        now = self._source.runtime.now()
        if self._ahead_since is None:
            self._ahead_since = now
        until = self._ahead_since + self._ahead
        if now >= until and self._source.is_complete(self._ahead_since):
            return self._gap(ring, asked, "ahead")
        self._until = until if now < until else now + self._ahead
        return None

    def _overtaken(self, ring: Ring) -> Tracked[Any] | None:
        """Apply the overflow policy: the history has dropped items that it has not read."""
        if self._overflow == "fail":
            return self._gap(ring, ring.text(self._pos), "evicted")
        place = ring.first - 1
        if self._overflow == "latest":
            place = max(place, ring.last - 1)
        self._dropped += place - self._pos
        self._pos = place
        return None

    def _gap(self, ring: Ring, asked: str, why: str) -> Tracked[Any] | None:
        if self._on_gap == "raise":
            raise ring.gap(asked, why)
        if ring.awaits_snapshot():
            self._ring, self._after, self._start = None, None, "snapshot"
            return None
        self._ring, self._pos = ring, ring.first - 1
        return self._snapshot(ring)

    def _snapshot(self, ring: Ring) -> Tracked[Any] | None:
        snapshot = ring.snapshot()
        if snapshot is not None:
            self._pos = int(snapshot.id.rpartition(".")[2])
        return snapshot

    def _check_time(self) -> None:
        """Check the time that it may wait for missing items or a producer."""
        source = self._source
        now = source.runtime.now()
        if source.produced and source.ring is self._ring:
            self._until = None
        elif self._until is None:
            if not source.produced and self._wait is not None:
                self._until = now + self._wait
        elif now >= self._until and not source.produced:
            raise RpcError(
                Code.UNAVAILABLE, f"{self._label} has had no producer for {self._wait:g} s"
            )

    async def _changed(self) -> None:
        """Wait for a change, or until it has waited long enough."""
        source = self._source
        self._waiter = waiter = source.runtime.future()
        entry: TimerEntry | None = None
        if self._until is not None:
            entry = source.deadlines.add(self._until, self.wake)
        source.wait(self)
        try:
            await waiter
        finally:
            self._waiter = None
            if entry is not None:
                source.deadlines.remove(entry)

    def cancel(self) -> None:
        self._cut = False
        if not self._closed:
            self._closed = True
            self.wake()
            self._source.left(self)

    async def aclose(self) -> None:
        self.cancel()
