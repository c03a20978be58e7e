"""What callers and handlers held when a stream failed is freed at once: no error holds its own frames."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import pair, until

STARTED: list[weakref.ref[Any]] = []


class Held:
    """An object in the frame of a caller or a handler."""

    def __init__(self) -> None:
        STARTED.append(weakref.ref(self))


class Source:
    @wsrpc.method
    async def fails(self, code: wsrpc.Code) -> AsyncIterator[int]:
        held = Held()
        yield 1
        raise wsrpc.RpcError(code, f"after {type(held).__name__}")

    @wsrpc.method
    async def waits(self) -> AsyncIterator[int]:
        held = Held()
        yield 1
        await anyio.sleep_forever()
        yield id(held)

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        held = Held()
        return sum([number async for number in numbers]) + (held is None)


def passed_on(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[Any]:
    async def items() -> AsyncIterator[Any]:
        async for item in fetch(request):
            yield item

    return items()


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    STARTED.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def numbers(fails: bool) -> AsyncIterator[int]:
    held = Held()
    yield 1
    if fails:
        raise wsrpc.RpcError("aborted", "no more")
    await anyio.sleep_forever()
    yield id(held)


async def left_early(source: Any) -> None:
    async with source.waits() as items:
        await anext(items)


async def timed_out(awaited: Awaitable[Any]) -> None:
    with anyio.move_on_after(0.02):
        await awaited


ENDINGS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "error": lambda source: source.fails("aborted").collect(),
    "too late": lambda source: source.fails("deadline_exceeded").collect(),
    "left early": left_early,
    "timed out": lambda source: timed_out(source.waits().collect()),
    "upload fails": lambda source: source.total(numbers(fails=True)),
    "upload timed out": lambda source: timed_out(source.total(numbers(fails=False))),
}


@pytest.mark.parametrize("fetched", [False, True], ids=["plain", "fetched"])
@pytest.mark.parametrize("ending", list(ENDINGS.values()), ids=list(ENDINGS))
async def test_the_frames_of_a_stream_that_failed_are_freed_without_the_collector(
    ending: Callable[[Any], Awaitable[Any]], fetched: bool
) -> None:
    async with pair([Source()]) as (_, client):
        source = client.clientize(Source, stream_fetcher=passed_on if fetched else None)

        async def call() -> None:
            held = Held()
            try:
                await ending(source)
            except wsrpc.RpcError:
                assert held

        await call()
        assert len(STARTED) > 1
        await until(lambda: all(one() is None for one in STARTED))


@pytest.mark.parametrize("fetched", [False, True], ids=["plain", "fetched"])
async def test_so_are_those_of_a_caller_whose_stream_was_idle_for_too_long(fetched: bool) -> None:
    async with pair([Source()]) as (_, client):
        source: Any = client.clientize(
            Source, idle_timeout=0.02, stream_fetcher=passed_on if fetched else None
        )

        async def call() -> None:
            held = Held()
            with pytest.raises(wsrpc.DeadlineExceeded):
                await source.waits().collect()
            assert held

        await call()
        await until(lambda: all(one() is None for one in STARTED))
