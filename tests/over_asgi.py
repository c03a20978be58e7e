"""Any test once more, with an ASGI application between its links and its server.

The application gets the events of a WebSocket that a host would give it, made from whatever link
the test uses: memory with its faults and virtual time, or a socket. So a link arrives as before, is
cut and delayed as before, and the session runs over the link that `server.asgi()` makes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import anyio
import pytest

from wsrpc.admission.handshakes import Pending
from wsrpc.close_codes import CloseCode
from wsrpc.errors import ProtocolError
from wsrpc.protocol.codec import SUBPROTOCOLS
from wsrpc.runtime import Runtime
from wsrpc.server.acceptor import Acceptor, Service
from wsrpc.server.asgi_app import AsgiApp, Running
from wsrpc.transport.base import Link, LinkClosed

__all__ = ["AsgiAcceptor", "WebSocket", "over_asgi"]

Message = MutableMapping[str, Any]

# Events that wait for the application; hypercorn holds as many.
QUEUE = 10


class WebSocket:
    """One WebSocket of an ASGI host, made of a link.

    Args:
        link: The accepting end of the link.

    Attributes:
        scope: The scope for the application.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._text = link.subprotocol is None or SUBPROTOCOLS[link.subprotocol].text
        # The events for the application that have arrived, as in a host's queue.
        self._events: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrived = anyio.Event()
        self._taken = anyio.Event()
        self._closed: LinkClosed | None = None
        handshake = link.handshake
        path, _, query = handshake.path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "wss" if handshake.tls else "ws",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in handshake.headers.items()
            ],
            "client": (handshake.address, 0) if handshake.address else None,
            "server": ("127.0.0.1", 80),
            "subprotocols": [] if link.subprotocol is None else [link.subprotocol],
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }

    async def read(self) -> None:
        """Read ahead of the application, to the end of the link."""
        while self._closed is None:
            while len(self._events) >= QUEUE:
                self._taken = anyio.Event()
                await self._taken.wait()
            self._events.append(await self._next())
            self._arrived.set()

    async def _next(self) -> Message:
        try:
            data = await self._link.receive()
            if self._text:
                return {"type": "websocket.receive", "text": data.decode()}
            return {"type": "websocket.receive", "bytes": data}
        except LinkClosed as gone:
            self._closed = gone
        except UnicodeDecodeError:
            self._closed = await self._failed(CloseCode.INVALID_DATA, "not UTF-8")
        except ProtocolError as error:
            self._closed = await self._failed(error.close_code, error.reason)
        code, reason = self._closed.code, self._closed.reason
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def receive(self) -> Message:
        """The next event of the application."""
        while not self._events:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        if self._events[0]["type"] == "websocket.disconnect":
            return self._events[0]
        self._taken.set()
        return self._events.popleft()

    async def send(self, message: Message) -> None:
        """Take an event of the application.

        Raises:
            OSError: The WebSocket is closed.
        """
        kind = message["type"]
        if self._closed is not None:
            raise OSError("the peer is gone")
        if kind == "websocket.accept":
            assert message.get("subprotocol") == self._link.subprotocol
        elif kind == "websocket.send":
            text = message.get("text")
            try:
                await self._link.send(message["bytes"] if text is None else text.encode())
            except LinkClosed as gone:
                raise OSError("the peer is gone") from gone
        elif kind == "websocket.close":
            await self._link.close(message["code"], message["reason"])
        elif kind == "websocket.http.response.start":
            refused = message["status"] == 503
            code = CloseCode.TRY_AGAIN_LATER if refused else CloseCode.PROTOCOL_ERROR
            await self._link.close(code, f"HTTP {message['status']}")

    async def left(self, failure: Exception | None) -> None:
        """The application has returned, or failed; a host closes what it left open."""
        await self._link.close(CloseCode.NORMAL if failure is None else CloseCode.SERVER_TROUBLE)

    async def _failed(self, code: int, reason: str) -> LinkClosed:
        await self._link.close(code, reason)
        return LinkClosed(code, reason)


class AsgiAcceptor(Acceptor):
    """An acceptor that hands its links to the server's ASGI application.

    Args:
        service: The server's shared state.
        runtime: The event loop.
        start: Starts the host's task of the application's lifespan.
    """

    def __init__(
        self, service: Service, runtime: Runtime, start: Callable[[Lifespan], None]
    ) -> None:
        super().__init__(service, runtime)
        self._start = start
        self._blocks: set[Running] = set()
        self._app = AsgiApp(service, self._blocks, self._block, partial(Acceptor, service, runtime))
        self._lifespan: Lifespan | None = None

    def _block(self) -> Running:
        return Running(self._service, self._blocks, _no_signal)

    def refuse(self, code: int) -> None:
        super().refuse(code)
        for block in self._blocks:
            block.refuse()

    async def close(self) -> None:
        await super().close()
        if self._lifespan is not None:
            await self._lifespan.end()

    async def serve(self, link: Link, pending: Pending | None = None) -> None:
        if self.closing:
            await super().serve(link, pending)
            return
        if pending is not None:
            # The application finds a place for it by itself.
            self._service.pending.remove(pending)
        if self._lifespan is None:
            self._lifespan = Lifespan(self._app)
            self._start(self._lifespan)
        await self._lifespan.begun.wait()
        websocket = WebSocket(link)
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(websocket.read)
                await self._app(websocket.scope, websocket.receive, websocket.send)
                group.cancel_scope.cancel()
        except Exception as error:
            failure = error
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await websocket.left(failure)


class Lifespan:
    """The lifespan of an application at a host.

    Args:
        app: The application.

    Attributes:
        begun: Set when the application is ready for requests.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.begun = anyio.Event()
        self._asked = False
        self._end = anyio.Event()
        self._over = anyio.Event()

    async def run(self) -> None:
        try:
            await self._app({"type": "lifespan"}, self._receive, self._send)
        finally:
            self._over.set()

    async def end(self) -> None:
        """Tell the application to stop, and wait until it has."""
        self._end.set()
        await self._over.wait()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._end.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self.begun.set()


async def _no_signal() -> None:
    """No test sends the host a signal."""


@asynccontextmanager
async def over_asgi() -> AsyncIterator[list[Link]]:
    """Let the links of all servers run over ASGI; gives those that did."""
    lifespans: list[Lifespan] = []
    links: list[Link] = []
    failure: BaseException | None = None
    async with anyio.create_task_group() as group:

        def start(lifespan: Lifespan) -> None:
            lifespans.append(lifespan)
            group.start_soon(lifespan.run)

        class Here(AsgiAcceptor):
            def __init__(self, service: Service, runtime: Runtime) -> None:
                super().__init__(service, runtime, start)

            async def serve(self, link: Link, pending: Pending | None = None) -> None:
                links.append(link)
                await super().serve(link, pending)

        with (
            patch("wsrpc.server.listener.Acceptor", Here),
            patch("wsrpc.server.server.Acceptor", Here),
        ):
            try:
                yield links
            except (Exception, pytest.skip.Exception) as error:  # noqa: BLE001  (raised again below)
                # Out of the task group it would come in an exception group.
                failure = error
            finally:
                with anyio.CancelScope(shield=True):
                    for lifespan in lifespans:
                        await lifespan.end()
    if failure is not None:
        raise failure
