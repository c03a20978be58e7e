"""`authorize=`: asked before each call, in both directions; a refused call does not begin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, bare_client, error_of, pair, turns, until
from wsrpc.protocol.codec import CODECS

from .test_resume import Gated


class Desk:
    def __init__(self) -> None:
        self.ran: list[str] = []

    @wsrpc.method
    async def read(self, text: str = "") -> str:
        self.ran.append("read")
        return text

    @wsrpc.method
    async def stream(self, n: int) -> AsyncIterator[int]:
        self.ran.append("stream")
        for i in range(n):
            yield i

    @wsrpc.method
    async def count(self, items: AsyncIterator[int]) -> int:
        self.ran.append("count")
        return len([item async for item in items])

    @wsrpc.method
    async def tell(self, on_progress: Callable[[int], Awaitable[None]]) -> None:
        self.ran.append("tell")
        await on_progress(1)

    @wsrpc.method
    async def ask(self) -> str:
        return await wsrpc.current().session.clientize(Guest).name()


class Guest:
    @wsrpc.method
    async def name(self) -> str:
        return "Ann"


class Log:
    @wsrpc.method
    async def note(self, line: str) -> None:
        Log.lines.append(line)

    lines: list[str] = []


Seen = list[tuple[Any, str, str, dict[str, str]]]


def watching(seen: Seen) -> Any:
    async def authorize(call: wsrpc.CallContext) -> bool:
        seen.append((call.principal, call.controller, call.method, dict(call.metadata)))
        return True

    return authorize


async def deny(call: wsrpc.CallContext) -> bool:
    return False


@pytest.mark.rule("AUTHZ-1")
async def test_it_is_asked_about_each_call_and_knows_whose_it_is(codec: Codec) -> None:
    seen: Seen = []
    options = {"principal": "ann", "authorize": watching(seen), "codec": codec}
    async with pair([Desk()], **options) as (_, client):
        desk = client.clientize(Desk, metadata={"trace": "7"})
        assert await desk.read(text="a") == "a"
        assert await desk.stream(2).collect() == [0, 1]
        assert await desk.count(wsrpc.stream_of([1, 2])) == 2
    assert seen == [
        ("ann", "Desk", method, {"trace": "7"}) for method in ("read", "stream", "count")
    ]


@pytest.mark.rule("AUTHZ-1", "ERROR-7")
async def test_false_refuses_with_permission_denied_and_nothing_begins(codec: Codec) -> None:
    desk = Desk()
    async with pair([desk], authorize=deny, codec=codec) as (_, client):
        proxy = client.clientize(Desk)
        with error_of("permission_denied") as caught:
            await proxy.read(text="a")
        assert caught.value.not_started
        assert "Desk.read" in caught.value.message
        with error_of("permission_denied"):
            await proxy.stream(2).collect()
        with error_of("permission_denied"):
            await proxy.count(wsrpc.stream_of([1, 2]))
        # Before anybody looks at the arguments.
        with error_of("permission_denied"):
            await client.clientize("Desk").read(text=7)
    assert desk.ran == []


@pytest.mark.rule("AUTHZ-1", "ERROR-2")
async def test_what_it_raises_reaches_the_caller_as_it_is(codec: Codec) -> None:

    async def authorize(call: wsrpc.CallContext) -> None:
        error = wsrpc.RpcError("resource_exhausted", "too often", {"calls": 3})
        error.retry_after = 60.0
        raise error

    desk = Desk()
    async with pair([desk], authorize=authorize, codec=codec) as (_, client):
        with error_of("resource_exhausted") as caught:
            await client.clientize(Desk, timeout=5).read()
        error = caught.value
        assert (error.message, error.data, error.retry_after) == ("too often", {"calls": 3}, 60.0)
        assert error.not_started
    assert desk.ran == []


@pytest.mark.rule("AUTHZ-1", "ERROR-3")
async def test_a_fault_in_it_refuses_and_crosses_with_an_id_alone(codec: Codec) -> None:

    async def authorize(call: wsrpc.CallContext) -> None:
        raise KeyError("secret")

    desk = Desk()
    async with pair([desk], authorize=authorize, codec=codec) as (_, client):
        with error_of("internal") as caught:
            await client.clientize(Desk).read()
        assert caught.value.error_id
        assert "secret" not in str(caught.value)
    assert desk.ran == []


async def test_something_that_cannot_be_awaited_refuses() -> None:
    desk = Desk()
    async with pair([desk], authorize=lambda call: True) as (_, client):
        with error_of("internal"):
            await client.clientize(Desk).read()
    assert desk.ran == []


@pytest.mark.rule("AUTHZ-1")
async def test_calls_of_the_server_to_the_client_are_authorized_there(codec: Codec) -> None:
    seen: Seen = []
    options: dict[str, Any] = {"codec": codec, "principal": "ann"}
    async with pair([Desk()], [Guest()], client_authorize=watching(seen), **options) as (_, client):
        assert await client.clientize(Desk).ask() == "Ann"
    assert seen == [(None, "Guest", "name", {})]
    async with pair([Desk()], [Guest()], client_authorize=deny, **options) as (server, client):
        with error_of("permission_denied"):
            await server.clientize(Guest).name()


@pytest.mark.rule("AUTHZ-1")
async def test_connect_takes_it_too() -> None:
    async with wsrpc.Server([Desk()]).listen() as listener:
        async with wsrpc.connect(listener.url, controllers=[Guest()], authorize=deny) as session:
            with error_of("permission_denied"):
                await session.clientize(Desk).ask()


@pytest.mark.rule("AUTHZ-1", "NOTIFY-1")
async def test_notifications_are_authorized(codec: Codec) -> None:
    server = wsrpc.Server([Log()], authorize=deny)
    Log.lines.clear()
    async with bare_client(server, codec) as peer:
        await peer.send(["notify", 1, "Log.note", {"line": "a"}])
        frame = await peer.expect("error")
        assert (frame[1], frame[2]["code"], frame[2]["not_started"]) == (
            1,
            "permission_denied",
            True,
        )
    assert Log.lines == []


@pytest.mark.rule("AUTHZ-2")
async def test_callbacks_and_unknown_methods_need_no_permission_and_reflection_does() -> None:
    seen: Seen = []
    told: list[int] = []

    async def on_progress(n: int) -> None:
        told.append(n)

    async with pair([Desk()], client_authorize=deny, authorize=watching(seen)) as (_, client):
        await client.clientize(Desk).tell(on_progress=on_progress)
        with error_of("unimplemented"):
            await client.clientize("Nothing").here()
        await client.clientize("wsrpc.reflection").describe()
    assert told == [1]
    assert [name for _, name, _, _ in seen] == ["Desk", "wsrpc.reflection"]


@pytest.mark.rule("AUTHZ-1")
async def test_resumed_sessions_are_asked_about_each_call_too() -> None:
    allowed = [True]

    async def authorize(call: wsrpc.CallContext) -> bool:
        return allowed[0]

    link = Gated(Desk(), authorize=authorize)
    async with link as (server, client):
        desk = client.clientize(Desk)
        assert await desk.read(text="a") == "a"
        await link.lose(server, client)
        allowed[0] = False
        link.gate.set()
        with error_of("permission_denied"):
            await desk.read(text="b")


# ------------------------------------------------------------------------------------ in pieces


def in_chunks(codec: Codec, size: int = 100_000) -> tuple[list[Any], list[list[Any]]]:
    """A call whose arguments come after it, and their chunks."""
    value = CODECS[codec].dump({"text": "x" * size})
    pieces = [value[i : i + 65_536] for i in range(0, len(value), 65_536)]
    chunks = [
        ["chunk", 1, piece is pieces[-1], piece.decode() if codec == "json" else piece]
        for piece in pieces
    ]
    return ["call", 1, "Desk.read", None, None, len(value)], chunks


@pytest.mark.rule("AUTHZ-1")
async def test_a_no_need_not_wait_for_the_arguments(codec: Codec) -> None:
    """And what is left of them is ignored."""
    desk = Desk()
    async with bare_client(wsrpc.Server([desk], authorize=deny), codec) as peer:
        call, chunks = in_chunks(codec)
        await peer.send(call)
        frame = await peer.expect("error")
        assert (frame[1], frame[2]["code"]) == (1, "permission_denied")
        for chunk in chunks:
            await peer.send(chunk)
        await peer.send(["call", 3, "Desk.read", {}])
        assert (await peer.expect("error"))[1] == 3
    assert desk.ran == []


async def test_a_yes_waits_for_the_arguments(codec: Codec) -> None:
    seen: Seen = []
    async with bare_client(wsrpc.Server([Desk()], authorize=watching(seen)), codec) as peer:
        call, chunks = in_chunks(codec, 30_000)
        await peer.send(call)
        await until(lambda: len(seen) == 1)
        await turns()
        for chunk in chunks:
            await peer.send(chunk)
        assert await peer.expect("result") == ["result", 1, "x" * 30_000]


async def test_arguments_that_are_faster_than_the_decision_wait_for_it(codec: Codec) -> None:
    go_on = anyio.Event()

    async def authorize(call: wsrpc.CallContext) -> bool:
        await go_on.wait()
        return True

    async with bare_client(wsrpc.Server([Desk()], authorize=authorize), codec) as peer:
        call, chunks = in_chunks(codec, 30_000)
        await peer.send(call, *chunks)
        await turns()
        go_on.set()
        assert await peer.expect("result") == ["result", 1, "x" * 30_000]


@pytest.mark.rule("CHUNK-5", "CANCEL-3")
@pytest.mark.parametrize("moment", ["deciding", "waiting for arguments"])
async def test_a_call_that_is_cancelled_before_it_begins_is_not_started(
    moment: str, codec: Codec
) -> None:
    entered: list[str] = []

    async def authorize(call: wsrpc.CallContext) -> bool:
        entered.append(call.method)
        if moment == "deciding":
            await anyio.sleep_forever()
        return True

    desk = Desk()
    async with bare_client(wsrpc.Server([desk], authorize=authorize), codec) as peer:
        call, chunks = in_chunks(codec)
        await peer.send(call, *chunks[:-1])
        await until(lambda: len(entered) == 1)
        await turns()
        await peer.send(["cancel", 1])
        frame = await peer.expect("error")
        assert (frame[1], frame[2]["code"], frame[2]["not_started"]) == (1, "cancelled", True)
    assert desk.ran == []


@pytest.mark.rule("TIME-1")
async def test_the_deadline_holds_while_it_decides(codec: Codec) -> None:

    async def authorize(call: wsrpc.CallContext) -> bool:
        await anyio.sleep_forever()
        return True

    desk = Desk()
    async with bare_client(wsrpc.Server([desk], authorize=authorize), codec) as peer:
        await peer.send(["call", 1, "Desk.read", {}, {"timeout": 30}])
        frame = await peer.expect("error")
        assert (frame[1], frame[2]["code"]) == (1, "deadline_exceeded")
    assert desk.ran == []


async def test_a_session_that_ends_meanwhile_leaves_nothing_behind() -> None:
    entered = anyio.Event()

    async def authorize(call: wsrpc.CallContext) -> bool:
        entered.set()
        await anyio.sleep_forever()
        return True

    async with pair([Desk()], authorize=authorize) as (server, client):
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with error_of("unavailable"):
                    await client.clientize(Desk).read()

            group.start_soon(call)
            await entered.wait()
            await server.aclose()
