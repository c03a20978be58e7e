"""A link of a session over a bus: it delivers whole messages in order, or closes."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from ..close_codes import CloseCode
from ..interfaces import Handshake
from ..runtime import Future, Runtime
from ..runtime.timers import Timers
from ..transport.base import LinkClosed
from .bus.base import Bus
from .errors import BusDown

__all__ = ["BusLink", "Inbound"]

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
        inbound: Inbound,
    ) -> None:
        self.id = id
        self.peer = peer
        self.subprotocol: str | None = subprotocol
        # Whether it is a client's link, passed on by another node: that one can go elsewhere.
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
        message = self._queue.popleft()
        if self._closed is None:
            self._held -= len(message)
            self._inbound.give(len(message))
        return message

    def _check(self) -> None:
        if self._closed is not None:
            raise LinkClosed(self._closed.code, self._closed.reason)

    # ------------------------------------------------------------ out

    async def send(self, data: bytes) -> None:
        self._check()
        self._sent += 1
        if not self._tail_due:
            self._tail_due = True
            self._after(self._sent)
        try:
            await self._bus.publish(self._subject, HEAD.pack(DATA, self._sent) + data)
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
