"""A link of a session over a bus: it delivers whole messages in order, or closes."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from ..close_codes import CloseCode
from ..interfaces import Handshake
from ..runtime import AsyncioRuntime, Future, Runtime
from ..runtime.timers import Timers
from ..transport.base import LinkClosed
from .bus.base import Bus, DirectBus
from .errors import BusDown

__all__ = ["BusLink", "DirectBusLink", "Inbound", "link_class"]

# The kind of a message, and its number. A tail tells the number of messages sent.
HEAD = struct.Struct(">BQ")
CODE = struct.Struct(">H")
DATA, CLOSE, TAIL = 1, 2, 3

# Seconds after a message until a tail tells the other end that it was the last.
TAIL_AFTER = 0.25

# Bytes of a close reason.
REASON = 123

FULL = "the node has too much of what other nodes pass on to it; try again later"


class Inbound:
    """The bytes that all links into one node hold before its sessions take them.

    Args:
        most: Bytes.
    """

    __slots__ = ("_held", "_most")

    def __init__(self, most: int) -> None:
        self._held = 0
        self._most = most

    @property
    def full(self) -> bool:
        """Whether there is no room for another byte."""
        return self._held >= self._most

    def take(self, size: int) -> bool:
        """Hold `size` more bytes; False if there is no room. A single message always fits."""
        if self._held and self._held + size > self._most:
            return False
        self._held += size
        return True

    def give(self, size: int) -> None:
        """Give back `size` bytes."""
        self._held -= size


class BusLink:
    """One end of a link.

    Args:
        id: Its id.
        peer: The node at the other end.
        bus: The bus that carries it.
        subject: The subject to which the other end listens.
        runtime: The event loop.
        timers: The timers of the node.
        subprotocol: The subprotocol with the codec of its messages.
        handshake: The accepting side's facts about the connection.
        forget: Called once when it is over.
        say: Sends a message without waiting.
        spawn: Runs a function in a task of the node.
        inbound: The bytes that all links into this node hold.

    Attributes:
        peer_generation: The number of the other node's connections to the bus when the link began.
        gaps: Gaps in the messages that came.
    """

    def __init__(
        self,
        id: str,
        peer: str,
        bus: Bus,
        subject: str,
        runtime: Runtime,
        timers: Timers,
        subprotocol: str,
        handshake: Handshake | None,
        forget: Callable[[BusLink], None],
        say: Callable[[str, bytes], None],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        inbound: Inbound,
    ) -> None:
        self.id = id
        self.peer = peer
        self.subprotocol: str | None = subprotocol
        # Whether it is a client's link, passed on by another node: that client can go elsewhere.
        self._is_passed_on = handshake is not None
        self.handshake = handshake or Handshake(remote=f"node:{peer}")
        self.peer_generation = 0
        self.gaps = 0
        self._bus = bus
        self._subject = subject
        self._runtime = runtime
        self._timers = timers
        self._forget = forget
        self._say = say
        self._spawn = spawn
        self._inbound = inbound
        self._held = 0
        self._sent = 0
        self._got = 0
        self._queue: deque[bytes] = deque()
        self._waiter: Future | None = None
        self._closed: LinkClosed | None = None
        self._tail_due = False

    # ------------------------------------------------------------ in

    def deliver(self, data: bytes) -> bool:
        """Take a message of the bus for this link; returns False if it is none."""
        if self._closed is not None:
            return True
        if len(data) < HEAD.size:
            return False
        kind, number = HEAD.unpack_from(data)
        if kind == TAIL:
            if number > self._got:
                self._hole(number)
        elif kind not in (DATA, CLOSE):
            return False
        elif number > self._got + 1:
            self._hole(number)
        elif number == self._got + 1:
            self._got = number
            if kind == DATA:
                self._keep(data[HEAD.size :])
            elif len(data) >= HEAD.size + CODE.size:
                (code,) = CODE.unpack_from(data, HEAD.size)
                reason = data[HEAD.size + CODE.size :].decode(errors="replace")
                self._end(LinkClosed(code, reason))
            self._wake()
        return True

    def _keep(self, message: bytes) -> None:
        if self._inbound.take(len(message)):
            self._held += len(message)
            self._queue.append(message)
        elif self._is_passed_on:
            self._sent += 1
            body = CODE.pack(CloseCode.TRY_AGAIN_LATER) + FULL.encode()
            self._say(self._subject, HEAD.pack(CLOSE, self._sent) + body)
            self._end(LinkClosed(CloseCode.TRY_AGAIN_LATER, FULL))
        else:
            # The session replays the message over the next link.
            self.lose(FULL)

    def _hole(self, number: int) -> None:
        self.gaps += 1
        self.lose(f"messages {self._got + 1} to {number} did not all arrive")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, why: LinkClosed) -> None:
        if self._closed is None:
            self._closed = why
            self._inbound.give(self._held)
            self._held = 0
            self._wake()
            self._forget(self)

    def lose(self, reason: str) -> None:
        """Lose the link; its session goes on over another one."""
        self._end(LinkClosed(CloseCode.CONNECTION_LOST, reason))

    async def receive(self) -> bytes:
        while not self._queue:
            self._check()
            self._waiter = self._runtime.future()
            await self._waiter
        return self._next()

    def _next(self) -> bytes:
        message = self._queue.popleft()
        if self._closed is None:
            self._held -= len(message)
            self._inbound.give(len(message))
        return message

    def _check(self) -> None:
        if self._closed is not None:
            raise LinkClosed(self._closed.code, self._closed.reason)

    # ------------------------------------------------------------ out

    def _numbered(self, data: bytes) -> bytes:
        """A message with its number, which is the next."""
        self._sent += 1
        if not self._tail_due:
            self._tail_due = True
            self._after(self._sent)
        return HEAD.pack(DATA, self._sent) + data

    async def send(self, data: bytes) -> None:
        self._check()
        try:
            await self._bus.publish(self._subject, self._numbered(data))
        except BusDown:
            self.lose("the bus is down")
            self._check()

    def _after(self, sent: int) -> None:
        when = self._runtime.now() + TAIL_AFTER
        self._timers.add(when, lambda: self._look_back(sent))

    def _look_back(self, sent: int) -> None:
        """Send a tail if no message was sent since."""
        if self._closed is not None:
            return
        if sent != self._sent:
            self._after(self._sent)
            return
        self._tail_due = False
        self._say(self._subject, HEAD.pack(TAIL, sent))

    async def close(self, code: int, reason: str = "") -> None:
        if self._closed is not None:
            return
        self._sent += 1
        text = reason.encode()[:REASON]
        try:
            await self._bus.publish(
                self._subject, HEAD.pack(CLOSE, self._sent) + CODE.pack(code) + text
            )
        except BusDown:
            pass
        self._end(LinkClosed(code, reason))

    def abort(self) -> None:
        self.lose("aborted")


class DirectBusLink(BusLink):
    """A link that callbacks drive, over a bus that can send without a wait; see `DirectLink`."""

    def __init__(self, bus: Bus, **options: Any) -> None:
        super().__init__(bus=bus, **options)
        assert isinstance(bus, DirectBus)
        self._direct: DirectBus = bus
        self._on_message: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[Exception], None] | None = None
        self._on_drained: Callable[[], None] = _nothing
        self._paused = False
        # The message that waits until the bus takes it, and its end.
        self._late: bytes | None = None
        self._late_gone: Future | None = None

    def attach(
        self,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._on_message, self._on_lost, self._on_drained = on_message, on_lost, on_drained
        self._hand_over()

    # ------------------------------------------------------------ in

    def deliver(self, data: bytes) -> bool:
        on_message = self._on_message
        if on_message is None or self._queue or self._paused or len(data) < HEAD.size:
            return super().deliver(data)
        kind, number = HEAD.unpack_from(data)
        if kind != DATA or number != self._got + 1 or self._closed is not None:
            return super().deliver(data)
        # This is the usual case: it is the next message, and its session takes it at once.
        self._got = number
        on_message(data[HEAD.size :])
        return True

    def _keep(self, message: bytes) -> None:
        if self._on_message is None or self._paused or self._queue:
            super()._keep(message)
        else:
            self._on_message(message)

    def _wake(self) -> None:
        super()._wake()
        if self._on_message is not None:
            self._hand_over()

    def _hand_over(self) -> None:
        """Deliver the messages that are kept, and then the end of the link."""
        assert self._on_message is not None
        while self._queue and not self._paused:
            self._on_message(self._next())
        if self._closed is not None and not self._queue and self._on_lost is not None:
            on_lost, self._on_lost = self._on_lost, None
            on_lost(LinkClosed(self._closed.code, self._closed.reason))

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._on_message is not None:
                self._hand_over()

    # ------------------------------------------------------------ out

    @property
    def unsent(self) -> int:
        return 0 if self._late is None else len(self._late)

    def send_nowait(self, data: bytes) -> bool:
        if self._closed is not None:
            return True
        message = self._numbered(data)
        try:
            if self._late is None and self._direct.publish_nowait(self._subject, message):
                return True
        except BusDown:
            self.lose("the bus is down")
            return True
        self._late = message
        self._spawn(self._send_late)
        return False

    async def _send_late(self) -> None:
        assert self._late is not None
        try:
            await self._bus.publish(self._subject, self._late)
        except BusDown:
            self.lose("the bus is down")
        finally:
            self._late = None
            if self._late_gone is not None and not self._late_gone.done():
                self._late_gone.set_result(None)
        self._on_drained()

    async def close(self, code: int, reason: str = "") -> None:
        if self._late is not None:
            # The message before the goodbye has to go before it.
            self._late_gone = self._runtime.future()
            await self._late_gone
        await super().close(code, reason)


def link_class(bus: Bus, runtime: Runtime) -> type[BusLink]:
    """The kind of link that fits a bus and an event loop."""
    direct = isinstance(runtime, AsyncioRuntime) and isinstance(bus, DirectBus)
    return DirectBusLink if direct else BusLink


def _nothing() -> None:
    """Do nothing: the link is not driven by callbacks yet."""
