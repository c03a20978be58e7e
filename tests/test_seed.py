"""The behaviours that wsrpc began with: tokens stream, objects are thrown, fetchers are replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

import wsrpc
from tests.support import Codec, pair, served


class Token(BaseModel):
    message: str


class HelloService:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = 0

    async def stream_tokens(self, hello: str) -> AsyncIterator[Token]:
        self.asked.append(hello)
        try:
            for message in ("Hello", " ", hello):
                yield Token(message=message)
        finally:
            self.closed += 1


class HelloController:
    """Delegates to the service, in each way there is to write it."""

    def __init__(self) -> None:
        self.service = HelloService()

    @wsrpc.method
    async def stream_tokens(self, hello: str) -> AsyncIterator[Token]:
        async for token in self.service.stream_tokens(hello):
            yield token

    @wsrpc.method
    def hand_over(self, hello: str) -> AsyncIterator[Token]:
        return self.service.stream_tokens(hello)

    @wsrpc.method
    async def await_and_hand_over(self, hello: str) -> AsyncIterator[Token]:
        return self.service.stream_tokens(hello)


HELLO_WORLD = [Token(message="Hello"), Token(message=" "), Token(message="World")]

# Items that some way of framing a stream would take for its end, for an error, or for two items.
ITEMS: list[JsonValue] = [
    "",
    0,
    False,
    None,
    [],
    {},
    {"isError": True, "reason": "x"},
    {"type": "error", "code": "internal", "message": "", "data": None, "metadata": {}},
    ["error", 1, {"code": "internal"}],
    [["end", 1]],
    "two\nlines\r\nand\u2028more\x00",
    '"quoted\\" \\u0000',
    "astral 😀 and 𝔘 and \uffff",
    "x" * 2**20,
    -1.5e300,
]

THROWN: list[JsonValue] = [
    {"isError": True, "reason": "x"},
    {"nested": [{"deep": [None, False, 0, ""]}]},
    [1, "two", None],
    [],
    {},
    "",
    0,
    False,
    "lines\nand 😀",
    None,
]


class Streams:
    @wsrpc.method
    async def all_items(self) -> AsyncIterator[JsonValue]:
        for item in ITEMS:
            yield item

    @wsrpc.method
    async def listed(self) -> list[JsonValue]:
        return ITEMS

    @wsrpc.method
    async def throw_after(self, items: int, data: JsonValue) -> AsyncIterator[int]:
        for number in range(items):
            yield number
        raise wsrpc.RpcError("aborted", "thrown on purpose", data)

    @wsrpc.method
    async def throw(self, data: JsonValue) -> int:
        raise wsrpc.RpcError("aborted", "thrown on purpose", data)

    @wsrpc.method
    async def count(self, start: int, stop: int = 3) -> AsyncIterator[int]:
        for number in range(start, stop):
            yield number


def identical(one: Any, other: Any) -> bool:
    """Equal and of the same types all the way down: 0 is not False."""
    return repr(one) == repr(other)


async def received(stream: AsyncIterator[Any]) -> tuple[list[Any], wsrpc.RpcError | None]:
    """The items that came, and the exception after them."""
    items: list[Any] = []
    try:
        async for item in stream:
            items.append(item)
    except wsrpc.RpcError as error:
        return items, error
    return items, None


# ------------------------------------------------------------------------------------ tokens


async def test_the_client_iterates_the_tokens_that_the_controller_yields(codec: Codec) -> None:
    async with served([HelloController()]) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as session:
            hello = session.clientize(HelloController)
            text = ""
            async for token in hello.stream_tokens(hello="World"):
                assert isinstance(token, Token)
                text += token.message
            assert text == "Hello World"


@pytest.mark.parametrize("name", ["stream_tokens", "hand_over", "await_and_hand_over"])
async def test_a_controller_delegates_to_its_service(name: str) -> None:
    controller = HelloController()
    async with pair([controller]) as (_, client):
        hello = client.clientize(HelloController)
        assert await getattr(hello, name)("World").collect() == HELLO_WORLD
    assert controller.service.asked == ["World"]
    assert controller.service.closed == 1


async def test_without_the_class_tokens_come_as_the_plain_objects_they_are_on_the_wire(
    codec: Codec,
) -> None:
    async with pair([HelloController()], codec=codec) as (_, client):
        hello = client.clientize("HelloController")
        tokens = [token async for token in hello.stream_tokens(hello="World")]
    assert tokens == [{"message": "Hello"}, {"message": " "}, {"message": "World"}]


async def test_the_contract_of_the_server_is_as_good_as_the_class() -> None:
    contract = wsrpc.Server([HelloController()]).contract()
    async with pair([HelloController()]) as (_, client):
        hello = client.clientize(contract["controllers"]["HelloController"])
        assert [token["message"] async for token in hello.stream_tokens("World")] == [
            "Hello",
            " ",
            "World",
        ]
        with pytest.raises(AttributeError, match="stream_tokens"):
            hello.stream_token  # noqa: B018
        with pytest.raises(TypeError, match="helo"):
            hello.stream_tokens(helo="World")


# ------------------------------------------------------------------------------------ thrown


@pytest.mark.parametrize("data", THROWN, ids=repr)
async def test_an_object_thrown_reaches_the_client_as_it_is(data: JsonValue, codec: Codec) -> None:
    async with pair([Streams()], codec=codec) as (_, client):
        with pytest.raises(wsrpc.RpcError) as caught:
            await client.clientize(Streams).throw(data)
        items, error = await received(client.clientize(Streams).throw_after(2, data))
    assert items == [0, 1]
    for one in (caught.value, error):
        assert one is not None
        assert (one.code, one.message) == ("aborted", "thrown on purpose")
        assert identical(one.data, data)


async def test_thrown_before_the_first_yield_the_first_iteration_raises_it(codec: Codec) -> None:
    async with pair([Streams()], codec=codec) as (_, client):
        stream = client.clientize(Streams).throw_after(0, {"reason": "x"})
        with pytest.raises(wsrpc.RpcError, match="thrown on purpose") as caught:
            await anext(stream)
        assert caught.value.data == {"reason": "x"}
        assert [item async for item in stream] == []


# 32 items is the window that a stream begins with.
@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 1000])
async def test_thrown_after_n_items_exactly_n_items_come_and_then_the_error(
    count: int, codec: Codec
) -> None:
    async with served([Streams()]) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as session:
            stream = session.clientize(Streams).throw_after(count, {"after": count})
            items, error = await received(stream)
    assert items == list(range(count))
    assert error is not None
    assert error.data == {"after": count}


async def test_a_client_without_the_class_gets_what_was_thrown_all_the_same(codec: Codec) -> None:
    async with pair([Streams()], codec=codec) as (_, client):
        streams = client.clientize("Streams")
        items, error = await received(aiter(streams.throw_after(items=3, data=["x"])))
    assert items == [0, 1, 2]
    assert error is not None
    assert error.data == ["x"]


# ------------------------------------------------------------------------------------- items


async def test_what_looks_like_nothing_or_like_an_error_is_an_item(codec: Codec) -> None:
    async with served([Streams()]) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as session:
            items, error = await received(session.clientize(Streams).all_items())
    assert error is None
    assert identical(items, ITEMS)


async def test_it_is_one_to_a_client_without_the_class_too(codec: Codec) -> None:
    async with pair([Streams()], codec=codec) as (_, client):
        assert identical(await client.clientize("Streams").all_items().collect(), ITEMS)


async def test_a_list_that_a_plain_method_returns_is_one_value(codec: Codec) -> None:
    async with pair([Streams()], codec=codec) as (_, client):
        assert identical(await client.clientize(Streams).listed(), ITEMS)
        with pytest.raises(TypeError, match="write `await"):
            async for _item in client.clientize("Streams").listed():
                pass


class Page(BaseModel):
    """Fields may be named like the words of pydantic's own schemas."""

    type: str
    metadata: dict[str, float]
    default: int
    fields: list[str]
    config: str | None
    serialization: bytes


PAGE = Page(
    type="model", metadata={"a": 1}, default=2, fields=[""], config=None, serialization=b"\xff"
)


class Pages:
    @wsrpc.method
    async def turn(self, page: Page) -> AsyncIterator[Page]:
        yield page
        yield page


async def test_an_item_may_have_a_field_of_any_name(codec: Codec) -> None:
    async with pair([Pages()], codec=codec) as (_, client):
        assert await client.clientize(Pages).turn(PAGE).collect() == [PAGE, PAGE]


# ---------------------------------------------------------------------------------- fetchers


class Seen:
    """A stream fetcher that keeps the requests it saw."""

    def __init__(self) -> None:
        self.requests: list[wsrpc.StreamRequest] = []

    def __call__(
        self, request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /
    ) -> AsyncIterator[Any]:
        self.requests.append(request)
        return fetch(request)


async def from_elsewhere(
    request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /
) -> AsyncIterator[Any]:
    """A stream fetcher that never asks the server."""
    for number in range(3):
        yield f"{request.method} {number}"


async def doubled(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /) -> AsyncIterator[Any]:
    async with fetch(request) as stream:
        async for item in stream:
            yield 2 * item


async def twice(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /) -> AsyncIterator[Any]:
    """A stream fetcher that asks again, with another argument."""
    for changed in (request, request.with_arguments(start=10, stop=12)):
        async with fetch(changed) as stream:
            async for item in stream:
                yield item


async def test_a_custom_fetcher_sees_the_controller_the_method_and_the_arguments() -> None:
    fetcher = Seen()
    async with pair([Streams()]) as (_, client):
        streams = client.clientize(Streams, stream_fetcher=fetcher)
        assert await streams.count(1).collect() == [1, 2]
        assert await streams.count(stop=2, start=0).collect() == [0, 1]
    first, second = fetcher.requests
    assert (first.controller, first.method, first.kind) == ("Streams", "count", "stream")
    assert first.arguments["start"] == 1
    assert second.arguments == {"start": 0, "stop": 2}
    assert second.session is client


async def test_the_default_fetcher_can_be_replaced() -> None:
    async with pair([Streams()]) as (_, client):
        fetched = {
            fetcher: await client.clientize(Streams, stream_fetcher=fetcher).count(0).collect()
            for fetcher in (from_elsewhere, doubled, twice)
        }
        untouched = await client.clientize(Streams).count(0).collect()
    assert fetched == {
        from_elsewhere: ["count 0", "count 1", "count 2"],
        doubled: [0, 2, 4],
        twice: [0, 1, 2, 10, 11],
    }
    assert untouched == [0, 1, 2]


async def test_a_fetcher_that_never_fetches_needs_no_server_at_all() -> None:
    async with pair() as (_, client):
        streams = client.clientize(Streams, stream_fetcher=from_elsewhere)
        assert len(await streams.count(0).collect()) == 3


async def test_the_default_stream_fetcher_is_public_and_does_what_happens_without_one() -> None:
    async with pair([Streams()]) as (_, client):
        streams = client.clientize(Streams, stream_fetcher=wsrpc.default_stream_fetcher)
        assert await streams.count(0).collect() == [0, 1, 2]
        items, error = await received(streams.throw_after(2, "x"))
    assert items == [0, 1]
    assert error is not None
    assert error.data == "x"


async def test_an_error_passes_through_a_custom_fetcher_after_its_items() -> None:
    async with pair([Streams()]) as (_, client):
        streams = client.clientize(Streams, stream_fetcher=doubled)
        items, error = await received(streams.throw_after(3, {"reason": "x"}))
    assert items == [0, 2, 4]
    assert error is not None
    assert error.data == {"reason": "x"}


async def test_leaving_a_fetched_stream_early_closes_the_generator_on_the_server() -> None:
    controller = HelloController()
    async with pair([controller]) as (_, client):
        hello = client.clientize(HelloController, stream_fetcher=Seen())
        async with hello.hand_over("World") as tokens:
            async for _token in tokens:
                break
    assert controller.service.closed == 1
