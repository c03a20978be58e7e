"""Batches to bytes and back, for both subprotocols (protocol.md BATCH, VALUE).

A codec encodes each frame on its own and joins the parts, so that a numbered frame's bytes can be
kept and sent again unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from ..errors import ProtocolError
from .frames import Frame

__all__ = ["CODECS", "Codec", "JsonCodec", "MsgpackCodec", "codec_for"]

BAD_FRAME = 4500


class Codec(Protocol):
    """One subprotocol's encoding.

    Attributes:
        name: What users write: "json" or "msgpack".
        subprotocol: What the WebSocket handshake negotiates.
        text: Whether a batch travels in a text message.
        null: The encoding of null.
    """

    name: str
    subprotocol: str
    text: bool
    null: Raw

    def encode(self, frame: Frame) -> bytes: ...

    def join(self, parts: Sequence[bytes]) -> bytes: ...

    def decode(self, data: bytes) -> list[Frame]: ...

    def split(self, data: bytes) -> list[Raw]: ...

    def decode_one(self, raw: Raw) -> Frame | None: ...

    def check_args(self, args: Raw, *, positional: bool) -> None: ...

    def dump(self, value: Any) -> bytes: ...

    def load(self, raw: Raw | bytes) -> Any: ...


class _Base:
    """What both codecs share: the fast typed decode, and the second look at what it refused."""

    _batch: Any
    _raws: Any
    _one: Any
    _name: Any

    def decode(self, data: bytes) -> list[Frame]:
        """The frames of a batch, without the `x-` frames.

        Raises:
            ProtocolError: 4500, the message is no batch of well-formed frames; the peer's fault.
        """
        try:
            frames: list[Frame] = self._batch.decode(data)
        except (msgspec.ValidationError, RecursionError):
            # One unknown name spoils the typed decode of the whole batch. Only then is it worth
            # looking at each frame alone, to tell extensions from garbage.
            decoded = [self.decode_one(raw) for raw in self.split(data)]
            return [frame for frame in decoded if frame is not None]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(BAD_FRAME, f"undecodable message: {error}"[:120]) from None
        if not frames:
            raise ProtocolError(BAD_FRAME, "an empty batch")
        return frames

    def split(self, data: bytes) -> list[Raw]:
        """The frames of a batch, each still encoded."""
        try:
            raws: list[Raw] = self._raws.decode(data)
        except RecursionError:
            raise ProtocolError(BAD_FRAME, "values nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(BAD_FRAME, f"not a batch: {error}"[:120]) from None
        if not raws:
            raise ProtocolError(BAD_FRAME, "an empty batch")
        return raws

    def decode_one(self, raw: Raw) -> Frame | None:
        """One frame, or None for an extension frame that this version does not know."""
        try:
            frame: Frame = self._one.decode(raw)
        except RecursionError:
            raise ProtocolError(BAD_FRAME, "values nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if self._is_extension(raw):
                return None
            raise ProtocolError(BAD_FRAME, f"bad frame: {error}"[:120]) from None
        return frame

    def _is_extension(self, raw: Raw) -> bool:
        try:
            elements = self._name.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        try:
            name = self.load(elements[0]) if elements else None
        except (ValueError, RecursionError):
            return False
        return isinstance(name, str) and name.startswith("x-")

    def check_args(self, args: Raw, *, positional: bool) -> None:
        """An object for a method, an array for a callback; else 4500 (CALL-1)."""
        if self._is_array(args) if positional else self._is_map(args):
            return
        wanted = "an array" if positional else "an object"
        raise ProtocolError(BAD_FRAME, f"the arguments of a call must be {wanted}")

    def _is_array(self, raw: Raw) -> bool:
        raise NotImplementedError

    def _is_map(self, raw: Raw) -> bool:
        raise NotImplementedError

    def load(self, raw: Raw | bytes) -> Any:
        raise NotImplementedError


class JsonCodec(_Base):
    """`wsrpc.v1.json`: batches as JSON text messages."""

    name = "json"
    subprotocol = "wsrpc.v1.json"
    text = True
    null = Raw(b"null")

    _batch = msgspec.json.Decoder(list[Frame])
    _raws = msgspec.json.Decoder(list[Raw])
    _one = msgspec.json.Decoder(Frame)
    _name = msgspec.json.Decoder(list[Raw])
    _encoder = msgspec.json.Encoder()
    _any = msgspec.json.Decoder()

    def encode(self, frame: Frame) -> bytes:
        return self._encoder.encode(frame)

    def join(self, parts: Sequence[bytes]) -> bytes:
        return b"[" + b",".join(parts) + b"]"

    def _is_array(self, raw: Raw) -> bool:
        return memoryview(raw)[0] == 0x5B

    def _is_map(self, raw: Raw) -> bool:
        return memoryview(raw)[0] == 0x7B

    def dump(self, value: Any) -> bytes:
        return self._encoder.encode(value)

    def load(self, raw: Raw | bytes) -> Any:
        return self._any.decode(raw)


def _refuse_extension(code: int, data: memoryview) -> Any:
    raise ValueError(f"MessagePack extension type {code} is not part of the protocol")


class MsgpackCodec(_Base):
    """`wsrpc.v1.msgpack`: batches as MessagePack binary messages, bytes native."""

    name = "msgpack"
    subprotocol = "wsrpc.v1.msgpack"
    text = False
    null = Raw(b"\xc0")

    _batch = msgspec.msgpack.Decoder(list[Frame], ext_hook=_refuse_extension)
    _raws = msgspec.msgpack.Decoder(list[Raw])
    _one = msgspec.msgpack.Decoder(Frame, ext_hook=_refuse_extension)
    _name = msgspec.msgpack.Decoder(list[Raw])
    _encoder = msgspec.msgpack.Encoder()
    _any = msgspec.msgpack.Decoder(ext_hook=_refuse_extension)

    def encode(self, frame: Frame) -> bytes:
        return self._encoder.encode(frame)

    def join(self, parts: Sequence[bytes]) -> bytes:
        n = len(parts)
        if n < 16:
            header = bytes((0x90 | n,))
        elif n < 65_536:
            header = b"\xdc" + n.to_bytes(2, "big")
        else:
            header = b"\xdd" + n.to_bytes(4, "big")
        return header + b"".join(parts)

    def _is_array(self, raw: Raw) -> bool:
        first = memoryview(raw)[0]
        return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)

    def _is_map(self, raw: Raw) -> bool:
        first = memoryview(raw)[0]
        return 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)

    def dump(self, value: Any) -> bytes:
        return self._encoder.encode(value)

    def load(self, raw: Raw | bytes) -> Any:
        return self._any.decode(raw)


CODECS: dict[str, Codec] = {"json": JsonCodec(), "msgpack": MsgpackCodec()}
SUBPROTOCOLS = {codec.subprotocol: codec for codec in CODECS.values()}


def codec_for(name: str) -> Codec:
    """The codec called "json" or "msgpack".

    Raises:
        ValueError: There is no such codec; the caller's fault.
    """
    try:
        return CODECS[name]
    except KeyError:
        raise ValueError(f"codec must be 'json' or 'msgpack', not {name!r}") from None
