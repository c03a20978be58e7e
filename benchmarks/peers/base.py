"""What a peer's module offers: ``serve`` for the server process, ``connect`` for the client's."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Client(Protocol):
    """One connection to the peer's server. A point is whatever the peer's user would hold."""

    def point(self, number: int) -> Any:
        """The small model number ``number``, equal to the ``number``-th of `items`."""

    async def echo(self, point: Any) -> Any:
        """Call: a point in, an equal one out."""

    def items(self, n: int) -> AsyncIterator[Any]:
        """Stream the points 0 to ``n`` - 1 from the server."""

    async def upload(self, items: AsyncIterator[Any]) -> int:
        """Stream points to the server, which returns how many it got."""

    async def text(self, value: str) -> str:
        """Call: a text in, the same out."""


class Peer(Protocol):
    """The two functions of a peer's module."""

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serve on a free port of 127.0.0.1, tell ``ready`` the address, and run until cancelled."""

    def connect(self, address: str) -> AbstractAsyncContextManager[Client]:
        """Open one connection to ``address``, closed when the context is left."""
