"""The streams of JetStream in which a topic is stored, made when they are first needed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import anyio
import msgspec
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import StorageType

from .bus.nats import NatsBus
from .bus.thread import ThreadBus
from .errors import BusDown, BusError, ClusterConfigError, NoResponders
from .members import BAD_JSON
from .network import Network

__all__ = [
    "AWAY",
    "NO_STATE",
    "PRODUCER",
    "RETRY",
    "STARTING",
    "Described",
    "Note",
    "Store",
    "epoch_of",
]

NAME_IN_USE = 10058

# Seconds.
RETRY = 0.1
STARTING = 3.0

# The exceptions that nats-py and JetStream raise while one of them is away.
AWAY = (nats.errors.Error, nats.js.errors.Error, BusError, OSError)


# The header with the producer of a message.
PRODUCER = "Wsrpc-Producer"

NO_STATE = msgspec.Raw(b"null")


class Note(msgspec.Struct):
    """The state of a topic after an item."""

    pos: int
    epoch: str
    ended: bool = False
    # The id of the producer's node.
    node: str = ""
    # `null` where the producer has no state.
    state: msgspec.Raw = NO_STATE


class Noted(NamedTuple):
    """The last note, as JetStream has it.

    Attributes:
        note: The note; None where there is none, or it is of unknown form.
        sequence: Its number.
        producer: The producer that stored it.
    """

    note: Note | None
    sequence: int
    producer: str


class Described(Protocol):
    """The part of a topic that a store uses."""

    name: str
    history: int
    history_bytes: int
    max_age: float | None


class Store:
    """The two streams of a topic: its items, and notes of its state, of which the last one is kept.

    Args:
        topic: The topic.
        network: The way to other nodes.
        bus: The connection to NATS.
        cluster: The cluster's name.
        key: The topic's name, as it stands in subjects.
        replicas: Copies that JetStream keeps.

    Attributes:
        items: The name of the stream of items.
        notes: The name of the stream of notes.
        items_subject: The subject on which items are published.
        notes_subject: The subject on which notes are published.
    """

    def __init__(
        self,
        topic: Described,
        network: Network,
        bus: NatsBus | ThreadBus,
        cluster: str,
        key: str,
        replicas: int,
    ) -> None:
        self.items = f"WSRPC_{cluster}_T_{key}"
        self.notes = f"WSRPC_{cluster}_N_{key}"
        self.items_subject = network.subject(f"durable.{key}")
        self.notes_subject = network.subject(f"note.{key}")
        self._topic = topic
        self._network = network
        self._bus = bus
        self._replicas = replicas

    def js(self) -> JetStreamContext:
        """JetStream, for calls on the loop of the bus."""
        return self._bus.client.jetstream(timeout=2)

    async def ensure(self) -> Any:
        """The stream, which is made if it is not there.

        Raises:
            ClusterConfigError: This NATS has no JetStream, or does not take the topic.
        """
        end = self._network.now() + STARTING
        while not self._network.closed:
            try:
                with suppress(nats.js.errors.NotFoundError):
                    return await self.items_info()
                await self._make()
            except AWAY as error:
                # JetStream may be starting, or choosing a leader.
                if self._network.now() > end:
                    self._check(error)
                await anyio.sleep(RETRY)
        raise BusDown("this node is going")

    async def items_info(self) -> Any:
        """The stream of items, as it is now."""
        return await self._bus.run(self.js().stream_info, self.items)

    async def last_note(self) -> Noted:
        """The note that was stored last."""
        while True:
            try:
                found = await self._bus.run(self.js().get_last_msg, self.notes, self.notes_subject)
                break
            except nats.js.errors.NotFoundError:
                info = await self._bus.run(self.js().stream_info, self.notes)
                if not info.state.messages:
                    return Noted(None, info.state.last_seq, "")
                # The first one has come since.
        try:
            note = msgspec.json.decode(found.data or b"", type=Note)
        except BAD_JSON:
            self._network.junk += 1
            note = None
        return Noted(note, found.seq or 0, (found.headers or {}).get(PRODUCER, ""))

    async def _make(self) -> None:
        topic = self._topic
        age = topic.max_age
        # Where the topic's own stream is there, so is that of its notes.
        for bounds in (
            {"name": self.notes, "subjects": [self.notes_subject], "max_msgs": 1},
            {
                "name": self.items,
                "subjects": [self.items_subject],
                "max_msgs": topic.history,
                "max_bytes": topic.history_bytes,
                "max_age": age,
                "duplicate_window": 120 if age is None else min(120, age),
            },
        ):
            config: dict[str, Any] = {
                **bounds,
                "storage": StorageType.FILE,
                "allow_direct": True,
                "num_replicas": self._replicas,
            }
            try:
                await self._bus.run(self.js().add_stream, **config)
            except nats.js.errors.BadRequestError as error:
                if error.err_code != NAME_IN_USE:
                    self._check(error)

    def _check(self, error: Exception) -> None:
        """Whether there is a point in waiting for JetStream.

        Raises:
            ClusterConfigError: There is none.
        """
        if isinstance(error, nats.js.errors.ServiceUnavailableError | NoResponders):
            raise ClusterConfigError(
                f"the topic {self._topic.name!r} needs JetStream, which this NATS does not have: "
                "start nats-server with -js"
            ) from None
        if isinstance(error, nats.js.errors.APIError):
            raise ClusterConfigError(
                f"JetStream does not store the topic {self._topic.name!r}: {error.description} (its error "
                f"{error.err_code}); the topic asks for {self._topic.history_bytes} bytes and "
                f"{self._replicas} copies (ClusterLimits.replicas)"
            ) from None


def epoch_of(info: Any) -> str:
    return hashlib.sha1(str(info.created).encode(), usedforsecurity=False).hexdigest()[:8]
