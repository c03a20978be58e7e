"""Reading a recording: its records, and its frames with their sessions and methods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import MsgspecError, Raw

from ..errors import ProtocolError
from ..protocol.codec import CODECS, Codec
from .recording_format import (
    MAGIC,
    Batch,
    Begun,
    Closed,
    LinkOpened,
    Record,
    Sender,
    Unread,
    blocks,
    records_of,
)

__all__ = [
    "UNREADABLE",
    "RecordedFrame",
    "RecordingError",
    "frames",
    "plain_frame",
    "read_records",
]

# Seconds between two looks at a file that is being written.
INTERVAL = 0.2

# The key of the object that stands for a value outside the value space.
UNREADABLE = "$unreadable"

Undecodable = (MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class RecordingError(Exception):
    """A file cannot be read as a recording."""


@dataclass(slots=True)
class RecordedFrame:
    """One frame of a recording, or the end of a connection.

    Attributes:
        time: Seconds since 1970.
        link: The number of its connection.
        codec: The codec of the connection.
        session: The session's public name, if it is known by then.
        sender: "C", "S", or None where a connection broke.
        frame: The frame as plain values. It is `["close", code, reason]` for a connection's end,
            and `["unread", bytes]` for a message that is no batch.
        method: The method to which it belongs, if that is known.
        message: The number of the message in the recording; frames of one batch share it.
        data: The frame as it travelled; empty for the end of a connection and for an unread
            message.
    """

    time: float
    link: int
    codec: str
    session: str
    sender: Sender | None
    frame: list[Any]
    method: str | None = None
    message: int = 0
    data: bytes = b""

    @property
    def id(self) -> int | None:
        """The id of the frame; None for link frames."""
        return _id_of(self.frame)

    @property
    def code(self) -> str | None:
        """The code of an error, the reason of a cancel, or the code of a connection's end."""
        name, *rest = self.frame
        if name == "error" and len(rest) > 1 and isinstance(rest[1], dict):
            return str(rest[1].get("code"))
        if name == "cancel":
            return str(rest[1]) if len(rest) > 1 and rest[1] else "cancelled"
        return str(rest[0]) if name == "close" else None


@dataclass(slots=True)
class _Link:
    opened: LinkOpened
    codec: Codec
    session: str = ""
    methods: dict[int, str] = field(default_factory=dict)


def _id_of(frame: list[Any]) -> int | None:
    numbered = frame[0] not in (
        "hello",
        "ack",
        "ping",
        "pong",
        "goaway",
        "auth",
        "close",
        "unread",
    )
    if numbered and len(frame) > 1 and isinstance(frame[1], int):
        return frame[1]
    return None


def read_records(
    path: Path, *, follow: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Iterator[Record]:
    """The records of a file, after those of the part before it.

    Args:
        path: The file.
        follow: Whether to wait for more at its end; it blocks then.
        stopped: Called while it waits; True ends the wait.

    Raises:
        RecordingError: The file cannot be read, or is no recording; the caller's fault.
    """
    before = path.with_name(path.name + ".1")
    if before.exists() and _identity(before) == _identity(path) is not None:
        yield from _records(before, False, stopped)
    yield from _records(path, follow, stopped)


def _identity(path: Path) -> str | None:
    """The id of the recording at the end of the first block of a file."""
    for record in _records(path, False, lambda: False):
        return record.id if isinstance(record, Begun) else None
    return None


def _records(path: Path, follow: bool, stopped: Callable[[], bool]) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            begin = file.read(len(MAGIC))
            if begin != MAGIC and not (follow and MAGIC.startswith(begin)):
                raise RecordingError(f"{path} is no recording of wsrpc")
            end = len(MAGIC)
            while True:
                for block_end, data in blocks(file, end):
                    yield from records_of(data)
                    end = block_end
                if not follow or stopped():
                    return
                time.sleep(INTERVAL)
                if path.stat().st_size < end:
                    # The file was rotated: new records are in another file.
                    yield from _records(path, follow, stopped)
                    return
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read: {error}") from error


def frames(records: Iterator[Record]) -> Iterator[RecordedFrame]:
    """The frames of a recording, in the order in which they passed.

    Raises:
        RecordingError: The recording holds a frame that its codec cannot read.
    """
    links: dict[int, _Link] = {}
    sessions: dict[str, dict[int, str]] = {}
    started, recording, message = 0.0, "", 0
    for record in records:
        if isinstance(record, Begun):
            if record.id != recording:
                links, recording = {}, record.id
            started = record.started
        elif isinstance(record, LinkOpened):
            links.setdefault(record.link, _Link(record, CODECS[record.codec]))
        elif isinstance(record, (Batch, Unread, Closed)):
            link = links.get(record.link)
            if link is None:
                continue
            message += 1
            found: list[list[Any]]
            if isinstance(record, Batch):
                found = [plain_frame(link.codec, data) for data in record.frames]
            elif isinstance(record, Unread):
                found = [["unread", record.size]]
            else:
                found = [["close", record.code, record.reason]]
                del links[record.link]
            raws = record.frames if isinstance(record, Batch) else [b""]
            for frame, data in zip(found, raws, strict=True):
                method = _method(link, frame, sessions)
                yield RecordedFrame(
                    started + record.time / 1e6,
                    record.link,
                    link.opened.codec,
                    link.session,
                    record.sender,
                    frame,
                    method,
                    message,
                    data,
                )


def plain_frame(codec: Codec, data: bytes) -> list[Any]:
    """A frame as plain values; an unreadable value is replaced by its length."""
    try:
        frame = codec.load(data)
    except Undecodable:
        frame = [_element(codec, raw) for raw in _split(codec, data)]
    if not isinstance(frame, list) or not frame or not isinstance(frame[0], str):
        raise RecordingError("the recording holds a frame that is none")
    return frame


def _split(codec: Codec, data: bytes) -> list[Raw]:
    try:
        return codec.split_array(codec.split(codec.join([data]))[0])
    except (ProtocolError, *Undecodable) as error:
        raise RecordingError(f"the recording holds a frame that is none: {error}") from None


def _element(codec: Codec, raw: Raw) -> Any:
    try:
        return codec.load(raw)
    except Undecodable:
        return {UNREADABLE: len(memoryview(raw))}


def _method(link: _Link, frame: list[Any], sessions: dict[str, dict[int, str]]) -> str | None:
    """The method to which a frame belongs; notes the ids that the frame opens."""
    name = frame[0]
    if name == "hello" and isinstance(frame[1], dict) and frame[1].get("session"):
        link.session = frame[1]["session"]
        link.methods = sessions.setdefault(link.session, link.methods)
    id = _id_of(frame)
    if id is None:
        return None
    if name in ("call", "notify") and len(frame) > 3:
        method = frame[2]
        if isinstance(method, int):
            found = link.methods.get(method)
            method = found if found is None or "(" in found else f"{found}(callback)"
        if isinstance(method, str):
            link.methods[id] = method
            for parameter, one in _attached(frame):
                link.methods[one] = f"{method}({parameter})"
    return link.methods.get(id)


def _attached(call: list[Any]) -> Iterator[tuple[str, int]]:
    """The uploads and callbacks of a call: the names of their parameters, and their ids."""
    options = call[4] if len(call) > 4 and isinstance(call[4], dict) else {}
    for group in ("uploads", "callbacks"):
        found = options.get(group)
        if isinstance(found, dict):
            yield from ((name, one) for name, one in found.items() if isinstance(one, int))
