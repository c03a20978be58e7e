"""A link without a socket: two queues in one process."""

from __future__ import annotations

from collections import deque

import anyio

from .base import Handshake, LinkClosed

__all__ = ["MemoryLink", "memory_link_pair"]

# Messages. As many as `websockets` holds before it pauses the socket.
QUEUE = 16


class MemoryLink:
    """One end of a pair made by `memory_link_pair`."""

    def __init__(self, subprotocol: str) -> None:
        self.subprotocol: str | None = subprotocol
        self.handshake = Handshake(remote="memory")
        self._queue: deque[bytes] = deque()
        self._arrived = anyio.Event()
        self._taken = anyio.Event()
        self._closed: LinkClosed | None = None
        self._peer: MemoryLink

    async def send(self, data: bytes) -> None:
        peer = self._peer
        while self._closed is None and len(peer._queue) >= QUEUE:
            peer._taken = anyio.Event()
            await peer._taken.wait()
        if self._closed is not None:
            raise LinkClosed(self._closed.code, self._closed.reason)
        peer._queue.append(data)
        peer._arrived.set()

    async def receive(self) -> bytes:
        while not self._queue:
            if self._closed is not None:
                raise LinkClosed(self._closed.code, self._closed.reason)
            self._arrived = anyio.Event()
            await self._arrived.wait()
        data = self._queue.popleft()
        self._taken.set()
        return data

    async def close(self, code: int, reason: str = "") -> None:
        self.abort(code, reason)

    def abort(self, code: int = 1006, reason: str = "") -> None:
        """Close without waiting; what is queued can still be received."""
        for end in (self, self._peer):
            if end._closed is None:
                end._closed = LinkClosed(code, reason)
            end._arrived.set()
            end._taken.set()


def memory_link_pair(subprotocol: str) -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one connection in memory."""
    left, right = MemoryLink(subprotocol), MemoryLink(subprotocol)
    left._peer, right._peer = right, left
    return left, right
