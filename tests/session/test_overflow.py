"""Consumers that do not keep up: what waits, what is let go, and what still arrives."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias

import anyio
import pytest
from pydantic import AfterValidator

import wsrpc
from tests.support import Codec, Wire, bare_server, error_of, full_only, pair, turns, until
from wsrpc.testing.pairs import connected_pair

Policy: TypeAlias = Literal["latest", "drop_oldest", "fail"]
Lossy: TypeAlias = Literal["latest", "drop_oldest"]

LOSSY: list[Lossy] = ["latest", "drop_oldest"]
POLICIES: list[Policy] = [*LOSSY, "fail"]


class Ticker:
    """Its generators run as fast as they may."""

    def __init__(self) -> None:
        self.produced = 0
        self.cleaned = 0

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int | wsrpc.Final[str]]:
        try:
            for i in range(n):
                self.produced += 1
                yield i
        finally:
            self.cleaned += 1
        yield wsrpc.Final("that is all")

    @wsrpc.method
    async def texts(self, n: int, size: int) -> AsyncIterator[str]:
        for i in range(n):
            self.produced += 1
            yield f"{i:x<{size}}"

    @wsrpc.method
    async def then_fail(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise wsrpc.RpcError("aborted", "the exchange closed", {"after": n})

    @wsrpc.method
    async def then_wait(self, n: int) -> AsyncIterator[int]:
        try:
            for i in range(n):
                yield i
            await anyio.sleep_forever()
        finally:
            self.cleaned += 1

    @wsrpc.method
    async def mixed(self, items: list[int | str]) -> AsyncIterator[int | str]:
        for item in items:
            yield item

    @wsrpc.method
    async def measure(self, items: AsyncIterator[int]) -> list[int]:
        assert isinstance(items, wsrpc.Stream)
        seen = [items.lag]
        async for _ in items:
            await turns(5)
            seen.append(items.lag)
        return [*seen, items.dropped]


async def all_arrived(stream: wsrpc.Stream[Any, Any], n: int) -> None:
    """Wait until `n` items wait or were let go."""
    await until(lambda: stream.lag + stream.dropped >= n)


# ------------------------------------------------------------------------------------ what is kept


@pytest.mark.parametrize(("overflow", "kept"), [("latest", 1), ("drop_oldest", 8)])
async def test_the_newest_items_are_kept_and_the_end_still_comes(
    codec: Codec, overflow: Lossy, kept: int
) -> None:
    ticker = Ticker()
    async with pair([ticker], codec=codec) as (_, client):
        stream = client.clientize(Ticker, overflow=overflow, window=8).count(1000)
        await anext(stream)
        await all_arrived(stream, 999)
        assert ticker.produced == 1000, "the producer was not made to wait"
        assert ticker.cleaned == 1
        assert (stream.lag, stream.dropped) == (kept, 1000 - kept - 1)
        assert [item async for item in stream] == list(range(1000 - kept, 1000))
        assert (stream.lag, stream.dropped) == (0, 1000 - kept - 1)
        assert stream.final == "that is all"


@pytest.mark.parametrize("overflow", LOSSY)
async def test_an_error_comes_after_the_newest_items(overflow: Lossy) -> None:
    async with pair([Ticker()]) as (_, client):
        stream = client.clientize(Ticker, overflow=overflow, window=4).then_fail(100)
        await anext(stream)
        await all_arrived(stream, 99)
        got: list[int] = []
        with error_of("aborted") as caught:
            async for item in stream:
                got.append(item)
        assert got == ([99] if overflow == "latest" else [96, 97, 98, 99])
        assert caught.value.data == {"after": 100}


@pytest.mark.parametrize("overflow", ["drop_oldest", "fail"])
@pytest.mark.parametrize("window", [1, *full_only(2, 3, 32), None])
async def test_a_consumer_that_keeps_up_loses_nothing(
    codec: Codec, overflow: Policy, window: int | None
) -> None:
    async with pair([Ticker()], codec=codec) as (_, client):
        ticker = client.clientize(Ticker, overflow=overflow, window=window)
        async with ticker.count(3000) as stream:
            assert [item async for item in stream] == list(range(3000))
            assert stream.dropped == 0


async def test_latest_gives_a_waiting_consumer_each_item_that_comes_alone() -> None:
    class Slow:
        def __init__(self) -> None:
            self.go = anyio.Event()

        @wsrpc.method
        async def ticks(self) -> AsyncIterator[int]:
            for n in range(50):
                await self.go.wait()
                self.go = anyio.Event()
                yield n

    slow = Slow()
    got: list[int] = []
    async with pair([slow]) as (_, client):
        slow.go.set()
        async with client.clientize(Slow, overflow="latest").ticks() as stream:
            async for n in stream:
                got.append(n)
                slow.go.set()
            assert stream.dropped == 0
    assert got == list(range(50))


async def test_what_waits_is_bounded_in_bytes_too() -> None:
    """Ten of these items would fit the window, two fit `window_bytes`, and there is the newest."""
    limits = wsrpc.Limits(window_bytes=2500)
    async with pair([Ticker()], limits=limits) as (_, client):
        ticker = client.clientize(Ticker, overflow="drop_oldest", window=10)
        stream = ticker.texts(100, 1000)
        await anext(stream)
        await all_arrived(stream, 99)
        assert (stream.lag, stream.dropped) == (3, 96)
        assert [text.rstrip("x") async for text in stream] == ["97", "98", "99"]


@pytest.mark.parametrize("overflow", ["drop_oldest", "fail"])
@pytest.mark.parametrize("size", [*full_only(10, 1000, 60_000), 100_000, *full_only(1_000_000)])
async def test_a_consumer_that_keeps_up_loses_no_large_items_either(
    overflow: Policy, size: int
) -> None:
    """No more is under way than may wait, from the first item on."""
    async with pair([Ticker()]) as (_, client):
        ticker = client.clientize(Ticker, overflow=overflow)
        stream = ticker.texts(60, size)
        assert [int(text.rstrip("x")) async for text in stream] == list(range(60))
        assert stream.dropped == 0


async def test_a_single_item_may_be_larger_than_that_bound() -> None:
    limits = wsrpc.Limits(window_bytes=2500)
    async with pair([Ticker()], limits=limits) as (_, client):
        for overflow in POLICIES:
            ticker: Any = client.clientize("Ticker", overflow=overflow)
            assert [len(text) async for text in ticker.texts(n=1, size=100_000)] == [100_000]


# ------------------------------------------------------------------------------------ fail


async def test_fail_ends_the_stream_when_more_than_the_window_waits(codec: Codec) -> None:
    ticker = Ticker()
    async with pair([ticker], codec=codec) as (_, client):
        async with client.clientize(Ticker, overflow="fail", window=8).count(1000) as stream:
            await anext(stream)
            await until(lambda: ticker.cleaned == 1)
            assert ticker.produced < 1000, "the far end was told to stop"
            assert stream.lag == 0, "what waited is let go at once"
            assert stream.dropped > 8
            with pytest.raises(wsrpc.StreamOverflow) as caught:
                await anext(stream)
            assert [item async for item in stream] == [], "raised once; after it, over"
            with pytest.raises(RuntimeError, match="iterate the stream to its end"):
                _ = stream.final
    error = caught.value
    assert (error.code, error.not_started) == ("resource_exhausted", False)
    assert f"Ticker.count: the consumer fell behind by {stream.dropped} items" in error.message
    assert "8 items (window=)" in error.message


async def test_fail_lets_as_many_wait_as_the_window_says() -> None:
    async with pair([Ticker()]) as (_, client):
        async with client.clientize(Ticker, overflow="fail", window=8).then_wait(9) as stream:
            assert await anext(stream) == 0
            await until(lambda: stream.lag == 8)
            assert [await anext(stream) for _ in range(8)] == list(range(1, 9))
            assert stream.dropped == 0


async def test_fail_counts_bytes_too() -> None:
    limits = wsrpc.Limits(window_bytes=2500)
    async with pair([Ticker()], limits=limits) as (_, client):
        stream = client.clientize(Ticker, overflow="fail", window=10).texts(100, 1000)
        await anext(stream)
        await until(lambda: stream.dropped > 0)
        with pytest.raises(wsrpc.StreamOverflow, match=r"2500 bytes \(Limits.window_bytes\)"):
            await anext(stream)
        assert stream.dropped == 4


async def test_an_overflow_crosses_to_a_caller_as_what_it_is() -> None:
    """A handler that relays a stream fails with it."""

    class Relay:
        @wsrpc.method
        async def relay(self) -> int:
            ticker = wsrpc.current().session.clientize(Ticker, overflow="fail", window=2)
            async with ticker.count(100) as stream:
                async for _ in stream:
                    await turns()
            return 0

    async with pair([Relay()], [Ticker()]) as (_, client):
        with pytest.raises(wsrpc.StreamOverflow) as caught:
            await client.clientize(Relay).relay()
    assert caught.value.code == "resource_exhausted"


# ------------------------------------------------------------------------------------ validation

validated: list[int] = []


def note(n: int) -> int:
    validated.append(n)
    return n


class Noting(Protocol):
    """Ticker as a caller sees it that validates with a side effect."""

    controller_name: ClassVar[str] = "Ticker"

    @wsrpc.method
    def count(self, n: int) -> AsyncIterator[Annotated[int, AfterValidator(note)]]: ...

    @wsrpc.method
    def mixed(self, items: list[int | str]) -> AsyncIterator[int]: ...


@pytest.mark.parametrize(("overflow", "kept"), [("latest", 1), ("drop_oldest", 8)])
async def test_items_that_are_let_go_are_not_validated(overflow: Lossy, kept: int) -> None:
    async with pair([Ticker()]) as (_, client):
        noting = client.clientize(Noting, overflow=overflow, window=8)
        # Validators are tried out when their type is registered.
        validated.clear()
        stream = noting.count(100)
        first = await anext(stream)
        await all_arrived(stream, 99)
        assert validated == [first]
        rest = await stream.collect()
    assert rest == list(range(100 - kept, 100))
    assert validated == [first, *rest]


async def test_a_bad_item_that_is_let_go_harms_nobody(codec: Codec) -> None:
    items: list[int | str] = [0, "bad", "bad", 3]
    async with pair([Ticker()], codec=codec) as (_, client):
        ticker = client.clientize(Noting, overflow="latest", window=4)
        stream = ticker.mixed(items)
        assert await stream.collect() == [3]
        assert stream.dropped == 3


async def test_a_bad_item_that_is_taken_fails_at_its_place(codec: Codec) -> None:
    items: list[int | str] = [0, 1, "bad", 3]
    got: list[int] = []
    async with pair([Ticker()], codec=codec) as (_, client):
        stream = client.clientize(Noting, overflow="drop_oldest").mixed(items)
        with error_of("internal") as caught:
            async for item in stream:
                got.append(item)
        assert "the answer of Ticker.mixed does not validate" in caught.value.message
        assert [item async for item in stream] == []
        assert (stream.lag, stream.dropped) == (0, 0)
    assert got == [0, 1]


# ------------------------------------------------------------------------------------ credit


@pytest.mark.rule("CREDIT-4", "CREDIT-5")
@pytest.mark.parametrize("overflow", ["drop_oldest", "fail"])
async def test_credit_comes_back_on_arrival_and_never_exceeds_the_window(
    overflow: Policy, wire: Wire
) -> None:
    async with pair([Ticker()]) as (_, client):
        async with client.clientize(Ticker, overflow=overflow, window=16).count(2000) as stream:
            assert len([item async for item in stream]) == 2000
    (call,) = wire.frames("call")
    balances = [call[4]["credit"]]
    for frame in wire.frames("message", "credit"):
        balances.append(balances[-1] + (frame[2] if frame[0] == "credit" else -len(frame[2])))
    assert balances[0] == 4, "large items at the very beginning would fit window_bytes, too"
    assert max(balances) == 16


# ------------------------------------------------------------------------------------ ways to end


@pytest.mark.parametrize("overflow", LOSSY)
async def test_leaving_such_a_stream_runs_the_generators_finally(overflow: Lossy) -> None:
    ticker = Ticker()
    async with pair([ticker]) as (_, client):
        async with client.clientize(Ticker, overflow=overflow).then_wait(100) as stream:
            await anext(stream)
            await all_arrived(stream, 99)
        assert stream.lag == 0
        await until(lambda: ticker.cleaned == 1)
        assert [item async for item in stream] == []


@pytest.mark.parametrize("overflow", ["block", *POLICIES])
async def test_items_that_come_after_the_end_are_not_kept(
    overflow: Literal["block", "latest", "drop_oldest", "fail"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session acts on a message in slices, and the consumer may leave between two of them."""
    limits = wsrpc.Limits(window_bytes=100 * 65_536)
    async with bare_server(monkeypatch, limits=limits) as (peer, client):
        ticker = client.clientize("Ticker", overflow=overflow, window=100)
        stream: wsrpc.Stream[int] = aiter(ticker.count(n=100))

        async def leave_at_the_first() -> None:
            await anext(stream)
            stream.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(leave_at_the_first)
            call = await peer.expect("call")
            assert call[4]["credit"] == 100
            await peer.send(*(["message", call[1], [0]] for _ in range(100)))
            await peer.expect("cancel")
        await turns()
        assert stream.lag == 0


async def test_dropping_the_last_reference_runs_the_generators_finally() -> None:
    ticker = Ticker()
    async with pair([ticker]) as (_, client):
        stream = client.clientize(Ticker, overflow="latest").then_wait(100)
        await anext(stream)
        gone = weakref.ref(stream)
        del stream
        assert gone() is None
        await until(lambda: ticker.cleaned == 1)


async def test_a_lost_connection_comes_after_the_newest_item() -> None:
    connection = connected_pair([Ticker()])
    with anyio.fail_after(20):
        async with connection as (_, client):
            stream = client.clientize(Ticker, overflow="latest").then_wait(100)
            await anext(stream)
            await all_arrived(stream, 99)
            connection.cut()
            await client.wait_closed()
            assert await anext(stream) == 99
            with pytest.raises(wsrpc.ConnectionLost):
                await anext(stream)


async def test_a_deadline_and_an_idle_timeout_end_such_a_stream_too() -> None:
    async with pair([Ticker()]) as (_, client):
        timeouts: list[dict[str, Any]] = [{"timeout": 0.05}, {"idle_timeout": 0.05}]
        for options in timeouts:
            ticker: Any = client.clientize("Ticker", overflow="latest", **options)
            stream = ticker.then_wait(n=3)
            with pytest.raises(wsrpc.DeadlineExceeded):
                while True:
                    await anext(aiter(stream))


# ------------------------------------------------------------------------------------ lag and dropped


async def test_lag_of_a_stream_that_blocks_is_at_most_its_window() -> None:
    ticker = Ticker()
    async with pair([ticker]) as (_, client):
        async with client.clientize(Ticker, window=8).count(1000) as stream:
            assert (stream.lag, stream.dropped) == (0, 0)
            assert await anext(stream) == 0
            await until(lambda: ticker.produced == 8)
            await turns()
            assert (stream.lag, stream.dropped) == (7, 0)
            assert await anext(stream) == 1
            assert stream.lag >= 6
        assert (stream.lag, stream.dropped) == (0, 0)


async def test_an_upload_tells_its_lag_and_loses_nothing() -> None:
    async with pair([Ticker()]) as (_, client):
        before, *lags, dropped = await client.clientize(Ticker).measure(wsrpc.stream_of(range(100)))
    assert before <= 32
    assert len(lags) == 100
    assert max(lags) >= 31
    assert lags[-1] == dropped == 0


async def test_a_local_stream_has_neither_lag_nor_losses() -> None:
    async with Ticker().count(3) as stream:
        await anext(stream)
        assert (stream.lag, stream.dropped) == (0, 0)


async def test_a_stream_that_a_method_hands_on_tells_of_the_one_it_comes_from() -> None:
    class Relay:
        def __init__(self, session: wsrpc.Session) -> None:
            self.session = session

        @wsrpc.method
        def count(self, n: int) -> AsyncIterator[int]:
            return self.session.clientize(Noting, overflow="latest").count(n)

    ticker = Ticker()
    async with pair([ticker]) as (_, client):
        stream = Relay(client).count(100)
        await anext(stream)
        await until(lambda: ticker.cleaned == 1 and stream.lag == 1)
        await turns()
        assert await stream.collect() == [99]
        assert (stream.lag, stream.dropped) == (0, 98)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_stream_behind_an_interceptor_tells_the_same(wrapped: bool) -> None:
    async def intercept(request: wsrpc.Request, call_next: wsrpc.Next, /) -> Any:
        items = await call_next(request)

        async def through() -> AsyncIterator[Any]:
            async for item in items:
                yield item

        return through() if wrapped else items

    async with pair([Ticker()]) as (_, client):
        ticker = client.clientize(Ticker, overflow="latest", interceptors=[intercept])
        stream = ticker.count(100)
        assert (stream.lag, stream.dropped) == (0, 0)
        await anext(stream)
        await all_arrived(stream, 99)
        assert stream.lag == 1
        assert await stream.collect() == [99]
        assert (stream.lag, stream.dropped) == (0, 98)


async def test_what_a_fetcher_makes_of_several_streams_tells_of_them_all() -> None:
    inner: list[int] = []

    async def twice(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[Any]:
        for _ in range(2):
            stream = fetch(request)
            yield await anext(stream)
            await all_arrived(stream, 9)
            async for item in stream:
                yield item
            inner.append(stream.dropped)

    async with pair([Ticker()]) as (_, client):
        options: dict[str, Any] = {"overflow": "drop_oldest", "window": 4}
        ticker = client.clientize(Ticker, stream_fetcher=twice, **options)
        stream = ticker.count(10)
        assert await stream.collect() == [0, 6, 7, 8, 9] * 2
    assert inner == [5, 5]
    assert stream.dropped == 10


async def test_a_fetcher_sees_the_policy() -> None:
    seen: list[object] = []

    def fetcher(
        request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /
    ) -> wsrpc.Stream[Any, Any]:
        seen.append(request.options["overflow"])
        return fetch(request)

    async with pair([Ticker()]) as (_, client):
        await client.clientize(Ticker, stream_fetcher=fetcher).count(1).collect()
        ticker = client.clientize(Ticker, stream_fetcher=fetcher, overflow="fail")
        await ticker.count(1).collect()
    assert seen == ["block", "fail"]


async def test_by_bare_name_it_is_the_same() -> None:
    async with pair([Ticker()]) as (_, client):
        stream = client.clientize("Ticker", overflow="latest").count(n=100)
        assert (stream.lag, stream.dropped) == (0, 0)
        items = aiter(stream)
        await anext(items)
        await until(lambda: stream.lag + stream.dropped == 99)
        assert stream.lag == 1
        assert await stream.collect() == [99]
        assert (stream.dropped, stream.final) == (98, "that is all")


async def test_a_value_called_by_bare_name_has_neither() -> None:
    class Values:
        @wsrpc.method
        async def one(self) -> int:
            return 1

    async with pair([Values()]) as (_, client):
        call = client.clientize("Values", overflow="latest").one()
        assert (call.lag, call.dropped) == (0, 0), "to ask does not decide what it is"
        assert await call == 1
        assert (call.lag, call.dropped) == (0, 0)
