"""Accepting by `websockets`."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar

import websockets.asyncio.server as asyncio_server
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from ... import runtime as runtimes
from ...interfaces import Handshake
from ...limits import Limits
from ..base import FORBIDDEN_ORIGIN, Bound, Doorkeeper, Handle, HttpAnswer
from ..listening import (
    BACKLOG,
    all_served,
    bound_url,
    hang_up,
    headers_of,
    host_of,
    listening_sockets,
    naming,
    refused,
    removed_again,
    stop_reading,
    unix_listener,
)
from ..request_bodies import HeadFilter
from . import direct
from .link import WRITE_AHEAD, Watch, bounded, link_over, on_asyncio, options_of, socket_of

__all__ = ["listen"]

P = TypeVar("P")

# Bytes of a request, its headers included, that the accepting side takes.
MAX_HEAD = 32 * 1024


class _AsyncioServer(Watch, asyncio_server.ServerConnection):
    def say(self) -> None:
        self.send_data()


class _Stranger:
    """A mixin for accepted connections that bounds the memory of a peer's request.

    The library bounds the lines and their number, which allows a megabyte. It drops a connection
    whose request has a body, so the body is kept from it.
    """

    protocol: Any
    # Most requests have no header to hide, and then this takes no memory of a connection.
    hidden_headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._filter: HeadFilter | None = HeadFilter()
        # While there is no request, this stands in place of the class's own method.
        self.protocol.receive_data = self._receive_head

    def _receive_head(self, data: bytes) -> None:
        assert self._filter is not None
        seen = self._filter.take(data)
        if self._filter.size > MAX_HEAD:
            hang_up(socket_of(self))
        elif seen:
            type(self.protocol).receive_data(self.protocol, seen)
            if self.protocol.handshake_exc is not None:
                # This is no request, or a large one, which gets an answer. The library would wait
                # until the peer leaves.
                stop_reading(socket_of(self))

    def process_event(self, event: Any) -> None:
        if (filter := self._filter) is not None:
            self._filter = None
            if filter.hidden:
                self.hidden_headers = filter.hidden
            if filter.body == "none":
                vars(self.protocol).pop("receive_data", None)
            else:
                # The answer is an answer over HTTP, so the library never reads frames.
                self.protocol.receive_data = _drop
        super().process_event(event)  # type: ignore[misc]


def _drop(data: bytes) -> None:
    """Drop bytes of a request's body; the library ends the wait for the peer's end."""


@asynccontextmanager
async def listen(
    handle: Handle[P],
    *,
    host: str | None,
    port: int,
    path: str | None,
    subprotocols: Sequence[str],
    door: Doorkeeper[P],
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
) -> AsyncIterator[Bound]:
    """Accept connections, each handled by a task of its own; yields a `Bound`.

    Leaving stops listening and waits until every `handle` has returned.
    """
    options = options_of(limits, subprotocols)
    options["open_timeout"] = limits.hello_timeout
    options["server_header"] = None

    def look(connection: Any, request: Request) -> Response | None:
        headers = {**headers_of(request.headers.raw_items()), **connection.hidden_headers}
        local, peer = host_of(_local_of(connection)), host_of(_peer_of(connection))
        answer = door.answer(request.method, request.path, headers, local=local, peer=peer)
        if answer is None and door.forbids(headers):
            answer = FORBIDDEN_ORIGIN
        return None if answer is None else _response(answer)

    def note(connection: Any, request: Request, response: Response) -> None:
        if response.status_code != 101:
            door.answered(socket_of(connection).fileno())

    options["process_request"] = look
    options["process_response"] = note

    def run(connection: Any) -> Awaitable[None]:
        link = link_over(connection, _handshake(connection, door, ssl is not None), limits)
        return handle(link, door.opened(socket_of(connection).fileno()))

    serve = _listen_asyncio if on_asyncio() else _listen_trio
    async with serve(run, host, port, path, ssl, door, limits, options) as bound:
        with removed_again(path):
            yield bound


def _peer_of(connection: Any) -> Any:
    """The peer's address, in the form of its address family; None once it is gone."""
    try:
        return connection.remote_address
    except OSError:
        return None


def _local_of(connection: Any) -> Any:
    """The address of this machine that a connection reached."""
    try:
        return connection.local_address
    except OSError:
        return None


def _response(answer: HttpAnswer) -> Response:
    headers = Headers(answer.headers)
    headers["Connection"] = "close"
    if "Content-Length" not in headers:
        headers["Content-Length"] = str(len(answer.body))
    return Response(answer.status, HTTPStatus(answer.status).phrase, headers, answer.body)


def _certificate_of(connection: Any) -> Any:
    if on_asyncio():
        return connection.transport.get_extra_info("peercert")
    return connection.stream.getpeercert()


def _handshake(connection: Any, door: Doorkeeper[Any], tls: bool) -> Handshake:
    request = connection.request
    handshake = door.handshake(
        request.path,
        headers_of(request.headers.raw_items()),
        _peer_of(connection),
        tls=tls,
        certificate=_certificate_of(connection) if tls else None,
    )
    # Neither is read any more, and they take a tenth of an idle connection's memory. The library
    # keeps the request, and asks whether there was one.
    request.headers.clear()
    connection.response = None
    return handshake


@asynccontextmanager
async def _listen_asyncio(
    run: Callable[[Any], Awaitable[None]],
    host: str | None,
    port: int,
    path: str | None,
    ssl: ssl_module.SSLContext | None,
    door: Doorkeeper[Any],
    limits: Limits,
    options: dict[str, Any],
) -> AsyncIterator[Bound]:
    kind = direct.DirectServer if direct.available() else _AsyncioServer
    options["create_connection"] = bounded(kind, limits, _Stranger)
    options["write_limit"] = WRITE_AHEAD
    if ssl is not None:
        options["ssl"] = ssl
        # Zero seconds are not allowed here.
        options["ssl_handshake_timeout"] = max(options["open_timeout"], 0.001)
    async with AsyncExitStack() as stack:
        sockets = await listening_sockets(door, host, port, path)
        for one in sockets:
            stack.callback(one.close)
        servers: list[Any] = []
        for one in sockets:
            serve = asyncio_server.serve(run, sock=one, **options)
            servers.append(await stack.enter_async_context(serve))

        def close() -> None:
            for server in servers:
                server.close(close_connections=False)

        try:
            yield Bound(bound_url(sockets, path, ssl is not None), partial(refused, sockets, close))
        finally:
            await runtimes.current().to_the_end(partial(all_served, sockets))


@asynccontextmanager
async def _listen_trio(
    run: Callable[[Any], Awaitable[None]],
    host: str | None,
    port: int,
    path: str | None,
    ssl: ssl_module.SSLContext | None,
    door: Doorkeeper[Any],
    limits: Limits,
    options: dict[str, Any],
) -> AsyncIterator[Bound]:
    import trio
    import websockets.trio.server as trio_server

    from .on_trio import TrioListener, TrioServer

    class WatchedServer(Watch, TrioServer):
        pass

    options["create_connection"] = bounded(WatchedServer, limits, _Stranger)
    if path is not None:
        unix = trio.socket.from_stdlib_socket(unix_listener(path))
        unix.listen(BACKLOG)
        listeners = [trio.SocketListener(unix)]
    else:
        with naming(host, port):
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    sockets = [listener.socket for listener in listeners]
    watched: list[Any] = [TrioListener(listener, door) for listener in listeners]
    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:
            await trio_server.serve(
                run, listeners=watched, ssl=ssl, task_status=task_status, **options
            )

        server = await nursery.start(serve)
        try:
            refuse = partial(nursery.start_soon, partial(server.aclose, close_connections=False))
            yield Bound(bound_url(sockets, path, ssl is not None), refuse)
        finally:
            with trio.CancelScope(shield=True):
                await server.aclose()
