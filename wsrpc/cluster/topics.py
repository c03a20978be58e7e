"""Shared streams: one producer, a bounded history, any number of readers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, overload

import anyio
from typing_extensions import TypeVar

from ..context import handling
from ..errors import Code, RpcError
from ..protocol.codec import CODECS
from ..runtime import Runtime
from ..runtime.timers import Timers
from ..stream import Stream, Tracked
from ..values.adapter import Unencodable
from ..values.tracked import Shared, TrackedAdapter
from .errors import Superseded, TopicTaken
from .limits import ClusterLimits
from .node import Node, checked_name
from .ring import OnGap, Overflow, Reader, Ring, Snapshot, Start, closed_ring

__all__ = ["LocalChannel", "Producer", "Topic", "Topics"]

S = TypeVar("S", default=None)
T = TypeVar("T")

JSON = CODECS["json"]

# Bytes of chance in the name of a history: 8 hex digits.
EPOCH_BYTES = 4


class LocalChannel:
    """A topic whose producer and readers are all in this process."""

    def __init__(self, topics: Topics, topic: Topic[Any, Any]) -> None:
        node = topics.node
        self.name = topic.name
        self.runtime: Runtime = node.runtime
        self.deadlines: Timers = topics.deadlines
        self.ring: Ring | None = None
        self.produced = False
        self.readers = 0
        self._topics = topics
        self._adapter = topic.adapter
        self._snapshots = topic.snapshots
        self._bounds = (topic.history, topic.history_bytes)
        self._state: Callable[[], Any] | None = None
        self._latest: Shared[Any] | None = None
        self._waiting: set[Reader[Any]] = set()
        self._free: anyio.Event | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody produces or reads it."""
        return not (self.produced or self.readers or self._free)

    # ------------------------------------------------------------ readers

    def entered(self) -> None:
        """There is one more reader."""
        self.readers += 1

    def shut(self) -> None:
        """Its node is going: readers go elsewhere."""
        self.ring = closed_ring(self.ring)
        self.wake()

    def wait(self, reader: Reader[Any]) -> None:
        self._topics.read(self)
        self._waiting.add(reader)

    def left(self, reader: Reader[Any]) -> None:
        self.readers -= 1
        self._waiting.discard(reader)

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for reader in waiting:
            reader.wake()

    # ------------------------------------------------------------ the producer

    async def own(self, standby: bool, snapshot: Callable[[], Any] | None) -> None:
        while self.produced:
            if not standby:
                raise TopicTaken(
                    f"the topic {self.name!r} has a producer; produce(standby=True) waits for it"
                )
            self._free = self._free or anyio.Event()
            await self._free.wait()
        self._free = None
        self.produced = True
        if self.ring is None:
            most, most_bytes = self._bounds
            self.ring = Ring(
                secrets.token_hex(EPOCH_BYTES),
                0,
                most=most,
                most_bytes=most_bytes,
                charged=self._topics.charged,
            )
        self.ring.ended = False
        self._state = snapshot
        self.ring.snapshot = self._snapshot
        self.wake()

    def publish(self, value: Any) -> str:
        ring = self.ring
        if ring is None or not self.produced:
            raise Superseded(f"the producer of {self.name!r} has ended")
        # Encoded here, so that what does not fit fails where it is published, and so that nobody
        # can change it any more.
        item = Shared(ring.text(ring.last + 1), value, self._adapter)
        try:
            size = len(item.encoded(JSON))
        except Unencodable as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None
        ring.add(item, size)
        self.wake()
        self._topics.trim()
        return item.id

    async def flush(self) -> None:
        """Nothing is under way."""

    async def disown(self, *, ended: bool) -> None:
        self.produced = False
        if self.ring is not None:
            self.ring.ended = ended
            if not ended:
                self.ring.snapshot = lambda: None
        if self._free is not None:
            self._free.set()
        self.wake()

    def _snapshot(self) -> Shared[Any] | None:
        ring = self.ring
        if self._state is None or ring is None:
            return None
        id = ring.text(ring.last)
        if self._latest is None or self._latest.id != id:
            # Those that come at one position share it.
            self._latest = Shared(id, Snapshot(self._state()), self._snapshots)
        return self._latest


if TYPE_CHECKING:
    from .durable import StoredChannel

    Channel: TypeAlias = LocalChannel | StoredChannel


class Topics:
    """The topics of a node.

    Attributes:
        node: The node.
        deadlines: What happens when.
        bytes: How much all histories hold.
    """

    def __init__(self, node: Node, limits: ClusterLimits) -> None:
        self.node = node
        self.bytes = 0
        self._limits = limits
        # Those read least recently first.
        self._channels: dict[str, Channel] = {}
        self._deadlines: Timers | None = None

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def deadlines(self) -> Timers:
        if self._deadlines is None:
            self._deadlines = Timers(self.node.runtime, self.node.nursery)
        return self._deadlines

    def close(self) -> None:
        """Readers go elsewhere, and no timer runs any more."""
        for channel in self._channels.values():
            channel.shut()
        if self._deadlines is not None:
            self._deadlines.close()

    def channel(self, topic: Topic[Any, Any]) -> Channel:
        """What a topic is on this node.

        Raises:
            RpcError: `resource_exhausted`: there are too many.
        """
        found = self._channels.get(topic.name)
        if found is None:
            if len(self._channels) >= self._limits.max_topics:
                self._forget_one()
            found = self._channels[topic.name] = self._make(topic)
        return found

    def _make(self, topic: Topic[Any, Any]) -> Channel:
        store = self.node.store
        if store is None:
            return LocalChannel(self, topic)
        from .durable import StoredChannel

        network = self.node.network
        assert network is not None
        return StoredChannel(self, topic, network, store, self.node.cluster)

    def _forget_one(self) -> None:
        for name, channel in self._channels.items():
            if channel.idle:
                del self._channels[name]
                if channel.ring is not None:
                    while channel.ring.evict():
                        pass
                return
        raise RpcError(
            Code.RESOURCE_EXHAUSTED,
            f"there are {len(self._channels)} topics in use (ClusterLimits.max_topics)",
        )

    def read(self, channel: Channel) -> None:
        """A channel is being read."""
        if self._channels.pop(channel.name, None) is not None:
            self._channels[channel.name] = channel

    def charged(self, size: int) -> None:
        """A history has grown by so many bytes, or shrunk."""
        self.bytes += size

    def trim(self) -> None:
        """Let go of the oldest items of what is read least, where all hold too much."""
        while self.bytes > self._limits.max_topic_bytes:
            for channel in self._channels.values():
                if channel.ring is not None and channel.ring.evict():
                    break
            else:
                return


class Producer(Generic[T]):
    """What publishes the items of a topic."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ended = False

    def publish(self, item: T) -> str:
        """Publish one item; it must not change any more. Returns its position.

        It is in the history when this returns, and on its way to all readers. In a cluster on NATS
        it is safe only once `flush` has returned.

        Raises:
            RpcError: `invalid_argument`: it does not fit the topic's type.
            Superseded: This producer has ended, or another has taken over.
        """
        if self._ended:
            raise Superseded("this producer has ended")
        return self._channel.publish(item)

    async def flush(self) -> None:
        """Wait until all that was published is stored.

        Raises:
            Superseded: Another producer has taken over.
        """
        await self._channel.flush()

    async def durable(self, item: T) -> str:
        """Publish one item and wait until it is stored; returns its position."""
        position = self.publish(item)
        await self.flush()
        return position

    async def end(self) -> None:
        """End the topic: its readers end after the last item."""
        if not self._ended:
            self._ended = True
            await self._channel.flush()
            await self._channel.disown(ended=True)

    async def abandon(self) -> None:
        """Stop, and let readers wait for the next producer."""
        if not self._ended:
            self._ended = True
            await self._channel.disown(ended=False)


class Topic(Generic[T, S]):
    """A shared stream with a name. Making one creates nothing; `Cluster.topic` does it.

    Attributes:
        name: Its name.
    """

    def __init__(
        self,
        topics: Topics,
        name: str,
        item: Any,
        state: Any,
        *,
        durable: bool,
        history: int,
        history_bytes: int,
        max_age: float | None,
    ) -> None:
        self.name = checked_name(name, "topic", topics.node.limits)
        for what, bound in (("history", history), ("history_bytes", history_bytes)):
            if bound < 1:
                raise ValueError(f"{what} of a topic must be at least 1, not {bound!r}")
        self.durable = durable
        self.history = history
        self.history_bytes = history_bytes
        self.max_age = max_age
        where = f"the topic {name!r}"
        self.adapter = TrackedAdapter(item, where=where)
        kind: Any = Snapshot
        self.snapshots = TrackedAdapter(kind[Any if state is None else state], where=where)
        self._topics = topics

    def __repr__(self) -> str:
        return f"<topic {self.name!r}>"

    @asynccontextmanager
    async def produce(
        self, *, snapshot: Callable[[], S] | None = None, standby: bool = False
    ) -> AsyncGenerator[Producer[T], None]:
        """Be the topic's producer while the block runs.

        Leaving the block normally ends the topic, and with it all its readers. Leaving it by an
        exception lets them wait for the next producer.

        Args:
            snapshot: Gives the state after all that was published so far; asked between two items
                for each reader that comes late, and must not block.
            standby: Wait while there is another producer, so that every node can run this code.

        Raises:
            TopicTaken: There is another producer.
        """
        channel = self._topics.channel(self)
        await channel.own(standby, snapshot)
        producer: Producer[T] = Producer(channel)
        try:
            yield producer
            await producer.end()
        finally:
            await producer.abandon()

    @overload
    def subscribe(
        self: Topic[T, None],
        *,
        after: str | EllipsisType | None = ...,
        start: Start = ...,
        overflow: Overflow = ...,
        on_gap: OnGap = ...,
        wait: float | None = ...,
    ) -> Stream[Tracked[T]]: ...
    @overload
    def subscribe(
        self,
        *,
        after: str | EllipsisType | None = ...,
        start: Start = ...,
        overflow: Overflow = ...,
        on_gap: OnGap = ...,
        wait: float | None = ...,
    ) -> Stream[Tracked[T | Snapshot[S]]]: ...
    def subscribe(
        self,
        *,
        after: str | EllipsisType | None = ...,
        start: Start = "snapshot",
        overflow: Overflow = "fail",
        on_gap: OnGap = "raise",
        wait: float | None = 30.0,
    ) -> Any:
        """Read the topic; a method may return this as its stream.

        A client that reconnects goes on after its last item, on whichever node.

        Args:
            after: The position of the last item that the reader has. Left out: what the caller
                of the method that is being handled has (`current().last_id`).
            start: Where a reader without a position begins: "snapshot" with the producer's
                snapshot, or the oldest item where there is none; "earliest"; "latest" with what is
                published from now on.
            overflow: What happens to a reader that the history has left behind: "fail" raises
                `TopicGap`; "drop_oldest" goes on with the oldest item left; "latest" always goes on
                with the newest. `dropped` counts what was left out. There is no "block": no reader
                holds up the producer.
            on_gap: What happens where the items after its position are gone: "raise", or go on
                with a "snapshot".
            wait: Seconds to wait for a producer while there is none, before `unavailable`; None:
                for ever.
        """
        if after is ...:
            handled = handling.get()
            after = None if handled is None else handled.context.last_id
        channel = self._topics.channel(self)
        channel.entered()
        return Reader(
            f"the topic {self.name!r}",
            channel,
            after=after,
            start=start,
            overflow=overflow,
            on_gap=on_gap,
            wait=wait,
            ahead=0.0 if self._topics.node.store is None else self._topics.node.limits.ahead,
        )
