"""Through the public face: streams, uploads, calls back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import anyio

from ..errors import Code, RpcError
from ..stream import stream_of
from .call_support import SHAPES, cases, echoed, numbers
from .case import Ground, equal, raises
from .service import Interop

__all__: list[str] = []

# -------------------------------------------------------------------------------- streams


@cases("INTEROP-1")
async def count_streams(at: Ground) -> None:
    """count streams 0 to n - 1"""
    equal(await at.interop.count(5).collect(), [0, 1, 2, 3, 4])
    equal(await at.interop.count(0).collect(), [], "count(0)")
    equal(await at.interop.count(3, 0.01).collect(), [0, 1, 2], "count with a delay")


@cases("CREDIT-4", "CREDIT-5")
async def long_stream(at: Ground) -> None:
    """a stream of 10,000 items arrives whole and in order"""
    equal(await at.interop.count(10_000).collect(), list(range(10_000)))


@cases("INTEROP-1")
async def once_counts(at: Ground) -> None:
    """once counts how often it has run with a key"""
    key = str(uuid4())
    equal([await at.interop.once(key) for _ in range(3)], [1, 2, 3])
    equal(await at.interop.once(f"{key}, another"), 1)


@cases("INTEROP-1", "RETRY-3")
async def tracked_streams(at: Ground) -> None:
    """tracked streams pairs of an id and a number, from the one after the named id"""
    pairs = [[str(i), i] for i in range(5)]
    loose = at.session.clientize("Interop")
    equal(await loose.tracked(n=5).collect(), pairs)
    equal(await loose.tracked(n=5, last_id="2").collect(), pairs[3:], "the items after item 2")
    items = await at.interop.tracked(5).collect()
    equal([[item.id, item.value] for item in items], pairs, "with types")


@cases("INTEROP-1")
async def tokens_stream(at: Ground) -> None:
    """tokens streams messages"""
    expected = [{"message": f"token {i}"} for i in range(3)]
    equal(await at.interop.tokens(3).collect(), expected)


@cases("CALL-6")
async def many_streams(at: Ground) -> None:
    """a hundred streams at once do not mix"""

    async def one(n: int) -> None:
        equal(await at.interop.count(n).collect(), list(range(n)), f"count({n})")

    async with anyio.create_task_group() as group:
        for n in range(100):
            group.start_soon(one, n)


@cases("MSG-1")
async def list_is_one_value(at: Ground) -> None:
    """a list that a plain method returns is one value"""
    equal(await at.interop.echo([1, 2, 3]), [1, 2, 3])


@cases("CANCEL-3")
async def leaving_a_stream(at: Ground) -> None:
    """leaving a stream early closes its generator on the far side"""
    before = await at.stats()
    async with at.interop.forever(0) as stream:
        async for item in stream:
            if item == 100:
                break
    await at.until(
        lambda now: now["generators_open"] <= before["generators_open"],
        "the generator was closed",
    )


@cases("CREDIT-2")
async def a_break_pauses(at: Ground) -> None:
    """a stream that is left by a bare break goes on where it stopped"""
    async with at.interop.forever(0) as stream:
        first = [await anext(stream) for _ in range(3)]
        async for item in stream:
            first.append(item)
            if item == 5:
                break
        equal([*first, await anext(stream)], [0, 1, 2, 3, 4, 5, 6], "the items")


@cases("CANCEL-3", "CALL-5")
async def slow_cleanup_runs_to_its_end(at: Ground) -> None:
    """a cleanup that takes its time runs to its end"""
    before = await at.stats()
    async with at.interop.slow_cleanup(0.2) as stream:
        equal(await anext(stream), 0, "the first item")
    await at.until(
        lambda now: now["cleanups_begun"] > before["cleanups_begun"],
        "the cleanup began",
    )
    await at.until(
        lambda now: now["cleanups_done"] == now["cleanups_begun"],
        "the cleanup was done",
    )


@cases("CLOSE-5")
async def closing_the_session_cleans_up(at: Ground) -> None:
    """closing a session cancels its handlers and lets them clean up"""
    before = await at.stats()
    async with at.connect() as session:
        streams = [session.clientize(Interop).slow_cleanup(0.05) for _ in range(5)]
        for stream in streams:
            equal(await anext(stream), 0, "the first item")
    await at.until(
        lambda now: now["cleanups_done"] >= before["cleanups_done"] + 5,
        "five cleanups were done",
    )
    await at.until(
        lambda now: now["sessions"] <= before["sessions"],
        "the session was gone",
    )


# -------------------------------------------------------------------------------- uploads


@cases("INTEROP-1")
async def sums(at: Ground) -> None:
    """sum adds up the uploaded numbers"""
    equal(await at.interop.sum(stream_of([1, 2, 3.5])), 6.5)
    equal(await at.interop.sum(stream_of([])), 0, "the sum of nothing")
    equal(await at.interop.sum(numbers(10_000)), 49_995_000, "a long sum")


@cases("INTEROP-1")
async def bidi_echo_in_step(at: Ground) -> None:
    """bidi_echo gives each item back before the next one is sent"""
    into, out = anyio.create_memory_object_stream[Any](1)
    async with into, out, at.interop.bidi_echo(out) as back:
        for value in SHAPES:
            await into.send(value)
            equal(await anext(back), value, "the item")
        await into.aclose()
        with raises(StopAsyncIteration, "the end of the upload"):
            await anext(back)


@cases("MSG-1", "CREDIT-4")
async def bidi_echo_at_full_speed(at: Ground) -> None:
    """bidi_echo gives 10,000 items back in order"""
    equal(await at.interop.bidi_echo(numbers(10_000)).collect(), list(range(10_000)))


@cases("UP-2")
async def failing_upload(at: Ground) -> None:
    """an upload that fails on its way ends the call, and the source's own error is raised"""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise LookupError("nothing left")

    with raises(LookupError, "the failing upload"):
        await at.interop.sum(source())
    await echoed(at, ["still here"])


@cases("UP-3", "UP-5")
async def upload_of_the_wrong_kind(at: Ground) -> None:
    """an item that does not validate fails the call, and names the parameter"""

    async def source() -> AsyncIterator[Any]:
        yield 1
        yield "two"
        while True:
            yield 3

    with raises(RpcError, "sum of a string") as caught:
        await at.session.clientize("Interop").sum(numbers=source())
    equal(str(caught[0].code), "invalid_argument", "the code")
    equal(caught[0].data["errors"][0]["loc"][:1], ["numbers"], "loc")


@cases("CANCEL-3", "UP-3")
async def cancelled_upload(at: Ground) -> None:
    """cancelling a call with an upload ends both on both sides"""
    before = await at.stats()
    closed = anyio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async with anyio.create_task_group() as group:
        group.start_soon(at.interop.sum, source())
        await at.until(
            lambda now: now["calls_live"] > before["calls_live"],
            "the call had begun",
        )
        group.cancel_scope.cancel()
    await closed.wait()
    await at.until(
        lambda now: now["calls_live"] <= before["calls_live"],
        "the handler had ended",
    )


# -------------------------------------------------------------------------------- calls back


@cases("INTEROP-2")
async def calls_back(at: Ground) -> None:
    """the server calls this side's echo"""
    equal(await at.interop.call_back(0), [])
    equal(await at.interop.call_back(20), list(range(20)))


@cases("INTEROP-2", "SLOT-3")
async def nested_calls(at: Ground) -> None:
    """calls nest 50 deep in both directions, four at a time, where the slots allow it"""
    async with at.bare() as bare:
        depth = min(50, bare.limit("max_calls") // 2 - 2)

    async def one() -> None:
        equal(await at.interop.nested(depth), depth)

    equal(await at.interop.nested(0), 0)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)


@cases("INTEROP-1")
async def progress_in_order(at: Ground) -> None:
    """progress calls a callback with 1 to n, in order"""
    seen: list[int] = []

    async def on_progress(i: int) -> None:
        seen.append(i)

    equal(await at.interop.progress(20, on_progress), 20)
    equal(seen, list(range(1, 21)), "the numbers that the callback got")


@cases("CB-1", "ERROR-2")
async def failing_callback(at: Ground) -> None:
    """an error that a callback raises comes back through the handler"""

    async def on_progress(i: int) -> None:
        if i == 3:
            raise RpcError(Code.OUT_OF_RANGE, "three is enough", i)

    with raises(RpcError, "the failing callback") as caught:
        await at.interop.progress(5, on_progress)
    equal(str(caught[0].code), "out_of_range", "the code")
    equal(caught[0].data, 3, "the data")


@cases("CANCEL-3", "CB-3")
async def cancelled_callback(at: Ground) -> None:
    """cancelling a call cancels the callback that it awaits"""
    began, ended = anyio.Event(), anyio.Event()

    async def on_progress(i: int) -> None:
        began.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(at.interop.progress, 1, on_progress)
        await began.wait()
        group.cancel_scope.cancel()
    await ended.wait()
