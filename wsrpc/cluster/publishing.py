"""The producer's side of a topic over many nodes.

A producer names the sequence that it expects, which fences off a second producer. Where an
acknowledgement is lost, the header of the stream's last message tells which items were stored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import anyio
import msgspec
import nats.js.errors

from ..errors import Code, RpcError
from ..protocol.codec import CODECS
from ..telemetry.logs import everyone
from ..values.adapter import Unencodable
from ..values.tracked import Shared, TrackedAdapter
from .bus.nats import NatsBus
from .bus.thread import ThreadBus
from .errors import BusDown, BusTimeout, NoResponders, Superseded, TopicTaken, gone_error
from .limits import ClusterLimits
from .network import Network
from .ring import Snapshot
from .store import AWAY, NO_STATE, PRODUCER, RETRY, STARTING, Note, Store, epoch_of
from .store import Described as Stored

__all__ = ["LOOK_FOR_OWNER", "Described", "Publisher"]

JSON = CODECS["json"]

# Seconds.
ACK_TIMEOUT = 1.0
LONGEST_RETRY = 1.0
LOOK_FOR_OWNER = 0.5

# Items sent together; items after which a snapshot is stored.
TOGETHER = 64
SNAPSHOT_EVERY = 64

# JetStream's errors where a message does not come after the one that it names.
WRONG_LAST_SEQUENCE = frozenset((10071, 10164))

# Bytes of a message that are not the item's.
HEADERS = 1024

# Seconds without an item after which there is a snapshot of the last one.
IDLE = 0.5


class Described(Stored, Protocol):
    """The attributes of a topic that its channel needs."""

    adapter: TrackedAdapter
    snapshots: TrackedAdapter


class Publisher:
    """Stores the items of a topic's producer on this node.

    Args:
        topic: The topic.
        store: Its streams.
        network: The way to other nodes.
        bus: The connection to NATS.
        key: The topic's name, as it stands in subjects.
        limits: The cluster's bounds.
        noted: Called with each note that was stored.
        changed_hands: Called with True when this node has become the producer, and with False when
            it is none any more.

    Attributes:
        owns: Whether this node produces the topic, or is about to.
    """

    def __init__(
        self,
        topic: Described,
        store: Store,
        network: Network,
        bus: NatsBus | ThreadBus,
        key: str,
        limits: ClusterLimits,
        noted: Callable[[Note], None],
        changed_hands: Callable[[bool], None],
    ) -> None:
        self.owns = False
        self._topic = topic
        self._store = store
        self._network = network
        self._bus = bus
        self._owner_subject = f"topic.{key}.owner."
        self._limits = limits
        self._noted = noted
        self._changed_hands = changed_hands
        self._id = ""
        self._last = 0
        self._epoch = ""
        self._acked = 0
        self._most = 0
        self._queue: deque[tuple[int, bytes]] = deque()
        # The number of this producer's last note.
        self._sequence = 0
        # Tasks that want to be the producer; one of them at a time claims the topic.
        self._wanting = 0
        self._claiming = False
        self._lost: RpcError[Any] | None = None
        self._changed = anyio.Event()
        self._state: Callable[[], Any] | None = None
        self._off: Any = None

    @property
    def idle(self) -> bool:
        """Whether this node neither produces the topic nor wants to."""
        return not (self.owns or self._wanting)

    def shut(self) -> None:
        """Fail the producer, and the tasks that wait to be it, since this node is going."""
        if self._lost is None:
            self._lose(gone_error(f"the producer of {self._topic.name!r} has ended"))

    # ------------------------------------------------------------ being the producer

    async def is_owned(self) -> bool | None:
        """Whether the topic has a producer, on any node; None where that cannot be known yet."""
        try:
            return await self._is_owned_after((await self._store.last_note()).note)
        except AWAY:
            return None

    async def _is_owned_after(self, note: Note | None) -> bool | None:
        """The same, where the last note is known.

        A producer that does not answer may only be slow, or cut off from NATS for a moment. So it
        is one until its node says otherwise, or counts as dead.
        """
        network = self._network
        if note is None or note.ended or note.node in ("", network.node):
            return False
        peer = network.members.get(note.node)
        if peer is None:
            return False if network.settled_in else None
        if peer.gone:
            return False
        owner = self._owner_subject + peer.id
        try:
            await network.ask(owner, b"", ACK_TIMEOUT)
            return True
        except BusTimeout:
            return True
        except NoResponders:
            pass
        try:
            await network.ask(f"to.{peer.id}.ping", b"", ACK_TIMEOUT)
        except NoResponders:
            return False if network.members.is_missing(peer) else None
        try:
            # A moment ago it may have been on its way back to NATS.
            await network.ask(owner, b"", ACK_TIMEOUT)
            return True
        except NoResponders:
            return False

    async def own(self, standby: bool, snapshot: Callable[[], Any] | None) -> None:
        """Become the producer; see `Topic.produce`.

        Args:
            standby: Whether to wait while there is another producer.
            snapshot: Gives the state after all items published so far.
        """
        self._wanting += 1
        try:
            while not self._network.closed:
                taken: bool | None = True if self.owns else None
                if not (self.owns or self._claiming):
                    self._claiming = True
                    try:
                        taken = await self._claim(snapshot)
                    finally:
                        self._claiming = False
                    if taken is False:
                        return
                if taken and not standby:
                    raise TopicTaken(
                        f"the topic {self._topic.name!r} has a producer; "
                        "produce(standby=True) waits for it"
                    )
                await anyio.sleep(LOOK_FOR_OWNER if taken else RETRY)
        finally:
            self._wanting -= 1
        raise gone_error(f"the topic {self._topic.name!r} has no producer here")

    async def _claim(self, snapshot: Callable[[], Any] | None) -> bool | None:
        """Become the producer, unless there is one.

        Several nodes may try at once. The store takes a note only from the node that knows the number of
        the last one, so that exactly one of them succeeds.

        Returns:
            Whether another one is the producer; None where that cannot be known yet.
        """
        try:
            info = await self._store.ensure()
            last = await self._store.last_note()
            taken = await self._is_owned_after(last.note)
        except AWAY:
            return None
        if taken is not False:
            return taken
        self._epoch, self._last = epoch_of(info), info.state.last_seq
        self._acked, self._sequence = self._last, last.sequence
        self._id = secrets.token_hex(8)
        self._lost = None
        self._state = snapshot
        self._most = self._bus.max_payload - HEADERS
        claimed = False
        try:
            note = self._noted_state()
            subject = self._network.subject(self._owner_subject + self._network.node)
            while self._lost is None and not self._network.closed:
                try:
                    if self._off is None:
                        # From now on others wait; they would claim it too.
                        self._off = await self._bus.subscribe(subject, self._asked)
                    await self._put_note(note)
                    # Items stored before this note are those of an earlier producer.
                    self._last = self._acked = (await self._store.items_info()).state.last_seq
                    claimed = True
                    break
                except Superseded:
                    break
                except AWAY:
                    await anyio.sleep(RETRY)
            if not claimed:
                return None
            self.owns = True
        finally:
            if not claimed:
                await self._stop_answering()
        self._changed_hands(True)
        self._network.spawn(self._send, self._id)
        return False

    def _asked(self, subject: str, data: bytes, reply: str) -> None:
        if reply:
            self._network.spawn(self._bus.publish, reply, b"{}")

    def publish(self, value: Any) -> str:
        if self._lost is not None:
            raise self._lost
        if not self.owns:
            raise Superseded(f"the producer of {self._topic.name!r} has ended")
        if len(self._queue) >= self._limits.unacknowledged:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(self._queue)} items of {self._topic.name!r} are not stored yet "
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
        while self.owns and self._id == producer and not (self._lost or self._network.closed):
            if not self._queue:
                with anyio.move_on_after(IDLE if self._acked > noted and self._state else None):
                    await self._changed.wait()
                    continue
                note = self._make_note(ended=False)
                with suppress(Superseded, *AWAY):
                    await self._put_note(note)
                    noted = note.pos
                note = None
                continue
            together = [self._queue[i] for i in range(min(TOGETHER, len(self._queue)))]
            try:
                outcomes = await self._bus.run(self._keep_all, together)
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
                with suppress(Superseded, *AWAY):
                    await self._put_note(stored)
            self._tell()

    def _done(self, position: int) -> None:
        """Note that all items up to a position are stored."""
        while self._queue and self._queue[0][0] <= position:
            self._queue.popleft()
        self._acked = max(self._acked, position)

    async def _keep_all(self, together: list[tuple[int, bytes]]) -> list[Any]:
        if len(together) == 1:
            try:
                await self._keep(*together[0])
            except AWAY as error:
                return [error]
            return [None]
        return await asyncio.gather(
            *(self._keep(position, data) for position, data in together), return_exceptions=True
        )

    async def _keep(self, position: int, data: bytes) -> None:
        await self._store.js().publish(
            self._store.items_subject,
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
        while self.owns and not self._network.closed:
            try:
                info = await self._bus.run(self._store.js().stream_info, self._store.items)
                last = info.state.last_seq
                if epoch_of(info) != self._epoch:
                    self._supersede("its stream was made anew")
                elif last > self._acked:
                    message = await self._bus.run(
                        self._store.js().get_last_msg, self._store.items, self._store.items_subject
                    )
                    if (message.headers or {}).get(PRODUCER) == self._id:
                        self._done(last)
                    else:
                        self._supersede("another producer has taken over")
                else:
                    # JetStream took none of them; it does not take them at once either.
                    await anyio.sleep(RETRY)
                return
            except nats.js.errors.NotFoundError:
                self._supersede("its stream was deleted")
                return
            except AWAY:
                await anyio.sleep(wait)
                wait = min(LONGEST_RETRY, wait * 2)

    def _supersede(self, why: str) -> None:
        self._lose(Superseded(f"the producer of {self._topic.name!r} is none any more: {why}"))
        # The producer that is left has to be found.
        self._network.spawn(self._stop_answering)

    def _lose(self, error: RpcError[Any]) -> None:
        self._lost = error
        self._queue.clear()
        self._tell()

    def _noted_state(self) -> Note:
        """The state after all items published so far.

        Raises:
            RpcError: `resource_exhausted`: it is too large for NATS; `invalid_argument`: it does
                not fit the topic's type.
        """
        state = NO_STATE
        if self._state is not None:
            try:
                pair = Shared("", Snapshot(self._state()), self._topic.snapshots).encoded(JSON)
            except Unencodable as error:
                raise RpcError(Code.INVALID_ARGUMENT, f"a snapshot: {error}") from None
            self._check_size("a snapshot", pair)
            state = JSON.split_array(pair)[1]
        return Note(pos=self._last, epoch=self._epoch, state=state)

    def _make_note(self, *, ended: bool) -> Note:
        """A note with that state, or without one where the application gives none."""
        try:
            note = self._noted_state()
        except Exception as error:  # noqa: BLE001  (items are stored all the same)
            everyone.error("there is no snapshot of the topic %r", self._topic.name, error=error)
            note = Note(pos=self._last, epoch=self._epoch)
        note.ended = ended
        return note

    def _check_size(self, what: str, data: bytes) -> None:
        if len(data) > self._most:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"{what} of {len(data)} bytes for the topic {self._topic.name!r}: NATS takes "
                f"{self._most} at most (max_payload in its configuration)",
            )

    async def _put_note(self, note: Note) -> None:
        """Store a note after this producer's last one; the items that it covers are stored already.

        Raises:
            Superseded: Another producer has stored one since.
        """
        note.node = self._network.node
        while True:
            try:
                ack = await self._bus.run(
                    self._store.js().publish,
                    self._store.notes_subject,
                    msgspec.json.encode(note),
                    timeout=ACK_TIMEOUT,
                    headers={
                        "Nats-Expected-Last-Sequence": str(self._sequence),
                        PRODUCER: self._id,
                    },
                )
                break
            except nats.js.errors.APIError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
            last = await self._store.last_note()
            if last.producer != self._id:
                self._supersede("another producer has taken over")
                raise self._lost or Superseded()
            # An earlier note of this producer was stored, and only the answer was lost.
            self._sequence = last.sequence
        self._sequence = ack.seq
        # A node does not hear itself.
        self._noted(note)

    async def disown(self, *, ended: bool) -> None:
        """Be the producer no longer.

        Args:
            ended: Whether the topic ends with it.

        Raises:
            Superseded: The topic has not ended, since another producer has taken over.
        """
        if not self.owns:
            return
        try:
            if ended:
                await self._end()
        finally:
            self.owns = False
            self._queue.clear()
            self._tell()
            await self._stop_answering()
            self._changed_hands(False)

    async def _end(self) -> None:
        """Store that the topic has ended."""
        with anyio.move_on_after(STARTING):
            while True:
                await self.flush()
                with suppress(*AWAY):
                    await self._put_note(self._make_note(ended=True))
                    return
                await anyio.sleep(RETRY)
        everyone.warning(
            "the end of the topic %r is not stored, since NATS is away: its readers wait for another "
            "producer",
            self._topic.name,
        )

    async def _stop_answering(self) -> None:
        """Say no more that the topic has a producer."""
        off, self._off = self._off, None
        if off is not None:
            with anyio.CancelScope(shield=True):
                await off()
