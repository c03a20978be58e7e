"""The interface of a peer's module: ``serve`` for the server process, ``connect`` for the client's."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Client(Protocol):
    """One connection to the peer's server. A point has the form in which the peer's users hold it.

    A peer that has no way to do one of these leaves it out, and with it the works that need it;
    `point` and `echo` are compulsory.
    """

    holds_session: bool
    """True, and absent otherwise: the server keeps something for each connection while it idles."""

    def point(self, number: int) -> Any:
        """The small model number ``number``, equal to the ``number``-th of `items`."""

    async def echo(self, point: Any) -> Any:
        """Call: a point in, an equal one out."""

    def items(self, n: int) -> AsyncIterator[Any]:
        """Stream the points 0 to ``n`` - 1 from the server."""

    def yielding(self, n: int) -> AsyncIterator[Any]:
        """The same from a generator that lets the server's event loop run before each item."""

    async def upload(self, items: AsyncIterator[Any]) -> int:
        """Stream points to the server, which returns how many it got."""

    async def text(self, value: str) -> str:
        """Call: a text in, the same out."""

    async def blob(self, value: bytes) -> bytes:
        """Call: bytes in, the same out, in a form that has bytes (no base64)."""


class RoomyClient(Client, Protocol):
    """Work that only wsrpc is asked to do, for figures that compare it with itself."""

    def unvalidated(self, n: int) -> AsyncIterator[dict[str, Any]]:
        """As `items`, not validated on arrival: dicts."""

    async def gated(self, n: int) -> AsyncIterator[Any]:
        """Stream one point at once, and ``n`` more when `release` is called."""

    async def release(self) -> None:
        """Let all gated streams that are open go on."""

    async def small(self, point: Any) -> Any:
        """As `echo`, on the connection that `sink` and `source` use."""

    async def sink(self, value: bytes) -> int:
        """Call: bytes in, their number out."""

    async def source(self, n: int) -> bytes:
        """Call: so many bytes out."""


class Peer(Protocol):
    """The two functions of a peer's module.

    A peer on another event loop than asyncio's own has `new_event_loop` besides, which makes it.
    """

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serve on a free port of 127.0.0.1, tell ``ready`` the address, and run until cancelled."""

    def connect(self, address: str) -> AbstractAsyncContextManager[Client]:
        """Open one connection to ``address``, closed when the context is left."""


class Program(Protocol):
    """The module of a peer that is not written in Python: it names a program to run."""

    def command(self, role: str, *address: str) -> list[str]:
        """The program and its arguments, which speaks as `benchmarks.peers.__main__` does.

        Raises:
            ImportError: Something that it needs is not installed.
        """
