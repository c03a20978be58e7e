"""Accepting by picows. The rules of the opening handshake are those of `websockets` itself."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from picows import (
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from ... import runtime as runtimes
from ...limits import Limits
from ..base import Bound, Handshake
from ..opening import bound_url, remote_of, removed_again, unix_listener
from .link import PicowsLink
from .settings import UnixSocket, muted, options

if TYPE_CHECKING:
    from ..base import Link

__all__ = ["listen"]

logger = logging.getLogger("wsrpc")

NORMAL = 1000
GOING_AWAY = 1001
INTERNAL = 1011


@asynccontextmanager
async def listen(
    handle: Callable[[Link], Awaitable[None]],
    *,
    host: str | None,
    port: int,
    path: str | None,
    subprotocols: Sequence[str],
    origins: Sequence[str | None] | None,
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
) -> AsyncIterator[Bound]:
    """Accept connections, each handled by a task of its own; yields what is bound.

    Leaving stops listening and waits until every `handle` has returned.
    """
    door = _Door(handle, subprotocols, origins, limits, ssl is not None)
    server: Any = await _bound(door.judge, host, port, path, limits, ssl)
    try:
        with removed_again(path):
            await server.start_serving()
            yield Bound(bound_url(server.sockets, path, ssl is not None), server.close)
    finally:
        server.close()
        door.shut()
        await runtimes.current().to_the_end(door.empty)
        # What is left has not got as far as asking for a WebSocket.
        if hasattr(server, "abort_clients"):
            server.abort_clients()


async def _bound(
    judge: Callable[[WSUpgradeRequest], WSUpgradeResponseWithListener],
    host: str | None,
    port: int,
    path: str | None,
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
) -> asyncio.Server:
    """A server that does not accept yet, so that none is left behind by a cancellation."""
    settings = options(limits, None if ssl is None else limits.hello_timeout, path is not None)
    settings["websocket_handshake_timeout"] = limits.hello_timeout
    settings["ssl"] = ssl
    settings["start_serving"] = False
    if path is None:
        return await ws_create_server(judge, host, port, **settings)
    listener = unix_listener(path, UnixSocket)
    try:
        return await ws_create_server(judge, sock=listener, **settings)
    except BaseException:
        listener.close()
        os.unlink(path)
        raise


class _Door:
    """Who is let in, and the tasks that look after them."""

    def __init__(
        self,
        handle: Callable[[Link], Awaitable[None]],
        subprotocols: Sequence[str],
        origins: Sequence[str | None] | None,
        limits: Limits,
        tls: bool,
    ) -> None:
        self._handle = handle
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._origins: list[Origin | None] | None = None
        if origins is not None:
            self._origins = [None if one is None else Origin(one) for one in origins]
        self._limits = limits
        self._tls = tls
        self._inside: dict[PicowsLink, asyncio.Task[None]] = {}
        self._shut = False

    def judge(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        """Answer a request for a WebSocket as `websockets` does, word for word."""
        headers = Headers()
        for name, value in request.headers.items():
            headers[name] = value.encode("ascii", "surrogateescape").decode("latin-1")
        path = request.path.decode("ascii", "surrogateescape")
        rules = ServerProtocol(origins=self._origins, subprotocols=self._subprotocols, logger=muted)
        verdict = rules.accept(Request(path, headers))
        if self._shut:
            verdict = rules.reject(503, "the server is stopping")
        if verdict.status_code != 101:
            told = {name: verdict.headers[name] for name in ("Upgrade",) if name in verdict.headers}
            return WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_error_response(
                    verdict.status_code, bytes(verdict.body or b""), told
                ),
                None,
            )
        # picows looks at these again, and knows fewer ways to write them: browsers send
        # "keep-alive, Upgrade".
        request.headers["Connection"], request.headers["Upgrade"] = "Upgrade", "websocket"
        link = PicowsLink(rules.subprotocol, self._limits, self._let_in)
        link.handshake = Handshake(
            path=path,
            headers={name.lower(): value for name, value in headers.raw_items()},
            tls=self._tls,
        )
        told = {"Sec-WebSocket-Protocol": str(rules.subprotocol)}
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(told), link)

    def _let_in(self, link: PicowsLink) -> None:
        link.handshake = replace(link.handshake, remote=remote_of(link.peer_address))
        loop = asyncio.get_running_loop()
        self._inside[link] = asyncio.Task(self._look_after(link), loop=loop)

    async def _look_after(self, link: PicowsLink) -> None:
        code = NORMAL
        try:
            await self._handle(link)
        except Exception:
            logger.exception("a fault in wsrpc itself ended a connection")
            code = INTERNAL
        finally:
            link.begin_close(code)
            self._inside.pop(link)

    def shut(self) -> None:
        """Let nobody in any more, and ask those who are inside to leave."""
        self._shut = True
        for link in self._inside:
            link.begin_close(GOING_AWAY, "the server is stopping")

    async def empty(self) -> None:
        """Wait until nobody is inside."""
        while self._inside:
            await asyncio.wait(self._inside.values())
