"""Functions of a type that raise while a value travels: that never ends a stream, or cancels a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_serializer, field_validator

import wsrpc
from tests.support import Codec, error_of, pair, served, soon

POISON = 666


def cancelled_by_hand() -> BaseException:
    kind: Any = anyio.get_cancelled_exc_class()
    made: BaseException = kind._create(source="explicit") if hasattr(kind, "_create") else kind()
    return made


SPECIAL: dict[str, Callable[[], BaseException]] = {
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": lambda: StopAsyncIteration(5),
    "GeneratorExit": GeneratorExit,
    "cancelled": cancelled_by_hand,
    "SystemExit": lambda: SystemExit(3),
}

made: Callable[[], BaseException] = ValueError


class Odd(BaseModel):
    """A model whose validator raises for one value."""

    n: int

    @field_validator("n")
    @classmethod
    def check(cls, n: int) -> int:
        if n == POISON:
            raise made()
        return n


class Unwritable(BaseModel):
    n: int

    @field_serializer("n")
    def write(self, n: int) -> int:
        if n == POISON:
            raise made()
        return n


class OddError(wsrpc.RpcError[Odd]):
    type_name = "OddError of tests"

    def __init__(self, data: Odd) -> None:
        super().__init__("aborted", "odd", data)


def odd() -> Odd:
    return Odd.model_construct(n=POISON)


async def odd_items() -> AsyncIterator[Odd]:
    yield Odd(n=1)
    yield odd()
    yield Odd(n=2)


class Service:
    @wsrpc.method
    async def value(self) -> Odd:
        return odd()

    @wsrpc.method
    async def items(self) -> AsyncIterator[Odd]:
        async for item in odd_items():
            yield item

    @wsrpc.method
    async def alone(self) -> AsyncIterator[Odd]:
        yield odd()

    @wsrpc.method
    async def last(self) -> AsyncIterator[int | wsrpc.Final[Odd]]:
        yield 1
        yield wsrpc.Final(odd())

    @wsrpc.method
    async def tracked(self) -> AsyncIterator[wsrpc.Tracked[Odd]]:
        yield wsrpc.Tracked("1", odd())

    @wsrpc.method
    async def unwritable(self) -> Unwritable:
        return Unwritable(n=POISON)

    @wsrpc.method
    async def unwritable_items(self) -> AsyncIterator[Unwritable]:
        yield Unwritable(n=POISON)

    @wsrpc.method
    async def fail(self) -> None:
        raise OddError(odd())

    @wsrpc.method
    async def take(self, items: AsyncIterator[Odd]) -> int:
        return len([item async for item in items])

    @wsrpc.method
    async def argument(self, value: Odd) -> int:
        return value.n

    @wsrpc.method
    async def ask(self, fn: Callable[[int], Awaitable[Odd]]) -> int:
        return (await fn(1)).n

    @wsrpc.method
    async def tell(self, fn: Callable[[Odd], Awaitable[None]]) -> None:
        await fn(odd())

    @wsrpc.method
    async def alive(self) -> int:
        return 1


@pytest.mark.parametrize("kind", list(SPECIAL))
async def test_what_a_validator_raises_by_hand_is_an_error_never_an_end_and_never_a_cancel(
    kind: str, codec: Codec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{__name__}.made", SPECIAL[kind])

    async def answer(n: int) -> Odd:
        return odd()

    async def hear(value: Odd) -> None:
        pytest.fail("the argument is no value of its type")

    async with (
        served([Service()], validate="arrival") as listener,
        wsrpc.connect(listener.url, codec=codec) as client,
    ):
        service = client.clientize(Service)
        loose = client.clientize(Service, validate="none")
        # In the caller's own task it is raised to the caller.
        for stream in (service.items(), service.alone(), service.last(), service.tracked()):
            with soon(), pytest.raises(RuntimeError, match=r"a function of .* raised"):
                await stream.collect()
        with soon(), pytest.raises(RuntimeError, match="a function of the type raised"):
            await service.value()
        # In a handler it is internal to the caller.
        for call in (
            lambda: loose.take(odd_items()),
            lambda: loose.argument(odd()),
            lambda: service.ask(answer),
            lambda: service.tell(hear),
        ):
            with error_of("internal"):
                await call()
        # An error stays the error that it was.
        with error_of("aborted") as caught:
            await service.fail()
        assert caught.value.data == {"n": POISON}
        assert await service.alive() == 1
    caplog.clear()


@pytest.mark.parametrize("kind", list(SPECIAL))
async def test_so_is_what_a_serializer_raises(
    kind: str, codec: Codec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{__name__}.made", SPECIAL[kind])
    async with pair([Service()], codec=codec) as (_, client):
        service = client.clientize(Service)
        with error_of("internal"):
            await service.unwritable()
        with error_of("internal"):
            await service.unwritable_items().collect()
        assert await service.alive() == 1
    caplog.clear()
