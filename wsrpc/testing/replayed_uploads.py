"""The uploads of a recording that is replayed: the server's present credit paces them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from ..protocol.codec import Codec

__all__ = ["ReplayedUploads"]


class _Upload:
    """One upload, with its recorded frames that cannot be sent yet."""

    def __init__(self, id: int, call: int, credit: int) -> None:
        self.call = call
        # Items with the fields after them, or the frame that ended the upload.
        self.waiting: deque[tuple[list[Raw], list[Any]] | bytes] = deque()
        self._id = id
        self._balance = credit
        self._cancelled = False

    def grant(self, credit: int) -> None:
        self._balance += credit

    def cancel(self) -> None:
        """Note that no more credit comes; only the upload's end is expected."""
        self._cancelled = True
        self.waiting = deque(one for one in self.waiting if isinstance(one, bytes))

    def due(self, codec: Codec) -> list[bytes]:
        """The frames that may be sent now, in their order."""
        frames: list[bytes] = []
        while self.waiting:
            first = self.waiting.popleft()
            if isinstance(first, bytes):
                frames.append(first)
                continue
            items, rest = first
            now, later = items[: self._balance], items[self._balance :]
            if now and not self._cancelled:
                frames.append(codec.dump(["message", self._id, now, *rest]))
                self._balance -= len(now)
            if later and not self._cancelled:
                self.waiting.appendleft((later, rest))
                break
        return frames


class ReplayedUploads:
    """All uploads of a session that is replayed.

    A server may grant credit in other portions than in the recording. So items wait here while
    the frames after them, on other ids, go out: a server that gives each item back needs credit
    for its own stream before it grants more for the upload.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._open: dict[int, _Upload] = {}

    def __contains__(self, id: int) -> bool:
        return id in self._open

    @property
    def waiting(self) -> bool:
        """Whether any frame waits for credit."""
        return any(upload.waiting for upload in self._open.values())

    def begin(self, call: int, uploads: Mapping[str, int], window: int) -> None:
        """Add the uploads of a call, each with its first credit."""
        for id in uploads.values():
            self._open[id] = _Upload(id, call, window)

    def grant_all(self, window: int) -> None:
        """Add the first window, which the server announced after the calls had been made."""
        for upload in self._open.values():
            upload.grant(window)

    def take(self, frame: list[Any]) -> None:
        """Take credit and cancels from a frame of the server."""
        name = frame[0]
        if name == "credit" and frame[1] in self._open:
            self._open[frame[1]].grant(frame[2])
        elif name == "cancel" and frame[1] in self._open:
            self._open[frame[1]].cancel()

    def end_of_call(self, call: int) -> None:
        """Drop the uploads of a call that the server has answered."""
        for id in [id for id, upload in self._open.items() if upload.call == call]:
            del self._open[id]

    def add(self, id: int, items: list[Raw], rest: list[Any]) -> None:
        """Add items that the recorded client sent, and the fields after them."""
        self._open[id].waiting.append((items, rest))

    def finish(self, id: int, frame: bytes) -> None:
        """Add the frame with which the recorded client ended an upload."""
        self._open[id].waiting.append(frame)

    def due(self) -> list[bytes]:
        """The frames that may be sent now, those of an upload in their order."""
        return [frame for upload in self._open.values() for frame in upload.due(self._codec)]
