"""Code around calls, on both sides, for values and streams."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, Wire, error_of, pair, served, until


class Shop:
    def __init__(self) -> None:
        self.cleaned: list[str] = []
        self.notes: list[str] = []

    @wsrpc.method
    async def price(self, item: str, amount: int = 1) -> int:
        if item == "missing":
            raise KeyError(item)
        return len(item) * amount

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[int | wsrpc.Final[str]]:
        try:
            for i in range(n):
                yield i
            yield wsrpc.Final("that is all")
        finally:
            self.cleaned.append("items")

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        self.notes.append(text)


class Recorder:
    """An interceptor that notes what passes."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.requests: list[wsrpc.Request] = []

    async def __call__(self, request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        self.requests.append(request)
        self.log.append(f"> {self.name}")
        try:
            return await call_next(request)
        finally:
            self.log.append(f"< {self.name}")


async def test_interceptors_run_around_calls_from_the_outside_in(codec: Codec) -> None:
    log: list[str] = []

    class Own(Shop):
        controller_name = "Shop"
        interceptors = (Recorder("controller 1", log), Recorder("controller 2", log))

    async with pair(
        [Own()],
        codec=codec,
        interceptors=[Recorder("server 1", log), Recorder("server 2", log)],
        client_interceptors=[Recorder("session 1", log), Recorder("session 2", log)],
    ) as (_, client):
        shop = client.clientize(
            Shop, interceptors=[Recorder("proxy 1", log), Recorder("proxy 2", log)]
        )
        assert await shop.price("tea") == 3
    order = [
        "session 1",
        "session 2",
        "proxy 1",
        "proxy 2",
        "server 1",
        "server 2",
        "controller 1",
        "controller 2",
    ]
    assert log == [f"> {name}" for name in order] + [f"< {name}" for name in reversed(order)]


async def test_an_interceptor_sees_the_request_on_both_sides() -> None:
    log: list[str] = []
    inbound, outbound = Recorder("in", log), Recorder("out", log)
    async with pair([Shop()], interceptors=[inbound]) as (server, client):
        shop = client.clientize(
            Shop, interceptors=[outbound], metadata={"a": "1"}, timeout=7, idle_timeout=3
        )
        await shop.price("tea", amount=2)
        await shop.items(2).collect()
        await shop.note("x")
        await until(lambda: len(inbound.requests) == 3)
        for direction, session, recorder in (
            ("outbound", client, outbound),
            ("inbound", server, inbound),
        ):
            unary, stream, notify = recorder.requests
            assert [one.kind for one in recorder.requests] == ["unary", "stream", "notify"]
            assert (unary.controller, unary.method) == ("Shop", "price")
            assert unary.arguments == {"item": "tea", "amount": 2}
            assert stream.arguments == {"n": 2}
            assert notify.arguments == {"text": "x"}
            assert all(one.direction == direction for one in recorder.requests)
            assert all(one.session is session for one in recorder.requests)
            assert all(one.metadata == {"a": "1"} for one in recorder.requests)
        assert outbound.requests[0].options["timeout"] == 7
        assert outbound.requests[0].options["idle_timeout"] == 3
        assert inbound.requests[0].options == {}


async def test_interceptors_of_a_connection_and_of_its_server() -> None:
    log: list[str] = []
    async with served([Shop()], interceptors=[Recorder("server", log)]) as listener:
        async with wsrpc.connect(listener.url, interceptors=[Recorder("session", log)]) as session:
            assert await session.clientize(Shop).price("tea") == 3
    assert log == ["> session", "> server", "< server", "< session"]


async def test_interceptors_of_a_client_controller_run_around_calls_to_it() -> None:
    log: list[str] = []

    class Own(Shop):
        controller_name = "Shop"
        interceptors = (Recorder("controller", log),)

    async with pair([], [Own()]) as (server, _):
        assert await server.clientize(Shop).price("tea") == 3
    assert log == ["> controller", "< controller"]


async def test_an_interceptor_may_change_arguments_metadata_and_result(wire: Wire) -> None:
    async def outbound(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        request.metadata["trace"] = "t1"
        return await call_next(request.with_arguments(amount=10))

    async def inbound(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        assert request.metadata == {"trace": "t1"}
        request.arguments["item"] = request.arguments["item"] * 2
        return -(await call_next(request))

    async with pair([Shop()], interceptors=[inbound], client_interceptors=[outbound]) as (
        _,
        client,
    ):
        assert await client.clientize(Shop).price("tea") == -60
    (call,) = wire.frames("call")
    assert call[3] == {"item": "tea", "amount": 10}
    assert call[4]["metadata"] == {"trace": "t1"}


async def test_an_interceptor_may_answer_itself(wire: Wire) -> None:
    async def cached(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        return 99

    async with pair([Shop()], client_interceptors=[cached]) as (_, client):
        assert await client.clientize(Shop).price("tea") == 99
    assert not wire.frames("call")


async def test_an_interceptor_may_call_again() -> None:
    attempts: list[str] = []

    async def retry(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        for item in ("missing", "missing", "tea"):
            attempts.append(item)
            try:
                return await call_next(request.with_arguments(item=item))
            except wsrpc.RpcError:
                pass
        return None

    async with pair([Shop()], client_interceptors=[retry]) as (_, client):
        assert await client.clientize(Shop).price("x") == 3
    assert attempts == ["missing", "missing", "tea"]


async def test_error_mapping_on_the_server() -> None:
    async def mapping(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        try:
            return await call_next(request)
        except KeyError as error:
            raise wsrpc.RpcError("not_found", "no such item", error.args) from None

    async with pair([Shop()], interceptors=[mapping]) as (_, client):
        with error_of("not_found") as caught:
            await client.clientize(Shop).price("missing")
        assert caught.value.data == ["missing"]


async def test_an_authorisation_check_on_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def only_ann(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        assert wsrpc.current().method == request.method
        if request.session.principal != "Ann":
            raise wsrpc.RpcError("permission_denied", "only Ann may")
        return await call_next(request)

    async with pair([Shop()], interceptors=[only_ann], principal="Bob") as (_, client):
        with error_of("permission_denied"):
            await client.clientize(Shop).price("tea")
        with error_of("permission_denied"):
            await client.clientize(Shop).items(3).collect()
    async with pair([Shop()], interceptors=[only_ann], principal="Ann") as (_, client):
        assert await client.clientize(Shop).items(3).collect() == [0, 1, 2]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_timing_of_a_call_and_of_a_stream_to_its_end() -> None:
    took: dict[str, float] = {}

    async def timing(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        begin = time.perf_counter()
        if request.kind != "stream":
            try:
                return await call_next(request)
            finally:
                took[request.method] = time.perf_counter() - begin

        async def timed(source: AsyncIterator[Any]) -> AsyncIterator[Any]:
            try:
                async for item in source:
                    yield item
            finally:
                took[request.method] = time.perf_counter() - begin

        return timed(await call_next(request))

    async with pair([Shop()], interceptors=[timing]) as (_, client):
        await client.clientize(Shop).price("tea")
        assert await client.clientize(Shop).items(100).collect() == list(range(100))
    assert set(took) == {"price", "items"}


async def test_an_interceptor_may_wrap_the_items_on_either_side(codec: Codec) -> None:
    async def times_ten(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        source = await call_next(request)

        async def mapped() -> AsyncIterator[int]:
            async for item in source:
                yield item * 10 if isinstance(item, int) else item

        return mapped()

    async with pair(
        [Shop()], codec=codec, interceptors=[times_ten], client_interceptors=[times_ten]
    ) as (_, client):
        assert await client.clientize(Shop).items(4).collect() == [0, 100, 200, 300]


@pytest.mark.rule("END-1")
async def test_a_stream_that_interceptors_pass_on_keeps_its_final_value() -> None:
    log: list[str] = []
    async with pair(
        [Shop()],
        interceptors=[Recorder("in", log)],
        client_interceptors=[Recorder("out", log)],
    ) as (_, client):
        stream = client.clientize(Shop).items(3)
        assert [item async for item in stream] == [0, 1, 2]
        assert stream.final == "that is all"


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize("end", ["aclose", "cancel", "drop"])
async def test_ending_a_stream_behind_interceptors_ends_it_at_the_far_side(end: str) -> None:
    log: list[str] = []
    shop = Shop()
    async with pair([shop], client_interceptors=[Recorder("out", log)]) as (_, client):
        stream: Any = client.clientize(Shop, window=1).items(100)
        assert await anext(stream) == 0
        if end == "aclose":
            await stream.aclose()
        elif end == "cancel":
            stream.cancel()
            assert [item async for item in stream] == []
        else:
            del stream
        await until(lambda: shop.cleaned == ["items"])


async def test_an_exception_in_an_interceptor_is_the_calls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        raise ZeroDivisionError

    async with pair([Shop()], interceptors=[broken]) as (_, client):
        with error_of("internal"):
            await client.clientize(Shop).price("tea")
        with error_of("internal"):
            await client.clientize(Shop).items(1).collect()
    assert "ZeroDivisionError" in caplog.text
    async with pair([Shop()], client_interceptors=[broken]) as (_, client):
        with pytest.raises(ZeroDivisionError):
            await client.clientize(Shop).price("tea")
        with pytest.raises(ZeroDivisionError):
            await client.clientize(Shop).items(1).collect()


async def test_an_exception_after_the_call_does_not_lose_the_handlers_stream() -> None:
    shop = Shop()

    async def broken(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        await call_next(request)
        raise wsrpc.RpcError("aborted", "after it")

    async with pair([shop], interceptors=[broken]) as (_, client):
        with error_of("aborted"):
            await client.clientize(Shop).items(1).collect()
        with error_of("aborted"):
            await client.clientize(Shop).price("tea")


async def test_an_interceptor_that_gives_no_stream_fails_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def forgets(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        await call_next(request)

    async with pair([Shop()], interceptors=[forgets]) as (_, client):
        with error_of("internal"):
            await client.clientize(Shop).items(1).collect()
    assert "Shop.items" in caplog.text


@pytest.mark.rule("CANCEL-3")
async def test_an_interceptor_is_cancelled_with_its_call() -> None:
    events: list[str] = []

    async def slow(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        events.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0)
            events.append("cleaned")

    async with pair([Shop()], interceptors=[slow]) as (_, client):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Shop).price, "tea")
                await until(lambda: events == ["begun"])
                scope.cancel()
        await until(lambda: events == ["begun", "cleaned"])


async def test_uploads_pass_through_interceptors() -> None:
    log: list[str] = []

    async def doubled(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        numbers = request.arguments["numbers"]

        async def twice() -> AsyncIterator[int]:
            async for number in numbers:
                yield number * 2

        return await call_next(request.with_arguments(numbers=twice()))

    async with pair(
        [Shop()], interceptors=[doubled, Recorder("in", log)], client_interceptors=[doubled]
    ) as (_, client):
        assert await client.clientize(Shop).total(wsrpc.stream_of([1, 2, 3])) == 24


async def test_interceptors_run_around_calls_by_bare_name() -> None:
    log: list[str] = []
    async with pair([Shop()], client_interceptors=[Recorder("out", log)]) as (_, client):
        shop = client.clientize("Shop")
        assert await shop.price(item="tea") == 3
        assert await shop.items(n=2).collect() == [0, 1]
        assert await shop.total(numbers=wsrpc.stream_of([1, 2])) == 3
    assert log == ["> out", "< out"] * 3
