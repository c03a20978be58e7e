"""A bus in memory, between nodes of one process, with faults on demand for tests."""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable

import anyio

from ... import runtime as runtimes
from ...runtime import Runtime
from ..errors import BusDown, BusTimeout, NoResponders
from .base import Handler, Off

__all__ = ["LocalBroker", "LocalBus"]

MAX_PAYLOAD = 1 << 20


class LocalBroker:
    """The broker between several `LocalBus` of one process."""

    def __init__(self) -> None:
        self.buses: list[LocalBus] = []

    def deliver(self, subject: str, data: bytes, reply: str) -> int:
        """Give a message to all its subscribers; returns their number.

        Args:
            subject: The subject.
            data: The message.
            reply: The subject for an answer, or "".
        """
        return sum(bus.offer(subject, data, reply) for bus in list(self.buses))


class LocalBus:
    """One node's end of a bus in memory.

    Args:
        broker: The broker that it shares with other nodes; one of its own if left out.
    """

    stores = False

    def __init__(self, broker: LocalBroker | None = None) -> None:
        self._broker = broker or LocalBroker()
        self._runtime: Runtime | None = None
        self._on_up: Callable[[], None] = _nothing
        self._on_down: Callable[[], None] = _nothing
        self._exact: dict[str, list[Handler]] = {}
        self._prefixes: dict[str, list[Handler]] = {}
        self._queue: deque[tuple[str, bytes, str]] = deque()
        self._due = False
        self._frozen = False
        self._rate = 0.0
        self._chance = random.Random(0)  # nosec B311 - faults to order, with a seed
        self.max_payload = MAX_PAYLOAD
        self.connected = False
        self.generation = 0
        self.dropped = 0

    async def open(self, on_up: Callable[[], None], on_down: Callable[[], None]) -> None:
        """See `Bus.open`."""
        if self.connected:
            raise RuntimeError("a LocalBus is for one Cluster; make another one for each")
        self._runtime = runtimes.current()
        self._on_up, self._on_down = on_up, on_down
        self._broker.buses.append(self)
        self.connected = True
        self.generation = 1

    async def close(self) -> None:
        """See `Bus.close`."""
        self.connected = False
        if self in self._broker.buses:
            self._broker.buses.remove(self)
        self._exact.clear()
        self._prefixes.clear()
        self._queue.clear()

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """See `Bus.publish`."""
        self._send(subject, data, reply)

    def publish_nowait(self, subject: str, data: bytes) -> bool:
        """See `DirectBus.publish_nowait`."""
        self._send(subject, data, "")
        return True

    def _send(self, subject: str, data: bytes, reply: str) -> int:
        if not self.connected:
            raise BusDown(subject)
        return self._broker.deliver(subject, data, reply)

    async def subscribe(self, subject: str, handler: Handler) -> Off:
        """See `Bus.subscribe`."""
        if not self.connected:
            raise BusDown(subject)
        prefix = subject.endswith(">")
        table = self._prefixes if prefix else self._exact
        key = subject[:-1] if prefix else subject
        table.setdefault(key, []).append(handler)

        async def off() -> None:
            if handler in table.get(key, ()):
                table[key].remove(handler)
                if not table[key]:
                    del table[key]

        return off

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """See `Bus.request`."""
        inbox = f"_INBOX.{secrets.token_hex(8)}"
        answered = anyio.Event()
        answers: list[bytes] = []

        def answer(subject: str, data: bytes, reply: str) -> None:
            answers.append(data)
            answered.set()

        off = await self.subscribe(inbox, answer)
        try:
            if not self._send(subject, data, inbox):
                raise NoResponders(subject)
            with anyio.move_on_after(timeout):
                await answered.wait()
            if not answers:
                raise BusTimeout(subject)
            return answers[0]
        finally:
            await off()

    # ------------------------------------------------------------ the other direction

    def _handlers(self, subject: str) -> list[Handler]:
        found = list(self._exact.get(subject, ()))
        for prefix, handlers in self._prefixes.items():
            if subject.startswith(prefix):
                found += handlers
        return found

    def offer(self, subject: str, data: bytes, reply: str) -> int:
        """Take a message of any node; returns the number of subscribers here.

        Args:
            subject: The subject.
            data: The message.
            reply: The subject for an answer, or "".
        """
        if not self.connected:
            return 0
        wanted = len(self._handlers(subject))
        if wanted:
            if self._rate and self._chance.random() < self._rate:
                self.dropped += 1
            else:
                self._queue.append((subject, data, reply))
                self._wake()
        return wanted

    def _wake(self) -> None:
        if not self._due and not self._frozen and self._runtime is not None:
            self._due = True
            self._runtime.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._due = False
        for _ in range(len(self._queue)):
            if self._frozen or not self._queue:
                return
            subject, data, reply = self._queue.popleft()
            for handler in self._handlers(subject):
                handler(subject, data, reply)
        if self._queue:
            self._wake()

    # ------------------------------------------------------------ faults

    def cut(self) -> None:
        """Lose the connection, and all messages that have not arrived."""
        if self.connected:
            self.connected = False
            self._queue.clear()
            self._on_down()

    def mend(self) -> None:
        """Connect again."""
        if not self.connected:
            self.connected = True
            self.generation += 1
            self._on_up()

    def drop(self, rate: float, seed: int = 0) -> None:
        """Lose a part of the messages to this end from now on.

        Args:
            rate: The part that is lost, from 0 to 1; 0 ends the losses.
            seed: The seed of the random numbers.
        """
        self._rate = rate
        self._chance = random.Random(seed)  # nosec B311 - the same

    def freeze(self) -> None:
        """Hold all messages back until `thaw`, without losing any."""
        self._frozen = True

    def thaw(self) -> None:
        """Deliver messages again."""
        self._frozen = False
        self._wake()


def _nothing() -> None:
    """Do nothing: no code listens."""
