"""Streams towards the caller: items, order, credit, pausing, and every way to end one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, Wire, error_of, pair, turns, until, wire_of
from wsrpc.stream import NotFinished


class Token(BaseModel):
    message: str


class Usage(BaseModel):
    tokens: int


class Tokens:
    """The generators note what becomes of them."""

    def __init__(self) -> None:
        self.produced = 0
        self.begun = 0
        self.cleaned: list[str] = []
        self.release = anyio.Event()

    @wsrpc.method
    async def generator(self, n: int) -> AsyncIterator[Token]:
        for i in range(n):
            yield Token(message=str(i))

    @wsrpc.method
    def sync_generator(self, n: int) -> Iterator[Token]:
        for i in range(n):
            yield Token(message=str(i))

    @wsrpc.method
    def returned(self, n: int) -> AsyncIterator[Token]:
        async def tokens() -> AsyncIterator[Token]:
            for i in range(n):
                yield Token(message=str(i))

        return tokens()

    @wsrpc.method
    async def awaited(self, n: int) -> AsyncIterator[Token]:
        await anyio.sleep(0)
        return self.returned(n)

    @wsrpc.method
    async def forever(self) -> AsyncIterator[int]:
        """Yields as fast as it may."""
        self.begun += 1
        try:
            while True:
                yield self.produced
                self.produced += 1
        finally:
            self.cleaned.append("forever")

    @wsrpc.method
    async def waiting(self) -> AsyncIterator[int]:
        """Yields once and then waits for ever."""
        self.begun += 1
        try:
            yield 0
            await anyio.sleep_forever()
        finally:
            self.cleaned.append("waiting")

    @wsrpc.method
    async def slow_cleanup(self) -> AsyncIterator[int]:
        try:
            yield 0
            yield 1
            await anyio.sleep_forever()
        finally:
            for n in range(3):
                await anyio.sleep(0.01)
                self.cleaned.append(str(n))
            await self.release.wait()
            self.cleaned.append("done")

    @wsrpc.method
    async def falsy(self) -> AsyncIterator[object]:
        for item in FALSY:
            yield item

    @wsrpc.method
    async def numbers(self) -> list[int]:
        return [1, 2, 3]

    @wsrpc.method
    async def large(self, n: int) -> AsyncIterator[str]:
        for i in range(n):
            yield str(i % 10) * 2**20

    @wsrpc.method
    async def with_usage(self, n: int) -> AsyncIterator[Token | wsrpc.Final[Usage]]:
        for i in range(n):
            yield Token(message=str(i))
        yield wsrpc.Final(Usage(tokens=n))
        self.cleaned.append("after Final")

    @wsrpc.method
    async def with_final(self, value: object) -> AsyncIterator[int | wsrpc.Final[object]]:
        yield wsrpc.Final(value)

    @wsrpc.method
    async def undeclared_final(self) -> AsyncIterator[int]:
        yield 1
        final: Any = wsrpc.Final(2)
        yield final

    @wsrpc.method
    async def fail_after(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise wsrpc.RpcError("aborted", f"failed after {n} items", {"n": n})

    @wsrpc.method
    async def fail_at_once(self) -> AsyncIterator[int]:
        if self.produced == 0:
            raise wsrpc.RpcError("not_found", "nothing here", [1, "two"])
        yield 1

    @wsrpc.method
    async def break_at_once(self) -> AsyncIterator[int]:
        raise ValueError("unforeseen")

    @wsrpc.method
    async def wrong_item(self) -> AsyncIterator[int]:
        yield 1
        wrong: Any = "two"
        yield wrong
        yield 3

    @wsrpc.method
    async def swallows(self) -> AsyncIterator[int]:
        """Swallows its cancellation, and would go on."""
        n = 0
        while True:
            try:
                yield n
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                self.cleaned.append("swallowed")
            n += 1


FALSY: list[object] = [
    "",
    0,
    0.0,
    False,
    None,
    [],
    {},
    {"isError": True, "reason": "x"},
    {"code": "aborted", "message": "not an error"},
    "line\nline\r\n\u2028\x00 \U0001f600",
    [None],
]

FLAVOURS = ["generator", "sync_generator", "returned", "awaited"]


@pytest.mark.rule("CALL-5", "MSG-2")
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("n", [0, 1, 33, 500])
async def test_every_way_to_write_a_stream_gives_its_items_in_order(
    codec: Codec, flavour: str, n: int, wire: Wire
) -> None:
    async with pair([Tokens()], codec=codec) as (_, client):
        stream = getattr(client.clientize(Tokens), flavour)(n)
        assert [token async for token in stream] == [Token(message=str(i)) for i in range(n)]
        assert [token async for token in stream] == []
    wire.assert_one_terminal_each()


@pytest.mark.rule("MSG-1")
async def test_falsy_values_and_lookalikes_of_errors_are_items(codec: Codec) -> None:
    async with pair([Tokens()], codec=codec) as (_, client):
        items = await client.clientize(Tokens).falsy().collect()
    assert items == FALSY
    assert list(map(type, items)) == list(map(type, FALSY))


async def test_a_list_returned_by_a_plain_method_is_one_value() -> None:
    async with pair([Tokens()]) as (_, client):
        assert await client.clientize(Tokens).numbers() == [1, 2, 3]


async def test_items_of_a_mebibyte_are_items(codec: Codec) -> None:
    async with pair([Tokens()], codec=codec) as (_, client):
        items = await client.clientize(Tokens).large(4).collect()
    assert [(item[0], len(item)) for item in items] == [(str(i), 2**20) for i in range(4)]


async def test_many_streams_at_a_time_do_not_mix(codec: Codec, wire: Wire) -> None:
    got: dict[int, list[Token]] = {}
    async with pair([Tokens()], codec=codec) as (_, client):
        tokens = client.clientize(Tokens)

        async def one(n: int) -> None:
            got[n] = await tokens.generator(n).collect()

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(one, n)
    assert {n: len(items) for n, items in got.items()} == {n: n for n in range(100)}
    wire.assert_one_terminal_each()


@pytest.mark.rule("CALL-6", "CREDIT-2")
async def test_a_stalled_stream_delays_no_other() -> None:
    async with pair([Tokens()]) as (_, client):
        tokens = client.clientize(Tokens)
        async with tokens.forever() as stalled:
            await anext(stalled)
            assert len(await tokens.generator(1000).collect()) == 1000
            assert await tokens.numbers() == [1, 2, 3]


async def test_nothing_is_sent_before_the_first_item_is_asked_for(wire: Wire) -> None:
    async with pair([Tokens()]) as (_, client):
        stream = client.clientize(Tokens).generator(1)
        await turns()
        assert not wire.frames("call")
        assert await anext(stream) == Token(message="0")


# ------------------------------------------------------------------------------------ credit


@pytest.mark.rule("CREDIT-2", "CREDIT-4")
async def test_a_generator_never_runs_ahead_of_its_consumer_by_more_than_its_credit() -> None:
    tokens = Tokens()
    async with pair([tokens], limits=wsrpc.Limits(window=8)) as (_, client):
        async with client.clientize(Tokens).forever() as stream:
            await anext(stream)
            await turns(100)
            assert tokens.produced == 8 - 1
            for _ in range(4):
                await anext(stream)
            await turns(100)
            assert tokens.produced <= 2 * 8


@pytest.mark.rule("CREDIT-1")
async def test_the_window_of_a_proxy_is_where_its_streams_start(wire: Wire) -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        async with client.clientize(Tokens, window=3).forever() as stream:
            await anext(stream)
            await turns(100)
            assert tokens.produced == 3
    (call,) = wire.frames("call")
    assert call[4]["credit"] == 3


async def test_a_window_of_nothing_is_refused() -> None:
    async with pair([Tokens()]) as (_, client):
        with pytest.raises(ValueError, match="window"):
            client.clientize(Tokens, window=0)


@pytest.mark.rule("CREDIT-4", "CREDIT-5")
async def test_the_window_grows_while_the_consumer_keeps_up(wire: Wire) -> None:
    async with pair([Tokens()], limits=wsrpc.Limits(window=1)) as (_, client):
        assert len(await client.clientize(Tokens).generator(2000).collect()) == 2000
    assert len(wire.frames("credit")) < 200


# ------------------------------------------------------------------------------------ pausing, ending


async def test_a_bare_break_pauses_and_iterating_again_goes_on() -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        stream = client.clientize(Tokens).generator(10)
        async for token in stream:
            if token.message == "3":
                break
        await turns()
        assert [token.message async for token in stream] == [str(i) for i in range(4, 10)]


async def test_collect_gives_what_is_still_to_come() -> None:
    async with pair([Tokens()]) as (_, client):
        stream = client.clientize(Tokens).generator(5)
        await anext(stream)
        assert [token.message for token in await stream.collect()] == ["1", "2", "3", "4"]


async def leave(stream: wsrpc.Stream[int]) -> None:
    async with stream:
        await anext(stream)


async def leave_by_exception(stream: wsrpc.Stream[int]) -> None:
    with pytest.raises(KeyError):
        async with stream:
            async for _ in stream:
                raise KeyError


async def close(stream: wsrpc.Stream[int]) -> None:
    await anext(stream)
    await stream.aclose()


async def cancel(stream: wsrpc.Stream[int]) -> None:
    await anext(stream)
    stream.cancel()


async def cancel_scope(stream: wsrpc.Stream[int]) -> None:
    await anext(stream)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def consume() -> None:
                async for _ in stream:
                    pass

            group.start_soon(consume)
            await turns(5)
            scope.cancel()
    assert scope.cancelled_caught


ENDINGS = [leave, leave_by_exception, close, cancel, cancel_scope]


@pytest.mark.rule("CANCEL-3", "CANCEL-5")
@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("method", ["forever", "waiting"])
async def test_every_way_to_end_a_stream_runs_the_generators_finally(
    codec: Codec, end: Any, method: str, wire: Wire
) -> None:
    tokens = Tokens()
    async with pair([tokens], codec=codec) as (_, client):
        stream = getattr(client.clientize(Tokens), method)()
        await end(stream)
        if end is cancel_scope:
            # Nobody has asked for this end.
            with error_of("cancelled"):
                await anext(stream)
            stream.cancel()
        assert [item async for item in stream] == []
        with pytest.raises(NotFinished):
            _ = stream.final
        await until(lambda: tokens.cleaned == [method])
        await until(lambda: len(wire.frames("error")) == 1)
        assert len(wire.frames("cancel")) == 1
        assert wire.frames("error")[0][2]["code"] == "cancelled"
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize("method", ["forever", "waiting"])
async def test_dropping_the_last_reference_runs_the_generators_finally(
    method: str, wire: Wire
) -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        stream = getattr(client.clientize(Tokens), method)()
        assert await anext(stream) == 0
        assert not tokens.cleaned
        gone = weakref.ref(stream)
        del stream
        assert gone() is None, "only a cycle of references keeps it alive"
        await until(lambda: tokens.cleaned == [method])


async def test_dropping_a_stream_out_of_a_half_finished_loop_ends_it() -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        proxy = client.clientize(Tokens)

        async def first() -> int:
            async for item in proxy.forever():
                return item
            return -1

        assert await first() == 0
        await until(lambda: tokens.cleaned == ["forever"])


async def test_dropping_a_stream_that_was_never_iterated_sends_nothing(wire: Wire) -> None:
    async with pair([Tokens()]) as (_, client):
        stream = client.clientize(Tokens).forever()
        del stream
        gc.collect()
        await turns()
    assert not wire.frames("call", "cancel")


async def test_ending_a_stream_that_was_never_iterated_sends_nothing(wire: Wire) -> None:
    async with pair([Tokens()]) as (_, client):
        for end in ("aclose", "cancel"):
            stream: Any = client.clientize(Tokens).forever()
            outcome = getattr(stream, end)()
            if outcome is not None:
                await outcome
            assert [item async for item in stream] == []
        async with client.clientize(Tokens).forever():
            pass
    assert not wire.frames("call", "cancel")


@pytest.mark.rule("CANCEL-4")
async def test_ending_a_stream_twice_is_fine(wire: Wire) -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        async with client.clientize(Tokens).forever() as stream:
            await anext(stream)
            stream.cancel()
            stream.cancel()
            await stream.aclose()
        await until(lambda: tokens.cleaned == ["forever"])
        await until(lambda: len(wire.frames("error")) == 1)
    assert len(wire.frames("cancel")) == 1


async def test_ending_a_stream_that_has_ended_sends_nothing(wire: Wire) -> None:
    async with pair([Tokens()]) as (_, client):
        async with client.clientize(Tokens).generator(3) as stream:
            assert len(await stream.collect()) == 3
        await stream.aclose()
    assert not wire.frames("cancel")


async def test_cancelling_a_stream_from_another_task_ends_the_iteration() -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        stream = client.clientize(Tokens).waiting()
        items: list[int] = []

        async def consume() -> None:
            async for item in stream:
                items.append(item)

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await until(lambda: items == [0])
            stream.cancel()
        await until(lambda: tokens.cleaned == ["waiting"])


async def test_a_stream_has_one_consumer() -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        async with client.clientize(Tokens).waiting() as stream:
            await anext(stream)
            async with anyio.create_task_group() as group:

                async def wait() -> None:
                    assert [item async for item in stream] == []

                group.start_soon(wait)
                await turns(5)
                with pytest.raises(RuntimeError, match="one consumer"):
                    await anext(stream)
                stream.cancel()


@pytest.mark.rule("CANCEL-3", "CALL-5", "SLOT-2")
@pytest.mark.parametrize("consumed", [1, 2])
@pytest.mark.parametrize("window", [1, 32])
async def test_cleanup_may_await_without_a_shield_and_the_slot_is_taken_until_it_is_through(
    consumed: int, window: int, wire: Wire
) -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        stream = client.clientize(Tokens, window=window).slow_cleanup()
        async with stream:
            for _ in range(consumed):
                await anext(stream)
        await until(lambda: tokens.cleaned == ["0", "1", "2"])
        assert not wire.frames("error")
        tokens.release.set()
        await until(lambda: tokens.cleaned[-1] == "done")
        await until(lambda: len(wire.frames("error")) == 1)


async def test_cleanup_that_takes_longer_than_cleanup_timeout_is_cancelled_too(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens()
    async with pair([tokens], limits=wsrpc.Limits(cleanup_timeout=0.5)) as (_, client):
        async with client.clientize(Tokens).slow_cleanup() as stream:
            await anext(stream)
        await until(lambda: len(wire.frames("error")) == 1)
        assert tokens.cleaned == ["0", "1", "2"]
    assert "Tokens.slow_cleanup was still cleaning up" in caplog.text


@pytest.mark.rule("CANCEL-5")
async def test_a_generator_that_swallows_its_cancellation_is_stopped_all_the_same(
    wire: Wire,
) -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        async with client.clientize(Tokens).swallows() as stream:
            assert await anext(stream) == 0
        await until(lambda: len(wire.frames("error")) == 1)
    assert tokens.cleaned == ["swallowed"]
    assert len(wire.frames("message")) == 1


@pytest.mark.rule("CLOSE-4", "CLOSE-5")
async def test_a_lost_connection_raises_and_runs_the_finally() -> None:
    tokens = Tokens()
    async with pair([tokens]) as (server, client):
        stream = client.clientize(Tokens).waiting()
        assert await anext(stream) == 0
        link = wire_of(server).link
        assert link is not None
        await link.close(1006)
        with pytest.raises(wsrpc.ConnectionLost) as caught:
            await anext(stream)
        assert caught.value.code == "unavailable"
        assert not caught.value.not_started
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        with pytest.raises(NotFinished):
            _ = stream.final
        await until(lambda: tokens.cleaned == ["waiting"])


@pytest.mark.rule("CLOSE-4")
async def test_what_arrived_before_the_connection_was_lost_is_delivered_first() -> None:
    tokens = Tokens()
    async with pair([tokens]) as (server, client):
        stream = client.clientize(Tokens, window=8).forever()
        assert await anext(stream) == 0
        await turns(50)
        await server.aclose()
        assert [await anext(stream) for _ in range(7)] == [1, 2, 3, 4, 5, 6, 7]
        with pytest.raises(wsrpc.ConnectionLost):
            await anext(stream)


# ------------------------------------------------------------------------------------ errors


@pytest.mark.rule("ERROR-2")
async def test_an_error_before_the_first_item_is_raised_by_the_first_iteration(
    codec: Codec,
) -> None:
    async with pair([Tokens()], codec=codec) as (_, client):
        stream = client.clientize(Tokens).fail_at_once()
        with error_of("not_found") as caught:
            await anext(stream)
        assert caught.value.message == "nothing here"
        assert caught.value.data == [1, "two"]
        assert [item async for item in stream] == []


@pytest.mark.rule("ERROR-2")
@pytest.mark.parametrize("n", [1, 31, 32, 33, 300])
async def test_an_error_after_n_items_comes_after_exactly_n_items(codec: Codec, n: int) -> None:
    items: list[int] = []
    async with pair([Tokens()], codec=codec) as (_, client):
        with error_of("aborted") as caught:
            async for item in client.clientize(Tokens).fail_after(n):
                items.append(item)
    assert items == list(range(n))
    assert caught.value.message == f"failed after {n} items"
    assert caught.value.data == {"n": n}


@pytest.mark.rule("ERROR-3")
async def test_an_unforeseen_error_of_a_stream_is_internal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pair([Tokens()]) as (_, client):
        with error_of("internal") as caught:
            await client.clientize(Tokens).break_at_once().collect()
    assert caught.value.message == "internal error"
    assert caught.value.error_id
    assert caught.value.error_id
    assert caught.value.error_id in caplog.text


@pytest.mark.rule("VALUE-3")
async def test_an_item_that_does_not_fit_its_type_ends_the_stream_after_those_before_it(
    codec: Codec,
) -> None:
    items: list[int] = []
    tokens = Tokens()
    async with pair([tokens], codec=codec) as (_, client):
        with error_of("internal"):
            async for item in client.clientize(Tokens).wrong_item():
                items.append(item)
    assert items == [1]


@pytest.mark.rule("VALUE-4")
async def test_an_item_that_does_not_validate_on_arrival_is_the_other_ends_fault(
    codec: Codec,
) -> None:

    class Loose:
        controller_name = "Tokens"

        @wsrpc.method
        async def generator(self) -> AsyncIterator[object]:
            yield {"message": "0"}
            yield {"massage": "1"}
            yield {"message": "2"}

    class Strict:
        controller_name = "Tokens"

        @wsrpc.method
        async def generator(self) -> AsyncIterator[Token]:
            yield Token(message="")

    async with pair([Loose()], codec=codec) as (_, client):
        stream = client.clientize(Strict).generator()
        assert await anext(stream) == Token(message="0")
        with error_of("internal") as caught:
            await anext(stream)
        assert "Tokens.generator" in caught.value.message
        assert [item async for item in stream] == []
        with pytest.raises(NotFinished):
            _ = stream.final


async def test_validate_none_takes_items_as_plain_values(codec: Codec) -> None:
    async with pair([Tokens()], codec=codec) as (_, client):
        items: list[Any] = await client.clientize(Tokens, validate="none").generator(2).collect()
    assert items == [{"message": "0"}, {"message": "1"}]


# ------------------------------------------------------------------------------------ final values


@pytest.mark.rule("END-1")
async def test_a_stream_may_end_with_a_final_value(codec: Codec) -> None:
    tokens = Tokens()
    async with pair([tokens], codec=codec) as (_, client):
        stream = client.clientize(Tokens).with_usage(3)
        with pytest.raises(NotFinished):
            _ = stream.final
        assert len([token async for token in stream]) == 3
        assert stream.final == Usage(tokens=3)


@pytest.mark.rule("END-1")
@pytest.mark.parametrize("value", [None, 0, "", {"a": [1]}])
async def test_any_value_can_be_the_final_one(codec: Codec, value: object, wire: Wire) -> None:
    async with pair([Tokens()], codec=codec) as (_, client):
        stream = client.clientize(Tokens).with_final(value)
        assert await stream.collect() == []
        assert stream.final == value
    (end,) = wire.frames("end")
    assert end[2] == [value]


@pytest.mark.rule("END-1")
async def test_a_stream_without_a_final_value_ends_with_none() -> None:
    async with pair([Tokens()]) as (_, client):
        stream = client.clientize(Tokens).generator(1)
        await stream.collect()
        assert stream.final is None


async def test_a_final_value_that_is_not_declared_is_an_internal_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pair([Tokens()]) as (_, client):
        with error_of("internal"):
            await client.clientize(Tokens).undeclared_final().collect()
    assert "AsyncIterator[Item | wsrpc.Final[Value]]" in caplog.text


@pytest.mark.rule("END-1")
async def test_a_stream_that_a_method_hands_on_keeps_its_final_value() -> None:

    class Relay:
        @wsrpc.method
        def directly(self) -> wsrpc.Stream[Token, Usage]:
            return upstream.clientize(Tokens).with_usage(2)

        @wsrpc.method
        async def awaited(self) -> wsrpc.Stream[Token, Usage]:
            return upstream.clientize(Tokens).with_usage(2)

        @wsrpc.method
        def without(self) -> AsyncIterator[Token]:
            return upstream.clientize(Tokens).with_usage(2)

    async with pair([Tokens()]) as (_, upstream), pair([Relay()]) as (_, client):
        relay = client.clientize(Relay)
        for stream in (relay.directly(), relay.awaited()):
            assert len([token async for token in stream]) == 2
            assert stream.final == Usage(tokens=2)
        assert len(await relay.without().collect()) == 2


@pytest.mark.rule("CANCEL-3")
async def test_ending_a_stream_that_is_handed_on_ends_it_at_its_source() -> None:

    class Relay:
        @wsrpc.method
        def forever(self) -> AsyncIterator[int]:
            return upstream.clientize(Tokens).forever()

    tokens = Tokens()
    async with pair([tokens]) as (_, upstream), pair([Relay()]) as (_, client):
        async with client.clientize(Relay).forever() as stream:
            assert await anext(stream) == 0
        await until(lambda: tokens.cleaned == ["forever"])


# ------------------------------------------------------------------------------------ wrong use


async def test_a_stream_that_is_awaited_says_what_to_write_instead() -> None:
    async with pair([Tokens()]) as (_, client):
        stream: Any = client.clientize(Tokens).generator(1)
        with pytest.raises(TypeError, match=r"async for .*collect"):
            await stream


async def test_a_value_that_is_iterated_says_what_to_write_instead() -> None:
    async with pair([Tokens()]) as (_, client):
        numbers: Any = client.clientize(Tokens).numbers
        with pytest.raises(TypeError, match="write `await"):
            async for _ in numbers():
                pass


@pytest.mark.rule("CALL-8")
async def test_by_bare_name_the_wrong_use_says_so_too(wire: Wire) -> None:
    tokens = Tokens()
    async with pair([tokens]) as (_, client):
        proxy = client.clientize("Tokens")
        with pytest.raises(TypeError, match="async for") as caught:
            await proxy.forever()
        assert isinstance(caught.value, wsrpc.RpcError)
        await until(lambda: tokens.cleaned == ["forever"])
        with pytest.raises(TypeError, match="async for"):
            await proxy.generator(n=0)
        with pytest.raises(TypeError, match="write `await"):
            async for _ in proxy.numbers():
                pass
    wire.assert_one_terminal_each()
