"""Additions to a server, made before it listens: code around sessions, and a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from ..interfaces import Session, StateChange
from ..protocol.hello import Opening
from ..transport.base import Link

__all__ = ["Extension", "OnSession"]

OnSession: TypeAlias = Callable[[Session], Awaitable[None]]
"""An async function that is called with a session that has begun, or ended."""


class Extension(Protocol):
    """The additions of a cluster to the server of one of its nodes.

    Attributes:
        node: The node's id. Ids of sessions begin with it and "-", resume tokens with it and ".".
    """

    @property
    def node(self) -> str: ...
    @property
    def controllers(self) -> Sequence[object]:
        """The controllers that the server exposes for it, under names that begin with `wsrpc.`."""
        ...

    def changed(self, session: Session, change: StateChange) -> None:
        """A session has begun, lost its connection, come back or ended; must not block."""

    def observed(self) -> None:
        """The server has observers now; it may have had none before."""

    async def draining(self) -> None:
        """Tell the other nodes that this one is about to go, and takes no new sessions or calls."""

    def is_elsewhere(self, token: str) -> bool:
        """Whether this resume token names another node."""
        ...

    async def forward(self, link: Link, opening: Opening, answered: Callable[[], None]) -> None:
        """Serve a link at the node that has its session, to the end of the link.

        Args:
            link: The link.
            opening: Its first message, which is not verified.
            answered: Called when the other node has answered that message.

        Raises:
            ProtocolError: The link is to be refused.
        """
        ...
