"""The socket under nats-py: messages go between it and their handlers in one turn of the loop.

The library alone takes three turns for a message: one wakes the task that reads, in the other
direction one wakes the task that writes, and one hands a message to its subscription's task. Here
messages of known subscriptions are taken apart where bytes arrive. All else is left to the library.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import ParseResult

from nats.aio.transport import Transport

from ...telemetry.logs import everyone
from .base import Handler

__all__ = ["Connection", "not_handled"]

# Bytes that wait for the library's reader, from which on the socket is not read.
UNREAD = 128 << 10

# Bytes of one message or line. NATS has no larger ones; a server that sends one is no NATS server.
LONGEST = 65 << 20

END = b"\r\n"


class Connection(Transport):
    """A way to a NATS server over TCP or TLS, which may be connected again and again.

    Attributes:
        handlers: The handlers that get messages where they arrive, by the id of the subscription.
    """

    def __init__(self) -> None:
        self.handlers: dict[bytes, Handler] = {}
        self._wire = Wire(self.handlers)

    # ------------------------------------------------------------------ for the library

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        loop = asyncio.get_running_loop()
        wire = Wire(self.handlers)
        host, port = uri.hostname or "", uri.port or 4222
        dialling = loop.create_connection(lambda: wire, host, port)
        try:
            await asyncio.wait_for(dialling, connect_timeout)
        except BaseException:
            # It may have come about at the same moment.
            wire.abort()
            raise
        self._wire = wire

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        name = uri if isinstance(uri, str) else uri.hostname
        await asyncio.wait_for(self._wire.encrypt(ssl_context, name), connect_timeout)

    def write(self, payload: bytes) -> None:
        self._wire.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        self._wire.write(b"".join(payload))

    async def read(self, buffer_size: int) -> bytes:
        return await self._wire.read()

    async def readline(self) -> bytes:
        return await self._wire.readline()

    async def drain(self) -> None:
        await self._wire.drain()

    async def wait_closed(self) -> None:
        await self._wire.gone()

    def close(self) -> None:
        self._wire.close()

    def at_eof(self) -> bool:
        return self._wire.at_eof

    def __bool__(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The library puts a transport of its own in the place of one that is false.
        return True

    # ------------------------------------------------------------ the short ways

    @property
    def unsent(self) -> int:
        """Bytes that wait until the socket takes them; 0 where they are few."""
        return self._wire.unsent

    @property
    def quiet(self) -> bool:
        """Whether the library has acted on all that came, and waits for more."""
        return self._wire.quiet


class Wire(asyncio.Protocol):
    """One connection.

    Args:
        handlers: See `Connection`.
    """

    def __init__(self, handlers: dict[bytes, Handler]) -> None:
        self._handlers = handlers
        self._transport: asyncio.Transport | None = None
        # The beginning of a message or line that is not complete, and its length where it is known.
        self._partial = bytearray()
        self._needed = 0
        # Whole messages and lines for the library.
        self._unread = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._over = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # ------------------------------------------------------------------- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # The event loop of Windows may bring a bytearray; of bytes this makes no copy.
        data = bytes(data)
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._needed:
                return
            data = bytes(partial)
            partial.clear()
        taken = self._take(data)
        if taken < len(data):
            partial += memoryview(data)[taken:]
        if self._unread:
            self._wake()
            if len(self._unread) > UNREAD and self._transport is not None:
                self._transport.pause_reading()
        if self._needed > LONGEST or len(partial) > LONGEST:
            everyone.error("the NATS server sent a message of %d bytes", self._needed)
            self.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc
        self._over.set()
        self._writable.set()
        self._wake()

    # ------------------------------------------------------------ in

    def _take(self, data: bytes) -> int:
        """Take whole messages and lines; returns how many bytes they were."""
        handlers, find, start = self._handlers, data.find, 0
        self._needed = 0
        while (end := find(END, start)) >= 0:
            stop = end + 2
            if data.startswith((b"MSG ", b"HMSG "), start):
                words = data[start:end].split()
                try:
                    stop = end + int(words[-1]) + 4
                except ValueError:
                    # The library has an error for it, and connects anew.
                    self._unread += memoryview(data)[start:]
                    return len(data)
                if stop > len(data):
                    self._needed = stop - start
                    break
                handler = handlers.get(words[2]) if words[0] == b"MSG" else None
                if handler is not None:
                    reply = words[3].decode() if len(words) == 5 else ""
                    subject = words[1].decode()
                    try:
                        handler(subject, data[end + 2 : stop - 2], reply)
                    except Exception as error:  # noqa: BLE001  (it would end the connection)
                        not_handled(subject, error)
                    start = stop
                    continue
            self._unread += memoryview(data)[start:stop]
            start = stop
        return start

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def _more(self) -> None:
        """Wait for bytes for the library.

        Raises:
            OSError: The connection broke.
        """
        if self._lost is not None:
            raise self._lost
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    async def read(self) -> bytes:
        """All that waits for the library; nothing once the connection is over."""
        while not (self._unread or self._over.is_set()):
            await self._more()
        return self._read(len(self._unread))

    async def readline(self) -> bytes:
        """One line for the library; less than one if the connection ends before."""
        while b"\n" not in self._unread and not self._over.is_set():
            await self._more()
        return self._read(self._unread.find(b"\n") + 1 or len(self._unread))

    def _read(self, size: int) -> bytes:
        if not size and self._lost is not None:
            raise self._lost
        data = bytes(self._unread[:size])
        del self._unread[:size]
        if self._transport is not None and not self._over.is_set():
            self._transport.resume_reading()
        return data

    @property
    def quiet(self) -> bool:
        """Whether the library has acted on all that came, and waits for more."""
        return self._reader is not None and not self._unread

    @property
    def at_eof(self) -> bool:
        """Whether nothing more will come."""
        return self._over.is_set() and not self._unread

    # ------------------------------------------------------------ out

    def write(self, data: bytes) -> None:
        """Write bytes, or keep them until the socket takes them."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def unsent(self) -> int:
        """Bytes that wait until the socket takes them; 0 where they are few."""
        if self._writable.is_set() or self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Wait until little waits for the socket.

        Raises:
            ConnectionResetError: The connection is over.
        """
        await self._writable.wait()
        if self._over.is_set():
            raise ConnectionResetError("the connection to NATS is over")

    # ------------------------------------------------------------ begin and end

    async def encrypt(self, context: ssl.SSLContext, name: str | None) -> None:
        """Go on over TLS."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._transport = await loop.start_tls(self._transport, self, context, server_hostname=name)

    def close(self) -> None:
        """Close the connection, after all that was written has gone."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        if self._transport is not None:
            await self._over.wait()


def not_handled(subject: str, error: Exception) -> None:
    """Log an exception that a handler of messages raised."""
    everyone.error("a message on %s could not be handled", subject[:256], error=error)
