"""rpyc: its threaded server, and its client driven by the event loop.

A point is a tuple, since rpyc hands over references to everything else, and looking into those
would be a call each. A stream is a generator that the client reads by the library's own handler for
iterators, in chunks that grow to 1,000 items as in its `buffiter`. The event loop watches the
connection and lets it read, which spares a thread: faster than its blocking calls in threads, and
the only way to have many under way. Its generators cannot yield to an event loop, and its uploads
would have to be synchronous, so that there are none. Compression is off.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import rpyc
from rpyc.core import consts
from rpyc.core.async_ import AsyncResult
from rpyc.core.channel import Channel
from rpyc.core.netref import asyncreq
from rpyc.core.stream import SocketStream
from rpyc.utils.server import ThreadedServer

from benchmarks import data

Channel.COMPRESSION_LEVEL = 0

_FIRST_CHUNK, _MAX_CHUNK = 10, 1_000


def _point(number: int) -> tuple[Any, ...]:
    return tuple(data.point(number).values())


class Service(rpyc.Service):
    """The methods of the server."""

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_items(self, n: int) -> Iterator[tuple[Any, ...]]:
        return map(_point, range(n))


def _without_delay(connection: socket.socket) -> tuple[socket.socket, None]:
    """Set TCP_NODELAY, as the client can by an option; of the server only this hook sees the socket."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection, None


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    server = ThreadedServer(Service, hostname="127.0.0.1", port=0, authenticator=_without_delay)
    serving = asyncio.create_task(asyncio.to_thread(server.start))
    ready(f"{server.host}:{server.port}")
    try:
        await asyncio.shield(serving)
    finally:
        server.close()


class RpycClient:
    """See `base.Client`. Points are tuples."""

    holds_session = True

    def __init__(self, connection: Any) -> None:
        self._echo = rpyc.async_(connection.root.echo)
        self._items = rpyc.async_(connection.root.items)

    def point(self, number: int) -> tuple[Any, ...]:
        return _point(number)

    async def echo(self, point: tuple[Any, ...]) -> Any:
        return await _answer(self._echo(point))

    async def items(self, n: int) -> AsyncIterator[tuple[Any, ...]]:
        iterator = await _answer(self._items(n))
        chunk = _FIRST_CHUNK
        while points := await _answer(asyncreq(iterator, consts.HANDLE_BUFFITER, chunk)):
            for point in points:
                yield point
            chunk = min(2 * chunk, _MAX_CHUNK)

    async def text(self, value: str) -> str:
        echoed: str = await _answer(self._echo(value))
        return echoed

    async def blob(self, value: bytes) -> bytes:
        echoed: bytes = await _answer(self._echo(value))
        return echoed


async def _answer(result: AsyncResult) -> Any:
    future = asyncio.get_running_loop().create_future()
    result.add_callback(lambda _: future.set_result(None))
    await future
    return result.value


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[RpycClient]:
    """See `base.Peer`."""
    host, port = address.split(":")
    stream = SocketStream.connect(host, int(port), nodelay=True)
    connection = rpyc.connect_stream(stream)
    client = RpycClient(connection)
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), connection.poll_all)
    try:
        yield client
    finally:
        loop.remove_reader(connection.fileno())
        connection.close()
