"""The server as an ASGI 3 application, by itself or mounted in another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

import anyio

from .. import runtime as runtimes
from ..admission.door import Door
from ..close_codes import CloseCode
from ..protocol.codec import SUBPROTOCOLS
from ..runtime import Nursery, Runtime
from ..telemetry.logs import everyone
from ..transport.asgi import (
    AsgiLink,
    Receive,
    Scope,
    Send,
    deny,
    headers_of,
    mount_of,
    path_of,
    respond,
    typed_with_slash,
)
from ..transport.base import FORBIDDEN_ORIGIN, HttpAnswer
from .acceptor import Acceptor, Service
from .relayed_signals import RelayedSignals

__all__ = ["AsgiApp", "Running"]

_PLAIN = ("Content-Type", "text/plain; charset=utf-8")

NO_SUBPROTOCOL = HttpAnswer(
    400, (_PLAIN,), b"Offer one of the subprotocols wsrpc.v1.json and wsrpc.v1.msgpack.\n"
)
ONLY_WEBSOCKETS = HttpAnswer(
    426, (_PLAIN, ("Upgrade", "websocket")), b"This address speaks WebSocket.\n"
)


class Running:
    """The server at work on an event loop, for WebSockets that another program accepts.

    Sessions that outlive their connections live here, not in the task of the request that began
    them. Leaving the block closes the sessions that are left with 1001; their handlers clean up.
    """

    def __init__(
        self, service: Service, open_ones: set[Running], drain: Callable[[], Awaitable[None]]
    ) -> None:
        self._service = service
        self._open_ones = open_ones
        self._drain = drain
        self._nursery: Nursery | None = None
        self._acceptor: Acceptor | None = None
        self._signals: RelayedSignals | None = None

    async def __aenter__(self) -> None:
        runtime = runtimes.current()
        self._nursery = await runtime.open_nursery()
        self._acceptor = Acceptor(self._service, runtime)
        self._signals = RelayedSignals(self._drain, runtime, self._nursery)
        self._signals.take()
        self._open_ones.add(self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        assert self._acceptor is not None
        assert self._signals is not None
        self._open_ones.discard(self)
        self._signals.give_back()
        try:
            await runtimes.current().to_the_end(self._acceptor.close)
        finally:
            await self._nursery.close()

    def refuse(self) -> None:
        """Let no further session begin."""
        if self._acceptor is not None and not self._acceptor.closing:
            self._acceptor.refuse(CloseCode.TRY_AGAIN_LATER)

    def begin(self, link: AsgiLink) -> None:
        """Serve a link in a task of this block, to the end of the session that it begins."""
        assert self._nursery is not None
        self._nursery.spawn(self._serve, link)

    async def _serve(self, link: AsgiLink) -> None:
        assert self._acceptor is not None
        await _serve(self._acceptor, link)


async def _serve(acceptor: Acceptor, link: AsgiLink) -> None:
    """Serve a link; a fault in wsrpc ends that link alone."""
    try:
        await acceptor.serve(link)
    except Exception as error:  # noqa: BLE001  (it is logged, and the host's other requests go on)
        everyone.error("a fault in wsrpc itself, in a link of a hosting application", error=error)
    finally:
        link.abort()


class AsgiApp:
    """A server's controllers as an ASGI application.

    Args:
        service: The server's shared state.
        open_ones: The `running()` blocks that are open.
        running: Makes such a block, for the lifespan of a stand-alone application.
        acceptor: Makes an acceptor that a drain reaches, for a link that comes while no such block
            is open.
    """

    def __init__(
        self,
        service: Service,
        open_ones: set[Running],
        running: Callable[[], Running],
        acceptor: Callable[[], Acceptor],
    ) -> None:
        self._service = service
        self._open_ones = open_ones
        self._running = running
        self._acceptor = acceptor
        self._door: Door | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope: a WebSocket, an HTTP request, or the lifespan of the server.

        Raises:
            ValueError: The scope is of another type.
        """
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await respond(self._answer(scope), send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise ValueError(f"an ASGI scope of type {scope['type']!r} is not served here")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        runtime = runtimes.current()
        door = self._door_on(runtime)
        headers = headers_of(scope)
        offered = [name for name in scope.get("subprotocols", ()) if name in SUBPROTOCOLS]
        refusal = self._refusal(door, scope, headers)
        if refusal is None and not offered:
            refusal = NO_SUBPROTOCOL
        if refusal is not None:
            await deny(refusal, scope, send)
            return
        peer = scope.get("client")
        handshake = door.handshake(
            path_of(scope),
            headers,
            None if peer is None else tuple(peer),
            tls=scope.get("scheme") == "wss",
            scope=scope,
        )
        await send({"type": "websocket.accept", "subprotocol": offered[0]})
        link = AsgiLink(receive, send, offered[0], handshake, self._service.limits)
        await self._serve(link)

    async def _serve(self, link: AsgiLink) -> None:
        """Serve a link until it is over; its session goes on if a `running()` block is open."""
        if self._open_ones:
            next(iter(self._open_ones)).begin(link)
            await link.wait_over()
            return
        # A session that waits to be resumed keeps this request open.
        async with anyio.create_task_group() as group:
            group.start_soon(link.wait_over)
            await _serve(self._acceptor(), link)

    def _refusal(self, door: Door, scope: Scope, headers: dict[str, str]) -> HttpAnswer | None:
        # Over HTTP/2 no header says that the request is for a WebSocket.
        answer = self._routed(scope, {**headers, "upgrade": "websocket"})
        if answer is not None and (
            answer.status != 503 or "websocket.http.response" in (scope.get("extensions") or ())
        ):
            return answer
        return FORBIDDEN_ORIGIN if door.forbids(headers) else None

    def _answer(self, scope: Scope) -> HttpAnswer:
        path, mount = scope["path"], mount_of(scope)
        if mount and path == mount:
            return HttpAnswer(308, (("Location", f"{scope['root_path']}/"),))
        if path == "/" and not typed_with_slash(scope):
            # The host removes its mount's path, as Litestar does. Links of the page are relative,
            # so the page has to be requested with the slash.
            name = scope["raw_path"].partition(b"?")[0].rpartition(b"/")[2]
            return HttpAnswer(308, (("Location", f"{name.decode('latin-1')}/"),))
        return self._routed(scope, headers_of(scope)) or ONLY_WEBSOCKETS

    def _routed(self, scope: Scope, headers: dict[str, str]) -> HttpAnswer | None:
        server, client = scope.get("server"), scope.get("client")
        return self._service.routes.answer(
            scope.get("method", "GET"),
            path_of(scope),
            headers,
            local=str(server[0]) if server else "",
            peer=str(client[0]) if client else "",
            draining=self._service.drains > 0,
            mount=f"{mount_of(scope)}/",
        )

    def _door_on(self, runtime: Runtime) -> Door:
        if self._door is None:
            service = self._service
            self._door = Door(
                service.limits,
                service.pending,
                runtime.now,
                origins=service.origins,
                proxies=service.proxies,
                refused=service.events.stranger_refused,
            )
        return self._door
