"""Topics over many nodes: their history is in JetStream, and each node pulls it for itself.

The position of an item is its sequence in the stream. A producer names the sequence that it
expects, which fences off a second producer. Where an acknowledgement is lost, the header of the
stream's last message tells which items were stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections import deque
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
from ..values.adapter import Unencodable
from ..values.tracked import Shared, TrackedAdapter
from .bus.nats import NatsBus
from .bus.thread import ThreadBus
from .errors import BusDown, BusError, ClusterConfigError, NoResponders, Superseded, TopicTaken
from .members import BAD_JSON
from .network import Network
from .node import Node
from .ring import Reader, Ring, Snapshot, closed_ring
from .store import AWAY, NO_STATE, RETRY, STARTING, Note, Store, epoch_of
from .store import Described as Stored

__all__ = ["StoredChannel"]

JSON = CODECS["json"]

# The headers with the producer of a message, and with the position that it expected.
PRODUCER = "Wsrpc-Producer"

# Seconds.
ACK_TIMEOUT = 1.0
LONGEST_RETRY = 1.0
FETCH = 2.0
LOOK_FOR_OWNER = 0.5

# Messages of one fetch; items sent together; items after which a snapshot is stored.
BATCH = 256
TOGETHER = 64
SNAPSHOT_EVERY = 64

# Bytes of a message that are not the item's.
HEADERS = 1024

# Seconds without an item after which there is a snapshot of the last one.
IDLE = 0.5


class Described(Stored, Protocol):
    """The attributes of a topic that its channel needs."""

    adapter: TrackedAdapter
    snapshots: TrackedAdapter


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
        self._owner_subject = f"topic.{key}.owner"
        self._waiting: set[Reader[Any]] = set()
        self._reading = False
        # Seconds on the loop's clock. The last time at which NATS had no further item.
        self._complete = -math.inf
        # The state as a producer.
        self._id = ""
        self._last = 0
        self._epoch = ""
        self._acked = 0
        self._most = 0
        self._queue: deque[tuple[int, bytes]] = deque()
        self._lost: RpcError[Any] | None = None
        self._changed = anyio.Event()
        self._state: Callable[[], Any] | None = None
        self._off: Any = None
        self._owns = False

    @property
    def idle(self) -> bool:
        """Whether it has no producer and no reader."""
        return not (self._owns or self.readers)

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
        # `pull_subscribe` would give it another name, and leave it behind.
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
                    # Else it would stay for as long as `inactive_threshold` says.
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
        while self.readers and not self._network.closed:
            before = self.produced
            try:
                self.produced = self._owns or await self._is_owned()
                if not self.produced:
                    await self._look_at_notes()
                    if self.ring is not None:
                        self._look_for_end(self.ring)
            except AWAY:
                pass
            if self.produced != before or (self.ring is not None and self.ring.ended):
                self.wake()
            await anyio.sleep(LOOK_FOR_OWNER)

    async def _is_owned(self) -> bool:
        try:
            await self._network.ask(self._owner_subject, b"", ACK_TIMEOUT)
        except NoResponders:
            return False
        except BusError:
            return self.produced
        return True

    _note: Note | None = None
    _latest_snapshot: Shared[Any] | None = None

    async def _look_at_notes(self) -> None:
        try:
            message = await self._bus.run(
                self.store.js().get_last_msg, self.store.notes, self.store.notes_subject
            )
        except nats.js.errors.NotFoundError:
            return
        self._noted("", message.data or b"", "")

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
        while self._owns or await self._is_owned():
            if not standby:
                raise TopicTaken(
                    f"the topic {self.name!r} has a producer; produce(standby=True) waits for it"
                )
            await anyio.sleep(LOOK_FOR_OWNER)
        self._owns = True
        try:
            info = await self.store.ensure()
            self._epoch, self._last = epoch_of(info), info.state.last_seq
            self._acked = self._last
            self._id = secrets.token_hex(8)
            self._lost = None
            self._state = snapshot
            self._most = self._bus.max_payload - HEADERS
            note = self._noted_state()
            subject = self._network.subject(self._owner_subject)
            while True:
                with suppress(*AWAY):
                    if self._off is None:
                        self._off = await self._bus.subscribe(subject, self._asked)
                    await self._put_note(note)
                    break
                if self._network.closed:
                    raise BusDown("this node is going")
                await anyio.sleep(RETRY)
        except BaseException:
            self._owns = False
            await self._stop_answering()
            raise
        self.produced = True
        self._network.spawn(self._send, self._id)

    def _asked(self, subject: str, data: bytes, reply: str) -> None:
        if reply:
            self._network.spawn(self._bus.publish, reply, b"{}")

    def publish(self, value: Any) -> str:
        if self._lost is not None:
            raise self._lost
        if not self._owns:
            raise Superseded(f"the producer of {self.name!r} has ended")
        if len(self._queue) >= self._limits.unacknowledged:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(self._queue)} items of {self.name!r} are not stored yet "
                "(ClusterLimits.unacknowledged): await flush() from time to time",
            )
        position = self._last + 1
        item = Shared(f"{self._epoch}.{position}", value, self._topic.adapter)
        try:
            data = item.encoded(JSON)
        except Unencodable as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None
        self._check_size("an item", data)
        self._last = position
        self._queue.append((position, data))
        self._tell()
        return item.id

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def flush(self) -> None:
        upto = self._last
        while self._acked < upto and self._lost is None:
            await self._changed.wait()
        if self._lost is not None:
            raise self._lost

    async def _send(self, producer: str) -> None:
        """Store published items, in their order."""
        noted = self._acked
        often = max(1, min(SNAPSHOT_EVERY, self._topic.history // 4))
        note: Note | None = None
        while self._owns and self._id == producer and not (self._lost or self._network.closed):
            if not self._queue:
                with anyio.move_on_after(IDLE if self._acked > noted and self._state else None):
                    await self._changed.wait()
                    continue
                note = self._make_note(ended=False)
                with suppress(*AWAY):
                    await self._put_note(note)
                    noted = note.pos
                note = None
                continue
            together = [self._queue[i] for i in range(min(TOGETHER, len(self._queue)))]
            try:
                outcomes = await self._bus.run(self._store_all, together)
            except BusDown as error:
                outcomes = [error]
            failed = False
            for (position, _), outcome in zip(together, outcomes, strict=False):
                if failed or isinstance(outcome, BaseException):
                    failed = True
                else:
                    self._done(position)
            if failed:
                await self._resolve()
            if note is None and self._acked - noted >= often and self._state is not None:
                note = self._make_note(ended=False)
            if note is not None and self._acked >= note.pos:
                noted, stored = note.pos, note
                note = None
                with suppress(*AWAY):
                    await self._put_note(stored)
            self._tell()

    def _done(self, position: int) -> None:
        """Note that all items up to a position are stored."""
        while self._queue and self._queue[0][0] <= position:
            self._queue.popleft()
        self._acked = max(self._acked, position)

    async def _store_all(self, together: list[tuple[int, bytes]]) -> list[Any]:
        if len(together) == 1:
            try:
                await self._store(*together[0])
            except AWAY as error:
                return [error]
            return [None]
        return await asyncio.gather(
            *(self._store(position, data) for position, data in together), return_exceptions=True
        )

    async def _store(self, position: int, data: bytes) -> None:
        await self.store.js().publish(
            self.store.items_subject,
            data,
            timeout=ACK_TIMEOUT,
            headers={
                "Nats-Expected-Last-Sequence": str(position - 1),
                "Nats-Msg-Id": f"{self._id}:{position}",
                PRODUCER: self._id,
            },
        )

    async def _resolve(self) -> None:
        """Find out which items were stored, where that is not known."""
        wait = RETRY
        while self._owns and not self._network.closed:
            try:
                info = await self._bus.run(self.store.js().stream_info, self.store.items)
                last = info.state.last_seq
                if epoch_of(info) != self._epoch:
                    self._supersede("its stream was made anew")
                elif last > self._acked:
                    message = await self._bus.run(
                        self.store.js().get_last_msg, self.store.items, self.store.items_subject
                    )
                    if (message.headers or {}).get(PRODUCER) == self._id:
                        self._done(last)
                    else:
                        self._supersede("another producer has taken over")
                return
            except nats.js.errors.NotFoundError:
                self._supersede("its stream was deleted")
                return
            except AWAY:
                await anyio.sleep(wait)
                wait = min(LONGEST_RETRY, wait * 2)

    def _supersede(self, why: str) -> None:
        self._lost = Superseded(f"the producer of {self.name!r} is none any more: {why}")
        self._queue.clear()
        self._tell()

    def _noted_state(self) -> Note:
        """The state after all items published so far.

        Raises:
            RpcError: `resource_exhausted`: it is too large for NATS.
        """
        state = NO_STATE
        if self._state is not None:
            pair = Shared("", Snapshot(self._state()), self._topic.snapshots).encoded(JSON)
            self._check_size("a snapshot", pair)
            state = JSON.split_array(pair)[1]
        return Note(pos=self._last, epoch=self._epoch, state=state)

    def _make_note(self, *, ended: bool) -> Note:
        """The same; without a state where the application gives none."""
        try:
            note = self._noted_state()
        except Exception as error:  # noqa: BLE001  (items are stored all the same)
            everyone.error("there is no snapshot of the topic %r", self.name, error=error)
            note = Note(pos=self._last, epoch=self._epoch)
        note.ended = ended
        return note

    def _check_size(self, what: str, data: bytes) -> None:
        if len(data) > self._most:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"{what} of {len(data)} bytes for the topic {self.name!r}: NATS takes "
                f"{self._most} at most (max_payload in its configuration)",
            )

    async def _put_note(self, note: Note) -> None:
        """Store a note; the items that it covers are stored already."""
        await self._bus.run(
            self.store.js().publish,
            self.store.notes_subject,
            msgspec.json.encode(note),
            timeout=ACK_TIMEOUT,
        )
        # A node does not hear itself.
        self._note = note
        self.wake()

    async def disown(self, *, ended: bool) -> None:
        if not self._owns:
            return
        try:
            if ended and self._lost is None:
                with anyio.move_on_after(STARTING), suppress(*AWAY):
                    await self.flush()
                    await self._put_note(self._make_note(ended=True))
        finally:
            self._owns = self.produced = False
            self._queue.clear()
            self._tell()
            await self._stop_answering()
            self.wake()

    async def _stop_answering(self) -> None:
        """Say no more that the topic has a producer."""
        off, self._off = self._off, None
        if off is not None:
            with anyio.CancelScope(shield=True):
                await off()
