"""A link whose messages are recorded. Links that are not recorded cost nothing for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, Protocol

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..protocol.codec import SUBPROTOCOLS
from ..telemetry.recording import Recording
from ..telemetry.recording_format import Sender
from .base import DirectLink, Link, LinkClosed, is_direct

__all__ = [
    "RecordedDirectLink",
    "RecordedLink",
    "Recorder",
    "over",
    "recorded",
    "recorded_opening",
    "told_to",
]


class Recorder(Protocol):
    """The object that is told of the messages of one link."""

    def passed(self, sender: Sender, message: bytes) -> None:
        """A message was sent, or came."""

    def closed(self, sender: Sender | None, code: int, reason: str = "") -> None:
        """The link was closed by a side, or broke; it may be told more than once."""

    def over(self) -> None:
        """The link is not used any more."""


class RecordedLink:
    """A link that gives its messages to a recorder.

    Args:
        link: The link itself.
        recorder: The recorder.
        side: The side to which this end belongs.
    """

    def __init__(self, link: Link, recorder: Recorder, side: Literal["C", "S"]) -> None:
        self.subprotocol = link.subprotocol
        self.handshake = link.handshake
        self._link = link
        self._recorder = recorder
        self._own: Sender = side
        self._peer: Sender = "S" if side == "C" else "C"

    async def send(self, data: bytes) -> None:
        # It is told before the write, so that no answer is recorded ahead of the message.
        self._recorder.passed(self._own, data)
        await self._link.send(data)

    async def receive(self) -> bytes:
        try:
            data = await self._link.receive()
        except LinkClosed as gone:
            self._lost(gone)
            raise
        self._recorder.passed(self._peer, data)
        return data

    async def close(self, code: int, reason: str = "") -> None:
        self._recorder.closed(self._own, code, reason)
        await self._link.close(code, reason)

    def abort(self) -> None:
        self._recorder.closed(None, CloseCode.CONNECTION_LOST)
        self._link.abort()

    def over(self) -> None:
        """Stop recording: the link is not used any more."""
        self._recorder.over()

    def _lost(self, error: Exception) -> None:
        if isinstance(error, LinkClosed):
            broke = error.code == CloseCode.CONNECTION_LOST
            self._recorder.closed(None if broke else self._peer, error.code, error.reason)
        elif isinstance(error, ProtocolError):
            self._recorder.closed(self._own, error.close_code, error.reason)


class RecordedDirectLink(RecordedLink):
    """A recorded link with callbacks."""

    def __init__(self, link: DirectLink, recorder: Recorder, side: Literal["C", "S"]) -> None:
        super().__init__(link, recorder, side)
        self._direct = link

    def attach(
        self,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        def came(data: bytes) -> None:
            self._recorder.passed(self._peer, data)
            on_message(data)

        def lost(error: Exception) -> None:
            self._lost(error)
            on_lost(error)

        self._direct.attach(came, lost, on_drained)

    def send_nowait(self, data: bytes) -> bool:
        self._recorder.passed(self._own, data)
        return self._direct.send_nowait(data)

    def pause(self) -> None:
        self._direct.pause()

    def resume(self) -> None:
        self._direct.resume()

    @property
    def unsent(self) -> int:
        return self._direct.unsent


def recorded(link: Link, recording: Recording, side: Literal["C", "S"]) -> Link:
    """A link that is recorded until `over` is called with it.

    Args:
        link: The link.
        recording: The recording.
        side: The side to which this end belongs.
    """
    if link.subprotocol not in SUBPROTOCOLS:
        return link
    handshake = link.handshake
    codec = SUBPROTOCOLS[link.subprotocol].name
    return told_to(link, recording.link(codec, side, handshake.remote, handshake.path), side)


def told_to(link: Link, recorder: Recorder, side: Literal["C", "S"]) -> Link:
    """The link, whose messages a recorder is told of.

    Args:
        link: The link.
        recorder: The object that is told of them.
        side: The side to which this end belongs.
    """
    if is_direct(link):
        return RecordedDirectLink(link, recorder, side)
    return RecordedLink(link, recorder, side)


def over(link: Link) -> None:
    """Stop recording a link that is not used any more."""
    if isinstance(link, RecordedLink):
        link.over()


@asynccontextmanager
async def recorded_opening(
    opening: AbstractAsyncContextManager[Link], recording: Recording
) -> AsyncIterator[Link]:
    """A link that is about to be opened by the connecting side, recorded."""
    async with opening as link:
        found = recorded(link, recording, "C")
        try:
            yield found
        finally:
            over(found)
