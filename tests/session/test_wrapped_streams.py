"""Streams that a fetcher or an interceptor has wrapped end as the bare ones do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import wsrpc
from tests.support import pair


class Numbers:
    def __init__(self) -> None:
        self.cleaned = anyio.Event()

    @wsrpc.method
    async def forever(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            # A cleanup that awaits, which a collected generator would not be granted.
            await checkpoint()
            self.cleaned.set()

    @wsrpc.method
    async def one_and_silence(self) -> AsyncIterator[int]:
        try:
            yield 0
            await anyio.sleep_forever()
        finally:
            self.cleaned.set()

    @wsrpc.method
    async def summed(self, stop: int) -> AsyncIterator[int | wsrpc.Final[int]]:
        for number in range(stop):
            yield number
        yield wsrpc.Final(sum(range(stop)))


def default(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /) -> AsyncIterator[Any]:
    return fetch(request)


async def careless(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /) -> AsyncIterator[Any]:
    async for item in fetch(request):
        yield item


async def tidy(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /) -> AsyncIterator[Any]:
    async with fetch(request) as stream:
        async for item in stream:
            yield item


async def passing(request: wsrpc.Request, call_next: wsrpc.Next, /) -> Any:
    return await call_next(request)


async def wrapping(request: wsrpc.Request, call_next: wsrpc.Next, /) -> Any:
    """Wraps the stream, and leaves its closing to others."""
    items = await call_next(request)

    async def wrapped() -> AsyncIterator[Any]:
        async for item in items:
            yield item

    return wrapped()


# What trio says of generators that a careless wrapper leaves to the garbage collector.
collected = pytest.mark.filterwarnings("ignore:Async generator 'tests:ResourceWarning")

WRAPPED: dict[str, dict[str, Any]] = {
    "bare": {},
    "default fetcher": {"stream_fetcher": default},
    "careless fetcher": {"stream_fetcher": careless},
    "tidy fetcher": {"stream_fetcher": tidy},
    "passing interceptor": {"interceptors": [passing]},
    "wrapping interceptor": {"interceptors": [wrapping]},
    "both": {"stream_fetcher": careless, "interceptors": [wrapping]},
}

wrapped = pytest.mark.parametrize("options", WRAPPED.values(), ids=WRAPPED)


@collected
@wrapped
async def test_leaving_it_cleans_up_on_the_other_side(options: dict[str, Any]) -> None:
    numbers = Numbers()
    async with pair([numbers]) as (_, client):
        async with client.clientize(Numbers, **options).forever() as stream:
            assert await anext(stream) == 0
        await numbers.cleaned.wait()
        assert [item async for item in stream] == []


@collected
@wrapped
async def test_cancelling_it_cleans_up_on_the_other_side(options: dict[str, Any]) -> None:
    numbers = Numbers()
    async with pair([numbers]) as (_, client):
        stream = client.clientize(Numbers, **options).forever()
        assert await anext(stream) == 0
        stream.cancel()
        await numbers.cleaned.wait()
        assert [item async for item in stream] == []


@collected
@wrapped
async def test_dropping_it_cleans_up_on_the_other_side(options: dict[str, Any]) -> None:
    numbers = Numbers()
    async with pair([numbers]) as (_, client):
        stream = client.clientize(Numbers, **options).forever()
        assert await anext(stream) == 0
        del stream
        await numbers.cleaned.wait()


@collected
@wrapped
async def test_dropping_it_after_a_wait_for_a_limited_time_does_so_too(
    options: dict[str, Any],
) -> None:
    numbers = Numbers()
    async with pair([numbers]) as (_, client):
        stream = client.clientize(Numbers, **options).one_and_silence()
        assert await stream.next(timeout=5) == 0
        with pytest.raises(TimeoutError):
            await stream.next(timeout=0.01)
        del stream
        await numbers.cleaned.wait()


@collected
@wrapped
async def test_cancelling_it_wakes_who_waits_for_the_next_item(options: dict[str, Any]) -> None:
    numbers = Numbers()
    async with pair([numbers]) as (_, client):
        stream = client.clientize(Numbers, **options).one_and_silence()
        received: list[int] = []

        async def consume() -> None:
            async for item in stream:
                received.append(item)

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            stream.cancel()
        assert received == [0]
        await numbers.cleaned.wait()


@pytest.mark.parametrize("name", ["bare", "default fetcher", "passing interceptor"])
async def test_the_final_value_passes_through_what_returns_the_stream_itself(name: str) -> None:
    async with pair([Numbers()]) as (_, client):
        stream = client.clientize(Numbers, **WRAPPED[name]).summed(3)
        assert [item async for item in stream] == [0, 1, 2]
        assert stream.final == 3


@pytest.mark.parametrize("interceptor", [passing, wrapping])
async def test_around_a_handler_the_generator_still_cleans_up_in_its_own_task(
    interceptor: Callable[..., Any],
) -> None:
    numbers = Numbers()
    async with pair([numbers], interceptors=[interceptor]) as (_, client):
        async with client.clientize(Numbers).forever() as stream:
            assert await anext(stream) == 0
        await numbers.cleaned.wait()
        assert await client.clientize(Numbers).summed(3).collect() == [0, 1, 2]


async def test_around_a_handler_the_final_value_passes_through(codec: Any) -> None:
    async with pair([Numbers()], interceptors=[wrapping], codec=codec) as (_, client):
        stream = client.clientize(Numbers).summed(4)
        assert [item async for item in stream] == [0, 1, 2, 3]
        assert stream.final == 6
