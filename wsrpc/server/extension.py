"""Additions to a server, made before it listens: code around sessions, and a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from ..interfaces import Session, StateChange
from ..protocol.hello import Opening
from ..transport.base import Link

__all__ = ["Extension", "OnSession"]

OnSession: TypeAlias = Callable[[Session], Awaitable[None]]
"""An async function of a session that has begun, or ended."""


class Extension(Protocol):
    """What a cluster adds to the server of one of its nodes.

    Attributes:
        node: The node's id. Ids of sessions begin with it and "-", resume tokens with it and ".".
    """

    @property
    def node(self) -> str: ...
    @property
    def controllers(self) -> Sequence[object]:
        """What the server exposes for it, under names of this package's own."""
        ...

    def changed(self, session: Session, change: StateChange) -> None:
        """A session has begun, lost its connection, come back or ended; must not block."""

    async def draining(self) -> None:
        """The server is about to go: others are to give its sessions nothing new."""

    def is_elsewhere(self, token: str) -> bool:
        """Whether the session that a resume token is for is at another node, as far as it tells."""
        ...

    async def forward(self, link: Link, opening: Opening, answered: Callable[[], None]) -> None:
        """Serve a link at the node that has its session, to the end of the link.

        Args:
            link: The link.
            opening: Its first message, of which nothing is believed.
            answered: Called when the other node has answered that.

        Raises:
            ProtocolError: It is to be refused.
        """
        ...
