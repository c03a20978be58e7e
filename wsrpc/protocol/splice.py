"""Large bytes inside of a value in MessagePack are not copied into it or out of it.

Encoding 64 MiB of bytes means to copy them, and so does decoding them. Each copy holds up the event
loop for 30 ms and more, most of it for memory that the system has to find. So a value of which one
part is large bytes is kept in three parts: the encoding before the bytes, the bytes themselves, and
the encoding after them. When such a value arrives, its bytes are written piece by piece into the
memory where they stay.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, TypeAlias, final

import msgspec

__all__ = ["LARGE", "Encoded", "Gathering", "Spliced", "Splicing", "spliced"]

# Bytes. Splicing fewer bytes is not worth it, and a smaller value may have to go in one frame.
LARGE = 64 * 1024

# Bytes. The memory that is set aside at first, before as much of a value has come.
FIRST = 1024 * 1024

# Bytes. glibc hands freed memory back to the system once it has twice as much as the largest block
# that it ever mapped by itself. Large values then need new memory, page by page, which takes a
# third of the time of a call with a mebibyte of text. Mapping and freeing one block of this size
# makes glibc keep that much.
KEPT = 4 * 1024 * 1024
_ = bytes(KEPT)
del _

# An extension type, of which the protocol has none, stands in the place of the bytes.
_PLACE = b"\xd4\x01\x00"
_CODE = 1

# bin 32: the first byte of bytes of this size; their length follows.
_BIN_32 = 0xC6
_HEADER = 5

# Tokens of a value among which to look for large bytes.
_TOKENS = 64

_encode = msgspec.msgpack.Encoder().encode


@final
class Spliced:
    """The encoding of a value, in three parts.

    Attributes:
        head: The encoding before the bytes, their length included.
        blob: The bytes.
        tail: The encoding after them.
    """

    __slots__ = ("_size", "blob", "head", "tail")

    def __init__(self, head: bytes, blob: bytes, tail: bytes) -> None:
        self.head = head
        self.blob = blob
        self.tail = tail
        self._size = len(head) + len(blob) + len(tail)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join((self.head, self.blob, self.tail))

    def cut(self, start: int, end: int) -> list[memoryview]:
        """The bytes of the encoding from `start` to `end`, without a copy."""
        views = []
        for part in (self.head, self.blob, self.tail):
            if start < len(part) and end > 0:
                views.append(memoryview(part)[max(start, 0) : end])
            start -= len(part)
            end -= len(part)
        return views

    @property
    def rest(self) -> bytes:
        """The encoding, with an extension type in place of the bytes."""
        return b"".join((self.head[:-_HEADER], _PLACE, self.tail))

    def hook(self) -> Any:
        """The hook that puts the bytes into their place, for a decoder of `rest`."""
        blobs = [self.blob]

        def ext_hook(code: int, data: memoryview) -> bytes:
            # The first extension type is the place: `Splicing` looks only at a head without one.
            if not blobs:
                raise ValueError(f"MessagePack extension type {code} is not part of the protocol")
            return blobs.pop()

        return ext_hook


# The two forms of an encoded value.
Encoded: TypeAlias = bytes | Spliced


def spliced(plain: Any) -> Spliced | None:
    """The encoding of a plain value that is large bytes, or has them as one of its members."""
    if type(plain) is bytes:
        return Spliced(_header(plain), plain, b"") if len(plain) >= LARGE else None
    if type(plain) is dict:
        for name, member in plain.items():
            if type(member) is bytes and len(member) >= LARGE:
                return _around(plain, name, member)
    return None


def _around(plain: dict[Any, Any], name: Any, member: bytes) -> Spliced:
    """The encoding of an object, with one of its members apart."""
    before: dict[Any, Any] = {}
    after: dict[Any, Any] = {}
    into = before
    for key, value in plain.items():
        if key is name:
            into = after
        else:
            into[key] = value
    head = b"".join((_map(len(plain)), _members(before), _encode(name), _header(member)))
    return Spliced(head, member, _members(after))


def _header(blob: bytes) -> bytes:
    return bytes((_BIN_32,)) + len(blob).to_bytes(4, "big")


def _map(count: int) -> bytes:
    if count < 16:
        return bytes((0x80 | count,))
    if count < 65_536:
        return b"\xde" + count.to_bytes(2, "big")
    return b"\xdf" + count.to_bytes(4, "big")


def _members(members: dict[Any, Any]) -> bytes:
    return b"".join(_encode(part) for member in members.items() for part in member)


class Gathering:
    """A value that comes in pieces, which are written into the memory where it stays.

    Args:
        size: Bytes that it will have.
    """

    __slots__ = ("_buffer", "_room", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        # Bytes that may still come before the buffer is full.
        self._room = 0
        self._buffer = BytesIO()

    def add(self, piece: bytes | memoryview) -> None:
        """The next piece; together they must not have more than the size."""
        if self._room < len(piece):
            self._grow()
        self._room -= len(piece)
        self._buffer.write(piece)

    def _grow(self) -> None:
        """Make room for the whole value, once so much has come that it is no mere announcement.

        The buffer is made of zeros, which mostly take no memory before they are written over. A
        buffer that grows would be copied again and again, and joining pieces at the end would hold
        up the event loop.
        """
        come = self._buffer.getvalue()[: self._buffer.tell()]
        size = self._size if come else min(self._size, FIRST)
        self._buffer = BytesIO(bytes(size))
        self._buffer.write(come)
        self._room = size - len(come)

    def value(self) -> Encoded:
        """The whole value, once it is complete, without a copy: nothing else has the buffer."""
        return self._buffer.getvalue()


class Splicing(Gathering):
    """A `Gathering` of MessagePack, which may keep large bytes apart."""

    __slots__ = ("_blob", "_head", "_left")

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._head: bytes | None = None
        self._blob: Gathering | None = None
        # Bytes of the blob that have not come.
        self._left = 0

    def add(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        if self._head is None:
            view = self._begin(view)
        if self._left:
            assert self._blob is not None
            part = view[: self._left]
            self._blob.add(part)
            self._left -= len(part)
            view = view[len(part) :]
        super().add(view)

    def _begin(self, piece: memoryview) -> memoryview:
        """Look for large bytes; returns the bytes after their header."""
        begin = _large_bytes(piece, self._size)
        self._head = bytes(piece[:begin])
        if begin:
            self._left = int.from_bytes(piece[begin - 4 : begin], "big")
            self._blob = Gathering(self._left)
        self._size -= begin + self._left
        return piece[begin:]

    def value(self) -> Encoded:
        rest = super().value()
        if self._blob is None:
            return rest
        assert self._head is not None
        return Spliced(self._head, bytes(self._blob.value()), bytes(rest))


def _large_bytes(piece: memoryview, size: int) -> int:
    """Where in the first piece of a value large bytes begin, after their header; 0 for nowhere.

    Args:
        piece: The piece.
        size: Bytes of the value.
    """
    at = 0
    for _ in range(_TOKENS):
        if at + _HEADER > len(piece):
            return 0
        byte = piece[at]
        if byte == _BIN_32:
            at += _HEADER
            length = int.from_bytes(piece[at - 4 : at], "big")
            # A length beyond the whole value is left to the decoder to refuse.
            if LARGE <= length <= size - at:
                return at
            at += length
        elif byte < 0xC0 or byte >= 0xE0:
            # Small numbers, and the heads of small arrays and objects, are just this byte.
            at += 1 + (byte & 0x1F if 0xA0 <= byte < 0xC0 else 0)
        elif byte in _WIDTHS:
            width, counted = _WIDTHS[byte]
            at += 1 + width
            if counted:
                at += int.from_bytes(piece[at - width : at], "big")
        else:
            # Extension types, and the byte that MessagePack never uses.
            return 0
    return 0


# By the first byte of a head: the number of its other bytes, and whether they count the bytes after
# it.
_WIDTHS = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), (0, False)),
    0xC4: (1, True),
    0xC5: (2, True),
    0xCA: (4, False),
    0xCB: (8, False),
    0xCC: (1, False),
    0xCD: (2, False),
    0xCE: (4, False),
    0xCF: (8, False),
    0xD0: (1, False),
    0xD1: (2, False),
    0xD2: (4, False),
    0xD3: (8, False),
    0xD9: (1, True),
    0xDA: (2, True),
    0xDB: (4, True),
    0xDC: (2, False),
    0xDD: (4, False),
    0xDE: (2, False),
    0xDF: (4, False),
}
