"""The short way into `websockets` on asyncio: callbacks instead of a task and a queue.

This is the one file that goes beyond the documented interface of `websockets`. `recv()` wakes a
task for every message and `send()` enters two context managers, which together cost about a third
of a small call. Here a message goes from the socket to the session, and a batch back to the socket,
within one turn of the event loop. Plain frames do not go through the library at all (`framing`).
`NEEDED` lists all private names of the library that are used. With a version that was not tried, or
that lacks any of them, `link.py` takes the documented way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol
from websockets.streams import StreamReader
from websockets.version import version

from ...close_codes import CloseCode
from ...errors import ProtocolError
from ...limits import Limits
from ...protocol.codec import SUBPROTOCOLS
from ..base import Binary, LinkClosed, failed_with
from ..floods import TOO_MUCH, Calm
from ..remains import read_out
from .framing import BINARY, TEXT, packed, unpacked

if TYPE_CHECKING:
    from websockets.exceptions import ConnectionClosed

__all__ = ["DirectClient", "DirectServer", "Tap", "available"]

TRIED = "17."

NEEDED = {
    Connection: (
        "connection_made",
        "connection_lost",
        "data_received",
        "process_event",
        "resume_writing",
        "send_data",
        "drain",
        "close_exc",
    ),
    Protocol: ("send_text", "send_binary", "state", "parse", "fail"),
    StreamReader: ("at_eof",),
}

DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))


@cache
def available() -> bool:
    """Whether the installed `websockets` has all that this file needs."""
    return version.startswith(TRIED) and all(
        hasattr(owner, name) for owner, names in NEEDED.items() for name in names
    )


def translated(closed: ConnectionClosed) -> LinkClosed:
    """A close in the session's terms: the peer's code, or the code that this side sent first."""
    frames = [closed.rcvd, closed.sent]
    if closed.rcvd_then_sent is False:
        frames.reverse()
    for frame in frames:
        if frame is not None:
            return failed_with(frame.code, frame.reason)
    return LinkClosed(CloseCode.CONNECTION_LOST)


# asyncio offers the socket 256 KiB of fresh memory for every read, which the system maps and unmaps
# again: most of the time of a small read. The bytes of a read are copied out before the next one
# begins, so all connections of a thread can share one buffer.
READ_SIZE = 256 * 1024

# Bytes that the library takes in one go. It reads all the frames in them, and answers all the
# pings, before this code can stop a flood: at most 5 ms of work.
HANDED_OVER = 2 * 1024

# Messages of one read of the socket that are acted on before other tasks have a turn.
BURST = 64


class _NoMessages:
    """The queue of messages for `recv()`, of connections on which `recv()` is never called."""

    def close(self) -> None:
        """Do nothing: no call of `recv()` waits."""


_NO_MESSAGES: Any = _NoMessages()


class _Shared(threading.local):
    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ_SIZE))


_shared = _Shared()


def between_frames(protocol: Protocol) -> bool:
    """Whether the library has taken whole messages so far, and waits for the next one to begin."""
    waiting: Any = protocol.parser
    while waiting.gi_yieldfrom is not None:
        waiting = waiting.gi_yieldfrom
    return waiting.gi_code is StreamReader.at_eof.__code__ and protocol.current_size is None


class Tap(Connection, asyncio.BufferedProtocol):
    """A mixin for connections: messages come here instead of into the queue of `recv()`.

    Until it is attached it holds the bytes of one read of the socket, and reads no further. Once
    the opening handshake is through, it takes plain frames apart by itself while the library stands
    between two messages, and hands all other bytes to the library.
    """

    # Slots, apart from the library's attributes: a dictionary with all of them would take a
    # kilobyte more.
    __slots__ = (
        "_between",
        "_burst",
        "_calm",
        "_closing",
        "_fragments",
        "_head",
        "_limit",
        "_masked",
        "_on_drained",
        "_on_lost",
        "_on_message",
        "_opcode",
        "_over",
        "_paused",
        "_rest",
        "_resting",
        "_text",
        "_waiter",
        "_waiting",
    )

    # This side's bounds; each listener has a subclass with its own, so that they take no memory of
    # a connection.
    bounds: Limits | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._calm: Calm | None = None
        self._on_message: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[Exception], None] | None = None
        self._on_drained: Callable[[], None] | None = None
        self._waiting: list[bytes | Exception] = []
        self._waiter: asyncio.Future[None] | None = None
        self._fragments: bytearray | None = None
        self._opcode = Opcode.TEXT
        self._paused = False
        self._burst = 0
        self._resting = False
        self._over = False
        self._closing = False
        # The library gets all frames if they are not plain, or if it has to log each.
        self._head: int | None = None
        self._masked = self.protocol.side is SERVER
        self._between = False
        self._rest = b""
        super().connection_made(transport)
        # Two deques of the library would take a kilobyte and a half. The one for `recv()` stays empty;
        # the one for calls of `send()` that wait is short, so that a list does as well.
        self.recv_messages = _NO_MESSAGES
        self.drain_waiters: Any = []
        if not self.debug and isinstance(self.logger, logging.LoggerAdapter):
            # The adapter adds the connection to records, and `wsrpc.websockets` logs none of these.
            self.logger = self.protocol.logger = self.logger.logger

    # ---------------------------------------------------------------- from asyncio

    def get_buffer(self, sizehint: int) -> memoryview:
        return _shared.buffer

    def data_received(self, data: bytes) -> None:
        # uvloop takes a connection that is both kinds of protocol for the plain kind.
        self._read(memoryview(data))

    def buffer_updated(self, nbytes: int) -> None:
        self._read(_shared.buffer[:nbytes])

    def _read(self, data: memoryview) -> None:
        self._burst = 0
        if self._rest:
            data = memoryview(self._rest + data)
            self._rest = b""
        if self._between and self._head is not None and self.protocol.state is OPEN:
            messages, taken, more = unpacked(
                data, self._head, masked=self._masked, limit=self._limit
            )
            if more:
                # If no more bytes come, the connection has broken in the middle of a message. The
                # library would come to the same end.
                self._rest = bytes(data[taken:])
            for message in messages:
                self._deliver(message)
            if more:
                return
            data = data[taken:]
        self._hand_over(bytes(data))

    def _hand_over(self, data: bytes) -> None:
        """Hand bytes to the library that are no plain frames."""
        for begin in range(0, len(data), HANDED_OVER):
            super().data_received(data[begin : begin + HANDED_OVER])
        sent = self.protocol.close_sent
        if sent is not None and self.protocol.close_rcvd is None and not self._closing:
            # The library has failed the connection, and would wait until the peer leaves.
            self._end(failed_with(sent.code, sent.reason))
        self._between = self._head is not None and between_frames(self.protocol)

    # ---------------------------------------------------------------- from the library

    def send_data(self) -> None:
        if self.transport.is_closing():
            # Drop answers to frames from before the connection broke. asyncio would log a line for
            # each, so that pings and a reset would fill the application's log.
            self.protocol.data_to_send()
        else:
            super().send_data()
            protocol = self.protocol
            if (
                self._masked
                and protocol.close_rcvd is not None
                and protocol.close_sent is not None
                and self.transport.can_write_eof()
            ):
                # Both have said goodbye. The library would wait until the peer leaves, and does so
                # where it cannot close one direction alone (TLS).
                self.transport.close()

    def process_event(self, event: Any) -> None:
        if type(event) is not Frame:
            super().process_event(event)
            return
        if self._calm is None and self.bounds is not None:
            self._calm = Calm(self.bounds)
        calm = self._calm
        if calm is not None and not calm.bears(event.opcode, len(event.data), final=event.fin):
            if self.protocol.state is OPEN:
                # Bytes after it are read and dropped.
                self.protocol.fail(CloseCode.ENHANCE_YOUR_CALM, TOO_MUCH)
                self.send_data()
                self._end(LinkClosed(CloseCode.ENHANCE_YOUR_CALM, TOO_MUCH))
        elif event.opcode in DATA:
            self._data(event)
        else:
            super().process_event(event)

    def _data(self, frame: Frame) -> None:
        if self._over or self._closing:
            return
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        data = frame.data
        if not frame.fin or self._fragments is not None:
            # The library bounds the sum of the fragments. Joined at once, thousands of tiny ones
            # cost no more.
            if self._fragments is None:
                self._fragments = bytearray()
            self._fragments += data
            if not frame.fin:
                return
            data, self._fragments = self._fragments, None
        subprotocol = self.protocol.subprotocol
        if subprotocol is None:
            self._deliver(bytes(data) if self._opcode is Opcode.TEXT else Binary(data))
            return
        text = SUBPROTOCOLS[subprotocol].text
        if (self._opcode is Opcode.TEXT) is not text:
            wanted = "text" if text else "binary"
            self._end(
                ProtocolError(CloseCode.BAD_FRAME, f"{subprotocol} travels in {wanted} messages")
            )
            return
        self._deliver(data if type(data) is bytes else bytes(data))

    def _deliver(self, message: bytes) -> None:
        if self._over or self._closing:
            return
        if self._on_message is not None and not (self._paused or self._resting):
            # This is `_count`, written out to save a function call for each message.
            self._burst = burst = self._burst + 1
            if burst == BURST:
                self._rest_for_a_turn()
            self._on_message(message)
        else:
            self._waiting.append(message)
            self._notify()

    def _count(self) -> None:
        """Count a message of this turn of the event loop; after `BURST` other tasks run."""
        self._burst += 1
        if self._burst == BURST:
            self._rest_for_a_turn()

    def _rest_for_a_turn(self) -> None:
        self._resting = True
        self.transport.pause_reading()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._burst, self._resting = 0, False
        if not self._paused:
            self.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError):
            read_out(self.transport, self)
        super().connection_lost(exc)
        self._end(translated(self.close_exc))

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._on_drained is not None:
            self._on_drained()

    # ---------------------------------------------------------------- to the link

    def _end(self, error: Exception) -> None:
        if self._over:
            return
        self._over = True
        if self._on_lost is not None and not (self._paused or self._resting):
            self._on_lost(error)
        else:
            self._waiting.append(error)
            self._notify()

    def _notify(self) -> None:
        self.transport.pause_reading()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> bytes:
        """Receive the next message, while not attached."""
        while not self._waiting:
            self.transport.resume_reading()
            self._waiter = self.loop.create_future()
            await self._waiter
        first = self._waiting[0]
        if isinstance(first, Exception):
            # The end stays in its place, since no message follows it.
            raise first
        self._waiting.pop(0)
        return first

    def attach(
        self,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._on_message, self._on_lost, self._on_drained = on_message, on_lost, on_drained
        self.resume()

    def pause(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        assert self._on_message is not None
        assert self._on_lost is not None
        waiting, self._waiting = self._waiting, []
        for n, item in enumerate(waiting):
            if self._paused or self._resting:
                self._waiting = waiting[n:] + self._waiting
                break
            if isinstance(item, Exception):
                self._on_lost(item)
            else:
                self._count()
                self._on_message(item)
        if not (self._paused or self._resting):
            self.transport.resume_reading()

    def drop(self) -> None:
        """Deliver only the end from here on: the link is being closed."""
        self._closing = True
        if not self._over:
            self._waiting.clear()
            self._paused = False
            # The peer's close frame has to be read.
            self.transport.resume_reading()

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close as the library does; bytes held back no longer keep it from reading the end."""
        self.drop()
        await super().close(code, reason)

    def sender(self, text: bool) -> Callable[[bytes], bool]:
        """The function that writes messages of one kind, bound once instead of for each message.

        From here on plain frames are taken apart here too: the opening handshake is through.
        """
        self._text = text
        protocol = self.protocol
        if not (protocol.extensions or protocol.debug):
            self._head = TEXT if text else BINARY
            self._limit = min(protocol.max_message_size or READ_SIZE, READ_SIZE)
            self._between = between_frames(protocol)
        return self._send_nowait

    def _send_nowait(self, data: bytes) -> bool:
        if self.transport.is_closing():
            return True
        head = None if type(data) is Binary else self._head
        if head is not None and self.protocol.state is OPEN:
            self.transport.write(packed(head, data, masked=not self._masked))
            return not self.paused
        try:
            if self._text and type(data) is not Binary:
                self.protocol.send_text(data)
            else:
                self.protocol.send_binary(data)
        except InvalidState:
            return True
        self.send_data()
        return not self.paused

    @property
    def unsent(self) -> int:
        size: int = self.transport.get_write_buffer_size()
        return size


class DirectClient(Tap, ClientConnection):
    pass


class DirectServer(Tap, ServerConnection):
    pass
