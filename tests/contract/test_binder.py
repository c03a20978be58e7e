"""Functions and streams that are given as arguments: what is refused before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

import wsrpc
from tests.support import pair
from wsrpc.contract.binder import takes_positional


class Functions:
    def bound(self, n: int) -> int:
        return n

    def __call__(self, n: int) -> int:
        return n

    def two(self, n: int, m: int) -> int:
        return n + m


def with_default(n: int, m: int = 0) -> int:
    return n + m


def with_keyword(n: int, *, m: int) -> int:
    return n + m


def of_any(*numbers: int) -> int:
    return len(numbers)


def without(*, n: int = 0) -> int:
    return n


@pytest.mark.parametrize(
    "fn",
    [Functions().bound, Functions(), with_default, of_any, partial(with_default, m=1), int, print],
    ids=["bound", "object", "default", "any", "partial", "class", "builtin"],
)
def test_a_callback_may_be_any_function_that_takes_the_arguments(fn: Any) -> None:
    assert takes_positional(fn, 1)


@pytest.mark.parametrize(
    "fn",
    [lambda: 1, Functions().two, with_keyword, without, partial(with_default, 1, 2)],
    ids=["none", "two", "keyword", "without", "partial"],
)
async def test_a_function_that_cannot_be_called_as_a_callback_is_refused_at_the_call(
    fn: Any,
) -> None:
    class Caller:
        @wsrpc.method
        async def call(self, fn: Callable[[int], Awaitable[int]]) -> int:
            return await fn(1)

    async with pair([Caller()]) as (_, client):
        with pytest.raises(TypeError, match="a callback that is called with 1 argument, which"):
            await client.clientize(Caller).call(fn)


async def test_a_generator_function_in_place_of_an_upload_is_to_be_called() -> None:
    class Summer:
        @wsrpc.method
        async def total(self, numbers: AsyncIterator[int]) -> int:
            return sum([number async for number in numbers])

    async def numbers() -> AsyncIterator[int]:
        yield 1

    wrong: Any = numbers
    async with pair([Summer()]) as (_, client):
        with pytest.raises(TypeError, match=r"not a function: call it, numbers\(…\)"):
            await client.clientize(Summer).total(wrong)
