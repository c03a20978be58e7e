"""The controller that shows operators the cluster: `wsrpc nodes` and `wsrpc presence`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias

from pydantic import BaseModel

from ..context import CallContext, current
from ..contract.decorator import method
from ..errors import Code, RpcError
from .directory import Directory
from .members import NodeInfo

__all__ = ["MemberLine", "NodeLine", "Operators", "Overview"]

Operators: TypeAlias = Callable[[CallContext], bool | Awaitable[bool]]
"""Whether a caller may ask about the cluster; async or not."""

# Members in one item.
TOGETHER = 100


class NodeLine(BaseModel):
    """A node, as the asked node sees it; see `NodeInfo`."""

    id: str
    state: str
    meta: dict[str, str]
    load: int
    since: float
    here: bool


class MemberLine(BaseModel):
    """A session of the cluster; see `Member`."""

    session: str
    principal: str | None
    node: str
    groups: list[str]
    meta: dict[str, str]
    state: str
    since: float


class Host(Protocol):
    """The node that answers."""

    id: str
    directory: Directory

    def infos(self) -> dict[str, NodeInfo]: ...


class Overview:
    """Tells operators the nodes and sessions of the cluster.

    Args:
        host: The node.
        operators: Tells whether a caller may ask; None: no caller may.
    """

    controller_name = "wsrpc.cluster"

    def __init__(self, host: Host, operators: Operators | None) -> None:
        self._host = host
        self._operators = operators

    async def _check(self) -> None:
        allowed: bool | Awaitable[bool] = False
        if self._operators is not None:
            allowed = self._operators(current())
            if inspect.isawaitable(allowed):
                allowed = await allowed
        if not allowed:
            raise RpcError(
                Code.PERMISSION_DENIED,
                "this cluster tells you nothing about itself: Cluster(…, operators=…) decides about callers",
            )

    @method(idempotent=True)
    async def nodes(self) -> list[NodeLine]:
        """The nodes, as this one sees them."""
        await self._check()
        own = self._host.id
        return [
            NodeLine(
                id=one.id,
                state=one.state,
                meta=dict(one.meta),
                load=one.load,
                since=one.since,
                here=one.id == own,
            )
            for one in self._host.infos().values()
        ]

    @method
    async def presence(
        self, group: str | None = None, principal: str | None = None
    ) -> AsyncIterator[list[MemberLine]]:
        """The sessions of all nodes, a hundred at a time.

        Args:
            group: Only the members of this group.
            principal: Only the sessions of the principal with this key.
        """
        await self._check()
        entries = self._host.directory.find(group=group, principal=principal)
        for at in range(0, len(entries), TOGETHER):
            yield [
                MemberLine(
                    session=one.session,
                    principal=one.principal,
                    node=one.node,
                    groups=sorted(one.groups),
                    meta=dict(one.meta),
                    state=one.state,
                    since=one.since,
                )
                for one in (entry.member() for entry in entries[at : at + TOGETHER])
            ]
