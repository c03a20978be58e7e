"""Large values through sessions: they travel in chunks, beside everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import anyio
import pytest

import wsrpc
from tests.support import Codec, bare_client, error_of, pair, soon, until, wire_of

MIB = 1024 * 1024
LARGE = 5 * MIB


class Large:
    """Everything that a value can be, large."""

    def __init__(self) -> None:
        self.begun = 0
        self.released = anyio.Event()

    @wsrpc.method
    async def size(self, value: str) -> int:
        self.begun += 1
        return len(value)

    @wsrpc.method
    async def make(self, size: int) -> str:
        return "x" * size

    @wsrpc.method
    async def echo(self, value: bytes) -> bytes:
        return value

    @wsrpc.method
    async def items(self, sizes: list[int]) -> AsyncIterator[str | wsrpc.Final[str]]:
        for size in sizes:
            yield "x" * size
        yield wsrpc.Final("f" * max(sizes))

    @wsrpc.method
    async def last(self, size: int) -> AsyncIterator[str | wsrpc.Final[str]]:
        yield wsrpc.Final("f" * size)

    @wsrpc.method
    async def pass_on(self, item: int, final: int) -> wsrpc.Stream[str, str]:
        async def source() -> AsyncIterator[str | wsrpc.Final[str]]:
            yield "x" * item
            yield wsrpc.Final("f" * final)

        stream: Any = wsrpc.stream_of(source())
        return cast(wsrpc.Stream[str, str], stream)

    @wsrpc.method
    async def fail(self, size: int) -> None:
        raise wsrpc.RpcError(wsrpc.Code.ABORTED, "large", {"what": "d" * size})

    @wsrpc.method
    async def sizes(self, values: AsyncIterator[str]) -> list[int]:
        return [len(value) async for value in values]

    @wsrpc.method
    async def call_back(self, size: int, transform: Callable[[str], Awaitable[str]]) -> int:
        return len(await transform("y" * size))

    @wsrpc.method
    async def held(self) -> str:
        await self.released.wait()
        return "x" * LARGE


async def of_sizes(*sizes: int) -> AsyncIterator[str]:
    for size in sizes:
        yield "u" * size


@pytest.mark.rule("CHUNK-1")
async def test_a_large_argument_and_a_large_result_come_through(codec: Codec) -> None:
    async with pair([Large()], codec=codec) as (_, client):
        large = client.clientize(Large)
        assert await large.size("ü" * LARGE) == LARGE
        assert await large.make(LARGE) == "x" * LARGE
        data = bytes(range(256)) * (LARGE // 256)
        assert await large.echo(data) == data


@pytest.mark.rule("CHUNK-1", "CHUNK-4", "MSG-2")
async def test_large_items_and_a_large_final_value_come_through_in_order(codec: Codec) -> None:
    async with pair([Large()], codec=codec) as (_, client):
        sizes = [1, LARGE, 5, 70_000, 70_000, 0, LARGE]
        stream = client.clientize(Large).items(sizes)
        assert [len(item) async for item in stream] == sizes
        assert stream.final == "f" * LARGE


@pytest.mark.rule("CHUNK-1", "ERROR-2")
async def test_large_error_data_comes_through(codec: Codec) -> None:
    async with pair([Large()], codec=codec) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Large).fail(LARGE)
        assert caught.value.data == {"what": "d" * LARGE}


@pytest.mark.rule("CHUNK-1", "CB-1")
async def test_large_upload_items_and_callback_arguments_come_through(codec: Codec) -> None:
    async with pair([Large()], codec=codec) as (_, client):
        large = client.clientize(Large)
        assert await large.sizes(of_sizes(3, LARGE, 3, LARGE)) == [3, LARGE, 3, LARGE]

        async def twice(value: str) -> str:
            return value * 2

        assert await large.call_back(LARGE // 2, twice) == LARGE // 2 * 2


@pytest.mark.rule("CHUNK-2")
async def test_sixteen_mebibytes_of_bytes_come_back(codec: Codec) -> None:
    limits = wsrpc.Limits(max_value=32 * MIB)
    async with pair([Large()], codec=codec, limits=limits) as (_, client):
        data = bytes(16 * MIB)
        assert await client.clientize(Large).echo(data) == data


@pytest.mark.rule("CHUNK-7", "VALUE-7")
@pytest.mark.parametrize("what", ["argument", "result", "item", "data", "upload"])
async def test_a_value_above_max_value_fails_its_call_alone(codec: Codec, what: str) -> None:
    async with pair([Large()], codec=codec) as (_, client):
        large = client.clientize(Large)
        size = 17 * MIB
        if what == "data":
            with error_of("aborted") as caught:
                await large.fail(size)
            assert caught.value.data is None
        else:
            with error_of("resource_exhausted") as caught:
                match what:
                    case "argument":
                        await large.size("x" * size)
                    case "result":
                        await large.make(size)
                    case "item":
                        async for _ in large.items([size]):
                            pass
                    case _:
                        await large.sizes(of_sizes(size))
            assert str(16 * MIB) in str(caught.value), "the limit is named"
        assert await large.size("still here") == 10


@pytest.mark.rule("CHUNK-7")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda large: large.size("x" * 200_000), "the arguments of Large.size: a value of"),
        (lambda large: large.make(200_000), "the answer of Large.make: a value of"),
        (lambda large: large.items([1, 200_000]).collect(), "an item of Large.items: a value of"),
        (lambda large: large.last(200_000).collect(), "the final value of Large.last: a value of"),
        (lambda large: large.pass_on(9, 200_000).collect(), "the final value of Large.pass_on: a"),
        (lambda large: large.pass_on(200_000, 9).collect(), "an item of Large.pass_on: a value of"),
        (lambda large: large.sizes(of_sizes(200_000)), "an item of Large.sizes(values=…): a value"),
    ],
    ids=["arguments", "answer", "item", "final", "passed_final", "passed_item", "upload"],
)
async def test_an_error_about_a_large_value_names_what_it_was(
    codec: Codec, call: Callable[[Large], Awaitable[Any]], words: str
) -> None:
    limits = wsrpc.Limits(max_value=100_000)
    async with pair([Large()], codec=codec, limits=limits) as (_, client):
        with error_of("resource_exhausted") as caught:
            await call(client.clientize(Large))
        assert caught.value.message.startswith(words)


@pytest.mark.rule("CHUNK-5")
async def test_a_caller_that_leaves_half_way_stops_the_arguments(codec: Codec) -> None:
    service = Large()
    async with pair([service], codec=codec) as (server, client):
        large = client.clientize(Large)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(large.size, "x" * 15 * MIB)
                await until(lambda: 0 < client.outbox_bytes < 14 * MIB)
                scope.cancel()
        await until(lambda: client.outbox_bytes == 0)
        assert await large.size("next") == 4
        assert service.begun == 1, "the handler of what was incomplete never ran"
        endpoint = wire_of(server).endpoint
        assert endpoint._incoming.held == 0


@pytest.mark.rule("CANCEL-4", "CHUNK-4")
async def test_a_caller_that_leaves_half_way_stops_the_result(codec: Codec) -> None:
    async with pair([Large()], codec=codec) as (server, client):
        large = client.clientize(Large)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(large.make, 15 * MIB)
                await until(lambda: 0 < server.outbox_bytes < 14 * MIB)
                scope.cancel()
        await until(lambda: server.outbox_bytes == 0)
        assert await large.make(4) == "xxxx"


@pytest.mark.rule("CHUNK-4", "CANCEL-5")
async def test_a_stream_that_is_left_half_way_through_an_item_ends(codec: Codec) -> None:
    async with pair([Large()], codec=codec) as (server, client):
        async with client.clientize(Large).items([1, 15 * MIB, 1]) as stream:
            assert await anext(stream) == "x"
            await until(lambda: 0 < server.outbox_bytes < 14 * MIB)
        await until(lambda: server.outbox_bytes == 0)
        assert await client.clientize(Large).make(1) == "x"


@pytest.mark.rule("CHUNK-7", "ERROR-5", "TIME-1")
async def test_what_is_refused_is_refused_before_it_has_come(codec: Codec) -> None:
    service = Large()
    async with bare_client(wsrpc.Server([service]), codec) as peer:
        await peer.send(["call", 1, "Large.nope", None, None, 10 * MIB])
        error = await peer.expect("error")
        assert (error[0], error[2]["code"]) == ("error", "unimplemented")
        await peer.send(["call", 3, "Large.size", None, {"timeout": 10}, 10 * MIB])
        error = await peer.expect("error")
        assert (error[2]["code"], error[2]["not_started"]) == ("deadline_exceeded", True)
        await peer.send(["call", 5, "Large.size", None, None, 10 * MIB])
        await peer.send(["cancel", 5])
        error = await peer.expect("error")
        assert (error[2]["code"], error[2]["not_started"]) == ("cancelled", True)
        assert service.begun == 0


@pytest.mark.rule("CLOSE-4", "CLOSE-5")
async def test_a_session_that_ends_half_way_leaves_nothing_behind(codec: Codec) -> None:
    service = Large()
    async with pair([service], codec=codec) as (server, client):
        async with anyio.create_task_group() as group:

            async def end() -> None:
                await until(lambda: bool(wire_of(server).endpoint._arriving))
                await server.aclose()

            group.start_soon(end)
            with error_of("unavailable"):
                await client.clientize(Large).size("x" * 15 * MIB)
        assert service.begun == 0


@pytest.mark.rule("OUT-2")
async def test_small_calls_go_on_while_large_values_flow_both_ways(codec: Codec) -> None:
    limits = wsrpc.Limits(max_value=128 * MIB)
    async with pair([Large()], codec=codec, limits=limits) as (_, client):
        large = client.clientize(Large)
        over = False

        async def both_ways() -> None:
            nonlocal over
            data = bytes(64 * MIB if codec == "msgpack" else 16 * MIB)
            assert len(await large.echo(data)) == len(data)
            over = True

        done = 0
        with soon():
            async with anyio.create_task_group() as group:
                group.start_soon(both_ways)
                await until(lambda: client.outbox_bytes > 0)
                while not over:
                    assert await large.size("small") == 5
                    done += 1
        assert done > 5, "small calls in the time of one large value"


@pytest.mark.rule("CHUNK-6")
def test_limits_that_contradict_each_other_are_refused() -> None:
    assert wsrpc.Limits(max_value=64 * MIB).max_held == 128 * MIB
    assert wsrpc.Limits(max_held=0).max_held == 0
    with pytest.raises(ValueError, match="max_held must be at least max_value"):
        wsrpc.Limits(max_value=64 * MIB, max_held=32 * MIB)
