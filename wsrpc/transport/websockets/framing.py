"""The one kind of WebSocket frame that sessions live on: final, text or binary, no extension.

See RFC 6455, section 5.2. All other frames are left to the library: control frames, fragments,
frames that are too large, violations. The library's parser consists of nested generators, and its
writer of a buffer and a dataclass. Together they cost a small call a fifth of its time. They copy a
large frame five times; this module copies it once.
"""

from __future__ import annotations

from os import urandom
from struct import Struct

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover  (where the library was installed without its C code)
    from websockets.utils import apply_mask

__all__ = ["BINARY", "TEXT", "packed", "unpacked"]

_FINAL = 0x80
_MASKED = 0x80
_SIZE_16 = 126
_SIZE_64 = 127

# The first byte of a frame: the final bit, and the opcode.
TEXT = _FINAL | Opcode.TEXT
BINARY = _FINAL | Opcode.BINARY

_short = Struct("!BB").pack
_medium = Struct("!BBH").pack
_long = Struct("!BBQ").pack


def packed(head: int, data: bytes, *, masked: bool) -> bytes:
    """The frame that carries `data`.

    Args:
        head: `TEXT` or `BINARY`.
        data: The message.
        masked: Whether to mask it, as clients must.
    """
    size = len(data)
    flag = _MASKED if masked else 0
    if size < _SIZE_16:
        header = _short(head, flag | size)
    elif size < 65_536:
        header = _medium(head, flag | _SIZE_16, size)
    else:
        header = _long(head, flag | _SIZE_64, size)
    if masked:
        key = urandom(4)
        return b"".join((header, key, apply_mask(data, key)))
    return header + data


def unpacked(
    data: memoryview, head: int, *, masked: bool, limit: int
) -> tuple[list[bytes], int, bool]:
    """The messages of the plain frames at the beginning of `data`.

    Args:
        data: The bytes that came, from the beginning of a frame on.
        head: `TEXT` or `BINARY`, the kind that the frames must have.
        masked: Whether the frames have to be masked, as those of clients are.
        limit: Bytes. The largest message to take.

    Returns:
        The messages, the number of bytes that carried them, and whether the bytes after them may
        become such a frame when more come. Otherwise they are for the library.
    """
    messages: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        if data[at] != head:
            return messages, at, False
        begin = at + 2
        if begin > end:
            return messages, at, True
        size = data[at + 1]
        if masked:
            size -= _MASKED
        if not 0 <= size <= _SIZE_64:
            return messages, at, False
        if size >= _SIZE_16:
            width = 2 if size == _SIZE_16 else 8
            size = int.from_bytes(data[begin : begin + width])
            begin += width
            if begin > end:
                return messages, at, True
        if size > limit:
            return messages, at, False
        if masked:
            begin += 4
        stop = begin + size
        if stop > end:
            return messages, at, True
        payload = data[begin:stop]
        messages.append(
            apply_mask(payload, bytes(data[begin - 4 : begin])) if masked else bytes(payload)
        )
        at = stop
    return messages, at, True
