"""What a caller finds out by itself: protocol.md's table Local failures, row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import bare_server, soon, until
from tests.support import virtual_anyio_backend as anyio_backend  # noqa: F401

FEW = {"limits": {"max_calls": 8}}
TOO_LARGE = "x" * 70_000


class Far:
    """What the far end is said to have; nobody answers but the tests."""

    @wsrpc.method
    async def get(self, of: str = "") -> int:
        raise NotImplementedError

    @wsrpc.method
    async def items(self) -> AsyncIterator[object]:
        yield 0


async def fails(
    call: Callable[[], Awaitable[Any]], code: str, *, not_started: bool
) -> wsrpc.RpcError[Any]:
    """How the caller sees it."""
    with soon(), pytest.raises(wsrpc.RpcError) as caught:
        await call()
    error = caught.value
    assert (error.code, error.not_started) == (code, not_started), repr(error)
    return error


@pytest.mark.rule("ERROR-8", "TIME-4")
async def test_a_deadline_that_passes_before_the_call_is_numbered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bare_server(monkeypatch, hello=FEW) as (_, session):
        far = session.clientize(Far, timeout=0.05)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(session.clientize(Far).get)
            await anyio.wait_all_tasks_blocked()
            error = await fails(far.get, "deadline_exceeded", not_started=True)
            assert error.data is None
            group.cancel_scope.cancel()


@pytest.mark.rule("ERROR-8", "TIME-3")
async def test_a_deadline_that_passes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bare_server(monkeypatch) as (peer, session):
        far = session.clientize(Far, timeout=0.05)
        error = await fails(far.get, "deadline_exceeded", not_started=False)
        assert error.data is None
        assert (await peer.expect("cancel"))[2] == "deadline_exceeded"


@pytest.mark.rule("ERROR-8", "TIME-6")
async def test_an_idle_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bare_server(monkeypatch) as (_, session):
        stream = session.clientize(Far, idle_timeout=0.05).items()
        error = await fails(lambda: anext(aiter(stream)), "deadline_exceeded", not_started=False)
        assert error.data is None


@pytest.mark.rule("ERROR-8")
async def test_too_many_calls_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = wsrpc.Limits(max_waiting=0)
    async with bare_server(monkeypatch, hello=FEW, limits=limits) as (_, session):
        far = session.clientize(Far)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(far.get)
            await anyio.wait_all_tasks_blocked()
            error = await fails(far.get, "resource_exhausted", not_started=True)
            assert error.data is None
            group.cancel_scope.cancel()


@pytest.mark.rule("ERROR-8", "VALUE-7")
async def test_arguments_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bare_server(monkeypatch) as (_, session):
        far = session.clientize(Far)
        error = await fails(lambda: far.get(TOO_LARGE), "resource_exhausted", not_started=True)
        assert error.data is None


@pytest.mark.rule("ERROR-8", "CALL-9")
async def test_metadata_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bare_server(monkeypatch) as (_, session):
        far = session.clientize(Far, metadata={"a": "x" * 17_000})
        error = await fails(far.get, "resource_exhausted", not_started=True)
        assert error.data is None


@pytest.mark.rule("ERROR-8", "VALUE-3")
async def test_arguments_that_are_not_of_the_declared_type(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bare_server(monkeypatch) as (_, session):
        far: Any = session.clientize(Far)
        error = await fails(lambda: far.get(of=5), "invalid_argument", not_started=False)
        assert error.data is None or set(error.data) == {"errors", "total"}
        loose: Any = session.clientize("Far")
        error = await fails(lambda: loose.get(of=2**64), "invalid_argument", not_started=False)
        assert error.data is None or set(error.data) == {"errors", "total"}


@pytest.mark.rule("ERROR-8", "GOAWAY-2")
async def test_a_peer_that_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bare_server(monkeypatch) as (peer, session):
        far = session.clientize(Far)
        async with anyio.create_task_group() as group:

            async def drained() -> None:
                await peer.expect("call")
                await peer.send(["goaway", {"last_id": 0, "grace": 60_000}])

            group.start_soon(drained)
            error = await fails(far.get, "unavailable", not_started=True)
            assert error.data is None


@pytest.mark.rule("ERROR-8", "VALUE-4", "CALL-8")
@pytest.mark.parametrize("answer", ['["result",1,1e999]', '["message",1,[1]]', '["result",1,"x"]'])
async def test_an_answer_that_is_none(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    async with bare_server(monkeypatch) as (peer, session):
        far = session.clientize(Far)
        async with anyio.create_task_group() as group:

            async def answered() -> None:
                await peer.expect("call")
                await peer.send_bytes(f"[{answer}]".encode())

            group.start_soon(answered)
            error = await fails(far.get, "internal", not_started=False)
            assert error.data is None or set(error.data) == {"errors", "total"}


@pytest.mark.rule("ERROR-8", "CHUNK-7")
async def test_an_answer_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = wsrpc.Limits(max_value=65_536)
    async with bare_server(monkeypatch, limits=limits) as (peer, session):
        far = session.clientize(Far)
        async with anyio.create_task_group() as group:

            async def answered() -> None:
                await peer.expect("call")
                await peer.send(["result", 1, None, 65_537])

            group.start_soon(answered)
            error = await fails(far.get, "resource_exhausted", not_started=False)
            assert error.data is None


@pytest.mark.rule("ERROR-8")
async def test_a_consumer_that_fell_too_far_back(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = wsrpc.Limits(window_bytes=100)
    async with bare_server(monkeypatch, limits=limits) as (peer, session):
        stream = session.clientize(Far, overflow="fail", window=4).items()
        taken = anyio.Event()
        async with anyio.create_task_group() as group:

            async def answered() -> None:
                await peer.expect("call")
                await peer.send(["message", 1, [0]])
                await taken.wait()
                await peer.send(["message", 1, ["x" * 200]], ["message", 1, ["x" * 200]])

            group.start_soon(answered)
            assert await anext(stream) == 0
            taken.set()
            await until(lambda: stream.dropped > 0)
            error = await fails(stream.collect, "resource_exhausted", not_started=False)
            assert error.data is None
