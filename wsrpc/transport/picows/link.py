"""A connection by `picows`, as a link.

picows reads frames in compiled code and hands each to a callback. This module does the rest:
fragments, the type of a message, the closing handshake, pongs, and pauses of reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from ...close_codes import CloseCode
from ...errors import ProtocolError
from ...interfaces import Handshake
from ...limits import Limits
from ...protocol.codec import SUBPROTOCOLS
from ...telemetry.logs import everyone
from ..base import Binary, LinkClosed, failed_with, short_reason
from ..floods import TOO_MUCH, Calm
from ..remains import read_out

__all__ = ["PicowsLink"]

RESERVED = "reserved bits must be 0"

# Messages that wait for a reader when the socket is paused, and when it is read again. The numbers
# are those of `websockets`.
QUEUE, FEW = 16, 4

# Bytes that wait for the socket before the writer is paused. With one batch of 64 KiB on top that
# makes the 128 KiB of OUT-1.
WRITE_AHEAD = 64 * 1024

# Messages of one read of the socket that are acted on before other tasks have a turn.
BURST = 16

# The accepting side of picows writes larger messages as two buffers. One of them is its own, which
# it fills anew for the next message, and not every event loop copies bytes that it cannot write at
# once. In a buffer that has room for the longest header picows writes both as one.
ONE_BUFFER = 8192
HEADER = bytes(14)


class PicowsLink(WSListener):
    """A connection by picows, as a `DirectLink`; to picows it is the listener of the connection.

    Args:
        subprotocol: The subprotocol that the handshake agreed on.
        limits: This side's bounds.
        opened: Called when messages can be sent.
    """

    __slots__ = (
        "_arrived",
        "_burst",
        "_calm",
        "_close_timeout",
        "_delivering",
        "_direct",
        "_drained",
        "_drop",
        "_fragments",
        "_full",
        "_gone",
        "_held",
        "_kind",
        "_later",
        "_leaving",
        "_limits",
        "_loop",
        "_lost",
        "_max_size",
        "_odd",
        "_on_drained",
        "_on_lost",
        "_on_message",
        "_opened",
        "_pong",
        "_queue",
        "_reading",
        "_refused",
        "_transport",
        "_websocket",
        "_whole",
        "handshake",
        "subprotocol",
    )

    def __init__(
        self,
        subprotocol: str | None,
        limits: Limits,
        opened: Callable[[PicowsLink], None] | None = None,
    ) -> None:
        self.subprotocol = subprotocol
        self.handshake = Handshake()
        text = subprotocol not in SUBPROTOCOLS or SUBPROTOCOLS[subprotocol].text
        self._kind = WSMsgType.TEXT if text else WSMsgType.BINARY
        self._max_size = limits.max_batch
        self._close_timeout = limits.close_timeout
        self._opened = opened
        self._limits = limits
        self._calm: Calm | None = None
        self._loop = asyncio.get_running_loop()
        self._websocket: WSTransport
        self._transport: asyncio.Transport
        # The reason of the link's end, or the error of a message that it does not take; the first
        # counts.
        self._lost: LinkClosed | None = None
        self._refused: ProtocolError | None = None
        self._gone = False
        # It is made for the first `close`, and set when the link is gone.
        self._leaving: asyncio.Event | None = None
        self._drop: asyncio.TimerHandle | None = None
        # Inbound. `_whole` says that the next frame may be a whole message.
        self._whole = True
        self._fragments: bytearray | None = None
        # Whether the fragments are of the other type, which only a link without subprotocol takes.
        self._odd = False
        self._reading = True
        self._queue: list[bytes] = []
        self._arrived: asyncio.Future[None] | None = None
        # Attached. `_direct` says that a message may go to `_on_message` at once.
        self._direct = False
        self._held = False
        self._delivering = False
        self._later = False
        self._burst = 0
        self._on_message: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[Exception], None] | None = None
        self._on_drained: Callable[[], None] | None = None
        # Outbound.
        self._full = False
        self._drained: asyncio.Future[None] | None = None
        self._pong: bytes | None = None

    # ------------------------------------------------------------ the contract of links

    async def send(self, data: bytes) -> None:
        if self._lost is None:
            self._write(data)
            while self._full and self._lost is None:
                self._drained = self._loop.create_future()
                await self._drained
        if self._lost is not None:
            raise LinkClosed(self._lost.code, self._lost.reason)

    async def receive(self) -> bytes:
        while not self._queue:
            if self._refused is not None or self._lost is not None:
                raise self._verdict()
            self._arrived = self._loop.create_future()
            await self._arrived
        data = self._queue.pop(0)
        if len(self._queue) <= FEW:
            self._read(True)
        return data

    async def close(self, code: int, reason: str = "") -> None:
        self.begin_close(code, reason)
        if not self._gone:
            self._leaving = self._leaving or asyncio.Event()
            await self._leaving.wait()

    def abort(self) -> None:
        self._transport.abort()

    def begin_close(self, code: int, reason: str = "") -> None:
        """Close as `close` does, and do not wait; the socket is dropped in time in any case.

        From here on only the end is delivered.
        """
        self._queue.clear()
        self._held = False
        if self._lost is None:
            self._say_goodbye(code, short_reason(reason))

    def extra(self, name: str) -> Any:
        """A fact that asyncio knows of the connection: "peername", "socket" or "peercert"."""
        return self._transport.get_extra_info(name)

    # ------------------------------------------------------------ the contract of direct links

    def attach(
        self,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._on_message, self._on_lost, self._on_drained = on_message, on_lost, on_drained
        self._deliver()

    def send_nowait(self, data: bytes) -> bool:
        if self._lost is not None:
            return True
        self._write(data)
        return not self._full

    def _write(self, data: bytes) -> None:
        kind = WSMsgType.BINARY if type(data) is Binary else self._kind
        if len(data) <= ONE_BUFFER or self._websocket.is_client_side:
            self._websocket.send(kind, data)
        else:
            buffer = bytearray(HEADER)
            buffer += data
            self._websocket.send_reuse_external_bytearray(kind, buffer, len(HEADER))

    def pause(self) -> None:
        self._held, self._direct = True, False
        self._read(False)

    def resume(self) -> None:
        self._held = False
        if not self._later:
            self._deliver()

    @property
    def unsent(self) -> int:
        return 0 if self._gone else self._transport.get_write_buffer_size()

    # ------------------------------------------------------------------- for picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._websocket = transport
        self._transport = transport.underlying_transport
        self._transport.set_write_buffer_limits(WRITE_AHEAD)
        # It is called once, and holds the handshake's request.
        opened, self._opened = self._opened, None
        if opened is not None:
            opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if (
            frame.msg_type == self._kind
            and frame.fin
            and self._whole
            and not transport.is_close_frame_sent
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            if not self._direct:
                self._put(frame.get_payload_as_bytes())
                return
            self._hand_over(frame.get_payload_as_bytes())
            if frame.last_in_buffer:
                self._burst = 0
            else:
                self._burst += 1
                if self._burst == BURST:
                    self._others_first()
        else:
            self._on_other(transport, frame)
            if frame.last_in_buffer:
                self._burst = 0

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._lost is None and not self._failed_already():
            # picows does not tell the cause; after the end of all input this reads nothing.
            read_out(self._transport, self._transport.get_protocol())
        if self._lost is None and not self._failed_already():
            self._lose(LinkClosed(CloseCode.CONNECTION_LOST))
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None
        self._gone = True
        if self._leaving is not None:
            self._leaving.set()
        self._deliver()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._pong is not None:
            pong, self._pong = self._pong, None
            self._websocket.send_pong(pong)
        _wake(self._drained)
        if self._on_drained is not None and self._lost is None:
            self._on_drained()

    # ------------------------------------------------------------ frames unlike most

    def _on_other(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self._lost is None and transport.is_close_frame_sent:
            self._on_failure(frame)
        elif kind == WSMsgType.CLOSE:
            self._on_close(frame)
        elif self._lost is not None or self._refused is not None:
            # Frames of a peer that has not read the verdict yet do not matter.
            return
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(CloseCode.PROTOCOL_ERROR, RESERVED)
        elif not self._bears(_number(kind), frame):
            self._fail(CloseCode.ENHANCE_YOUR_CALM, TOO_MUCH)
        elif kind == WSMsgType.PING:
            self._on_ping(frame.get_payload_as_bytes())
        elif kind != WSMsgType.PONG:
            self._on_fragment(kind, frame)

    def _bears(self, opcode: int, frame: WSFrame) -> bool:
        if self._calm is None:
            self._calm = Calm(self._limits)
        return self._calm.bears(opcode, frame.payload_size, final=frame.fin)

    def _on_failure(self, frame: WSFrame) -> None:
        """Handle a violation that picows met before it handed on this frame.

        picows reads one frame ahead, so this may be the frame before the violation, which takes
        effect all the same. Or it comes after the violation: picows drops the socket only a bit
        later.
        """
        in_front = frame.last_in_buffer and frame.tail_size and frame.payload_size <= self._max_size
        if in_front and frame.msg_type == self._kind and frame.fin and self._whole:
            self._put(frame.get_payload_as_bytes())
        self._failed_already()
        self._deliver()

    def _on_ping(self, payload: bytes) -> None:
        # A peer that pings and does not read would otherwise fill the memory with pongs. It is
        # enough to answer the last one (RFC 6455, section 5.5.3).
        if self._full:
            self._pong = payload
        else:
            self._websocket.send_pong(payload)

    def _on_fragment(self, kind: WSMsgType, frame: WSFrame) -> None:
        """A part of a message, or a message of the wrong type."""
        if (kind == WSMsgType.CONTINUATION) is (self._fragments is None):
            self._fail(CloseCode.PROTOCOL_ERROR, "fragments out of order")
        elif kind not in (self._kind, WSMsgType.CONTINUATION) and self.subprotocol is not None:
            wanted = "text" if self._kind == WSMsgType.TEXT else "binary"
            self._refuse(
                ProtocolError(
                    CloseCode.BAD_FRAME, f"{self.subprotocol} travels in {wanted} messages"
                )
            )
        else:
            # One buffer, so that many small fragments take no more room than few large ones.
            if self._fragments is None:
                self._fragments, self._whole = bytearray(), False
                self._odd = kind != self._kind
            self._fragments += frame.get_payload_as_memoryview()
            if len(self._fragments) > self._max_size:
                self._fail(CloseCode.TOO_BIG, f"a message of more than {self._max_size} bytes")
            elif frame.fin:
                data, self._fragments, self._whole = self._fragments, None, True
                self._put(Binary(data) if self._odd else bytes(data))

    # ------------------------------------------------------------ messages to the reader or session

    def _put(self, data: bytes) -> None:
        self._queue.append(data)
        if len(self._queue) >= QUEUE:
            self._read(False)
        if self._on_message is None:
            _wake(self._arrived)
        elif not self._later:
            self._burst += 1
            if self._burst < BURST:
                self._deliver()
            else:
                self._others_first()

    def _hand_over(self, data: bytes) -> None:
        assert self._on_message is not None
        try:
            self._on_message(data)
        except Exception as error:  # noqa: BLE001  (logged)
            everyone.error("a fault in wsrpc itself ended a link", error=error)
            self._queue.clear()
            self._refuse(ProtocolError(CloseCode.SERVER_TROUBLE, "internal error"))

    def _deliver(self) -> None:
        """Deliver waiting messages, unless reading is paused or other tasks should have a turn."""
        if self._on_message is None or self._delivering:
            return
        self._delivering = True
        left = BURST
        while self._queue and not self._held and left:
            self._hand_over(self._queue.pop(0))
            left -= 1
        self._delivering = False
        if self._held:
            return
        if self._queue:
            self._others_first()
            return
        if self._refused is None and self._lost is None:
            self._direct = True
            self._read(True)
        elif self._on_lost is not None:
            on_lost = self._on_lost
            self._on_message = self._on_lost = self._on_drained = None
            on_lost(self._verdict())

    def _others_first(self) -> None:
        """Let other tasks have a turn before the next message."""
        self._burst, self._direct = 0, False
        if not self._later:
            self._later = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._later = False
        self._deliver()

    def _read(self, wanted: bool) -> None:
        """Read from the socket, or pause; once the link is lost, read on for the peer's close."""
        wanted = wanted or self._lost is not None
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # ------------------------------------------------------------ the end

    def _verdict(self) -> Exception:
        if self._refused is not None:
            return ProtocolError(self._refused.close_code, self._refused.reason)
        assert self._lost is not None
        return LinkClosed(self._lost.code, self._lost.reason)

    def _refuse(self, error: ProtocolError) -> None:
        """Refuse a message of the peer; the session closes with this error's code."""
        if self._refused is None and self._lost is None:
            self._refused, self._whole, self._direct = error, False, False
            _wake(self._arrived)
            self._deliver()

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection: the peer broke a rule of WebSocket itself."""
        self._say_goodbye(code, reason)
        self._deliver()

    def _failed_already(self) -> bool:
        """Whether picows itself has closed; takes over its code and reason."""
        said = self._websocket.close_handshake and self._websocket.close_handshake.sent
        if said:
            self._lose(failed_with(_number(said.code), said.reason or ""))
        return bool(said)

    def _say_goodbye(self, code: int, reason: str) -> None:
        self._websocket.send_close(cast(WSCloseCode, code), reason)
        self._lose(LinkClosed(code, reason))

    def _lose(self, error: LinkClosed) -> None:
        """End the link: no message is sent or taken any more."""
        self._lost, self._whole, self._direct = error, False, False
        self._fragments = None
        _wake(self._arrived)
        _wake(self._drained)
        self._read(True)
        if not self._gone:
            self._drop = self._loop.call_later(self._close_timeout, self._transport.abort)

    def _on_close(self, frame: WSFrame) -> None:
        if self._lost is None:
            self._on_farewell(_number(frame.get_close_code()), frame)
        if not self._websocket.is_client_side:
            # The accepting side closes first (RFC 6455, section 7.1.1).
            self._transport.close()

    def _on_farewell(self, code: int, frame: WSFrame) -> None:
        """Answer a peer that closes first with its own code and reason."""
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._say_goodbye(CloseCode.PROTOCOL_ERROR, RESERVED)
        elif frame.payload_size == 0:
            self._websocket.send(WSMsgType.CLOSE, None)
            self._lose(LinkClosed(CloseCode.NO_STATUS))
        elif code in (0, CloseCode.CONNECTION_LOST) or code >= 5000:
            # picows itself refuses the other codes that may not be sent (RFC 6455, section 7.4).
            self._say_goodbye(CloseCode.PROTOCOL_ERROR, "invalid close code")
        else:
            reason = frame.get_close_reason() or ""
            self._say_goodbye(code, reason)
        self._deliver()


def _number(code: WSCloseCode | WSMsgType) -> int:
    # It is an IntEnum, which picows types as an Enum.
    return cast(int, code)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
