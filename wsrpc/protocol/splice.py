"""Large bytes inside of a value in MessagePack, which are not copied into it or out of it.

To encode 64 MiB of bytes is to copy them, and so is to decode them, each of which holds up the
event loop for 30 ms and more, most of it for memory that the system has to find. So a value of
which one part is large bytes is kept as what is before them, the bytes themselves, and what is
behind; and when it arrives, they are written where they are to stay, piece by piece.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, TypeAlias, final

import msgspec

__all__ = ["LARGE", "Encoded", "Gathering", "Spliced", "Splicing", "spliced"]

# Bytes. To splice less is not worth it; and what has less may have to go in one frame.
LARGE = 64 * 1024

# Bytes. What is made room for before as much of a value has come.
FIRST = 1024 * 1024

# Bytes. glibc hands freed memory back once there is twice as much of it as the largest block that it
# had mapped by itself, and then large values find none: getting it again, page by page, is a third
# of the time of a call with a mebibyte of text. To map and free one larger block is the way to
# tell it to keep so much.
KEPT = 4 * 1024 * 1024
_ = bytes(KEPT)
del _

# Where the bytes would be, the rest has an extension type, of which the protocol has none.
_PLACE = b"\xd4\x01\x00"
_CODE = 1

# bin 32: how bytes of this size begin, with their length behind.
_BIN_32 = 0xC6
_HEADER = 5

# Tokens of a value among which to look for large bytes.
_TOKENS = 64

_encode = msgspec.msgpack.Encoder().encode


@final
class Spliced:
    """The encoding of a value, in three parts.

    Attributes:
        head: What comes before the bytes, up to and with their length.
        blob: The bytes.
        tail: The bytes after them.
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
        """What puts the bytes into their place, for a decoder of `rest`."""
        blobs = [self.blob]

        def ext_hook(code: int, data: memoryview) -> bytes:
            # The first one is the place, for there is none before it (`Splicing`).
            if not blobs:
                raise ValueError(f"MessagePack extension type {code} is not part of the protocol")
            return blobs.pop()

        return ext_hook


# What an encoded value may be.
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
    behind: dict[Any, Any] = {}
    into = before
    for key, value in plain.items():
        if key is name:
            into = behind
        else:
            into[key] = value
    head = b"".join((_map(len(plain)), _members(before), _encode(name), _header(member)))
    return Spliced(head, member, _members(behind))


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
    """A value that comes in pieces, written where it is to stay.

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
        """Make room: for all of it, once so much has come that it is no mere announcement.

        Of zeros, which mostly take no memory before they are written over. A buffer that grows
        would be copied again and again, and pieces joined at the end hold up the event loop.
        """
        come = self._buffer.getvalue()[: self._buffer.tell()]
        size = self._size if come else min(self._size, FIRST)
        self._buffer = BytesIO(bytes(size))
        self._buffer.write(come)
        self._room = size - len(come)

    def value(self) -> Encoded:
        """The whole, once it is complete; not copied, since nobody else has the buffer."""
        return self._buffer.getvalue()


class Splicing(Gathering):
    """The same in MessagePack, where large bytes may be kept apart."""

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
            # More than the whole has is for whoever decodes it to refuse.
            if LARGE <= length <= size - at:
                return at
            at += length
        elif byte < 0xC0 or byte >= 0xE0:
            # Small numbers, and the heads of small arrays and objects, have no more than the byte.
            at += 1 + (byte & 0x1F if 0xA0 <= byte < 0xC0 else 0)
        elif byte in _WIDTHS:
            width, counted = _WIDTHS[byte]
            at += 1 + width
            if counted:
                at += int.from_bytes(piece[at - width : at], "big")
        else:
            # Extension types; and what is none of MessagePack's.
            return 0
    return 0


# By the first byte: how many more the head has, and whether they count the bytes after it.
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
