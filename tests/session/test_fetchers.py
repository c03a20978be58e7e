"""How streams are fetched can be replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Wire, error_of, pair, until


class Token(BaseModel):
    message: str


class Hello:
    def __init__(self) -> None:
        self.failures = 0
        self.cleaned = 0

    @wsrpc.method
    async def tokens(self, text: str, times: int = 1) -> AsyncIterator[Token | wsrpc.Final[int]]:
        try:
            for _ in range(times):
                for word in text.split():
                    yield Token(message=word)
            yield wsrpc.Final(times)
        finally:
            self.cleaned += 1

    @wsrpc.method
    async def flaky(self) -> AsyncIterator[int]:
        if self.failures:
            self.failures -= 1
            raise wsrpc.RpcError("unavailable", "try again")
        yield 1

    @wsrpc.method
    async def value(self) -> int:
        return 7


async def test_the_default_fetcher_just_fetches() -> None:
    async with pair([Hello()]) as (_, client):
        hello = client.clientize(Hello, stream_fetcher=wsrpc.default_stream_fetcher)
        stream = hello.tokens("a b")
        assert [token.message async for token in stream] == ["a", "b"]
        assert stream.final == 1
        assert await hello.value() == 7


async def test_a_fetcher_gets_the_request_and_the_default() -> None:
    seen: list[wsrpc.StreamRequest] = []

    def fetch(request: wsrpc.StreamRequest, default: wsrpc.FetchStream) -> Any:
        seen.append(request)
        return default(request)

    async with pair([Hello()]) as (_, client):
        hello = client.clientize(Hello, stream_fetcher=fetch, timeout=9, metadata={"a": "1"})
        assert len(await hello.tokens("a b", times=2).collect()) == 4
    (request,) = seen
    assert (request.controller, request.method) == ("Hello", "tokens")
    assert request.arguments == {"text": "a b", "times": 2}
    assert request.options["timeout"] == 9
    assert request.metadata == {"a": "1"}
    assert request.kind == "stream"


async def test_a_caching_fetcher(wire: Wire) -> None:
    cache: dict[str, list[Any]] = {}

    async def cached(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[Any]:
        key = f"{request.method}{sorted(request.arguments.items())}"
        if key not in cache:
            cache[key] = await fetch(request).collect()
        for item in cache[key]:
            yield item

    async with pair([Hello()]) as (_, client):
        hello = client.clientize(Hello, stream_fetcher=cached)
        for _ in range(3):
            assert [token.message async for token in hello.tokens("a b")] == ["a", "b"]
        assert [token.message async for token in hello.tokens("c")] == ["c"]
    assert len(wire.frames("call")) == 2


async def test_a_retrying_fetcher() -> None:
    async def retrying(
        request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream
    ) -> AsyncIterator[Any]:
        for attempt in range(3):
            try:
                async for item in fetch(request):
                    yield item
                return
            except wsrpc.RpcError as error:
                if error.code != "unavailable" or attempt == 2:
                    raise

    hello = Hello()
    async with pair([hello]) as (_, client):
        proxy = client.clientize(Hello, stream_fetcher=retrying)
        hello.failures = 2
        assert [item async for item in proxy.flaky()] == [1]
        hello.failures = 5
        with error_of("unavailable"):
            await proxy.flaky().collect()


async def test_a_recording_fetcher_and_one_that_maps() -> None:
    recorded: list[Any] = []

    async def recording(
        request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream
    ) -> AsyncIterator[Any]:
        async with fetch(request.with_arguments(times=2)) as stream:
            async for item in stream:
                recorded.append(item)
                yield Token(message=item.message.upper())

    async with pair([Hello()]) as (_, client):
        hello = client.clientize(Hello, stream_fetcher=recording)
        assert [token.message async for token in hello.tokens("a b")] == ["A", "B", "A", "B"]
    assert [token.message for token in recorded] == ["a", "b", "a", "b"]


async def test_a_fetcher_may_never_fetch(wire: Wire) -> None:
    async def local(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[Any]:
        yield Token(message="local")

    async with pair([Hello()]) as (_, client):
        hello = client.clientize(Hello, stream_fetcher=local)
        async with hello.tokens("a b") as stream:
            assert (await anext(stream)).message == "local"
    assert not wire.frames("call")


@pytest.mark.rule("CANCEL-3")
async def test_leaving_a_fetched_stream_ends_it_at_the_far_side() -> None:

    async def passing(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[Any]:
        async for item in fetch(request):
            yield item

    hello = Hello()
    async with pair([hello]) as (_, client):
        proxy = client.clientize(Hello, stream_fetcher=passing, window=1)
        async with proxy.tokens("a b c d e f") as stream:
            await anext(stream)
        await until(lambda: hello.cleaned == 1)


async def test_what_a_fetcher_raises_is_raised() -> None:
    def broken(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> Any:
        raise ZeroDivisionError

    async with pair([Hello()]) as (_, client):
        with pytest.raises(ZeroDivisionError):
            await client.clientize(Hello, stream_fetcher=broken).tokens("a").collect()


async def test_fetchers_and_interceptors_go_together() -> None:
    order: list[str] = []

    def fetch(request: wsrpc.StreamRequest, default: wsrpc.FetchStream) -> Any:
        order.append("fetcher")
        return default(request)

    async def intercept(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        order.append("interceptor")
        return await call_next(request)

    async with pair([Hello()], client_interceptors=[intercept]) as (_, client):
        stream = client.clientize(Hello, stream_fetcher=fetch).tokens("a")
        assert len([token async for token in stream]) == 1
        assert stream.final == 1
    assert order == ["fetcher", "interceptor"]
