"""Batches to bytes and back, for both subprotocols (protocol.md, Batches and Values).

A codec encodes each frame on its own and joins the parts, so that a numbered frame's bytes can be
kept and sent again unchanged.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from struct import Struct
from typing import Any, ClassVar, TypeAlias, cast

import msgspec
from msgspec import Raw

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import MAX_ID
from .frames import (
    ABSENT,
    Chunk,
    Extension,
    Frame,
    Sized,
    SizedCall,
    SizedNotify,
    Taken,
    place_of,
)
from .splice import Encoded, Gathering, Spliced, Splicing, spliced
from .value_space import why_outside

__all__ = ["CODECS", "Codec", "JsonCodec", "MsgpackCodec", "codec_for"]

# The frames that their types do not describe fully, besides those with a size.
CHECKED = frozenset((Chunk, SizedCall, SizedNotify))

# More bytes than any message has.
MANY = 2**63

# It takes half of the instructions that a view of the bytes and its first element would take.
_first_byte = Struct("B").unpack_from

# The exceptions that msgspec raises for bytes that it cannot decode.
Undecodable = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Decoder: TypeAlias = "msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]"


class Codec:
    """One subprotocol's encoding.

    Attributes:
        name: The name that users write: "json" or "msgpack".
        subprotocol: The name that the WebSocket handshake negotiates.
        text: Whether a batch travels in a text message.
        null: The encoding of null.
        gathering: The class that puts a value together from its pieces.
        encode: Gives the bytes of one frame.
        dump: Gives the encoding of a value that this package made itself; it is not checked.
    """

    name: ClassVar[str]
    subprotocol: ClassVar[str]
    text: bool
    null: ClassVar[Raw]
    gathering: ClassVar[type[Gathering]] = Gathering

    # The bytes with which arrays begin, and those with which objects begin.
    _arrays: ClassVar[bytes]
    _objects: bytes

    _frames: ClassVar[Decoder]
    _frame: ClassVar[Decoder]
    _raws: ClassVar[Decoder]
    _any: ClassVar[Decoder]
    _encoder: ClassVar[msgspec.json.Encoder | msgspec.msgpack.Encoder]

    def __init__(self) -> None:
        # CPython 3.11 has caches for attributes of an object, and none for those of its class.
        self.text = self.text
        self._objects = self._objects
        # The encoder's own method: a Python function around it would cost half as much again.
        self.encode: Callable[[Frame], bytes] = self._encoder.encode
        self.dump: Callable[[Any], bytes] = self._encoder.encode

    # ---------------------------------------------------------------- frames

    def message(self, id: int, items: Iterable[bytes]) -> bytes:
        """The bytes of a `message` frame, from encoded items; faster than through `encode`."""
        raise NotImplementedError

    def join(self, parts: Sequence[bytes]) -> bytes:
        """The array of these encoded parts: a batch of frames, or an array of values."""
        raise NotImplementedError

    def chunk(self, id: int, value: Encoded, start: int, size: int) -> tuple[bytes, int]:
        """The bytes of a `chunk` frame with the next piece of a value.

        Args:
            id: The id on which the value goes.
            value: All of its encoding.
            start: Bytes. The place in `value` where the piece begins.
            size: Bytes. The largest size of the piece. It may have up to three bytes less, and the
                last piece may have even less.

        Returns:
            The frame, and the place in `value` where its piece ends.
        """
        raise NotImplementedError

    def decode(self, data: bytes) -> list[Taken | Extension]:
        """The frames of a batch.

        Raises:
            ProtocolError: 4500, the message is no batch of well-formed frames; the peer's fault.
        """
        try:
            frames: list[Taken | Extension] = self._frames.decode(data)
        except Undecodable:
            # One unusual frame makes the typed decoding of the whole batch fail. Only then does
            # each frame have to be decoded alone, to tell extensions from garbage.
            return [self.decode_one(raw) for raw in self.split(data)]
        if not frames:
            raise ProtocolError(CloseCode.BAD_FRAME, "an empty batch")
        for frame in frames:
            if frame.size is not None or type(frame) in CHECKED:
                self._check(frame, len(data))
        return frames

    def split(self, data: bytes) -> list[Raw]:
        """The frames of a batch, each still encoded.

        Raises:
            ProtocolError: 4500, the message is no array of anything; the peer's fault.
        """
        try:
            raws: list[Raw] = self._raws.decode(data)
        except Undecodable as error:
            raise _bad_frame("not a batch", error) from None
        if not raws:
            raise ProtocolError(CloseCode.BAD_FRAME, "an empty batch")
        return raws

    def decode_one(self, raw: Raw) -> Taken | Extension:
        """One frame.

        Raises:
            ProtocolError: 4500, it is none that this version knows, and no extension.
        """
        try:
            frame: Taken = self._frame.decode(raw)
        except Undecodable as error:
            if self._is_extension(raw):
                return Extension()
            raise _bad_frame("bad frame", error) from None
        if frame.size is not None or type(frame) in CHECKED:
            self._check(frame, MANY)
        return frame

    def _is_extension(self, raw: Raw) -> bool:
        try:
            name = self.load(self.split_array(raw)[0])
        except (*Undecodable, ValueError, IndexError):
            # A name of an extension type of MessagePack is a ValueError.
            return False
        return isinstance(name, str) and name.startswith("x-")

    def _check(self, frame: Taken | Extension, message: int) -> None:
        """Check a frame beyond its types; it came in a message of `message` bytes."""
        if isinstance(frame, Chunk):
            piece = self._piece(frame.piece)
            # A piece that is a view keeps its whole message in memory.
            frame.piece = cast(Raw, piece if 2 * len(piece) >= message else bytes(piece))
        elif frame.size is None:
            self._check_args(cast(SizedCall | SizedNotify, frame))
        elif place_of(cast(Sized, frame)) not in (self.null, ABSENT):
            raise ProtocolError(
                CloseCode.BAD_FRAME, "a value besides the size of one that is to come"
            )

    def _check_args(self, frame: SizedCall | SizedNotify) -> None:
        """Check that a callback's arguments are an array, and all others an object (CALL-1)."""
        positional = type(frame.method) is int
        begin = self._arrays if positional else self._objects
        if _first_byte(frame.args)[0] not in begin:
            wanted = "a callback must be an array" if positional else "a call must be an object"
            raise ProtocolError(CloseCode.BAD_FRAME, f"the arguments of {wanted}")

    def _piece(self, raw: Raw) -> bytes | memoryview:
        """The piece that a chunk carries: a view of its message wherever that is possible.

        Raises:
            ProtocolError: 4500, it is of the wrong type; the peer's fault.
        """
        raise NotImplementedError

    # ---------------------------------------------------------------- values

    def load(self, raw: Raw | Encoded) -> Any:
        """The value that `raw` encodes; only msgspec's own checks are made.

        Raises:
            DecodeError: It cannot.
        """
        return self._any.decode(cast(Raw | bytes, raw))

    def split_array(self, raw: Raw | Encoded) -> list[Raw]:
        """The elements of an encoded array, each still encoded.

        Raises:
            DecodeError: It is no array.
        """
        raws: list[Raw] = self._raws.decode(bytes(raw) if type(raw) is Spliced else raw)
        return raws

    def dump_plain(self, plain: Any) -> Encoded:
        """The encoding of a plain value. Large bytes in it are not copied."""
        return self._encoder.encode(plain)

    def dump_value(self, value: Any) -> bytes:
        """The encoding of a value that other code made.

        Raises:
            ValueError: It is outside the value space (VALUE-1, VALUE-2).
        """
        value = _checked(value)
        return self._encoder.encode(_as_text(value) if self.text else value)

    def load_value(self, raw: Raw | bytes) -> Any:
        """The value that `raw` encodes; None for an absent value.

        Raises:
            ValueError: It is outside the value space (VALUE-1, VALUE-2).
        """
        if not len(raw):
            return None
        try:
            return _checked(self.load(raw))
        except Undecodable as error:
            raise ValueError(f"no value: {error}"[:120]) from None


_QUOTED = re.compile(r"Invalid value '.*'", re.DOTALL)


def _bad_frame(what: str, error: Exception) -> ProtocolError:
    reason = "values nested too deeply" if isinstance(error, RecursionError) else str(error)
    # The one message of msgspec that quotes the input, which may be anything and ends up in logs.
    reason = _QUOTED.sub("Unknown name", reason)
    return ProtocolError(CloseCode.BAD_FRAME, f"{what}: {reason}"[:120])


class JsonCodec(Codec):
    """`wsrpc.v1.json`: batches as JSON text messages."""

    name = "json"
    subprotocol = "wsrpc.v1.json"
    text = True
    null = Raw(b"null")

    _arrays = b"["
    _objects = b"{"

    _frames = msgspec.json.Decoder(list[Taken])
    _frame = msgspec.json.Decoder(Taken)
    _raws = msgspec.json.Decoder(list[Raw])
    _any = msgspec.json.Decoder()
    _text = msgspec.json.Decoder(str)
    _encoder = msgspec.json.Encoder()

    def message(self, id: int, items: Iterable[bytes]) -> bytes:
        return b'["message",%d,[%b]]' % (id, b",".join(items))

    def join(self, parts: Sequence[bytes]) -> bytes:
        return b"[%b]" % b",".join(parts)

    def chunk(self, id: int, value: Encoded, start: int, size: int) -> tuple[bytes, int]:
        assert isinstance(value, bytes)
        end = start + size
        last = end >= len(value)
        if last:
            end = len(value)
        else:
            while value[end] & 0xC0 == 0x80:
                end -= 1
        flag = b"true" if last else b"false"
        piece = value[start:end]
        # Looking for each of them costs a tenth of encoding.
        if any(space in piece for space in _SPACES):
            text = self._encoder.encode(piece.decode())
            return b'["chunk",%d,%b,%b]' % (id, flag, text), end
        if b"\\" in piece:
            piece = piece.replace(b"\\", b"\\\\")
        if b'"' in piece:
            piece = piece.replace(b'"', b'\\"')
        return b'["chunk",%d,%b,"%b"]' % (id, flag, piece), end

    def _piece(self, raw: Raw) -> bytes | memoryview:
        view = memoryview(raw)
        if view[0] != 0x22:
            raise ProtocolError(CloseCode.BAD_FRAME, "the piece of a chunk must be a string")
        if b"\\" not in (data := bytes(view)):
            return view[1:-1]
        try:
            text: str = self._text.decode(data)
        except Undecodable as error:
            raise _bad_frame("bad frame", error) from None
        return text.encode()

    def decode(self, data: bytes) -> list[Taken | Extension]:
        # The WebSocket library hands over text unchecked, and msgspec skips raw values unchecked.
        if not data.isascii():
            _check_utf8(data)
        if len(data) > LONG and (chunk := self._lone_chunk(data)) is not None:
            return [chunk]
        return super().decode(data)

    def _lone_chunk(self, data: bytes) -> Chunk | None:
        """The frame of a batch that is nothing but a chunk, as most batches of a large value are.

        msgspec would go through its piece once to find its end, and a second time to read it.
        """
        head = _LONE_CHUNK.match(data)
        if head is None or not data.endswith(b'"]]') or not 1 <= (id := int(head[1])) <= MAX_ID:
            return None
        start, end = head.end(), len(data) - 3
        piece: bytes | memoryview
        if data.find(b'"', start, end) < 0 and data.find(b"\\", start, end) < 0:
            piece = memoryview(data)[start:end]
        else:
            try:
                text: str = self._text.decode(memoryview(data)[start - 1 : end + 1])
            except Undecodable:
                return None
            piece = text.encode()
        return Chunk(id, head[2] == b"true", cast(Raw, piece))

    def split(self, data: bytes) -> list[Raw]:
        if not data.isascii():
            _check_utf8(data)
        try:
            return super().split(data)
        except ProtocolError:
            # msgspec looks at escapes even in values that it skips, and a lone surrogate in one
            # must not spoil the batch (VALUE-4). As raw bytes it is passed over; decoding that
            # value refuses it.
            if b"\\u" not in data:
                raise
            return super().split(_ESCAPE.sub(_lone_surrogate_as_bytes, data))


# The characters besides quotes and backslashes that may stand in a JSON text, but not inside of a
# string. A text without indentation has none of them, and no text has other control characters.
_SPACES = (b"\n", b"\r", b"\t")

# Bytes. Only longer messages are checked for being nothing but a chunk.
LONG = 8 * 1024

_LONE_CHUNK = re.compile(rb'\[\["chunk",([1-9][0-9]{0,15}),(true|false),"')

# An escape in a JSON string; the group is a lone surrogate.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u([dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",
    re.DOTALL,
)


def _lone_surrogate_as_bytes(escape: re.Match[bytes]) -> bytes:
    lone: bytes | None = escape[1]
    return escape[0] if lone is None else chr(int(lone, 16)).encode("utf-8", "surrogatepass")


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(
            CloseCode.INVALID_DATA, f"a text message that is not UTF-8: {error}"[:120]
        ) from None


def _refuse_extension_type(code: int, data: memoryview) -> Any:
    raise ValueError(f"MessagePack extension type {code} is not part of the protocol")


class MsgpackCodec(Codec):
    """`wsrpc.v1.msgpack`: batches as MessagePack binary messages, bytes native."""

    name = "msgpack"
    subprotocol = "wsrpc.v1.msgpack"
    text = False
    null = Raw(b"\xc0")
    gathering = Splicing

    _arrays = bytes(range(0x90, 0xA0)) + b"\xdc\xdd"
    _objects = bytes(range(0x80, 0x90)) + b"\xde\xdf"

    _frames = msgspec.msgpack.Decoder(list[Taken])
    _frame = msgspec.msgpack.Decoder(Taken)
    _raws = msgspec.msgpack.Decoder(list[Raw])
    _any = msgspec.msgpack.Decoder(ext_hook=_refuse_extension_type)
    _encoder = msgspec.msgpack.Encoder()

    def dump_plain(self, plain: Any) -> Encoded:
        return spliced(plain) or self._encoder.encode(plain)

    def message(self, id: int, items: Iterable[bytes]) -> bytes:
        return b"\x93\xa7message" + self._encoder.encode(id) + self.join([*items])

    def join(self, parts: Sequence[bytes]) -> bytes:
        n = len(parts)
        if n < 16:
            header = bytes((0x90 | n,))
        elif n < 65_536:
            header = b"\xdc" + n.to_bytes(2, "big")
        else:
            header = b"\xdd" + n.to_bytes(4, "big")
        return b"".join((header, *parts))

    def chunk(self, id: int, value: Encoded, start: int, size: int) -> tuple[bytes, int]:
        end = min(start + size, len(value))
        flag = b"\xc3" if end == len(value) else b"\xc2"
        header = b"\xc6" + (end - start).to_bytes(4, "big")
        pieces = value.cut(start, end) if type(value) is Spliced else [memoryview(value)[start:end]]
        return b"".join((b"\x94\xa5chunk", self._encoder.encode(id), flag, header, *pieces)), end

    def _piece(self, raw: Raw) -> bytes | memoryview:
        view = memoryview(raw)
        header = _BIN_HEADERS.get(view[0])
        if header is None:
            raise ProtocolError(
                CloseCode.BAD_FRAME, "the piece of a chunk must be of the bin formats"
            )
        return view[header:]

    def load(self, raw: Raw | Encoded) -> Any:
        if type(raw) is Spliced:
            data = raw.rest
            value = msgspec.msgpack.Decoder(ext_hook=raw.hook()).decode(data)
        else:
            data = bytes(raw)
            value = self._any.decode(data)
        # The one extension type that msgspec takes for itself, without asking the hook.
        if 0xFF in data and _TIMESTAMP.search(data) and _holds_timestamp(value):
            raise ValueError("MessagePack timestamps are not part of the protocol")
        return value


# In this form the search runs from one 0xFF to the next. With three alternatives it takes 4 ms for
# a megabyte, ten times as long. Text has no 0xFF at all.
_TIMESTAMP = re.compile(rb"\xff(?:(?<=[\xd6\xd7]\xff)|(?<=\xc7\x0c\xff))")
# Bytes of the header of each bin format.
_BIN_HEADERS = {0xC4: 2, 0xC5: 3, 0xC6: 5}


def _holds_timestamp(value: Any) -> bool:
    if type(value) is dict:
        return _holds_timestamp([*value, *value.values()])
    if type(value) is list:
        return any(map(_holds_timestamp, value))
    return isinstance(value, datetime)


def _checked(value: Any) -> Any:
    """The value itself.

    Raises:
        ValueError: It is outside the value space (VALUE-1, VALUE-2).
    """
    reason = why_outside(value)
    if reason is not None:
        raise ValueError(reason.text)
    return value


def _as_text(value: Any) -> Any:
    """A value with its bytes in base64url (VALUE-5)."""
    kind = type(value)
    if kind is bytes:
        return urlsafe_b64encode(value).decode("ascii")
    if kind is list:
        return [_as_text(one) for one in value]
    if kind is dict:
        return {key: _as_text(one) for key, one in value.items()}
    return value


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
