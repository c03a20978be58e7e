"""What may be added to a server before it listens: code around sessions, and a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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

    def changed(self, session: Session, change: StateChange) -> None:
        """A session has begun, lost its connection, come back or ended; must not block."""

    async def forward(self, link: Link, message: bytes, opening: Opening) -> bool:
        """Serve a link elsewhere, to its end, if what it wants to resume is there.

        Args:
            link: The link.
            message: What its first message was.
            opening: The same, read.

        Returns:
            Whether it was this extension's to serve.

        Raises:
            ProtocolError: It is to be refused.
        """
        ...
