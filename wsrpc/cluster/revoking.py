"""Principals are revoked on all nodes, also on those that could not be reached at first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ..errors import RpcError
from .members import Members, Peer

__all__ = ["Revoking"]

# Seconds between two attempts at a node.
PAUSE = 0.2

# Principals that are yet to be revoked at one node.
MAX_OWED = 1000


class Revoking:
    """Ends the sessions of principals on the other nodes.

    Args:
        members: The other nodes.
        at: Ends the sessions of a principal, by its key, on one node; returns their number.
        spawn: Runs a function in a task of this node.

    Attributes:
        closed: Whether this node is going.
    """

    def __init__(
        self,
        members: Members,
        at: Callable[[str, str], Awaitable[int]],
        spawn: Callable[..., Any],
    ) -> None:
        self.closed = False
        self._members = members
        self._at = at
        self._spawn = spawn
        # The keys of principals by the node that has yet to be told.
        self._owed: dict[str, dict[str, None]] = {}

    async def revoke(self, key: str) -> tuple[int, list[str]]:
        """Revoke on all other nodes; returns the sessions ended, and the nodes not reached.

        It is repeated at those, and at nodes that count as dead, when they are there again: they may
        only have been cut off.
        """
        ended = 0
        missed: list[str] = []

        async def tell(peer: Peer) -> None:
            nonlocal ended
            try:
                ended += await self._at(peer.id, key)
            except RpcError:
                missed.append(peer.id)
                self._owe(peer.id, key)
                self._spawn(self.repay, peer)

        async with anyio.create_task_group() as group:
            for peer in list(self._members.peers.values()):
                if not peer.gone:
                    group.start_soon(tell, peer)
                elif peer.state == "dead":
                    self._owe(peer.id, key)
        return ended, missed

    def _owe(self, node: str, key: str) -> None:
        owed = self._owed.setdefault(node, {})
        owed[key] = None
        if len(owed) > MAX_OWED:
            del owed[next(iter(owed))]

    def forget(self, node: str) -> None:
        """Forget a node that has left."""
        self._owed.pop(node, None)

    async def repay(self, peer: Peer) -> None:
        """Revoke what could not be revoked at a node, as soon as it can be reached."""
        while not (peer.gone or self.closed) and (owed := self._owed.get(peer.id)):
            key = next(iter(owed))
            try:
                await self._at(peer.id, key)
            except RpcError:
                await anyio.sleep(PAUSE)
                continue
            owed.pop(key, None)
            if not owed:
                self._owed.pop(peer.id, None)
