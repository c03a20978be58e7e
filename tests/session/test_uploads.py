"""Streams towards the callee: items, order, credit, and what becomes of their producers."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, Wire, bare_client, bare_server, error_of, pair, soon, turns, until


class Line(BaseModel):
    text: str


class Uploads:
    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.errors: list[wsrpc.RpcError[Any]] = []
        self.go = anyio.Event()

    @wsrpc.method
    async def count(self, lines: AsyncIterator[Line]) -> int:
        n = 0
        async for line in lines:
            self.seen.append(line)
            n += 1
        return n

    @wsrpc.method
    async def total(self, numbers: AsyncIterable[int]) -> int:
        return sum([n async for n in numbers])

    @wsrpc.method
    async def two(self, left: AsyncIterator[int], right: AsyncIterator[str], sep: str) -> str:
        texts: list[str] = []
        async for number in left:
            texts.append(f"{number}{await anext(right)}")
        return sep.join(texts)

    @wsrpc.method
    async def upper(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in lines:
            yield line.upper()

    @wsrpc.method
    async def optional(self, lines: AsyncIterator[int] | None = None) -> int:
        return -1 if lines is None else sum([n async for n in lines])

    @wsrpc.method
    async def first(self, numbers: AsyncIterator[int]) -> int:
        return await anext(numbers)

    @wsrpc.method
    async def close_early(self, numbers: wsrpc.Stream[int]) -> int:
        async with numbers:
            first = await anext(numbers)
        self.seen.append(first)
        await self.go.wait()
        return first

    @wsrpc.method
    async def drop_early(self, numbers: AsyncIterator[int]) -> int:
        self.seen.append(await anext(numbers))
        del numbers
        await self.go.wait()
        return 1

    @wsrpc.method
    async def never_reads(self, numbers: AsyncIterator[int]) -> int:
        self.seen.append("begun")
        await self.go.wait()
        return 0

    @wsrpc.method
    async def one_by_one(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield number

    @wsrpc.method
    async def fails(self, numbers: AsyncIterator[int]) -> int:
        await anext(numbers)
        raise wsrpc.RpcError("aborted", "enough", {"seen": 1})

    @wsrpc.method
    async def survives(self, numbers: AsyncIterator[int]) -> int:
        n = 0
        try:
            async for _ in numbers:
                n += 1
        except wsrpc.RpcError as error:
            self.errors.append(error)
        return n

    @wsrpc.method
    async def hands_on(self, numbers: AsyncIterator[int]) -> int:
        """Uploads to its caller what it is being sent."""
        return await wsrpc.current().session.clientize(Uploads).total(numbers)


class Source:
    """An endless source that notes what becomes of it."""

    def __init__(self, *, then: BaseException | None = None, after: int = 2**63) -> None:
        self.produced = 0
        self.cleaned: list[str] = []
        self._then = then
        self._after = after
        self.release = anyio.Event()
        self.release.set()

    async def numbers(self) -> AsyncIterator[int]:
        try:
            while self.produced < self._after:
                yield self.produced
                self.produced += 1
            if self._then is not None:
                raise self._then
        finally:
            self.cleaned.append("begun")
            await anyio.sleep(0)
            await self.release.wait()
            self.cleaned.append("done")

    async def waiting(self) -> AsyncIterator[int]:
        try:
            yield 0
            self.produced += 1
            await anyio.sleep_forever()
        finally:
            self.cleaned.append("begun")
            await anyio.sleep(0)
            await self.release.wait()
            self.cleaned.append("done")


DONE = ["begun", "done"]


async def lines(n: int) -> AsyncIterator[Line]:
    for i in range(n):
        yield Line(text=str(i))


@pytest.mark.rule("UP-2")
@pytest.mark.parametrize("n", [0, 1, 33, 500])
async def test_an_upload_arrives_in_order(codec: Codec, n: int, wire: Wire) -> None:
    uploads = Uploads()
    async with pair([uploads], codec=codec) as (_, client):
        assert await client.clientize(Uploads).count(lines(n)) == n
    assert uploads.seen == [Line(text=str(i)) for i in range(n)]
    assert wire.terminals() == {1: ["result"], 3: ["end"]}


async def test_several_uploads_a_call(codec: Codec) -> None:
    async with pair([Uploads()], codec=codec) as (_, client):
        uploads = client.clientize(Uploads)
        left, right = wsrpc.stream_of([1, 2, 3]), wsrpc.stream_of("abc")
        assert await uploads.two(left, right, sep="-") == "1a-2b-3c"


async def test_both_directions_at_once(codec: Codec, wire: Wire) -> None:
    async with pair([Uploads()], codec=codec) as (_, client):
        said = [f"line {n}" for n in range(500)]
        stream = client.clientize(Uploads).upper(wsrpc.stream_of(said))
        assert await stream.collect() == [line.upper() for line in said]
    wire.assert_one_terminal_each()


async def test_an_answer_comes_before_the_next_item_is_sent() -> None:
    async with pair([Uploads()]) as (_, client):
        send, receive = anyio.create_memory_object_stream[str](1)
        async with send, client.clientize(Uploads).upper(receive) as stream:
            for word in ("one", "two", "three"):
                await send.send(word)
                assert await anext(stream) == word.upper()


async def test_an_upload_may_be_left_out_or_be_none() -> None:
    async with pair([Uploads()]) as (_, client):
        uploads = client.clientize(Uploads)
        assert await uploads.optional() == -1
        assert await uploads.optional(None) == -1
        assert await uploads.optional(wsrpc.stream_of([1, 2])) == 3


async def test_any_async_iterable_can_be_uploaded() -> None:
    class Numbers:
        async def __aiter__(self) -> AsyncIterator[int]:
            yield 1
            yield 2

    async with pair([Uploads()]) as (_, client):
        assert await client.clientize(Uploads).total(Numbers()) == 3


async def test_a_stream_from_one_session_can_be_uploaded_to_another() -> None:
    class Numbers:
        @wsrpc.method
        async def upto(self, n: int) -> AsyncIterator[int]:
            for i in range(n):
                yield i

    async with pair([Numbers()]) as (_, source), pair([Uploads()]) as (_, target):
        numbers = source.clientize(Numbers).upto(100)
        assert await target.clientize(Uploads).total(numbers) == sum(range(100))


async def test_a_handler_uploads_to_its_caller_what_it_is_being_sent() -> None:
    async with pair([Uploads()], [Uploads()]) as (_, client):
        assert await client.clientize(Uploads).hands_on(wsrpc.stream_of(range(100))) == 4950


async def test_a_list_passed_bare_is_a_type_error_that_names_stream_of(wire: Wire) -> None:
    async with pair([Uploads()]) as (_, client):
        total: Any = client.clientize(Uploads).total
        with pytest.raises(TypeError, match=r"'numbers' is a stream .* wsrpc\.stream_of"):
            total([1, 2])
    assert not wire.frames("call")


async def test_a_large_item_goes_through(codec: Codec) -> None:
    uploads = Uploads()
    async with pair([uploads], codec=codec) as (_, client):
        large = [Line(text=str(n) * 2**20) for n in range(3)]
        assert await client.clientize(Uploads).count(wsrpc.stream_of(large)) == 3
    assert uploads.seen == large


# ------------------------------------------------------------------------------------ credit


@pytest.mark.rule("UP-1", "CREDIT-2")
async def test_a_producer_never_runs_ahead_of_the_handler_by_more_than_its_credit() -> None:
    source, uploads = Source(), Uploads()
    async with pair([uploads], limits=wsrpc.Limits(window=8)) as (_, client):
        async with anyio.create_task_group() as group:
            group.start_soon(client.clientize(Uploads).never_reads, source.numbers())
            await until(lambda: source.produced == 8 - 1)
            await turns(100)
            assert source.produced == 8 - 1
            uploads.go.set()
        assert source.cleaned == DONE


# ------------------------------------------------------------------------------------ producers stop


@pytest.mark.rule("UP-3")
@pytest.mark.parametrize("kind", ["numbers", "waiting"])
async def test_a_handler_that_returns_early_stops_the_producer(kind: str, wire: Wire) -> None:
    source = Source()
    async with pair([Uploads()]) as (_, client):
        assert await client.clientize(Uploads).first(getattr(source, kind)()) == 0
        assert source.cleaned == DONE
        await turns(50)
        produced = source.produced
        await turns(50)
        assert source.produced == produced
    assert wire.terminals() == {1: ["result"]}


@pytest.mark.rule("UP-3")
async def test_many_answers_in_one_message_let_each_producer_clean_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session acts on such a message in slices, and producers run meanwhile."""
    sources = [Source() for _ in range(100)]
    hello = {"window": 100_000, "limits": {"max_calls": 100}}
    async with bare_server(monkeypatch, hello=hello) as (peer, client):
        uploads = client.clientize(Uploads)
        async with anyio.create_task_group() as group:
            for source in sources:
                group.start_soon(uploads.total, source.numbers())
            ids = [(await peer.expect("call"))[1] for _ in sources]
            await turns(5)
            await peer.send(*(["result", id, 0] for id in ids))
    assert [source.cleaned for source in sources] == [DONE] * 100


@pytest.mark.rule("UP-3", "ERROR-2")
@pytest.mark.parametrize("kind", ["numbers", "waiting"])
async def test_a_handler_that_fails_stops_the_producer(kind: str) -> None:
    source = Source()
    async with pair([Uploads()]) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Uploads).fails(getattr(source, kind)())
        assert caught.value.data == {"seen": 1}
        assert source.cleaned == DONE


@pytest.mark.rule("UP-4")
@pytest.mark.parametrize("kind", ["numbers", "waiting"])
@pytest.mark.parametrize("method", ["close_early", "drop_early"])
async def test_a_handler_that_wants_no_more_stops_the_producer_and_goes_on(
    kind: str, method: str, wire: Wire
) -> None:
    source, uploads = Source(), Uploads()
    async with pair([uploads]) as (_, client):
        async with anyio.create_task_group() as group:
            group.start_soon(getattr(client.clientize(Uploads), method), getattr(source, kind)())
            await until(lambda: source.cleaned == DONE)
            await until(lambda: len(wire.frames("error")) == 1)
            assert wire.frames("error")[0][1] == 3
            assert wire.frames("error")[0][2]["code"] == "cancelled"
            uploads.go.set()
    assert wire.terminals() == {1: ["result"], 3: ["error"]}


@pytest.mark.rule("CANCEL-3", "UP-3")
@pytest.mark.parametrize("kind", ["numbers", "waiting"])
async def test_cancelling_the_call_stops_the_producer_and_waits_for_its_cleanup(
    kind: str, wire: Wire
) -> None:
    source, uploads = Source(), Uploads()
    async with pair([uploads]) as (_, client):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Uploads).never_reads, getattr(source, kind)())
                await until(lambda: uploads.seen == ["begun"] and source.produced > 0)
                scope.cancel()
        assert source.cleaned == DONE
        await until(lambda: len(wire.frames("error")) == 1)
    assert wire.terminals() == {1: ["error"]}


@pytest.mark.rule("UP-3")
async def test_leaving_a_stream_stops_the_producers_of_its_uploads() -> None:
    source = Source()
    async with pair([Uploads()]) as (_, client):
        async with client.clientize(Uploads).one_by_one(source.numbers()) as stream:
            assert await anext(stream) == 0
        assert source.cleaned == DONE


async def test_dropping_a_stream_stops_the_producers_of_its_uploads() -> None:
    source = Source()
    async with pair([Uploads()]) as (_, client):
        stream = client.clientize(Uploads).one_by_one(source.numbers())
        assert await anext(stream) == 0
        del stream
        await until(lambda: source.cleaned == DONE)


async def test_cancelling_the_consumer_of_a_stream_stops_the_producers_of_its_uploads() -> None:
    source = Source()
    async with pair([Uploads()]) as (_, client):
        stream = client.clientize(Uploads).one_by_one(source.waiting())
        with anyio.CancelScope() as scope:
            async for _ in stream:
                scope.cancel()
        assert source.cleaned == DONE


@pytest.mark.rule("TIME-3")
async def test_a_deadline_stops_the_producer() -> None:
    source = Source()
    async with pair([Uploads()]) as (_, client):
        with error_of("deadline_exceeded"):
            await client.clientize(Uploads, timeout=0.05).never_reads(source.numbers())
        assert source.cleaned == DONE


@pytest.mark.rule("CLOSE-4")
async def test_a_lost_connection_stops_the_producer() -> None:
    source, uploads = Source(), Uploads()
    async with pair([uploads]) as (server, client):

        async def call() -> None:
            with pytest.raises(wsrpc.ConnectionLost):
                await client.clientize(Uploads).never_reads(source.numbers())
            assert source.cleaned == DONE

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: source.produced > 0)
            await server.aclose()


async def test_closing_the_session_waits_for_the_producers_cleanup() -> None:
    source = Source()
    with soon():
        async with pair([Uploads()]) as (_, client):
            stream = client.clientize(Uploads).one_by_one(source.waiting())
            assert await anext(stream) == 0
        assert source.cleaned == DONE


async def test_a_producers_cleanup_is_bounded_by_cleanup_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source()
    source.release = anyio.Event()
    async with pair([Uploads()], limits=wsrpc.Limits(cleanup_timeout=0.1)) as (_, client):
        assert await client.clientize(Uploads).first(source.numbers()) == 0
    assert source.cleaned == ["begun"]
    assert "Uploads.first(numbers=…) was still cleaning up" in caplog.text


async def test_a_producer_that_fails_in_its_cleanup_does_not_hide_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    async with pair([Uploads()]) as (_, client):
        assert await client.clientize(Uploads).first(numbers()) == 1
    assert "while cleaning up" in caplog.text


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_source_that_raises_an_rpc_error_while_it_is_stopped_is_no_failure(
    grouped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def numbers(failure: Exception) -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            raise ExceptionGroup("several", [failure]) if grouped else failure

    async with pair([Uploads()]) as (_, client):
        uploads = client.clientize(Uploads)
        # As a handler, whose nested call has failed for the same reason.
        assert await uploads.first(numbers(wsrpc.RpcError("unavailable", "it went too"))) == 1
        assert "while it was being stopped" not in caplog.text
        assert await uploads.first(numbers(KeyError("a fault"))) == 1
    assert caplog.text.count("while it was being stopped") == 1


# ------------------------------------------------------------------------------------ errors


@pytest.mark.rule("UP-2")
async def test_what_a_source_raises_reaches_the_caller_as_it_was_raised() -> None:
    failure = ValueError("disk on fire")
    source, uploads = Source(then=failure, after=3), Uploads()
    async with pair([uploads]) as (_, client):
        with pytest.raises(ValueError, match="disk on fire") as caught:
            await client.clientize(Uploads).total(source.numbers())
        assert caught.value is failure
        with pytest.raises(ValueError, match="disk on fire"):
            await (
                client.clientize(Uploads)
                .one_by_one(Source(then=failure, after=3).numbers())
                .collect()
            )


async def test_a_source_that_raises_no_exception_but_worse_is_no_different() -> None:
    class Worse(BaseException):
        pass

    source = Source(then=Worse(), after=3)
    async with pair([Uploads()]) as (_, client):
        with pytest.raises(Worse):
            await client.clientize(Uploads).total(source.numbers())


@pytest.mark.rule("UP-2")
async def test_the_handler_sees_an_error_after_the_items_that_came_before_it(
    codec: Codec,
) -> None:
    source, uploads = Source(then=ValueError("secret"), after=40), Uploads()
    async with pair([uploads], codec=codec) as (_, client):
        assert await client.clientize(Uploads).survives(source.numbers()) == 40
    (error,) = uploads.errors
    assert error.code == "aborted"
    assert "secret" not in str(error)


@pytest.mark.rule("UP-2")
async def test_an_error_that_a_source_raises_on_purpose_reaches_the_handler_as_it_is() -> None:
    failure = wsrpc.RpcError("out_of_range", "no more", [1])
    source, uploads = Source(then=failure, after=1), Uploads()
    async with pair([uploads]) as (_, client):
        assert await client.clientize(Uploads).survives(source.numbers()) == 1
    (error,) = uploads.errors
    assert (error.code, error.message, error.data) == ("out_of_range", "no more", [1])


async def test_a_group_of_equal_errors_of_a_source_is_that_error_for_the_handler() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        same = [wsrpc.RpcError("out_of_range", "no more", [1]) for _ in range(3)]
        raise ExceptionGroup("of a task group", same)

    uploads = Uploads()
    async with pair([uploads]) as (_, client):
        with pytest.raises(ExceptionGroup, match="of a task group"):
            await client.clientize(Uploads).total(numbers())
        assert await client.clientize(Uploads).survives(numbers()) == 1
    (error,) = uploads.errors
    assert (error.code, error.message, error.data) == ("out_of_range", "no more", [1])


async def test_an_item_that_does_not_fit_its_type_fails_at_the_caller() -> None:
    wrong: list[Any] = [1, "two", 3]
    async with pair([Uploads()]) as (_, client):
        with pytest.raises(wsrpc.WsrpcError, match="numbers"):
            await client.clientize(Uploads).total(wsrpc.stream_of(wrong))


@pytest.mark.rule("UP-5")
async def test_an_item_that_does_not_validate_on_arrival_is_the_calls_invalid_argument(
    codec: Codec,
) -> None:
    uploads = Uploads()
    async with pair([uploads], codec=codec) as (_, client):
        items: list[Any] = [{"text": "good"}, {"text": 7}, {"text": "late"}]
        with error_of("invalid_argument") as caught:
            await client.clientize("Uploads").count(lines=wsrpc.stream_of(items))
        assert caught.value.data["errors"][0]["loc"] == ["lines", "text"]
        assert uploads.seen == [Line(text="good")]


@pytest.mark.rule("UP-5")
async def test_a_handler_may_catch_an_item_that_does_not_validate(codec: Codec) -> None:
    uploads = Uploads()
    async with pair([uploads], codec=codec) as (_, client):
        items: list[Any] = [1, 2, "three", 4]
        survives = client.clientize("Uploads").survives
        assert await survives(numbers=wsrpc.stream_of(items)) == 2
    (error,) = uploads.errors
    assert error.code == "invalid_argument"


async def test_an_upload_has_no_final_value() -> None:
    final: list[Any] = [1, wsrpc.Final(2)]
    async with pair([Uploads()]) as (_, client):
        with pytest.raises(TypeError, match="no final value"):
            await client.clientize(Uploads).total(wsrpc.stream_of(final))


async def test_an_upload_kept_beyond_its_call_ends_with_an_error() -> None:
    kept: list[AsyncIterator[int]] = []

    class Keeps:
        @wsrpc.method
        async def keep(self, numbers: AsyncIterator[int]) -> int:
            kept.append(numbers)
            return await anext(numbers)

    async with pair([Keeps()]) as (_, client):
        assert await client.clientize(Keeps).keep(Source().waiting()) == 0
        with error_of("cancelled"):
            async for _ in kept[0]:
                pass


# ------------------------------------------------------------------------------------ bare frames


@pytest.mark.rule("ID-6", "UP-3")
async def test_items_after_the_terminal_of_their_call_are_ignored() -> None:
    uploads = Uploads()
    async with bare_client(wsrpc.Server([uploads])) as peer:
        await peer.send(["call", 1, "Uploads.first", {}, {"uploads": {"numbers": 3}}])
        await peer.send(["message", 3, [7]])
        assert await peer.expect("result") == ["result", 1, 7]
        await peer.send(["message", 3, [8]], ["end", 3])
        await peer.send(["call", 5, "Uploads.optional", {}])
        assert await peer.expect("result") == ["result", 5, -1]


@pytest.mark.rule("BATCH-5")
async def test_items_that_come_with_their_call_are_not_lost() -> None:
    async with bare_client(wsrpc.Server([Uploads()])) as peer:
        await peer.send(
            ["call", 1, "Uploads.total", {}, {"uploads": {"numbers": 3}}],
            ["message", 3, [1, 2]],
            ["message", 3, [3]],
            ["end", 3],
        )
        assert await peer.expect("result") == ["result", 1, 6]


@pytest.mark.rule("CALL-4")
@pytest.mark.parametrize(
    ("args", "options", "loc"),
    [
        ({}, {}, ["numbers"]),
        ({"numbers": [1]}, {}, ["numbers"]),
        ({}, {"uploads": {"numbers": 3, "nimbers": 5}}, ["nimbers"]),
        ({}, {"callbacks": {"numbers": 3}}, ["numbers"]),
    ],
)
async def test_an_upload_in_the_wrong_place_is_an_invalid_argument(
    args: Any, options: Any, loc: list[str]
) -> None:
    async with bare_client(wsrpc.Server([Uploads()])) as peer:
        await peer.send(["call", 1, "Uploads.total", args, options])
        error = await peer.expect("error")
        assert error[1] == 1
        assert error[2]["code"] == "invalid_argument"
        assert loc in [one["loc"] for one in error[2]["data"]["errors"]]
