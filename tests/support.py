"""What tests share: a connected pair, a server on a socket, a peer made of bare frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import anyio
import pytest

import wsrpc
from wsrpc.interfaces import Handshake
from wsrpc.protocol.codec import CODECS
from wsrpc.session.live_session import LiveSession
from wsrpc.session.wire_session import WireSession
from wsrpc.testing import virtual_time
from wsrpc.testing.pairs import connected_pair
from wsrpc.transport.base import LinkClosed
from wsrpc.transport.memory import MemoryLink, memory_link_pair

Codec: TypeAlias = Literal["json", "msgpack"]
Frame: TypeAlias = list[Any]

# Seconds. No test comes near it; it turns a hang into a failure.
LIMIT = 20.0

TERMINALS = ("result", "end", "error")


def full_only(*values: Any) -> list[Any]:
    """Values of a parameter with which a test runs where all tests run."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def soon() -> Any:
    """A scope that turns a hang into a failure."""
    return anyio.fail_after(LIMIT)


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody else run until `condition` holds, for a bounded time."""
    with soon():
        while not condition():
            await anyio.sleep(0.001)


async def turns(n: int = 20) -> None:
    """Let everybody else run for a while; for what must *not* happen."""
    for _ in range(n):
        await anyio.sleep(0)


def live(session: wsrpc.Session) -> LiveSession:
    """The implementation of the interface: a session of this process."""
    assert isinstance(session, LiveSession)
    return session


def wire_of(session: wsrpc.Session) -> WireSession:
    """What runs over the links of a session."""
    return live(session).wire


@asynccontextmanager
async def pair(
    controllers: Sequence[Any] = (),
    client_controllers: Sequence[Any] = (),
    **options: Any,
) -> AsyncIterator[tuple[wsrpc.Session, wsrpc.Session]]:
    """The accepting and the connecting end of a session in memory, for a bounded time."""
    with soon():
        async with connected_pair(controllers, client_controllers, **options) as sessions:
            yield sessions


@asynccontextmanager
async def served(
    controllers: Sequence[Any], *, listen: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[wsrpc.Listener]:
    """A server on a real socket, for a bounded time."""
    with soon():
        async with wsrpc.Server(controllers, **options).listen(**(listen or {})) as listener:
            yield listener


@contextmanager
def error_of(code: str) -> Iterator[pytest.ExceptionInfo[wsrpc.RpcError[Any]]]:
    """Expect an RpcError with this code."""
    with pytest.raises(wsrpc.RpcError) as caught:
        yield caught
    assert caught.value.code == code, repr(caught.value)


# ------------------------------------------------------------------------------------ the wire


class Wire:
    """The frames that went over memory links, each with the parity of the side that sent it."""

    def __init__(self) -> None:
        self.batches: list[tuple[MemoryLink, bytes]] = []

    def note(self, link: MemoryLink, data: bytes) -> None:
        self.batches.append((link, data))

    def frames(self, *names: str) -> list[Frame]:
        """All frames so far, of both sides, in the order in which they were sent."""
        found: list[Frame] = []
        for link, data in self.batches:
            assert link.subprotocol is not None
            codec = CODECS[link.subprotocol.removeprefix("wsrpc.v1.")]
            found += codec.load(data)
        return [frame for frame in found if not names or frame[0] in names]

    def terminals(self) -> dict[int, list[str]]:
        """The names of the terminals by id."""
        found: dict[int, list[str]] = {}
        for frame in self.frames(*TERMINALS):
            found.setdefault(frame[1], []).append(frame[0])
        return found

    def assert_one_terminal_each(self) -> None:
        """Every call has exactly one terminal, and nothing but `credit` and `cancel` follows it."""
        # Calls of callbacks may end with the call to which the callback belongs (CB-3).
        calls = [
            frame[1]
            for frame in self.frames("call", "notify")
            if isinstance(frame[2], str) or frame[1] in self.terminals()
        ]
        terminals = self.terminals()
        assert {id: len(terminals.get(id, ())) for id in calls} == dict.fromkeys(calls, 1)
        over: set[int] = set()
        for frame in self.frames("message", *TERMINALS):
            assert frame[1] not in over, frame
            if frame[0] != "message":
                over.add(frame[1])


class Peer:
    """The other end of a session under test, made of bare frames."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        assert link.subprotocol is not None
        self.codec = CODECS[link.subprotocol.removeprefix("wsrpc.v1.")]
        self._frames: list[Frame] = []

    async def send(self, *frames: Frame) -> None:
        """Send one batch."""
        await self.link.send(self.codec.dump(list(frames)))

    async def send_bytes(self, data: bytes) -> None:
        await self.link.send(data)

    async def receive(self) -> Frame:
        """The next frame."""
        with soon():
            while not self._frames:
                self._frames = self.codec.load(await self.link.receive())
        return self._frames.pop(0)

    async def expect(self, *names: str) -> Frame:
        """The next frame with one of these names; others are passed over."""
        while True:
            frame = await self.receive()
            if frame[0] in names:
                return frame

    async def closed(self) -> int:
        """The code with which the other end closes."""
        with soon(), pytest.raises(LinkClosed) as caught:
            while True:
                await self.link.receive()
        return caught.value.code

    async def say_hello(self, **fields: Any) -> Frame:
        """As the connecting side: both hellos and the ack."""
        await self.send(["hello", {"version": 1, "window": 32, **fields}])
        hello = await self.expect("hello")
        await self.send(["ack", 0])
        return hello


@asynccontextmanager
async def bare_client(
    server: wsrpc.Server, codec: Codec = "json", *, hello: bool = True, resume: bool = False
) -> AsyncIterator[Peer]:
    """A connecting side of bare frames, against a real server.

    Its session ends with its link, unless `resume` leaves that to the server.
    """
    if not resume:
        service = server._service
        service.limits = replace(service.limits, resume_window=0)
    accepting, connecting = memory_link_pair(f"wsrpc.v1.{codec}")
    peer = Peer(connecting)
    with soon():
        async with anyio.create_task_group() as group:
            group.start_soon(server.acceptor().serve, accepting)
            try:
                if hello:
                    await peer.say_hello()
                yield peer
            finally:
                connecting.abort()
                # They would wait for their peer to come back.
                for session in server.sessions.values():
                    group.start_soon(session.aclose)


@asynccontextmanager
async def visited(server: wsrpc.Server) -> AsyncIterator[Callable[..., Peer]]:
    """Any number of bare connecting sides of one server."""
    links: list[MemoryLink] = []
    with soon():
        async with anyio.create_task_group() as group:

            def visit(codec: Codec = "json", address: str = "", pending: Any = None) -> Peer:
                accepting, connecting = memory_link_pair(f"wsrpc.v1.{codec}")
                accepting.handshake = Handshake(remote="memory", address=address)
                links.append(connecting)
                group.start_soon(server.acceptor().serve, accepting, pending)
                return Peer(connecting)

            try:
                yield visit
            finally:
                for link in links:
                    link.abort()
                for session in server.sessions.values():
                    group.start_soon(session.aclose)


def returning(token: str, link: int, **fields: Any) -> list[Any]:
    """A hello that asks for a session."""
    return ["hello", {"version": 1, "token": token, "link": link, "received": 0, **fields}]


def patched_link(monkeypatch: pytest.MonkeyPatch, codec: Codec = "json") -> Peer:
    """Let the next `connect` end at an accepting side of bare frames."""
    accepting, connecting = memory_link_pair(f"wsrpc.v1.{codec}")

    @asynccontextmanager
    async def open_link(*args: Any, **kwargs: Any) -> AsyncIterator[MemoryLink]:
        yield connecting

    monkeypatch.setattr("wsrpc.client.open_link", open_link)
    return Peer(accepting)


@asynccontextmanager
async def bare_server(
    monkeypatch: pytest.MonkeyPatch,
    codec: Codec = "json",
    *,
    hello: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Peer, wsrpc.Session]]:
    """A real connecting side, and an accepting side of bare frames that has said hello.

    Its session ends with its link, unless told to `reconnect`.
    """
    options.setdefault("reconnect", False)
    peer = patched_link(monkeypatch, codec)

    async def greet() -> None:
        await peer.expect("hello")
        await peer.send(["hello", {"version": 1, "session": "s", "window": 32, **(hello or {})}])

    with soon():
        async with anyio.create_task_group() as group:
            group.start_soon(greet)
            async with wsrpc.connect("ws://memory", codec=codec, **options) as session:
                yield peer, session


@pytest.fixture(params=["asyncio", "trio"])
def virtual_anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both backends, on which time passes only while nothing else is to do.

    For modules in which a short deadline must not pass before what comes first has happened, on
    however busy a machine. Nothing in them may use sockets.
    """
    return virtual_time(request.param)
