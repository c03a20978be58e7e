"""Calls: what a caller awaits, or uses by bare name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.test_stream import Source
from wsrpc.stream import (
    Final,
    LocalStream,
    Stream,
)
from wsrpc.unary import UnaryCall, UntypedCall

# --- Unary calls -----------------------------------------------------------------------------------


async def answer(value: object = 42) -> object:
    await checkpoint()
    return value


async def failing() -> None:
    await checkpoint()
    raise LookupError("gone")


async def test_a_call_is_awaited() -> None:
    assert await UnaryCall(answer(), "Hello.greet") == 42
    with pytest.raises(LookupError):
        await UnaryCall(failing(), "Hello.greet")


async def test_a_call_is_a_coroutine_to_task_groups() -> None:
    got: list[object] = []

    async def note() -> None:
        got.append(await answer())

    def call() -> UnaryCall[None]:
        return UnaryCall(note(), "Hello.greet")

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        group.start_soon(call)
    assert got == [42, 42]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_is_a_coroutine_to_asyncio() -> None:
    def call(value: object) -> UnaryCall[object]:
        return UnaryCall(answer(value), "Hello.greet")

    assert await asyncio.create_task(call(1)) == 1
    assert list(await asyncio.gather(call(1), call(2))) == [1, 2]
    assert await asyncio.wait_for(call(3), 1) == 3


async def test_iterating_a_call_says_what_to_write() -> None:
    call: Any = UnaryCall(answer(), "Hello.greet")
    with pytest.raises(TypeError, match=r"^Hello\.greet returns a value: write `await …`$"):
        async for _ in call:
            pass


def test_a_call_that_was_never_awaited_is_named_by_pythons_warning() -> None:
    with pytest.warns(RuntimeWarning, match=r"'Hello\.greet' was never awaited"):
        UnaryCall(answer(), "Hello.greet").__repr__()


def test_a_call_can_be_closed_and_driven_by_hand() -> None:
    UnaryCall(answer(), "x").close()

    async def at_once() -> int:
        return 1

    with pytest.raises(StopIteration) as caught:
        UnaryCall(at_once(), "x").send(None)
    assert caught.value.value == 1
    with pytest.raises(KeyError):
        UnaryCall(at_once(), "x").throw(KeyError("x"))


# --- Calls by bare name ----------------------------------------------------------------------------


class Untyped:
    """Notes how a call by bare name was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.source = Source(1, 2)

    def call(self) -> UntypedCall:
        return UntypedCall(self._await, self._iterate, "Hello.greet")

    def _await(self) -> UnaryCall[object]:
        self.begun.append("value")
        return UnaryCall(answer(), "Hello.greet")

    def _iterate(self) -> Stream[Any, Any]:
        self.begun.append("stream")
        return LocalStream(self.source.run(), "Hello.greet")


async def test_an_untyped_call_is_what_its_first_use_says() -> None:
    untyped = Untyped()
    assert await untyped.call() == 42
    assert [item async for item in untyped.call()] == [1, 2]
    assert await untyped.call().collect() == [1, 2]
    async with untyped.call() as stream:
        assert await anext(stream) == 1
    assert untyped.begun == ["value", "stream", "stream", "stream"]
    assert untyped.source.cleaned


async def test_an_untyped_stream_pauses_continues_and_has_a_final_value() -> None:
    untyped = Untyped()
    untyped.source = Source(1, 2, Final("done"))
    call = untyped.call()
    async for item in call:
        assert item == 1
        break
    assert [item async for item in call] == [2]
    assert call.final == "done"


async def test_an_untyped_call_cannot_be_used_twice() -> None:
    async def awaited(call: UntypedCall) -> None:
        await call

    async def iterated(call: UntypedCall) -> None:
        async for _ in call:
            pass

    uses: list[tuple[Callable[[UntypedCall], Awaitable[None]], str]] = [
        (awaited, "awaited"),
        (iterated, "used as a stream"),
    ]
    for first, word in uses:
        for second, _ in uses:
            if first is second is iterated:
                continue
            call = Untyped().call()
            await first(call)
            with pytest.raises(RuntimeError, match=rf"Hello\.greet: .*{word}.* call it again"):
                await second(call)


async def test_an_untyped_call_can_be_started_in_a_task_group() -> None:
    untyped = Untyped()
    async with anyio.create_task_group() as group:
        group.start_soon(untyped.call)
    assert untyped.begun == ["value"]


async def test_an_untyped_call_is_cancelled_and_closed_like_a_stream() -> None:
    untyped = Untyped()
    call = untyped.call()
    async for _ in call:
        break
    call.cancel()
    await call.aclose()
    assert [item async for item in call] == []


def test_an_untyped_call_that_is_not_used_is_warned_of_and_a_closed_one_is_not() -> None:
    with pytest.warns(RuntimeWarning, match=r"Hello\.greet was neither awaited nor iterated"):
        Untyped().call().__repr__()
    Untyped().call().close()
