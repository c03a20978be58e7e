"""Connections of `websockets` on trio, without three endless waits of the library.

After every read the library's reader writes its answers, under the lock that a writer holds while
the socket takes no more. When both directions are full, each end waits for the other one to read.
Here the reader leaves its answers to the writer that holds the lock, and reads on. A reader that
was paused because no task took the messages is not told when the connection is closed, so that the
server never finishes. Here it is told. And if the library fails a connection for a violation of the
peer, it waits until the peer leaves. Here it waits as long as for any closing handshake.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio
from websockets.protocol import SERVER
from websockets.trio.client import ClientConnection
from websockets.trio.connection import Connection
from websockets.trio.server import ServerConnection

from ..base import Doorkeeper
from ..listening import EXHAUSTED, FULL, SPENT

__all__ = ["TrioClient", "TrioListener", "TrioServer"]


# Answers, mostly pongs, that the reader may leave to a writer. A peer that pings more and does not
# read has to wait.
ANSWERS = 64


class _Reading(Connection):
    """A mixin for connections of either side."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._unsent: deque[bytes] = deque()
        self._reader: trio.lowlevel.Task | None = None
        self._leaving = False
        super().__init__(*args, **options)

    async def recv_events(self) -> None:
        self._reader = trio.lowlevel.current_task()
        await super().recv_events()

    async def send_data(self) -> None:
        self._unsent += self.protocol.data_to_send()
        if self.protocol.parser_exc is not None and not self.stream_closed.is_set():
            self.say()
        if (
            self.send_lock.locked()
            and trio.lowlevel.current_task() is self._reader
            and len(self._unsent) < ANSWERS
        ):
            return
        async with self.send_lock:
            while self._unsent:
                data = self._unsent.popleft()
                if data:
                    try:
                        await self.stream.send_all(data)
                    except trio.BrokenResourceError:
                        # Bytes that had arrived before are read all the same. The reader meets the
                        # end of the connection after them.
                        self._unsent.clear()
                        if not self.stream_closed.is_set():
                            self.say()
                else:
                    await self._end_output()

    def say(self) -> None:
        """Tell the peer that the connection has failed, and bound the wait until it leaves."""
        if not self._leaving:
            self._leaving = True
            self.nursery.start_soon(self._leave)

    async def _leave(self) -> None:
        try:
            with trio.move_on_after(self.close_timeout or 0):
                await self.send_data()
                await self.stream_closed.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The reader meets the same end.
            return
        if not self.stream_closed.is_set():
            await trio.aclose_forcefully(self.stream)

    async def _end_output(self) -> None:
        """Half-close where that is possible, else close, as the library does.

        The accepting side closes once both have said goodbye: nothing more will come, and the
        library would wait until the peer leaves.
        """
        protocol = self.protocol
        parted = protocol.close_rcvd is not None and protocol.close_sent is not None
        if parted and protocol.side is SERVER and isinstance(self.stream, trio.SocketStream):
            await trio.aclose_forcefully(self.stream)
        elif isinstance(self.stream, trio.abc.HalfCloseableStream):
            try:
                await self.stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        else:
            await self.stream.aclose()

    async def close_stream(self) -> None:
        await super().close_stream()
        if self.recv_flow_control is not None:
            self.resume_reading()


class TrioListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that asks the door whether there is room for a connection."""

    def __init__(self, listener: trio.SocketListener, door: Doorkeeper[Any]) -> None:
        self.socket = listener.socket
        self._listener = listener
        self._door = door

    async def accept(self) -> trio.SocketStream:
        while True:
            while not self._door.has_room():  # noqa: ASYNC110  (time alone may make room)
                await trio.sleep(FULL)
            try:
                stream = await self._listener.accept()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._door.exhausted(error)
                await trio.sleep(SPENT)
                continue
            try:
                peer = stream.socket.getpeername()
            except OSError:
                peer = None
            if self._door.arrive(stream.socket, peer):
                return stream
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        await self._listener.aclose()


class TrioClient(_Reading, ClientConnection):
    pass


class TrioServer(_Reading, ServerConnection):
    pass
