"""The interface of a message system, as a cluster needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, runtime_checkable

__all__ = ["Bus", "DirectBus", "Handler", "Off"]

Handler: TypeAlias = Callable[[str, bytes, str], None]
"""Takes a message's subject, bytes and reply subject (or ""); must not block or raise."""

Off: TypeAlias = Callable[[], Awaitable[None]]
"""Ends a subscription."""


class Bus(Protocol):
    """A message system: it may lose messages, but keeps the order of each sender's messages.

    Attributes:
        max_payload: Bytes. The largest message.
        connected: Whether messages go out now.
        generation: The number of connections so far; with each new one messages may be lost.
        stores: Whether topics over it are stored in JetStream.
        dropped: Messages that this process dropped, since they came faster than it took them.
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
        """Connect, and wait until there is a connection.

        Args:
            on_up: Called when the connection is back.
            on_down: Called when it is lost.

        Raises:
            ClusterConfigError: Its configuration can never work; the operator's fault.
        """

    async def close(self) -> None:
        """Disconnect, after all published messages have gone."""

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message; waits while too many bytes wait for the socket.

        Raises:
            BusDown: There is no connection; the message was not sent.
        """

    async def subscribe(self, subject: str, handler: Handler) -> Off:
        """Take the messages of a subject, or of all subjects with this beginning if it ends in `>`.

        Raises:
            BusDown: There is no connection.
        """
        ...

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        """Send a message and wait for an answer.

        Raises:
            NoResponders: No subscriber listens to that subject.
            BusTimeout: No answer came in time.
            BusDown: There is no connection.
        """
        ...


@runtime_checkable
class DirectBus(Protocol):
    """The part of a bus on the application's event loop that sends a message without a task."""

    def publish_nowait(self, subject: str, data: bytes) -> bool:
        """Send a message at once; returns False, and sends nothing, where it would have to wait.

        Raises:
            BusDown: There is no connection; the message was not sent.
        """
        ...
