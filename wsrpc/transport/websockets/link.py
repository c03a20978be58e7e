"""Links over WebSocket, by `websockets` on asyncio and on trio, plain, TLS or Unix socket.

All code that uses `websockets` is in this folder. `direct.py` is the short way on asyncio. Here
messages are read and written as bytes (`recv(decode=False)`, `send(…, text=True)`), which spares a
UTF-8 round trip per message. The one step beyond the documented interface is `Watch`, which notes
the type of an incoming message; if a later version stops calling it, messages of the wrong type are
just no longer told apart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import anyio
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol

from ...close_codes import CloseCode
from ...errors import ProtocolError
from ...interfaces import Handshake
from ...limits import Limits
from ...protocol.codec import SUBPROTOCOLS
from ..base import Binary, short_reason
from ..floods import TOO_MUCH, Calm
from ..listening import hang_up
from . import direct

__all__ = [
    "WRITE_AHEAD",
    "Watch",
    "WebSocketLink",
    "bounded",
    "link_over",
    "on_asyncio",
    "options_of",
    "socket_of",
]

logger = logging.getLogger("wsrpc.websockets")
# Every log message of websockets concerns one connection, whose end the session reports itself.
# Broken handshakes of strangers do not belong on the application's stderr.
logger.setLevel(logging.CRITICAL)


class Watch:
    """Notes the WebSocket type of received messages, and counts floods of other frames."""

    saw_text = False
    saw_binary = False
    # This side's bounds; each listener has a subclass with its own.
    bounds: Limits | None = None
    calm: Calm | None = None
    failed = False
    protocol: Any
    # Sends the bytes that the library's protocol object has ready.
    say: Callable[[], None]

    def process_event(self, event: Any) -> None:
        if type(event) is Frame:
            if event.opcode is Opcode.TEXT:
                self.saw_text = True
            elif event.opcode is Opcode.BINARY:
                self.saw_binary = True
            if self.calm is None and self.bounds is not None:
                self.calm = Calm(self.bounds)
            calm = self.calm
            if calm is None or self.protocol.state is not State.OPEN:
                # Frames that were read together with the violation are dropped.
                if self.failed:
                    return
            elif not calm.bears(event.opcode, len(event.data), final=event.fin):
                self.failed = True
                self.protocol.fail(CloseCode.ENHANCE_YOUR_CALM, TOO_MUCH)
                self.say()
                return
        super().process_event(event)  # type: ignore[misc]


class WebSocketLink:
    """A `websockets` connection of either backend, as a `Link`."""

    __slots__ = ("_close_timeout", "_connection", "_text", "handshake", "subprotocol")

    def __init__(self, connection: Any, handshake: Handshake, close_timeout: float) -> None:
        self._connection = connection
        self.subprotocol: str | None = connection.subprotocol
        self.handshake = handshake
        self._text = self.subprotocol is None or SUBPROTOCOLS[self.subprotocol].text
        self._close_timeout = close_timeout

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send(data, text=self._text and type(data) is not Binary)
        except ConnectionClosed as closed:
            raise direct.translated(closed) from None

    async def receive(self) -> bytes:
        try:
            decode = None if self.subprotocol is None else False
            data: bytes | str = await self._connection.recv(decode=decode)
        except ConnectionClosed as closed:
            raise direct.translated(closed) from None
        if isinstance(data, str):
            return data.encode()
        if self.subprotocol is None:
            return Binary(data)
        if self._connection.saw_binary if self._text else self._connection.saw_text:
            wanted = "text" if self._text else "binary"
            raise ProtocolError(
                CloseCode.BAD_FRAME, f"{self.subprotocol} travels in {wanted} messages"
            )
        return data

    async def close(self, code: int, reason: str = "") -> None:
        # The library bounds the wait for the peer's close frame. It does not bound the wait until a
        # peer that does not read takes ours.
        with anyio.move_on_after(2 * self._close_timeout) as scope:
            close = getattr(self._connection, "aclose", None) or self._connection.close
            await close(code, short_reason(reason))
        if scope.cancelled_caught:
            await _abort(self._connection)

    def abort(self) -> None:
        self._connection.transport.abort()


class TrioWebSocketLink(WebSocketLink):
    """A link on trio, where a cancelled send leaves half a message on the wire.

    The peer could read no frame after it, not even the close frame with its code. So a send that
    has begun goes on. `close` drops a peer that does not take it, which ends the send too.
    """

    async def send(self, data: bytes) -> None:
        with anyio.CancelScope(shield=True):
            await super().send(data)

    def abort(self) -> None:
        hang_up(socket_of(self._connection))


class DirectWebSocketLink(WebSocketLink):
    """A link driven by callbacks: a `DirectLink`."""

    __slots__ = ("_tap", "send_nowait")

    def __init__(self, connection: direct.Tap, handshake: Handshake, close_timeout: float) -> None:
        super().__init__(connection, handshake, close_timeout)
        self._tap = connection
        # The one method that every message needs.
        self.send_nowait = connection.sender(self._text)

    def attach(
        self,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._tap.attach(on_message, on_lost, on_drained)

    def pause(self) -> None:
        self._tap.pause()

    def resume(self) -> None:
        self._tap.resume()

    async def receive(self) -> bytes:
        return await self._tap.receive()

    @property
    def unsent(self) -> int:
        return self._tap.unsent

    async def close(self, code: int, reason: str = "") -> None:
        self._tap.drop()
        await super().close(code, reason)


def link_over(connection: Any, handshake: Handshake, limits: Limits) -> WebSocketLink:
    """A link over a connection, by the kind of the connection."""
    kind = WebSocketLink if on_asyncio() else TrioWebSocketLink
    if isinstance(connection, direct.Tap):
        kind = DirectWebSocketLink
    return kind(connection, handshake, limits.close_timeout)


async def _abort(connection: Any) -> None:
    """Drop the TCP connection, without a goodbye."""
    if on_asyncio():
        connection.transport.abort()
    else:
        import trio

        await trio.aclose_forcefully(connection.stream)


@lru_cache(maxsize=64)
def bounded(kind: type[Any], limits: Limits, *mixins: type[Any]) -> type[Any]:
    """A class of connections with these bounds; the same one for the same arguments."""
    return type(kind.__name__, (*mixins, kind), {"bounds": limits})


def options_of(limits: Limits, subprotocols: Sequence[str]) -> dict[str, Any]:
    """The options of the library for both sides."""
    return {
        "subprotocols": [Subprotocol(name) for name in subprotocols],
        "compression": None,
        "ping_interval": None,
        "close_timeout": limits.close_timeout,
        "max_size": limits.max_batch,
        "logger": logger,
    }


# Bytes that may wait for the socket before a writer has to. With one batch of 64 KiB on top that
# makes the 128 KiB of OUT-1.
WRITE_AHEAD = 64 * 1024


def on_asyncio() -> bool:
    """Whether the event loop of this thread is asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def socket_of(connection: Any) -> Any:
    """The socket of a connection."""
    if on_asyncio():
        return connection.transport.get_extra_info("socket")
    stream = connection.stream
    return getattr(stream, "transport_stream", stream).socket
