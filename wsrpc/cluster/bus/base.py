"""What a cluster needs of a message system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

__all__ = ["Bus", "Handler", "Off"]

Handler: TypeAlias = Callable[[str, bytes, str], None]
"""Takes a message: its subject, its bytes, and where to answer or ""; must not block or raise."""

Off: TypeAlias = Callable[[], Awaitable[None]]
"""Ends a subscription."""


class Bus(Protocol):
    """A message system: it may lose messages, but keeps the order of one sender's.

    Attributes:
        max_payload: Bytes. The largest message.
        connected: Whether messages go out now.
        generation: How often it has connected; after a new connection something may be lost.
        stores: Whether topics over it are stored in JetStream.
        dropped: Messages that this process let go of, since they came faster than it took them.
    """

    @property
    def max_payload(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    @property
    def generation(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def stores(self) -> bool: ...

    async def open(self, on_up: Callable[[], None], on_down: Callable[[], None]) -> None:
        """Connect, and wait until that has worked.

        Args:
            on_up: Called when the connection is back.
            on_down: Called when it is lost.

        Raises:
            ClusterConfigError: It is set up in a way that will never work.
        """

    async def close(self) -> None:
        """Disconnect; what was published has gone."""

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message; waits while too much waits for the socket.

        Raises:
            BusDown: There is no connection; it was not sent.
        """

    async def subscribe(self, subject: str, handler: Handler) -> Off:
        """Take the messages of a subject, or of all that begin so where it ends in `>`.

        Raises:
            BusDown: There is no connection.
        """
        ...

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """Send a message and wait for an answer.

        Raises:
            NoResponders: Nobody listens there.
            BusTimeout: No answer came in time.
            BusDown: There is no connection.
        """
        ...
