"""Recordings: every frame of connections, in a file that survives the death of its writer.

Messages are handed to a thread, which redacts, compresses and writes them. So the event loop never
waits for the disk, and the recording of an application that hangs is complete up to the hang.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal

from ..close_codes import CloseCode
from ..options import checked_bool, checked_count, one_of
from ..protocol.codec import CODECS
from ..version import AGENT
from .logs import everyone
from .recording_format import (
    MAGIC,
    Batch,
    Begun,
    Closed,
    Full,
    LinkOpened,
    Lost,
    Record,
    Sender,
    Unread,
    block,
    end_of_blocks,
)
from .redaction import LinkRedaction, Redaction

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["LinkRecorder", "Recording", "checked_recording"]

FORMAT = 1

# Seconds after which messages are written, and bytes of waiting messages at which they are written
# earlier.
INTERVAL = 1.0
BLOCK = 256 * 1024

# Seconds to wait for the disk, in the few calls that do wait.
PATIENCE = 10.0

# Bytes that a waiting message counts beyond its own.
OVERHEAD = 200

# Bytes of the smallest bound.
LEAST = 64 * 1024

Entry = tuple[int, "LinkRecorder", Sender | None, bytes | None, int, str]


class Recording:
    """A file to which the frames of connections are written; `connect(…, record=Recording(…))`.

    Each frame is in the file, with its time and its sender, within a second. After `kill -9` the
    file is readable up to its last complete block. It never holds credentials (`auth` and `token`
    of hellos, and `auth` frames). `wsrpc replay` shows it; docs/recording.md describes the format.

    One recording may serve any number of connections and servers of a process. If the file is a
    recording already, it is continued.

    Args:
        path: The file, by convention `….wsrec`.
        max_bytes: Bytes that all its files together take up on the disk at most.
        when_full: "stop" ends the recording at this bound. "rotate" moves the file to `….wsrec.1`,
            in place of an older one, and goes on in a new file, so that the newest half of
            `max_bytes` is kept.
        values: Whether values are recorded; False leaves out arguments, metadata, results, items
            and error data.
        mask: The fields to mask, by pattern of a method's full name, such as `{"Account.*":
            ["password", "user.card"]}`. They are masked at any depth in all values of these
            methods, also of their uploads and callbacks, and in metadata. The field "*" leaves out
            all values of the methods. A value that travels in chunks is left out whole if any field
            of its method is masked.
        max_pending: Bytes of messages that may wait for the disk. Messages beyond them are not
            recorded, and the file tells their number.

    Raises:
        ValueError: The file exists and is no recording, or an option has an invalid value; the
            caller's fault.
        OSError: The file cannot be written, or another recording writes it.

    Attributes:
        path: The file.
        failure: The reason why the recording has ended; None while it goes on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 256 * 1024 * 1024,
        when_full: Literal["stop", "rotate"] = "stop",
        values: bool = True,
        mask: Mapping[str, Sequence[str]] | None = None,
        max_pending: int = 16 * 1024 * 1024,
    ) -> None:
        checked_count("max_bytes", max_bytes, "byte")
        checked_count("max_pending", max_pending, "byte")
        if max_bytes < LEAST:
            raise ValueError(f"max_bytes must be at least {LEAST} bytes, not {max_bytes}")
        self.path = Path(path)
        self.failure: Exception | None = None
        self._rotates = one_of("when_full", when_full, ("stop", "rotate")) == "rotate"
        self._room = max_bytes // 2 if self._rotates else max_bytes
        # Several blocks fit, so that the file comes close to the bound.
        self._block = min(BLOCK, self._room // 8)
        self._most_pending = max_pending
        self._rules = Redaction(checked_bool("values", values), _checked_mask(mask or {}))
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._queue: list[Entry] = []
        self._pending = 0
        self._lost = 0
        self._hurry = False
        self._writing = False
        self._number = 0
        self._links: dict[int, LinkRecorder] = {}
        self._shown: dict[int, LinkRecorder] = {}
        self._started = time.time()
        self._zero = time.monotonic_ns()
        self._id = secrets.token_hex(8)
        self._part = 0
        self._file: IO[bytes] | None = None
        self._size = 0
        # Opened now, so that an error reaches the code that asks for the recording.
        self._open()
        self._close()

    def link(
        self, codec: str, at: Literal["C", "S", "proxy"], remote: str, path: str
    ) -> LinkRecorder:
        """Record one more connection, until its recorder is told that it is over.

        Args:
            codec: "json" or "msgpack".
            at: The side at which it is recorded.
            remote: The peer's address.
            path: The path of the request; its query is left out, since credentials may be in it.
        """
        with self._changed:
            self._number += 1
            opened = LinkOpened(
                self._now(), self._number, codec, at, remote, path.partition("?")[0]
            )
            link = LinkRecorder(self, opened, LinkRedaction(CODECS[codec], self._rules))
            self._links[self._number] = link
            if self._thread is None and self.failure is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"recording {self.path.name}", daemon=True
                )
                self._thread.start()
        return link

    def flush(self) -> None:
        """Wait until all messages so far are in the file; ten seconds at most. It blocks."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_settled, PATIENCE)

    # ------------------------------------------------------------ for the recorders of links

    def put(
        self,
        link: LinkRecorder,
        sender: Sender | None,
        message: bytes | None,
        code: int = 0,
        reason: str = "",
    ) -> None:
        """Queue a message of a connection, or its end.

        Args:
            link: The connection's recorder.
            sender: The side that sent it; None for a broken connection.
            message: The message; None for the end.
            code: The close code.
            reason: The reason in the close frame.
        """
        size = len(message or b"") + OVERHEAD
        with self._changed:
            if self.failure is not None:
                return
            if self._pending + size > self._most_pending and message is not None:
                self._lost += 1
                return
            self._queue.append((self._now(), link, sender, message, code, reason))
            self._pending += size
            if self._pending >= BLOCK:
                self._changed.notify_all()

    def over(self, link: LinkRecorder) -> None:
        """Forget a connection that is over.

        Args:
            link: The connection's recorder.
        """
        with self._changed:
            self._links.pop(link.opened.link, None)
            if not self._links:
                self._changed.notify_all()

    # ------------------------------------------------------------ the thread

    def _now(self) -> int:
        return (time.monotonic_ns() - self._zero) // 1000

    def _is_settled(self) -> bool:
        if self._thread is None:
            return True
        return bool(self._links) and not self._hurry and not self._writing

    def _is_urgent(self) -> bool:
        return self._hurry or self._pending >= BLOCK or not self._links

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_urgent, INTERVAL)
                queue, self._queue = self._queue, []
                lost, self._lost = self._lost, 0
                self._hurry = False
                self._writing = True
                ends = not queue and not lost and not self._links
                if ends or self.failure is not None:
                    self._close()
                    self._thread = None
                    self._writing = False
                    self._changed.notify_all()
                    return
            try:
                self._write(queue, lost)
            except Exception as error:  # noqa: BLE001  (the connections go on without it)
                self._stop(error)
            with self._changed:
                self._pending -= sum(len(entry[3] or b"") + OVERHEAD for entry in queue)
                self._writing = False
                self._changed.notify_all()

    def _write(self, queue: Sequence[Entry], lost: int) -> None:
        if not queue and not lost:
            return
        if self._file is None:
            self._open()
        records: list[Record] = []
        held = 0
        for when, link, sender, message, code, reason in queue:
            number = link.opened.link
            if number not in self._shown:
                self._shown[number] = link
                records.append(link.opened)
            if message is None:
                records.append(Closed(when, number, sender, code, reason))
                self._shown.pop(number)
                continue
            assert sender is not None
            frames = link.redaction.frames(message)
            if frames is None:
                records.append(Unread(when, number, sender, len(message)))
            else:
                records.append(Batch(when, number, sender, frames))
            held += len(message)
            if held >= self._block:
                self._append(records)
                records, held = [], 0
        if lost:
            records.append(Lost(self._now(), lost))
        self._append(records)

    def _append(self, records: list[Record]) -> None:
        """Write a block, in a new file if this one has no room for it."""
        if not records or self.failure is not None:
            return
        data = block(records)
        full = block([Full(self._now())])
        if self._size + len(data) + len(full) > self._room:
            if not self._rotates:
                self._put(full)
                raise _FullError(f"{self.path} has reached its bound of {self._room} bytes")
            self._rotate()
            data = block([*(link.opened for link in self._shown.values()), *records])
            if self._size + len(data) + len(full) > self._room:
                self._put(block([Lost(self._now(), len(records))]))
                return
        self._put(data)

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._size += len(data)

    def _rotate(self) -> None:
        self._close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._part += 1
        self._open()

    def _stop(self, error: Exception) -> None:
        with self._changed:
            self.failure = error
            self._queue.clear()
        if isinstance(error, _FullError):
            everyone.warning("the recording ends: %s", error)
        else:
            everyone.error("the recording ends, since it cannot be written", error=error)

    # ------------------------------------------------------------ the file

    def _open(self) -> None:
        """Open the file after its last whole block; begin it where there is none.

        Raises:
            ValueError: It is no recording.
            OSError: The file cannot be written, or another recording writes it.
        """
        # Unbuffered, so that the system has the bytes even if this process dies.
        file = open(self.path, "ab+", buffering=0)  # noqa: SIM115
        try:
            _lock(file, self.path)
            file.seek(0)
            begin = file.read(len(MAGIC))
            if begin and begin != MAGIC[: len(begin)]:
                raise ValueError(f"{self.path} is there already, and is no recording of wsrpc")
            if len(begin) < len(MAGIC):
                file.truncate(0)
                file.write(MAGIC)
            end = end_of_blocks(file)
            # A block that was being written when its writer died would hide those after it.
            file.truncate(end)
            file.seek(end)
        except BaseException:
            file.close()
            raise
        self._file, self._size = file, end
        if self._thread is not None:
            self._put(
                block([Begun(self._now(), FORMAT, self._id, self._part, self._started, AGENT)])
            )

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class LinkRecorder:
    """The recorder of one connection.

    Attributes:
        opened: The record of its beginning.
        redaction: Redacts its messages.
    """

    def __init__(self, recording: Recording, opened: LinkOpened, redaction: LinkRedaction) -> None:
        self.opened = opened
        self.redaction = redaction
        self._recording = recording
        self._closed = False

    def passed(self, sender: Sender, message: bytes) -> None:
        """Record a message that was sent, or came."""
        if not self._closed:
            self._recording.put(self, sender, bytes(message))

    def closed(self, sender: Sender | None, code: int, reason: str = "") -> None:
        """Record the end of the connection, closed by this side or broken; it is the last."""
        if not self._closed:
            self._closed = True
            self._recording.put(self, sender, None, code, reason)

    def over(self) -> None:
        """Stop: the connection is not used any more."""
        self.closed(None, CloseCode.CONNECTION_LOST)
        self._recording.over(self)


class _FullError(Exception):
    """The bound of the file is reached."""


def checked_recording(value: str | os.PathLike[str] | Recording | None) -> Recording | None:
    """The value of `record=` as a recording.

    Raises:
        ValueError: It is neither a path nor a recording, or the file is no recording; the caller's
            fault.
        OSError: The file cannot be written.
    """
    if value is None or isinstance(value, Recording):
        return value
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return Recording(value)
    raise ValueError(f"record must be a path or a wsrpc.Recording, not {value!r}")


def _checked_mask(mask: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    for pattern, fields in mask.items():
        if isinstance(fields, str) or not all(isinstance(one, str) for one in fields):
            raise ValueError(
                f"mask takes lists of fields by method, such as {{{pattern!r}: ['password']}}, "
                f"not {fields!r}"
            )
    return mask


def _lock(file: IO[Any], path: Path) -> None:
    """Lock the file against other writers, until it is closed or its owner is dead."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            f"another recording is writing {path}; give each its own file, or pass one "
            "wsrpc.Recording to all connections of a process"
        ) from None
