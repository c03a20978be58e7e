"""The exchange of directories: each node tells the others its own sessions, and follows theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

import anyio

from ..contract.decorator import method
from ..errors import RpcError
from .directory import Directory, Op, Reason
from .members import Members, Peer
from .tunnels import Tunnel

__all__ = ["Exchange", "Internal"]

# Seconds.
REFOLLOW = 0.1

# Operations of a directory in one item, and operations that may wait for a following node.
OPS = 500
MAX_OPS = 10_000


class Net(Protocol):
    """The methods of a node that its exchange needs."""

    members: Members
    junk: int

    def tunnel(self, node: str, codec: str) -> Tunnel: ...
    def revoke_key(self, key: str) -> int: ...


class Internal:
    """The methods that nodes call at each other."""

    controller_name = "ClusterNode"

    def __init__(self, net: Net, exchange: Exchange, controllers: Callable[[], list[str]]) -> None:
        self._controllers = controllers
        self._net = net
        self._exchange = exchange

    @method
    async def directory(self) -> AsyncIterator[tuple[int, bool, list[list[Any]]]]:
        """This node's sessions, and then each change: version, whether it is whole, operations."""
        # Closed here: a generator that is left to the garbage collector runs on for a while.
        async with aclosing(self._exchange.tell()) as batches:
            async for batch in batches:
                yield batch

    @method
    async def reached(self, node: str, version: int) -> None:
        """Return once this version of a node's directory is known here."""
        await self._exchange.reached(node, version)

    @method
    async def controllers(self) -> list[str]:
        """The names of the controllers that are served here."""
        return self._controllers()

    @method
    async def revoke(self, principal: str) -> int:
        """End the sessions of a principal here."""
        return self._net.revoke_key(principal)


class Exchange:
    """Sends this node's part of the directory to the others, and follows theirs.

    Args:
        node: This node's id.
        net: The way to the other nodes.
        directory: The directory, with this node's part and the others'.

    Attributes:
        version: The number of changes of this node's part.
    """

    def __init__(self, node: str, net: Net, directory: Directory) -> None:
        self.version = 1
        self._node = node
        self._net = net
        self._directory = directory
        self._followers: set[Follower] = set()
        self._known: dict[str, int] = {}
        self._progress = anyio.Event()

    def tap(self, op: Op) -> None:
        """Note an operation on this node's part."""
        self.version += 1
        for follower in self._followers:
            follower.add(self.version, op)

    async def tell(self) -> AsyncGenerator[tuple[int, bool, list[Op]], None]:
        """This node's part of the directory, and then each change."""
        follower = Follower()
        self._followers.add(follower)
        try:
            whole = True
            while True:
                if whole:
                    follower.clear()
                    ops, version = self._directory.snapshot(), self.version
                    for at in range(0, max(len(ops), 1), OPS):
                        last = at + OPS >= len(ops)
                        yield version if last else 0, at == 0, ops[at : at + OPS]
                changes = await follower.next()
                whole = changes is None
                if changes is not None:
                    yield changes[-1][0], False, [op for _, op in changes]
        finally:
            self._followers.discard(follower)

    def forget(self, node: str, reason: Reason) -> None:
        """Remove a node that is gone, and its sessions."""
        self._known.pop(node, None)
        self._directory.forget(node, reason)
        self._progressed()

    async def follow(self, peer: Peer) -> None:
        """Follow another node's part of the directory, while that node is there."""
        counter = peer.counter
        while not peer.gone and peer.counter >= counter:
            try:
                session = self._net.tunnel(peer.id, "json").session
                whole: list[Op] | None = None
                async with session.clientize(Internal, timeout=None).directory() as batches:
                    async for version, first, ops in batches:
                        if first:
                            whole = []
                        if whole is None:
                            self._apply(peer.id, ops)
                        else:
                            gathered = whole = whole + ops
                            if version:
                                self._directory.replace(peer.id, gathered)
                                whole = None
                        if version:
                            self._known[peer.id] = version
                            self._progressed()
            except RpcError:
                pass
            except ValueError:
                self._net.junk += 1
            await anyio.sleep(REFOLLOW)

    def _apply(self, node: str, ops: list[Op]) -> None:
        for op in ops:
            self._directory.apply(node, op)

    def _progressed(self) -> None:
        event, self._progress = self._progress, anyio.Event()
        event.set()

    async def reached(self, node: str, version: int) -> None:
        """Wait until this version of a node's directory is known here."""
        while self._known.get(node, -1) < version:
            await self._progress.wait()

    async def settled(self) -> None:
        """Wait until every node that is up knows this one's present version."""
        version = self.version
        async with anyio.create_task_group() as group:
            for peer in self._net.members.up():
                group.start_soon(self._settled_at, peer, version)

    async def _settled_at(self, peer: Peer, version: int) -> None:
        while not peer.gone:
            try:
                session = self._net.tunnel(peer.id, "json").session
                await session.clientize(Internal, timeout=5.0).reached(self._node, version)
                return
            except RpcError:
                await anyio.sleep(REFOLLOW)


class Follower:
    """The operations that one following node has yet to get."""

    def __init__(self) -> None:
        self._ops: deque[tuple[int, Op]] = deque()
        self._overflow = False
        self._event = anyio.Event()

    def add(self, version: int, op: Op) -> None:
        if len(self._ops) >= MAX_OPS:
            self._ops.clear()
            self._overflow = True
        if not self._overflow:
            self._ops.append((version, op))
        self._event.set()

    def clear(self) -> None:
        self._ops.clear()
        self._overflow = False

    async def next(self) -> list[tuple[int, Op]] | None:
        """The next operations, each with its version; None where too many have come."""
        while not self._ops and not self._overflow:
            self._event = anyio.Event()
            await self._event.wait()
        if self._overflow:
            return None
        return [self._ops.popleft() for _ in range(min(OPS, len(self._ops)))]
