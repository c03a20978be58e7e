"""Topics over many nodes: their history is in JetStream, and each node pulls it for itself.

The position of an item is its sequence in the stream.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import anyio
import msgspec
import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from ..errors import Code, RpcError
from ..protocol.codec import CODECS
from ..runtime.timers import Timers
from ..telemetry.logs import everyone
from ..values.tracked import Shared
from .bus.nats import NatsBus
from .bus.thread import ThreadBus
from .errors import ClusterConfigError
from .members import BAD_JSON
from .network import Network
from .node import Node
from .publishing import LOOK_FOR_OWNER, Described, Publisher
from .ring import Reader, Ring, closed_ring
from .store import AWAY, RETRY, Note, Store, epoch_of

__all__ = ["StoredChannel"]

JSON = CODECS["json"]

# Seconds.
LONGEST_RETRY = 1.0
FETCH = 2.0

# Messages of one fetch.
BATCH = 256


class Shelf(Protocol):
    """The methods of a node's topics that a channel needs."""

    node: Node

    @property
    def deadlines(self) -> Timers: ...
    def charged(self, size: int) -> None: ...
    def trim(self) -> None: ...


class StoredChannel:
    """A topic in JetStream, on this node; it has the same methods as `topics.LocalChannel`."""

    def __init__(
        self,
        topics: Shelf,
        topic: Described,
        network: Network,
        bus: NatsBus | ThreadBus,
        cluster: str,
    ) -> None:
        self.name = topic.name
        self.runtime = topics.node.runtime
        self.deadlines: Timers = topics.deadlines
        self.ring: Ring | None = None
        self.produced = False
        self.readers = 0
        self.failure: Exception | None = None
        self._topics = topics
        self._topic = topic
        self._network = network
        self._bus = bus
        self._limits = topics.node.limits
        key = hashlib.sha256(topic.name.encode()).hexdigest()[:24]
        self.store = Store(topic, network, bus, cluster, key, self._limits.replicas)
        self._waiting: set[Reader[Any]] = set()
        self._reading = False
        # Seconds on the loop's clock. The last time at which NATS had no further item.
        self._complete = -math.inf
        self._note: Note | None = None
        self._latest_snapshot: Shared[Any] | None = None
        self._publisher = Publisher(
            topic,
            self.store,
            network,
            bus,
            key,
            self._limits,
            self._put,
            self._changed_hands,
        )

    @property
    def idle(self) -> bool:
        """Whether it has no producer and no reader."""
        return self._publisher.idle and not self.readers

    # ------------------------------------------------------------ readers

    def entered(self) -> None:
        """Count in a reader."""
        self.readers += 1
        if not self._reading:
            self._reading = True
            self._network.spawn(self._read)
            self._network.spawn(self._look_for_owner)

    def shut(self) -> None:
        """End readers with `unavailable`, since this node is going."""
        self.ring = closed_ring(self.ring)
        self._publisher.shut()
        self.wake()

    def wait(self, reader: Reader[Any]) -> None:
        self._waiting.add(reader)

    def left(self, reader: Reader[Any]) -> None:
        self.readers -= 1
        self._waiting.discard(reader)

    def is_complete(self, since: float) -> bool:
        return self._complete > since

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for reader in waiting:
            reader.wake()

    async def _read(self) -> None:
        """Keep the newest part of the stream here, while there are readers."""
        wait = RETRY
        try:
            while self.readers and not self._network.closed:
                try:
                    await self._pull()
                    wait = RETRY
                except ClusterConfigError as error:
                    self._fail(error)
                    return
                except AWAY:
                    await anyio.sleep(wait)
                    wait = min(LONGEST_RETRY, wait * 2)
        finally:
            self._reading = False

    def _fail(self, error: Exception) -> None:
        everyone.error("the topic %r cannot be read", self.name, error=error)
        ring = self._fresh("", 0)
        ring.failure = RpcError(Code.FAILED_PRECONDITION, str(error))

    def _fresh(self, epoch: str, last: int) -> Ring:
        while self.ring is not None and self.ring.evict():
            pass
        topic = self._topic
        ring = self.ring = Ring(
            epoch,
            last,
            most=topic.history,
            most_bytes=topic.history_bytes,
            charged=self._topics.charged,
        )
        ring.snapshot = self._latest
        ring.awaits_snapshot = self._is_behind
        self.wake()
        return ring

    async def _pull(self) -> None:
        info = await self.store.ensure()
        generation = self._bus.generation
        # From now on each note that comes is known, and the last one before that.
        off = await self._bus.subscribe(self.store.notes_subject, self._noted)
        try:
            await self._look_at_notes()
            await self._pull_from(info, generation)
        finally:
            with anyio.CancelScope(shield=True):
                await off()

    async def _pull_from(self, info: Any, generation: int) -> None:
        epoch = epoch_of(info)
        ring = self.ring
        first, last = info.state.first_seq, info.state.last_seq
        if ring is None or ring.epoch != epoch or ring.last > last:
            ring = self._fresh(epoch, max(first, last - self._topic.history + 1, 1) - 1)
            self._look_for_end(ring)
        ring.drop_before(first)
        ring.newest = last
        self.wake()
        consumer = f"n{secrets.token_hex(8)}"
        # `pull_subscribe` would give it another name, and would not remove it.
        await self._bus.run(
            self.store.js().add_consumer,
            self.store.items,
            ConsumerConfig(
                name=consumer,
                ack_policy=AckPolicy.NONE,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=ring.last + 1,
                inactive_threshold=30,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        subscription = await self._bus.run(
            self.store.js().pull_subscribe_bind, consumer, self.store.items
        )
        try:
            while self._goes_on(generation):
                try:
                    messages = await self._bus.run(
                        subscription.fetch, BATCH, timeout=FETCH, heartbeat=0.5
                    )
                    pending = messages[-1].metadata.num_pending if messages else 1
                except nats.errors.TimeoutError:
                    # This raises if the consumer is gone.
                    info = await self._bus.run(subscription.consumer_info)
                    messages, pending = [], info.num_pending
                for message in messages:
                    self._take(ring, message)
                if not pending:
                    self._complete = self.runtime.now()
                self._look_for_end(ring)
                self._topics.trim()
                self.wake()
        finally:
            ring.newest = None
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                with suppress(*AWAY):
                    await self._bus.run(subscription.unsubscribe)
                    # Otherwise it would stay for as long as `inactive_threshold` says.
                    await self._bus.run(self.store.js().delete_consumer, self.store.items, consumer)

    def _goes_on(self, generation: int) -> bool:
        return self.readers > 0 and not self._network.closed and generation == self._bus.generation

    def _take(self, ring: Ring, message: Any) -> None:
        sequence = message.metadata.sequence.stream
        if sequence <= ring.last:
            return
        if sequence > ring.last + 1:
            # The limits of the stream have dropped the items in between.
            ring.skip(sequence - 1)
        data = bytes(message.data)
        id = ring.text(sequence)
        try:
            value = self._topic.adapter.load(msgspec.Raw(data), JSON).value
        except ValueError:
            self._network.junk += 1
            ring.skip(sequence)
            return
        ring.ended = False
        ring.add(Shared(id, value, self._topic.adapter), len(data))

    # ------------------------------------------------------------ the producer, as readers see it

    async def _look_for_owner(self) -> None:
        publisher = self._publisher
        while self.readers and not self._network.closed:
            before = self.produced
            try:
                owned = publisher.owns or await publisher.is_owned()
                self.produced = before if owned is None else owned
                if not self.produced:
                    await self._look_at_notes()
                    if self.ring is not None:
                        self._look_for_end(self.ring)
            except AWAY:
                pass
            if self.produced != before or (self.ring is not None and self.ring.ended):
                self.wake()
            await anyio.sleep(LOOK_FOR_OWNER)

    async def _look_at_notes(self) -> None:
        note = (await self.store.last_note()).note
        if note is not None:
            self._put(note)

    def _noted(self, subject: str, data: bytes, reply: str) -> None:
        """A note of the topic's state."""
        try:
            self._note = msgspec.json.decode(data, type=Note)
        except BAD_JSON:
            self._network.junk += 1
            return
        self.wake()

    def _is_behind(self) -> bool:
        """Whether the topic has snapshots, and the next one is to be waited for.

        The last one is too old: items after it are gone already.
        """
        note, ring = self._note, self.ring
        if note is None or ring is None or bytes(note.state) == b"null":
            return False
        return note.epoch == ring.epoch and note.pos < ring.first - 1

    def _look_for_end(self, ring: Ring) -> None:
        """Whether the producer has ended the topic, and all of its items are here."""
        note = self._note
        ended = note is not None and note.ended and note.epoch == ring.epoch
        ring.ended = ended and note is not None and note.pos == ring.last

    def _latest(self) -> Shared[Any] | None:
        """The last stored snapshot, if all items after it are here."""
        note, ring = self._note, self.ring
        if note is None or bytes(note.state) == b"null" or ring is None or note.epoch != ring.epoch:
            return None
        if note.pos < ring.first - 1:
            return None
        id = ring.text(note.pos)
        if self._latest_snapshot is None or self._latest_snapshot.id != id:
            adapter = self._topic.snapshots
            raw = msgspec.Raw(b'["%s",%s]' % (id.encode(), bytes(note.state)))
            value = adapter.load(raw, JSON).value
            self._latest_snapshot = Shared(id, value, adapter)
        return self._latest_snapshot

    # ------------------------------------------------------------ the producer

    async def own(self, standby: bool, snapshot: Callable[[], Any] | None) -> None:
        await self._publisher.own(standby, snapshot)

    def publish(self, value: Any) -> str:
        return self._publisher.publish(value)

    async def flush(self) -> None:
        await self._publisher.flush()

    async def disown(self, *, ended: bool) -> None:
        await self._publisher.disown(ended=ended)

    def _changed_hands(self, here: bool) -> None:
        self.produced = here
        if not here:
            self.wake()

    def _put(self, note: Note) -> None:
        self._note = note
        self.wake()
