"""Both sides of a real socket, one of them made of bare frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc
from websockets.typing import Subprotocol

import wsrpc
from tests.support import Codec, soon
from wsrpc.interop.bare_peer import SUBPROTOCOLS, Bare, Frame, open_bare

R = TypeVar("R")


def call(id: int, method: str | int, args: Any = None, **options: Any) -> Frame:
    """A `call` frame; without arguments, an empty object of them."""
    frame: Frame = ["call", id, method, {} if args is None else args]
    return [*frame, options] if options else frame


def error(id: int, code: str, message: str = "", **more: Any) -> Frame:
    """An `error` frame."""
    return ["error", id, {"code": code, "message": message, **more}]


def body_of(frame: Frame, code: str, *, not_started: bool = False) -> dict[str, Any]:
    """The body of an `error` frame with this code."""
    assert frame[0] == "error", frame
    body: dict[str, Any] = frame[2]
    assert body["code"] == code, body
    assert bool(body.get("not_started")) is not_started, body
    return body


# ------------------------------------------------------------------------ a bare connecting side


@asynccontextmanager
async def bare_client(
    controllers: Sequence[Any],
    codec: Codec = "json",
    *,
    hello: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Bare]:
    """A bare connecting side after both hellos, against a server with these controllers."""
    with soon():
        async with wsrpc.Server(controllers, **options).listen() as listener:
            async with open_bare(listener.url, codec) as bare:
                await bare.hello(**(hello or {}))
                yield bare


# ------------------------------------------------------------------------ a bare accepting side


class BareServer:
    """A WebSocket server whose connections are taken one by one as bare sides.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, codec: Codec) -> None:
        self.url = ""
        self._codec: Codec = codec
        self._waiting: list[tuple[Bare, anyio.Event]] = []
        self._came = anyio.Event()
        self._over = anyio.Event()

    async def handle(self, connection: Any) -> None:
        """Keep one connection open until the server is left."""
        self._waiting.append((Bare(connection, self._codec), self._over))
        self._came.set()
        await self._over.wait()

    async def accept(self) -> Bare:
        """The next connection."""
        while not self._waiting:
            self._came = anyio.Event()
            await self._came.wait()
        return self._waiting.pop(0)[0]

    def stop(self) -> None:
        self._over.set()


@asynccontextmanager
async def bare_server(
    codec: Codec = "json", *, subprotocols: list[str] | None = None
) -> AsyncIterator[BareServer]:
    """A bare accepting side, for a bounded time.

    Args:
        codec: How batches are encoded.
        subprotocols: What it supports instead of the codec's.
    """
    server = BareServer(codec)
    names = [SUBPROTOCOLS[codec]] if subprotocols is None else subprotocols
    options: dict[str, Any] = {
        "subprotocols": [Subprotocol(name) for name in names] or None,
        "select_subprotocol": None if subprotocols is None else lambda *_: None,
        "compression": None,
        "ping_interval": None,
        "close_timeout": 2,
    }
    listening = _listen_asyncio if _on_asyncio() else _listen_trio
    with soon():
        async with listening(server, options):
            try:
                yield server
            finally:
                server.stop()


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@asynccontextmanager
async def _listen_asyncio(server: BareServer, options: dict[str, Any]) -> AsyncIterator[None]:
    from websockets.asyncio.server import serve

    async with serve(server.handle, "127.0.0.1", 0, **options) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"ws://127.0.0.1:{port}"
        yield


@asynccontextmanager
async def _listen_trio(server: BareServer, options: dict[str, Any]) -> AsyncIterator[None]:
    import trio
    from websockets.trio.server import serve

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def run(task_status: Any) -> None:
        await serve(server.handle, listeners=listeners, task_status=task_status, **options)

    async with trio.open_nursery() as nursery:
        listening = await nursery.start(run)
        yield
        await listening.aclose()


HELLO: dict[str, Any] = {
    "version": 1,
    "session": "the session",
    "window": 32,
    "limits": {"max_batch": 2 * 1024 * 1024, "max_calls": 256},
}


@asynccontextmanager
async def conversation(
    codec: Codec = "json",
    *,
    controllers: Sequence[Any] = (),
    hello: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[wsrpc.Session, Bare]]:
    """A session of the package, and a bare accepting side after both hellos.

    Args:
        codec: What they speak.
        controllers: What the session's side exposes.
        hello: What the bare side's hello says besides the usual.
        options: More for `connect`.
    """
    async with bare_server(codec) as server:
        async with Background() as background:

            async def greet() -> Bare:
                bare = await server.accept()
                await bare.greeted()
                await bare.send(["hello", {**HELLO, **(hello or {})}])
                return bare

            greeting = background.start(greet)
            async with wsrpc.connect(
                server.url,
                controllers=controllers,
                codec=codec,
                **{"reconnect": False, **options},
            ) as session:
                bare = await greeting.outcome()
                yield session, bare


# ------------------------------------------------------------------------ in the background


class Later(Generic[R]):
    """What a task in the background will have come to."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self._result: R | None = None
        self._error: BaseException | None = None

    async def run(self, function: Callable[..., Awaitable[R]], args: tuple[Any, ...]) -> None:
        try:
            with self.scope:
                self._result = await function(*args)
        except Exception as error:  # noqa: BLE001  (raised again in `outcome`)
            self._error = error
        finally:
            self.done.set()

    def cancel(self) -> None:
        """Cancel it."""
        self.scope.cancel()

    async def outcome(self) -> R:
        """Wait for it; returns what it returned, raises what it raised."""
        await self.done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    async def failure(self) -> wsrpc.RpcError[Any]:
        """Wait for it; returns the RpcError that it raised."""
        await self.done.wait()
        assert isinstance(self._error, wsrpc.RpcError), repr(self._error or self._result)
        return self._error


class Background:
    """Tasks beside a test, cancelled at its end: `async with Background() as background`."""

    def __init__(self) -> None:
        self._group: anyio.abc.TaskGroup

    def start(self, function: Callable[..., Awaitable[R]], *args: Any) -> Later[R]:
        """Run `function` in the background."""
        later: Later[R] = Later()
        self._group.start_soon(later.run, function, args)
        return later

    async def __aenter__(self) -> Background:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(exc_type, exc, traceback)
