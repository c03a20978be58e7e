"""Shared streams: one producer, a bounded history, any number of readers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, get_args, overload

import anyio
from typing_extensions import TypeVar

from ..context import handling
from ..errors import Code, RpcError
from ..options import checked_bool, checked_count, checked_plain, checked_seconds
from ..protocol.codec import CODECS
from ..runtime import Runtime
from ..runtime.timers import Timers
from ..stream import Stream, Tracked
from ..values.adapter import Unencodable
from ..values.tracked import Shared, TrackedAdapter
from .errors import Superseded, TopicTaken, gone_error
from .limits import ClusterLimits
from .node import Node, checked_name
from .ring import OnGap, Overflow, Reader, Ring, Snapshot, Start, closed_ring

__all__ = ["LocalChannel", "Producer", "Topic", "Topics"]

S = TypeVar("S", default=None)
T = TypeVar("T")

JSON = CODECS["json"]

# Items or bytes of a history: JetStream counts in 64 bits.
MOST = 2**63 - 1

# Random bytes in the name of a history: 8 hex digits.
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
        # Tasks that wait to be the producer.
        self._wanting = 0
        self._gone = False

    @property
    def idle(self) -> bool:
        """Whether it has no producer and no reader."""
        return not (self.produced or self.readers or self._wanting)

    # ------------------------------------------------------------ readers

    def entered(self) -> None:
        """Count in a reader."""
        self.readers += 1

    def shut(self) -> None:
        """End readers and producers with `unavailable`, since this node is going."""
        self.ring = closed_ring(self.ring)
        self._gone = True
        if self._free is not None:
            self._free.set()
        self.wake()

    def wait(self, reader: Reader[Any]) -> None:
        self._topics.read(self)
        self._waiting.add(reader)

    def left(self, reader: Reader[Any]) -> None:
        self.readers -= 1
        self._waiting.discard(reader)

    def is_complete(self, since: float) -> bool:
        return True

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for reader in waiting:
            reader.wake()

    # ------------------------------------------------------------ the producer

    async def own(self, standby: bool, snapshot: Callable[[], Any] | None) -> None:
        while self.produced and not self._gone:
            if not standby:
                raise TopicTaken(
                    f"the topic {self.name!r} has a producer; produce(standby=True) waits for it"
                )
            self._free = self._free or anyio.Event()
            self._wanting += 1
            try:
                await self._free.wait()
            finally:
                self._wanting -= 1
        self._check()
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

    def _check(self) -> None:
        if self._gone:
            raise gone_error(f"the topic {self.name!r} has no producer here")

    def publish(self, value: Any) -> str:
        self._check()
        ring = self.ring
        if ring is None or not self.produced:
            raise Superseded(f"the producer of {self.name!r} has ended")
        # Encoded here, so that an item that does not fit fails where it is published, and so that
        # it cannot change any more.
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
        """Return at once, since no item is under way."""
        self._check()

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
            # Readers that come at one position share the snapshot.
            self._latest = Shared(id, Snapshot(self._state()), self._snapshots)
        return self._latest


if TYPE_CHECKING:
    from .durable import StoredChannel

    Channel: TypeAlias = LocalChannel | StoredChannel


class Topics:
    """The topics of a node.

    Attributes:
        node: The node.
        deadlines: The timers.
        bytes: Bytes of all histories.
    """

    def __init__(self, node: Node, limits: ClusterLimits) -> None:
        self.node = node
        self.bytes = 0
        self._limits = limits
        # The channels, those read least recently first.
        self._channels: dict[str, Channel] = {}
        self._deadlines: Timers | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def deadlines(self) -> Timers:
        if self._deadlines is None:
            self._deadlines = Timers(self.node.runtime, self.node.nursery)
        return self._deadlines

    def close(self) -> None:
        """End all readers and producers, and stop the timer."""
        self._closed = True
        for channel in self._channels.values():
            channel.shut()
        if self._deadlines is not None:
            self._deadlines.close()

    def channel(self, topic: Topic[Any, Any]) -> Channel:
        """The channel of a topic on this node.

        Raises:
            RpcError: `resource_exhausted`: there are too many topics.
        """
        if self._closed:
            raise gone_error(f"the topic {topic.name!r} cannot be used here")
        # This raises if the application has not entered the cluster.
        _ = self.node.nursery
        self.node.check(f"the topic {topic.name!r} cannot be used here")
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
        """Note that a channel is being read."""
        if self._channels.pop(channel.name, None) is not None:
            self._channels[channel.name] = channel

    def charged(self, size: int) -> None:
        """Note that a history has grown, or shrunk, by so many bytes."""
        self.bytes += size

    def trim(self) -> None:
        """Drop the oldest items of the channels read least recently, if all hold too many bytes."""
        while self.bytes > self._limits.max_topic_bytes:
            for channel in self._channels.values():
                if channel.ring is not None and channel.ring.evict():
                    break
            else:
                return


class Producer(Generic[T]):
    """The producer of a topic, which publishes its items."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ended = False

    def publish(self, item: T) -> str:
        """Publish one item, which must not change any more; returns its position.

        When this returns, the item is in the history, and on its way to all readers. In a cluster
        on NATS it is stored only once `flush` has returned.

        Args:
            item: The item.

        Raises:
            RpcError: `invalid_argument`: the item does not fit the topic's type; the caller's
                fault.
            Superseded: This producer has ended, or another has taken over.
        """
        if self._ended:
            raise Superseded("this producer has ended")
        return self._channel.publish(item)

    async def flush(self) -> None:
        """Wait until all published items are stored.

        Raises:
            Superseded: Another producer has taken over.
        """
        await self._channel.flush()

    async def durable(self, item: T) -> str:
        """Publish one item and wait until it is stored; returns its position.

        If the await is cancelled, the item is published all the same.

        Args:
            item: The item.
        """
        position = self.publish(item)
        await self.flush()
        return position

    async def end(self) -> None:
        """End the topic: its readers end after the last item."""
        if self._ended:
            return
        self._ended, stored = True, False
        try:
            await self._channel.flush()
            stored = True
        finally:
            # In any case this is the topic's producer no longer.
            await self._channel.disown(ended=stored)

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
        checked_count("history of a topic", history, "item", MOST)
        checked_count("history_bytes of a topic", history_bytes, "byte", MOST)
        checked_seconds("max_age of a topic", max_age)
        if max_age is not None and not max_age > 0:
            raise ValueError(f"max_age of a topic must be more than 0 seconds, not {max_age!r}")
        checked_bool("durable", durable)
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
        """Be the topic's producer while an `async with` block runs.

        Leaving the block normally ends the topic, and with it all its readers. If an exception
        leaves the block, readers wait for the next producer.

        Args:
            snapshot: Gives the state after all items published so far. It is called between two
                items for readers that come late, and must not block.
            standby: Whether to wait while there is another producer, so that every node can run
                this code.

        Raises:
            TopicTaken: There is another producer.
        """
        checked_plain("snapshot", snapshot)
        checked_bool("standby", standby)
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

        A client that reconnects to any node goes on after its last item.

        Args:
            after: The position of the last item that the reader has. If left out, it is that of the
                caller whose call is being handled (`current().last_id`).
            start: The place where a reader without a position begins: "snapshot" with the
                producer's snapshot, or the oldest item where there is none; "earliest" with the
                oldest item; "latest" with items that are published from now on.
            overflow: The policy when the history has dropped items that a reader has not read:
                "fail" raises `TopicGap`; "drop_oldest" goes on with the oldest item left; "latest"
                always goes on with the newest. `dropped` counts the items left out. There is no
                "block": no reader holds up the producer.
            on_gap: The policy when the items after its position are gone: "raise" `TopicGap`, or go
                on with a "snapshot".
            wait: Seconds to wait for a producer while there is none, before `unavailable`; None:
                for ever.
        """
        for name, value, known in (
            ("start", start, get_args(Start)),
            ("overflow", overflow, get_args(Overflow)),
            ("on_gap", on_gap, get_args(OnGap)),
        ):
            if value not in known:
                raise ValueError(f"{name} of a topic's reader is one of {known}, not {value!r}")
        checked_seconds("wait", wait)
        if not (after is None or after is ... or isinstance(after, str)):
            raise ValueError(
                f"after must be the position of an item, as Tracked.id gives it, or None, not {after!r:.80}"
            )
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
