"""Nothing ends as if it were complete when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import wsrpc
import wsrpc.testing
from tests.support import Codec, pair, soon, until

Raiser = Callable[[], BaseException]


def loops_own() -> BaseException:
    """The exception with which the running event loop cancels."""
    cancelled = anyio.get_cancelled_exc_class()
    if cancelled is asyncio.CancelledError:
        return asyncio.CancelledError("by hand")
    # trio makes them itself, so this is one that code has kept.
    made: Any = cancelled
    one: BaseException = made._create()
    return one


SPECIAL: dict[str, Raiser] = {
    "StopAsyncIteration": lambda: StopAsyncIteration("by hand"),
    "StopIteration": lambda: StopIteration("by hand"),
    "GeneratorExit": lambda: GeneratorExit("by hand"),
    "cancelled": loops_own,
    "SystemExit": lambda: SystemExit(3),
}


async def failed(awaitable: Awaitable[Any]) -> wsrpc.RpcError[Any]:
    """The error of a call that must fail."""
    with soon(), pytest.raises(wsrpc.RpcError) as caught:
        await awaitable
    return caught.value


class AfterFinal:
    """Goes on after its final value."""

    def __init__(self) -> None:
        self.after: list[str] = []
        self.go = anyio.Event()

    @wsrpc.method
    async def quiet(self) -> AsyncIterator[int | wsrpc.Final[str]]:
        try:
            yield 1
            yield wsrpc.Final("done")
            self.after.append("went on")
        except GeneratorExit:
            self.after.append("closed")
            raise

    @wsrpc.method
    async def waits(self) -> AsyncIterator[int | wsrpc.Final[str]]:
        yield wsrpc.Final("done")
        await self.go.wait()
        self.after.append("went on")

    @wsrpc.method
    async def item(self) -> AsyncIterator[int | wsrpc.Final[str]]:
        yield 1
        yield wsrpc.Final("done")
        yield 2

    @wsrpc.method
    async def second(self) -> AsyncIterator[int | wsrpc.Final[str]]:
        yield wsrpc.Final("done")
        yield wsrpc.Final("again")

    @wsrpc.method
    async def fails(self) -> AsyncIterator[int | wsrpc.Final[str]]:
        yield wsrpc.Final("done")
        raise wsrpc.RpcError("aborted", "after all")

    @wsrpc.method
    def plain(self) -> Iterator[int | wsrpc.Final[str]]:
        yield 1
        yield wsrpc.Final("done")
        self.after.append("went on")

    @wsrpc.method
    def plain_item(self) -> Iterator[int | wsrpc.Final[str]]:
        yield wsrpc.Final("done")
        yield 2


@pytest.mark.rule("END-3")
async def test_code_after_yield_final_x_runs_and_an_item_after_it_is_an_error(
    codec: Codec,
) -> None:
    service = AfterFinal()
    async with pair([service], codec=codec) as (_, client):
        proxy = client.clientize(AfterFinal)
        for stream in (proxy.quiet(), proxy.plain()):
            assert [item async for item in stream] == [1]
            assert stream.final == "done"
            assert service.after.pop() == "went on"
        for stream in (proxy.item(), proxy.second(), proxy.plain_item()):
            with pytest.raises(wsrpc.RpcError) as caught:
                _ = [item async for item in stream]
            assert caught.value.code == "internal"
            assert caught.value.error_id
            with pytest.raises(RuntimeError):
                _ = stream.final


@pytest.mark.rule("END-3")
async def test_the_end_goes_out_when_the_handler_has_ended() -> None:
    service = AfterFinal()
    async with pair([service]) as (_, client):
        stream = client.clientize(AfterFinal, window=1).waits()
        async with anyio.create_task_group() as group:
            ended: list[int] = []

            async def read() -> None:
                ended.extend([item async for item in stream])
                assert service.after == ["went on"]

            group.start_soon(read)
            await until(lambda: service.go.statistics().tasks_waiting == 1)
            assert not service.after
            service.go.set()
        assert stream.final == "done"


@pytest.mark.rule("END-3")
async def test_a_failure_after_the_final_value_is_the_streams_error() -> None:
    async with pair([AfterFinal()]) as (_, client):
        stream = client.clientize(AfterFinal).fails()
        with pytest.raises(wsrpc.RpcError) as caught:
            await anext(stream)
        assert caught.value.code == "aborted"
        with pytest.raises(RuntimeError):
            _ = stream.final


@pytest.mark.rule("END-3")
async def test_a_stream_that_is_cancelled_after_its_final_value_is_stopped() -> None:
    service = AfterFinal()
    async with pair([service]) as (_, client):
        async with client.clientize(AfterFinal).waits() as stream:
            with anyio.move_on_after(0.02):
                await anext(stream)
        await until(lambda: service.go.statistics().tasks_waiting == 0)
        assert not service.after


# --- Exceptions to which Python gives a special meaning ---------------------------------------------


class ByHand:
    """Raises what is said by hand, wherever code of a user's runs."""

    def __init__(self, error: Raiser) -> None:
        self.error = error

    @wsrpc.method
    async def value(self) -> int:
        raise self.error()

    @wsrpc.method
    def plain_value(self) -> int:
        raise self.error()

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 1
        raise self.error()

    @wsrpc.method
    async def later(self) -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(0)
        raise self.error()

    @wsrpc.method
    def plain_items(self) -> Iterator[int]:
        yield 1
        raise self.error()

    @wsrpc.method
    def plain_iterator(self) -> Iterator[int]:
        raise self.error()

    @wsrpc.method
    async def looked_up(self) -> AsyncIterator[int]:
        raise self.error()

    @wsrpc.method
    async def cleanup(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise self.error()

    @wsrpc.method
    async def take(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    @wsrpc.method
    async def call(self, fn: Callable[[int], Awaitable[int]]) -> int:
        return await fn(1)


class Custom:
    """An async iterator that raises at a step what is no end."""

    def __init__(self, error: Raiser) -> None:
        self.error = error
        self.first = True

    def __aiter__(self) -> Custom:
        return self

    async def __anext__(self) -> int:
        if self.first:
            self.first = False
            return 1
        raise self.error()


@pytest.fixture(params=list(SPECIAL.values()), ids=list(SPECIAL))
def error(request: pytest.FixtureRequest) -> Raiser:
    raiser: Raiser = request.param
    return raiser


async def taken(stream: AsyncIterator[int]) -> list[int]:
    """All items of a stream that is not to end as if it were complete."""
    items: list[int] = []
    async for item in stream:
        items.append(item)
    raise AssertionError(f"the stream ended as if it were complete, after {items}")


async def test_a_stopasynciteration_stopiteration_generatorexit_the_loops_own_cancelled_exception_that_user_code_raises_by_hand_is_an_error_never_an_end_and_never_a_cancel(
    error: Raiser, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair([ByHand(error)], codec=codec) as (_, client):
        proxy = client.clientize(ByHand)
        for call in (proxy.value, proxy.plain_value):
            error_of_call = await failed(call())
            assert error_of_call.code == "internal", call
            assert error_of_call.error_id
        for stream in (proxy.items(), proxy.later(), proxy.plain_items(), proxy.plain_iterator()):
            with pytest.raises(wsrpc.RpcError) as caught:
                await taken(stream)
            assert caught.value.code == "internal", stream
            assert caught.value.error_id
        with pytest.raises(wsrpc.RpcError) as caught:
            await taken(proxy.cleanup())
        assert caught.value.code == "internal"


async def test_what_an_upload_raises_by_hand_is_raised_where_the_call_was_made(
    error: Raiser,
) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise error()

    def plain() -> Iterator[int]:
        yield 1
        raise error()

    async with pair([ByHand(error)]) as (_, client):
        proxy = client.clientize(ByHand)
        uploads: list[Any] = [source(), wsrpc.stream_of(plain())]
        if not isinstance(error(), StopAsyncIteration):
            uploads.append(Custom(error))
        for upload in uploads:
            with soon(), pytest.raises(RuntimeError, match="raised"):
                await proxy.take(upload)


async def test_what_a_callback_raises_by_hand_is_internal_to_its_caller(error: Raiser) -> None:
    async def fn(n: int) -> int:
        raise error()

    def plain(n: int) -> int:
        raise error()

    async with pair([ByHand(error)]) as (_, client):
        proxy = client.clientize(ByHand)
        callbacks: list[Any] = [fn, plain]
        for callback in callbacks:
            assert (await failed(proxy.call(callback))).code == "internal"


async def test_what_an_interceptor_raises_by_hand_is_never_an_end(error: Raiser) -> None:
    async def inbound(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        raise error()

    class Numbers:
        interceptors = (inbound,)

        @wsrpc.method
        async def one(self) -> int:
            return 1

        @wsrpc.method
        async def items(self) -> AsyncIterator[int]:
            yield 1

    async with pair([Numbers()]) as (_, client):
        proxy = client.clientize(Numbers)
        assert (await failed(proxy.one())).code == "internal"
        with pytest.raises(wsrpc.RpcError) as caught:
            await taken(proxy.items())
        assert caught.value.code == "internal"


class Counting:
    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number


async def test_what_a_fetcher_or_an_outbound_interceptor_raises_by_hand_is_never_an_end(
    error: Raiser,
) -> None:
    async def outbound(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        raise error()

    async def fetcher(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[int]:
        async for item in fetch(request):
            yield item
            raise error()

    async def made(request: wsrpc.StreamRequest) -> Any:
        raise error()

    def looked_up(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> Any:
        return made(request)

    async with pair([Counting()]) as (_, client):
        for proxy in (
            client.clientize(Counting, interceptors=[outbound]),
            client.clientize(Counting, stream_fetcher=fetcher),
            client.clientize(Counting, stream_fetcher=looked_up),
        ):
            with pytest.raises((RuntimeError, SystemExit)):
                await taken(proxy.items())


async def test_a_local_stream_does_not_end_by_what_is_raised_by_hand(error: Raiser) -> None:
    def plain() -> Iterator[int]:
        yield 1
        raise error()

    async def source() -> AsyncIterator[int]:
        yield 1
        raise error()

    for items in (plain(), source()):
        with pytest.raises((RuntimeError, SystemExit)):
            await taken(wsrpc.stream_of(items))
    with pytest.raises((RuntimeError, SystemExit)):
        await taken(ByHand(error).plain_items())


# --- Time limits ------------------------------------------------------------------------------------


class Slow:
    def __init__(self) -> None:
        self.go = anyio.Event()
        self.stopped = False

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        try:
            yield 0
            await self.go.wait()
            for number in range(1, 4):
                yield number
        finally:
            self.stopped = True


def passed_on(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[int]:
    async def items() -> AsyncIterator[int]:
        async for item in fetch(request):
            yield item

    return items()


Opener = Callable[[Slow, wsrpc.Session], wsrpc.Stream[int]]

OPENERS: dict[str, Opener] = {
    "remote": lambda slow, client: client.clientize(Slow).items(),
    "untyped": lambda slow, client: client.clientize("Slow").items(),
    "fetched": lambda slow, client: client.clientize(Slow, stream_fetcher=passed_on).items(),
    "local": lambda slow, client: slow.items(),
    "stream_of": lambda slow, client: wsrpc.stream_of(slow.items()),
}


@pytest.mark.parametrize("opened", list(OPENERS.values()), ids=list(OPENERS))
async def test_after_a_stream_was_cancelled_by_a_timeout_around_anext_iterating_again_raises_an_error_that_says_so(
    opened: Opener,
) -> None:
    slow = Slow()
    async with pair([slow]) as (_, client):
        stream = opened(slow, client)
        items = aiter(stream)
        assert await anext(items) == 0
        with anyio.move_on_after(0.02):
            await anext(items)
        for _ in range(2):
            with pytest.raises(wsrpc.RpcError, match=r"next\(timeout=") as caught:
                await anext(items)
            assert caught.value.code == "cancelled"
        with pytest.raises(wsrpc.RpcError):
            await stream.collect()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        await until(lambda: slow.stopped)


class Hasty:
    """Its clock is ahead of the caller's."""

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 0
        raise wsrpc.RpcError("deadline_exceeded", "too late")


@pytest.mark.parametrize("made", [False, True], ids=["remote", "fetched"])
async def test_so_it_does_where_the_other_end_has_ended_the_stream_just_before_that_timeout(
    made: bool,
) -> None:
    fetcher = passed_on if made else None
    async with pair([Hasty()]) as (_, client):
        stream = client.clientize(Hasty, stream_fetcher=fetcher).items()
        with anyio.move_on_after(0.1) as scope:
            async for _ in stream:
                pass
        assert scope.cancelled_caught
        with pytest.raises(wsrpc.RpcError, match=r"next\(timeout=") as caught:
            await anext(stream)
        assert caught.value.code == "cancelled"


@pytest.mark.parametrize("opened", list(OPENERS.values()), ids=list(OPENERS))
async def test_the_next_item_can_be_waited_for_for_a_limited_time_without_ending_the_stream(
    opened: Opener,
) -> None:
    slow = Slow()
    async with pair([slow]) as (_, client):
        async with opened(slow, client) as stream:
            assert await stream.next() == 0
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await stream.next(timeout=0.01)
            assert not slow.stopped
            slow.go.set()
            assert await stream.next(timeout=10) == 1
            assert [item async for item in stream] == [2, 3]
            with pytest.raises(StopAsyncIteration):
                await stream.next(timeout=1)


class Busy(wsrpc.Observer):
    """Holds up the event loop while an item arrives."""

    def items(self, call: wsrpc.ObservedCall, direction: Any, count: int) -> None:
        if direction == "received":
            # The loop itself is what has to wait.
            time.sleep(0.3)


async def test_an_item_that_comes_at_the_moment_when_the_time_is_up_is_the_next_one() -> None:
    with soon():
        async with wsrpc.testing.server(wsrpc.Server([Slow()])) as host:
            async with host.connect(observers=[Busy()]) as client:
                async with client.clientize(Slow).items() as stream:
                    assert await stream.next(timeout=0.2) == 0


@pytest.mark.parametrize("opened", list(OPENERS.values()), ids=list(OPENERS))
async def test_a_stream_is_closed_quietly_while_its_next_item_is_still_to_come(
    opened: Opener,
) -> None:
    slow = Slow()
    async with pair([slow]) as (_, client):
        async with opened(slow, client) as stream:
            assert await stream.next() == 0
            with pytest.raises(TimeoutError):
                await stream.next(timeout=0.01)
        await until(lambda: slow.stopped)
        assert [item async for item in stream] == []


async def test_only_the_callers_own_aclose_cancel_or_leaving_async_with_ends_a_stream_quietly() -> (
    None
):
    slow = Slow()
    async with pair([slow]) as (_, client):
        closed = client.clientize(Slow).items()
        cancelled = client.clientize(Slow).items()
        async with client.clientize(Slow).items() as left:
            assert await anext(left) == 0
        for stream in (closed, cancelled):
            assert await anext(stream) == 0
        await closed.aclose()
        cancelled.cancel()
        for stream in (closed, cancelled, left):
            assert [item async for item in stream] == []
