"""A link without a socket: two queues in one process, with faults on demand."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import anyio
from msgspec import Raw

from ..close_codes import CloseCode
from ..interfaces import Handshake
from ..protocol.codec import SUBPROTOCOLS
from .base import LinkClosed
from .faults import Faults, Side

__all__ = ["MemoryLink", "memory_link_pair"]

# Messages. As many as `websockets` holds before it pauses the socket.
QUEUE = 16


class MemoryLink:
    """One end of a pair made by `memory_link_pair`."""

    def __init__(self, subprotocol: str, side: Side, faults: Faults | None) -> None:
        self.subprotocol: str | None = subprotocol
        self.handshake = Handshake(remote="memory")
        self._codec = SUBPROTOCOLS[subprotocol]
        self._side: Side = side
        self._faults = faults
        # The messages on their way to this end, each with the time at which it is due. If the other
        # end has closed, the goodbye is the last.
        self._queue: deque[tuple[float, bytes | LinkClosed]] = deque()
        self._arrived = anyio.Event()
        self._taken = anyio.Event()
        self._closed: LinkClosed | None = None
        self._peer: MemoryLink

    @property
    def closed(self) -> bool:
        """Whether no message can be sent any more."""
        return self._closed is not None

    @property
    def under_way(self) -> int:
        """Messages that are yet to arrive, of both directions; the goodbye counts as one."""
        if self.closed and self._peer.closed:
            return 0
        return len(self._queue) + len(self._peer._queue)

    async def send(self, data: bytes) -> None:
        peer = self._peer
        while self._closed is None and len(peer._queue) >= QUEUE:
            peer._taken = anyio.Event()
            await peer._taken.wait()
        self._raise_if_closed()
        self._put(data)

    async def receive(self) -> bytes:
        while True:
            wait = self._wait()
            if wait <= 0:
                data = self._take()
                if data is not None:
                    return data
            else:
                self._raise_if_closed()
                self._arrived = anyio.Event()
                with anyio.move_on_after(wait):
                    await self._arrived.wait()

    async def close(self, code: int, reason: str = "") -> None:
        if self._closed is None:
            self._closed = LinkClosed(code, reason)
            self._put(LinkClosed(code, reason))
            self.wake()

    def abort(self, code: int = CloseCode.CONNECTION_LOST, reason: str = "") -> None:
        """Close without waiting; queued messages can still be received."""
        for end in (self, self._peer):
            if end._closed is None:
                end._closed = LinkClosed(code, reason)
            end.wake()

    def cut(self) -> None:
        """Lose the connection, and with it all messages that have not arrived."""
        if self._faults is not None and self._closed is None:
            self._faults.cuts += 1
        for end in (self, self._peer):
            end._queue.clear()
        self.abort()

    def wake(self) -> None:
        """Let waiting tasks look again."""
        self._arrived.set()
        self._peer._taken.set()

    def _raise_if_closed(self) -> None:
        if self._closed is not None:
            raise LinkClosed(self._closed.code, self._closed.reason)

    def _put(self, what: bytes | LinkClosed) -> None:
        delay = 0.0 if self._faults is None else self._faults.delays[self._side]
        self._peer._queue.append((anyio.current_time() + delay, what))
        self._peer._arrived.set()

    def _wait(self) -> float:
        """Seconds until a message can be taken; infinity where that is unknown."""
        if not self._queue or (self._faults and self._peer._side in self._faults.stalled):
            return math.inf
        return self._queue[0][0] - anyio.current_time()

    def _take(self) -> bytes | None:
        """The part of the next message that arrives; None if a fault comes before its first frame.

        Raises:
            LinkClosed: The other end has closed.
        """
        due, message = self._queue.popleft()
        self._taken.set()
        if isinstance(message, LinkClosed):
            self._closed = self._closed or message
            self.wake()
            raise LinkClosed(message.code, message.reason)
        if self._faults is None:
            return message
        frames = self._codec.split(message)
        names = [self._codec.load(self._codec.split_array(frame)[0]) for frame in frames]
        arrive, action = self._faults.admit(self._peer._side, names)
        if action is None:
            return message
        if action == "cut":
            self.cut()
        elif arrive < len(frames):
            self._queue.appendleft((due, self._joined(frames[arrive:])))
        return self._joined(frames[:arrive]) if arrive else None

    def _joined(self, frames: Sequence[Raw]) -> bytes:
        return self._codec.join([bytes(frame) for frame in frames])


def memory_link_pair(
    subprotocol: str, faults: Faults | None = None
) -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one connection in memory: the accepting side's, and the connecting side's."""
    accepting = MemoryLink(subprotocol, "accepting", faults)
    connecting = MemoryLink(subprotocol, "connecting", faults)
    accepting._peer, connecting._peer = connecting, accepting
    return accepting, connecting
