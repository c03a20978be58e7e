"""The format of a recording, docs/recording.md: blocks of records, each block by itself.

A file begins with `MAGIC`. After it come blocks: the length of the block's compressed bytes, their
CRC-32, and the bytes (zlib). Decompressed, a block is a MessagePack array of records, which are
arrays themselves. A writer adds whole blocks at the end. The length or the CRC gives away the rest
of a block that a crash cut short; it ends the recording.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Literal, TypeAlias

import msgspec

__all__ = [
    "MAGIC",
    "Batch",
    "Begun",
    "Closed",
    "Full",
    "LinkOpened",
    "Lost",
    "Record",
    "Sender",
    "Unread",
    "block",
    "blocks",
    "end_of_blocks",
    "records_of",
]

MAGIC = b"\x89WSREC\x01\n"
HEAD = struct.Struct(">II")

# Bytes of one block, compressed and not. A larger one is no block but damage.
MOST_COMPRESSED = 128 * 1024 * 1024
MOST_OF_A_BLOCK = 256 * 1024 * 1024

Sender: TypeAlias = Literal["C", "S"]


class _Record(msgspec.Struct, array_like=True):
    """A record: an array that begins with its name.

    Attributes:
        time: Microseconds since the recording began.
    """

    time: int


class Begun(_Record, tag="recording"):
    """The beginning of a recording, or of another file of it.

    Attributes:
        version: The version of the format.
        id: The same in all files of one recording.
        part: Files of the recording before this one.
        started: Seconds since 1970 at time 0.
        agent: The program that wrote it.
    """

    version: int
    id: str
    part: int
    started: float
    agent: str


class LinkOpened(_Record, tag="link"):
    """A connection, at its own beginning or at the beginning of a file.

    Attributes:
        link: Its number.
        codec: "json" or "msgpack".
        at: The place of the recorder: the connecting side ("C"), the accepting side ("S"), or
            between.
        remote: The peer's address.
        path: The path of the request, without its query.
    """

    link: int
    codec: str
    at: Literal["C", "S", "proxy"]
    remote: str
    path: str


class Batch(_Record, tag="batch"):
    """A message.

    Attributes:
        link: The number of its connection.
        sender: The side that sent it.
        frames: Its frames, each as the codec encodes it.
    """

    link: int
    sender: Sender
    frames: list[bytes]


class Unread(_Record, tag="unread"):
    """A message that is no batch. It is left out, since it may hold anything.

    Attributes:
        link: The number of its connection.
        sender: The side that sent it.
        size: Bytes of the message.
    """

    link: int
    sender: Sender
    size: int


class Closed(_Record, tag="close"):
    """A connection's end.

    Attributes:
        link: The number of the connection.
        sender: The side that closed it; None where it broke.
        code: The close code.
        reason: The reason.
    """

    link: int
    sender: Sender | None
    code: int
    reason: str


class Lost(_Record, tag="lost"):
    """Messages that are missing here, since they came faster than they could be written.

    Attributes:
        count: The number of messages.
    """

    count: int


class Full(_Record, tag="full"):
    """The bound is reached; no record follows."""


Record: TypeAlias = Begun | LinkOpened | Batch | Unread | Closed | Lost | Full

_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(list[msgspec.Raw])
_record = msgspec.msgpack.Decoder(Record)


def block(records: Sequence[Record]) -> bytes:
    """A block with these records."""
    compressed = zlib.compress(_encoder.encode(records), 1)
    return HEAD.pack(len(compressed), zlib.crc32(compressed)) + compressed


def blocks(file: BinaryIO, start: int = len(MAGIC)) -> Iterator[tuple[int, bytes]]:
    """The whole blocks of a file from a position on.

    Yields:
        The position at which the block ends, and its records, still encoded.
    """
    file.seek(start)
    while (found := _next(file)) is not None:
        length, data = found
        start += length
        yield start, data


def _next(file: BinaryIO) -> tuple[int, bytes] | None:
    """The length of the next block and its content; None where no whole block follows."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, checksum = HEAD.unpack(head)
    if length > MOST_COMPRESSED:
        return None
    compressed = file.read(length)
    if len(compressed) < length or zlib.crc32(compressed) != checksum:
        return None
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(compressed, MOST_OF_A_BLOCK)
    except zlib.error:
        return None
    return (HEAD.size + length, data) if inflater.eof else None


def records_of(data: bytes) -> Iterator[Record]:
    """The records of a block, without those of unknown kinds.

    Raises:
        ValueError: It holds other data than records.
    """
    try:
        found = _records.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"a block without records: {error}") from None
    for raw in found:
        try:
            yield _record.decode(raw)
        except msgspec.ValidationError:
            # A later version of the format wrote it.
            continue


def end_of_blocks(file: BinaryIO) -> int:
    """The position at which the last whole block of a file ends."""
    return max((end for end, _ in blocks(file)), default=len(MAGIC))
