"""Streams whose items are gathered and encoded together, and when they must not be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import anyio
import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field
from typing_extensions import TypedDict

import wsrpc
from tests.support import Codec, error_of, pair, turns
from wsrpc.values.adapter import Adapter


class Point(BaseModel):
    n: int
    label: str = ""


class Nested(BaseModel):
    points: list[int]


class Points:
    def __init__(self) -> None:
        self.begun = 0
        self.closed = 0

    @wsrpc.method
    async def fresh(self, n: int) -> AsyncIterator[Point]:
        for i in range(n):
            yield Point(n=i)

    @wsrpc.method
    async def changed(self, n: int) -> AsyncIterator[Point]:
        point = Point(n=0)
        for i in range(n):
            point.n = i
            yield point

    @wsrpc.method
    async def changed_inside(self, n: int) -> AsyncIterator[Nested]:
        points: list[int] = []
        for i in range(n):
            yield Nested.model_construct(points=points)
            points.append(i)

    @wsrpc.method
    async def kept(self, n: int) -> AsyncIterator[Point]:
        kept: list[Point] = []
        for i in range(n):
            kept.append(Point(n=i))
            yield kept[-1]
            kept[-1].n = -1

    @wsrpc.method
    async def spoiled(self, at: int) -> AsyncIterator[Point]:
        for i in range(1_000):
            self.begun += 1
            yield Point.model_construct(n=i if i != at else "bad")

    @wsrpc.method
    async def raises(self, at: int) -> AsyncIterator[Point]:
        for i in range(at):
            yield Point(n=i)
        raise wsrpc.RpcError("aborted", "enough")

    @wsrpc.method
    async def swelling(self, n: int, size: int) -> AsyncIterator[Point]:
        try:
            for i in range(100):
                yield Point(n=i)
            for i in range(n):
                self.begun += 1
                yield Point(n=i, label="x" * size)
        finally:
            self.closed += 1

    @wsrpc.method
    async def spoiled_then_waits(self, at: int, label: str) -> AsyncIterator[Point]:
        try:
            for i in range(at):
                yield Point(n=i)
            yield Point.model_construct(n="bad") if label == "bad" else Point(n=at, label=label)
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0.001)
            self.closed += 1

    @wsrpc.method
    async def mixed(self, sizes: list[int]) -> AsyncIterator[Point]:
        for i in range(100):
            yield Point(n=i)
        for size in sizes:
            if size < 0:
                raise wsrpc.RpcError("aborted", "enough")
            yield Point(n=size, label="x" * size)

    @wsrpc.method
    async def with_final(self, n: int) -> AsyncIterator[Point | wsrpc.Final[int]]:
        for i in range(n):
            yield Point(n=i)
        yield wsrpc.Final(n)

    @wsrpc.method
    async def pausing(self, n: int) -> AsyncIterator[Point]:
        for i in range(n):
            yield Point(n=i)
            if i % 7 == 0:
                await anyio.sleep(0)

    @wsrpc.method
    async def bursts(self, n: int) -> AsyncIterator[Point]:
        point = Point(n=0)
        for i in range(n):
            if i // 40 % 2:
                await anyio.sleep(0)
            point.n = i
            yield point if i % 5 == 0 else Point(n=i)

    @wsrpc.method
    async def words(self, n: int) -> AsyncIterator[str]:
        for i in range(n):
            yield f"word {i}"

    @wsrpc.method
    async def sum(self, points: AsyncIterator[Point]) -> int:
        return sum([point.n async for point in points])


@pytest.mark.parametrize("method", ["fresh", "changed", "kept", "pausing", "bursts"])
async def test_every_item_arrives_as_it_was_when_it_was_yielded(codec: Codec, method: str) -> None:
    async with pair([Points()], codec=codec) as (_, client):
        items = await getattr(client.clientize(Points), method)(n=500).collect()
        assert [item.n for item in items] == list(range(500))


async def test_what_an_item_holds_may_change_behind_it(codec: Codec) -> None:
    async with pair([Points()], codec=codec) as (_, client):
        stream = client.clientize(Points).changed_inside(n=100)
        assert [len(item.points) async for item in stream] == list(range(100))


@pytest.mark.parametrize("at", [0, 1, 5, 31, 32, 33, 64, 200, 999])
async def test_an_invalid_item_fails_exactly_at_its_place(codec: Codec, at: int) -> None:
    points = Points()
    async with pair([points], codec=codec) as (_, client):
        got: list[int] = []
        with error_of("internal"):
            async for point in client.clientize(Points).spoiled(at=at):
                got.append(point.n)
        assert got == list(range(at))
        # The source may be ahead of it by what is gathered in one go, no more.
        assert points.begun <= at + 33


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize("at", [0, 1, 5, 40])
@pytest.mark.parametrize(
    ("label", "code"), [("bad", "internal"), ("x" * 70_000, "resource_exhausted")]
)
async def test_an_item_that_cannot_be_sent_fails_the_stream_while_its_source_waits(
    codec: Codec, at: int, label: str, code: str
) -> None:
    points = Points()
    limits = wsrpc.Limits(max_value=65_536)
    async with pair([points], codec=codec, client_limits=limits) as (_, client):
        got: list[int] = []
        with error_of(code):
            async for point in client.clientize(Points).spoiled_then_waits(at=at, label=label):
                got.append(point.n)
        assert got == list(range(at))
        # Its cleanup has run, and was not disturbed.
        assert points.closed == 1
        assert len(await client.clientize(Points).fresh(n=3).collect()) == 3


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize("at", [0, 1, 5, 40])
async def test_an_item_that_cannot_be_sent_fails_the_upload_while_its_source_waits(
    codec: Codec, at: int
) -> None:
    closed: list[int] = []

    async def source() -> AsyncIterator[Point]:
        try:
            for i in range(at):
                yield Point(n=i)
            yield Point(n=at, label="x" * 70_000)
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0.001)
            closed.append(at)

    async with pair([Points()], codec=codec, limits=wsrpc.Limits(max_value=65_536)) as (_, client):
        with error_of("resource_exhausted"):
            await client.clientize(Points).sum(source())
        assert closed == [at]


@pytest.mark.rule("CHUNK-1")
async def test_a_large_item_and_one_that_is_too_large_after_it(codec: Codec) -> None:
    limits = wsrpc.Limits(max_value=200_000)
    async with pair([Points()], codec=codec, client_limits=limits) as (_, client):
        got: list[int] = []
        with error_of("resource_exhausted"):
            async for point in client.clientize(Points).mixed(sizes=[150_000, 160_000, 250_000]):
                got.append(len(point.label))
        assert got == [0] * 100 + [150_000, 160_000]
        assert len(await client.clientize(Points).fresh(n=3).collect()) == 3


@pytest.mark.rule("ERROR-2")
async def test_what_a_source_raises_comes_after_items_that_have_to_wait(codec: Codec) -> None:
    async with pair([Points()], codec=codec) as (_, client):
        got: list[int] = []
        with error_of("aborted"):
            async for point in client.clientize(Points).mixed(sizes=[150_000, 160_000, -1]):
                got.append(len(point.label))
        assert got == [0] * 100 + [150_000, 160_000]


@pytest.mark.rule("ERROR-2")
@pytest.mark.parametrize("at", [0, 1, 20, 32, 100])
async def test_what_a_source_raises_comes_after_all_that_it_yielded(codec: Codec, at: int) -> None:
    async with pair([Points()], codec=codec) as (_, client):
        got: list[int] = []
        with error_of("aborted"):
            async for point in client.clientize(Points).raises(at=at):
                got.append(point.n)
        assert got == list(range(at))


@pytest.mark.rule("END-1")
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 100])
async def test_a_final_value_comes_after_all_items(codec: Codec, n: int) -> None:
    async with pair([Points()], codec=codec) as (_, client):
        stream = client.clientize(Points).with_final(n=n)
        assert len([item async for item in stream]) == n
        assert stream.final == n


@pytest.mark.rule("CREDIT-1", "CREDIT-4")
@pytest.mark.parametrize("size", [600, 20_000, 70_000, 130_000])
async def test_items_that_grow_all_at_once_stay_within_their_credit(
    codec: Codec, size: int
) -> None:
    points = Points()
    async with pair([points], codec=codec) as (_, client):
        stream = client.clientize(Points).swelling(n=200, size=size)
        got = [len(item.label) async for item in stream]
        assert got == [0] * 100 + [size] * 200
    assert points.closed == 1


async def test_a_stream_of_growing_items_that_is_left_is_closed(codec: Codec) -> None:
    points = Points()
    async with pair([points], codec=codec, limits=wsrpc.Limits(outbox=100_000)) as (_, client):
        async with client.clientize(Points).swelling(n=10_000, size=70_000) as stream:
            for _ in range(120):
                await anext(stream)
            await turns(50)
            assert points.begun < 200
    assert points.closed == 1


async def test_uploads_are_gathered_as_well(codec: Codec) -> None:
    async def source() -> AsyncIterator[Point]:
        for i in range(1_000):
            yield Point(n=i)

    async with pair([Points()], codec=codec) as (_, client):
        assert await client.clientize(Points).sum(source()) == sum(range(1_000))


async def test_plain_values_are_gathered_as_well(codec: Codec) -> None:
    async with pair([Points()], codec=codec) as (_, client):
        words = await client.clientize(Points).words(n=300).collect()
        assert words == [f"word {i}" for i in range(300)]


# ------------------------------------------------------------------------------------ what is flat


@dataclass
class Pair:
    left: int
    right: datetime | None = None


class Plain(TypedDict):
    name: str


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Computed(BaseModel):
    n: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.n


class Serialised(BaseModel):
    n: Annotated[int, PlainSerializer(lambda n: str(n))]


class Outer(BaseModel):
    inner: Point


class Bounded(BaseModel):
    n: Annotated[int, Field(ge=0)] = 0
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize("annotation", [Point, Pair, Plain, int, str, bytes, float, bool])
def test_a_type_of_plain_fields_is_flat(annotation: Any) -> None:
    assert Adapter(annotation, where="here").flat


@pytest.mark.parametrize(
    "annotation",
    [
        Nested,
        Open,
        Computed,
        Serialised,
        Outer,
        Bounded,
        Any,
        list[int],
        dict[str, int],
        Point | Pair,
    ],
)
def test_a_type_that_may_hold_what_others_change_is_not_flat(annotation: Any) -> None:
    assert not Adapter(annotation, where="here").flat
