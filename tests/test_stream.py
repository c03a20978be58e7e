"""Streams: what a caller iterates."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from wsrpc.errors import WsrpcError
from wsrpc.stream import (
    Final,
    LocalStream,
    NotFinished,
    Stream,
    stream_of,
)


class Source:
    """Yields numbers, and notes whether it has cleaned up."""

    def __init__(self, *items: Any, error: Exception | None = None) -> None:
        self.items = items
        self.error = error
        self.cleaned = False
        self.pulled = 0

    async def run(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                self.pulled += 1
                yield item
                await checkpoint()
            if self.error is not None:
                raise self.error
        finally:
            self.cleaned = True

    def run_in_place(self) -> Iterator[Any]:
        try:
            yield from self.items
            if self.error is not None:
                raise self.error
        finally:
            self.cleaned = True

    async def looked_up(self) -> AsyncIterator[Any]:
        await checkpoint()
        return self.run()


Opener = Callable[[Source], Stream[Any, Any]]


@pytest.fixture(
    params=[
        lambda source: LocalStream(source.run(), "Hello.tokens"),
        lambda source: LocalStream(source.run_in_place(), "Hello.tokens"),
        lambda source: LocalStream(source.looked_up(), "Hello.tokens"),
    ],
    ids=["async", "sync", "awaited"],
)
def opened(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


# --- Streams ---------------------------------------------------------------------------------------


async def test_a_stream_gives_its_items_in_order_and_ends(opened: Opener) -> None:
    falsy = ["", 0, False, None, [], {}]
    stream = opened(Source(*falsy))
    assert [item async for item in stream] == falsy
    assert [item async for item in stream] == []


async def test_collect_gives_what_is_still_to_come(opened: Opener) -> None:
    stream = opened(Source(1, 2, 3))
    assert await anext(stream) == 1
    assert await stream.collect() == [2, 3]


async def test_a_bare_break_pauses(opened: Opener) -> None:
    source = Source(1, 2, 3)
    stream = opened(source)
    async for item in stream:
        if item == 2:
            break
    assert not source.cleaned
    assert [item async for item in stream] == [3]


async def test_leaving_async_with_ends_the_stream_and_cleans_up(opened: Opener) -> None:
    source = Source(1, 2, 3)
    async with opened(source) as stream:
        assert await anext(stream) == 1
    assert source.cleaned
    assert [item async for item in stream] == []


async def test_aclose_ends_the_stream_and_may_be_repeated(opened: Opener) -> None:
    source = Source(1, 2)
    stream = opened(source)
    assert await anext(stream) == 1
    await stream.aclose()
    await stream.aclose()
    assert source.cleaned
    assert [item async for item in stream] == []


async def test_after_cancel_nothing_more_is_yielded(opened: Opener) -> None:
    stream = opened(Source(1, 2))
    assert await anext(stream) == 1
    stream.cancel()
    stream.cancel()
    assert [item async for item in stream] == []
    await stream.aclose()


async def test_what_is_cancelled_is_cleaned_up_by_aclose_or_the_next_look(opened: Opener) -> None:
    for finish in ("aclose", "collect"):
        source = Source(1, 2)
        stream = opened(source)
        assert await anext(stream) == 1
        stream.cancel()
        assert await getattr(stream, finish)() in (None, [])
        assert source.cleaned


async def test_a_stream_that_was_never_iterated_closes_quietly(opened: Opener) -> None:
    await opened(Source(1)).aclose()
    stream = opened(Source(1))
    stream.cancel()
    assert await stream.collect() == []
    gc.collect()


async def test_cancel_while_an_item_is_awaited_drops_that_item() -> None:
    gate = anyio.Event()
    cleaned = False

    async def items() -> AsyncIterator[int]:
        nonlocal cleaned
        try:
            yield 1
            await gate.wait()
            yield 2
        finally:
            cleaned = True

    stream: Stream[int] = LocalStream(items(), "x")
    got: list[int] = []

    async def consume() -> None:
        got.extend([item async for item in stream])

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        stream.cancel()
        gate.set()
    assert got == [1]
    assert cleaned


async def test_a_second_consumer_is_refused(opened: Opener) -> None:
    gate = anyio.Event()

    async def items() -> AsyncIterator[int]:
        await gate.wait()
        yield 1

    stream: Stream[int] = LocalStream(items(), "Hello.tokens")
    async with anyio.create_task_group() as group:
        group.start_soon(stream.collect)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match=r"Hello\.tokens: .* one consumer"):
            await anext(stream)
        gate.set()


async def test_an_error_comes_after_the_items_before_it(opened: Opener) -> None:
    stream = opened(Source(1, 2, error=LookupError("gone")))
    assert [await anext(stream), await anext(stream)] == [1, 2]
    with pytest.raises(LookupError, match="gone"):
        await anext(stream)
    assert [item async for item in stream] == []
    with pytest.raises(NotFinished):
        _ = stream.final


async def test_a_final_value_is_no_item(opened: Opener) -> None:
    stream = opened(Source(1, Final("done")))
    assert await anext(stream) == 1
    with pytest.raises(NotFinished, match=r"Hello\.tokens: the final value comes after"):
        _ = stream.final
    assert await stream.collect() == []
    assert stream.final == "done"


async def test_without_a_final_value_final_is_none(opened: Opener) -> None:
    stream = opened(Source(1))
    await stream.collect()
    assert stream.final is None


async def test_a_stream_that_was_cut_short_has_no_final_value(opened: Opener) -> None:
    stream = opened(Source(1, Final("done")))
    await anext(stream)
    await stream.aclose()
    with pytest.raises(NotFinished) as caught:
        _ = stream.final
    assert isinstance(caught.value, WsrpcError)
    assert isinstance(caught.value, RuntimeError)


async def test_an_item_after_the_final_value_is_an_error(opened: Opener) -> None:
    source = Source(Final("done"), 2)
    stream = opened(source)
    with pytest.raises(RuntimeError, match="yielded 2 after its Final value"):
        await stream.collect()
    assert source.cleaned


async def test_what_follows_the_final_value_in_the_body_is_run() -> None:
    ran = False

    async def items() -> AsyncIterator[Final[int]]:
        nonlocal ran
        yield Final(1)
        ran = True

    stream: Stream[Any, int] = LocalStream(items())
    await stream.collect()
    assert ran
    assert stream.final == 1


async def test_cancelling_collect_closes_the_stream() -> None:
    cleaned = False

    async def items() -> AsyncIterator[int]:
        nonlocal cleaned
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            cleaned = True

    with anyio.move_on_after(0.01):
        await LocalStream[int](items()).collect()
    assert cleaned


async def test_awaiting_a_stream_says_what_to_write(opened: Opener) -> None:
    stream: Any = opened(Source(1))
    with pytest.raises(TypeError) as caught:
        await stream
    assert str(caught.value) == (
        "Hello.tokens streams: write `async for item in …`, or `await ….collect()` for a list"
    )
    await stream.aclose()


async def test_an_async_iterable_that_is_no_iterator_is_a_source_too() -> None:
    class Numbers:
        def __aiter__(self) -> AsyncIterator[int]:
            return stream_of([1, 2])

    assert await LocalStream[int](Numbers()).collect() == [1, 2]


async def test_a_stream_over_a_stream_passes_on_its_final_value_and_its_end() -> None:
    source = Source(1, Final("done"))
    inner: Stream[int, str] = LocalStream(source.run())
    outer: Stream[int, str] = LocalStream(inner)
    assert await outer.collect() == [1]
    assert outer.final == "done"

    source = Source(1, 2)
    inner = LocalStream(source.run())
    outer = LocalStream(inner)
    assert await anext(outer) == 1
    outer.cancel()
    assert await inner.collect() == []
    assert source.cleaned
    assert await outer.collect() == []


@pytest.mark.parametrize("leave", ["left", "closed", "ended", "failed"])
@pytest.mark.parametrize("kind", ["async", "plain", "class"])
async def test_stream_of_closes_the_generator_that_it_was_given(kind: str, leave: str) -> None:
    closed: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            if leave == "failed":
                raise KeyError("no more")
        finally:
            closed.append("async")

    def plain_items() -> Iterator[int]:
        try:
            yield 1
            if leave == "failed":
                raise KeyError("no more")
        finally:
            closed.append("plain")

    class Numbers:
        async def __aiter__(self) -> AsyncIterator[int]:
            try:
                yield 1
                if leave == "failed":
                    raise KeyError("no more")
            finally:
                closed.append("class")

    source: Any = {"async": items, "plain": plain_items, "class": Numbers}[kind]()
    stream = stream_of(source)
    match leave:
        case "left":
            async with stream:
                assert await anext(stream) == 1
        case "closed":
            assert await anext(stream) == 1
            await stream.aclose()
        case "ended":
            assert await stream.collect() == [1]
        case _:
            with pytest.raises(KeyError):
                await stream.collect()
    assert closed == [kind]


async def test_stream_of_takes_any_iterable() -> None:
    assert [item async for item in stream_of([1, 2])] == [1, 2]
    assert [item async for item in stream_of(iter("ab"))] == ["a", "b"]
    assert [item async for item in stream_of(stream_of([1]))] == [1]
