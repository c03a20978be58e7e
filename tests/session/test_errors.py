"""Errors that cross the wire: the classes, codes, messages and data that arrive, or do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, Wire, bare_client, bare_server, error_of, pair, served, soon


class Quota(BaseModel):
    limit: int
    used: int


class AllowanceExceeded(wsrpc.RpcError[Quota]):
    def __init__(self, quota: Quota) -> None:
        super().__init__("resource_exhausted", "quota exceeded", quota)


class Renamed(wsrpc.RpcError[list[int]]):
    type_name = "com.example.Renamed"


class Unsendable(wsrpc.RpcError[Any]):
    pass


DATA: list[Any] = [
    None,
    0,
    False,
    "",
    "text\n\U0001f600",
    1.5,
    [],
    {},
    [1, "two", None, [3.5, {"four": False}]],
    {"isError": True, "nested": {"reason": "x"}},
    2**64 - 1,
    -(2**63),
]


class Failing:
    @wsrpc.method
    async def fail(self, code: str, message: str, data: object = None) -> None:
        raise wsrpc.RpcError(code, message, data)

    @wsrpc.method
    async def fail_stream(self, n: int, data: object) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise wsrpc.RpcError("aborted", "midway", data)

    @wsrpc.method
    async def quota(self) -> None:
        raise AllowanceExceeded(Quota(limit=3, used=4))

    @wsrpc.method
    async def quota_stream(self) -> AsyncIterator[int]:
        yield 1
        raise AllowanceExceeded(Quota(limit=3, used=4))

    @wsrpc.method
    async def renamed(self) -> None:
        raise Renamed("aborted", "renamed", [1, 2])

    @wsrpc.method
    async def boom(self) -> None:
        raise ValueError("the password is 1234")

    @wsrpc.method
    async def odd_boom(self) -> None:
        raise ValueError("\ud800 is half a character")

    @wsrpc.method
    async def grouped(self) -> None:
        async def child() -> None:
            raise wsrpc.RpcError("not_found", "in a child")

        async with anyio.create_task_group() as group:
            group.start_soon(child)

    @wsrpc.method
    async def unsendable(self) -> None:
        raise Unsendable("aborted", "its data cannot travel", object())

    @wsrpc.method
    async def odd_message(self) -> None:
        raise wsrpc.RpcError("aborted", "\ud800", "data")

    @wsrpc.method
    async def no_message(self) -> None:
        message: Any = ValueError("not a string")
        raise wsrpc.RpcError("aborted", message)

    @wsrpc.method
    async def odd_retry(self) -> None:
        error = wsrpc.RpcError("unavailable", "later")
        error.retry_after = float("inf")
        raise error

    @wsrpc.method
    async def retry(self) -> None:
        error = wsrpc.RpcError("unavailable", "later")
        error.retry_after = 1.5
        error.not_started = True
        raise error

    @wsrpc.method
    async def large(self, size: int) -> None:
        raise wsrpc.RpcError("aborted", "m" * size, "d" * size)

    @wsrpc.method
    async def passes_on(self) -> None:
        await wsrpc.current().session.clientize(Failing).quota()

    @wsrpc.method
    async def wrong_code(self) -> None:
        raise wsrpc.RpcError("teapot", "no such code")

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"


@pytest.mark.rule("ERROR-2")
@pytest.mark.parametrize("data", DATA, ids=repr)
async def test_code_message_and_data_arrive_as_they_were_raised(codec: Codec, data: Any) -> None:
    async with pair([Failing()], codec=codec) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Failing).fail("aborted", "a \u2028 message", data)
        error = caught.value
        assert type(error) is wsrpc.RpcError
        assert error.message == "a \u2028 message"
        assert error.data == data
        assert type(error.data) is type(data)
        assert error.error_id is None
        with error_of("aborted") as caught:
            await client.clientize(Failing).fail_stream(2, data).collect()
        assert caught.value.data == data


@pytest.mark.rule("ERROR-2")
@pytest.mark.parametrize("code", list(wsrpc.Code))
async def test_every_code_crosses(code: str) -> None:
    async with pair([Failing()]) as (_, client):
        with error_of(code) as caught:
            await client.clientize(Failing, timeout=None).fail(code, "")
        assert caught.value.message == ""
        assert isinstance(caught.value, TimeoutError) == (code == "deadline_exceeded")


async def test_bytes_in_data_travel_as_the_codec_writes_them(codec: Codec) -> None:
    class Bytes:
        @wsrpc.method
        async def fail(self) -> None:
            raise wsrpc.RpcError("aborted", "", b"\xff\xfe")

    async with pair([Bytes()], codec=codec) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Bytes).fail()
    assert caught.value.data == ("__4=" if codec == "json" else b"\xff\xfe")


@pytest.mark.rule("ERROR-6")
async def test_a_subclass_with_typed_data_arrives_as_that_class(codec: Codec) -> None:
    async with pair([Failing()], codec=codec) as (_, client):
        failing = client.clientize(Failing)
        with pytest.raises(AllowanceExceeded) as caught:
            await failing.quota()
        assert caught.value.data == Quota(limit=3, used=4)
        assert caught.value.code == "resource_exhausted"
        with pytest.raises(AllowanceExceeded) as caught:
            await failing.quota_stream().collect()
        assert caught.value.data.used == 4
        with pytest.raises(Renamed) as renamed:
            await failing.renamed()
        assert renamed.value.data == [1, 2]


async def test_a_subclass_passes_through_a_handler_in_between() -> None:
    async with pair([Failing()], [Failing()]) as (_, client):
        with pytest.raises(AllowanceExceeded):
            await client.clientize(Failing).passes_on()


@pytest.mark.rule("ERROR-6")
async def test_a_class_that_is_not_known_or_whose_data_does_not_fit_is_a_plain_error(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"code": "aborted", "message": "m"}
    async with bare_server(monkeypatch, codec) as (peer, session):
        for type_name, data in [("NoSuchClass", {"a": 1}), ("AllowanceExceeded", {"limit": "x"})]:
            async with anyio.create_task_group() as group:
                group.start_soon(peer_answers, peer, {**body, "type": type_name, "data": data})
                with error_of("aborted") as caught:
                    await session.clientize("X").y()
                assert type(caught.value) is wsrpc.RpcError
                assert caught.value.data == data


async def peer_answers(peer: Any, body: dict[str, Any]) -> None:
    call = await peer.expect("call")
    await peer.send(["error", call[1], body])


@pytest.mark.rule("ERROR-1")
async def test_a_code_that_is_not_in_the_table_is_unknown(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare_server(monkeypatch, codec) as (peer, session):
        async with anyio.create_task_group() as group:
            group.start_soon(peer_answers, peer, {"code": "teapot", "message": "short and stout"})
            with error_of("unknown") as caught:
                await session.clientize("X").y()
            assert caught.value.message == "short and stout"


@pytest.mark.rule("ERROR-3")
async def test_anything_else_is_internal_with_an_error_id_and_nothing_more(
    codec: Codec, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair([Failing()], codec=codec) as (_, client):
        with error_of("internal") as caught:
            await client.clientize(Failing).boom()
    error = caught.value
    assert type(error) is wsrpc.RpcError
    assert error.message == "internal error"
    assert error.data is None
    assert error.error_id
    assert error.error_id in str(error)
    assert all(b"password" not in data and b"ValueError" not in data for _, data in wire.batches)
    assert error.error_id in caplog.text
    assert "the password is 1234" in caplog.text
    assert "Traceback" in caplog.text
    assert "Failing.boom" in caplog.text


@pytest.mark.rule("ERROR-3")
async def test_each_unforeseen_error_has_an_id_of_its_own() -> None:
    ids: set[str | None] = set()
    async with pair([Failing()]) as (_, client):
        for _n in range(5):
            with error_of("internal") as caught:
                await client.clientize(Failing).boom()
            ids.add(caught.value.error_id)
    assert len(ids) == 5


@pytest.mark.rule("ERROR-3")
async def test_a_debugging_server_reveals_text_and_traceback(codec: Codec) -> None:
    async with served([Failing()], debug=True) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as session:
            with error_of("internal") as caught:
                await session.clientize(Failing).boom()
            assert caught.value.message == "ValueError: the password is 1234"
            assert "in boom" in caught.value.data["traceback"]
            with error_of("internal") as caught:
                await session.clientize(Failing).odd_boom()
            assert "half a character" in caught.value.message


@pytest.mark.rule("ERROR-2")
async def test_an_error_raised_on_purpose_in_a_task_group_is_not_hidden_by_the_group() -> None:
    async with pair([Failing()]) as (_, client):
        with error_of("not_found"):
            await client.clientize(Failing).grouped()


@pytest.mark.rule("VALUE-3", "ERROR-3")
async def test_an_error_whose_data_cannot_travel_is_internal(
    codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair([Failing()], codec=codec) as (_, client):
        with error_of("internal"):
            await client.clientize(Failing).unsendable()
        assert await client.clientize(Failing).ping() == "pong"
    assert "its data cannot travel" in caplog.text


@pytest.mark.parametrize("method", ["odd_message", "no_message"])
async def test_a_message_that_is_no_text_crosses_as_well_as_it_can(
    codec: Codec, method: str
) -> None:
    async with pair([Failing()], codec=codec) as (_, client):
        with error_of("aborted"):
            await getattr(client.clientize(Failing), method)()
        assert await client.clientize(Failing).ping() == "pong"


@pytest.mark.rule("CALL-5")
async def test_an_error_that_cannot_be_told_is_internal(caplog: pytest.LogCaptureFixture) -> None:
    async with pair([Failing()]) as (_, client):
        with error_of("internal"):
            await client.clientize(Failing).odd_retry()
        with error_of("internal"):
            await client.clientize(Failing).wrong_code()
        assert await client.clientize(Failing).ping() == "pong"
    assert "'teapot' is no status code" in caplog.text


@pytest.mark.parametrize(
    ("field", "value", "arrives"),
    [
        ("retry_after", 1e300, (2**53 - 1) / 1000),
        ("retry_after", -1.0, 0),
        ("error_id", 7, "7"),
        ("error_id", "\ud800", "?"),
        ("error_id", "x" * 300_000, "x" * 200),
    ],
)
async def test_whatever_stands_in_an_error_only_its_own_call_fails(
    codec: Codec, field: str, value: Any, arrives: Any
) -> None:
    class Careless:
        @wsrpc.method
        async def fail(self) -> None:
            error = wsrpc.RpcError("aborted", "no")
            setattr(error, field, value)
            raise error

    async with pair([Careless()], codec=codec) as (_, client):
        careless = client.clientize(Careless)
        for _ in range(2):
            with error_of("aborted") as caught:
                await careless.fail()
            assert getattr(caught.value, field) == arrives


@pytest.mark.rule("ERROR-7")
async def test_a_handler_can_say_when_to_try_again_but_not_that_it_never_began() -> None:
    async with pair([Failing()]) as (_, client):
        with error_of("unavailable") as caught:
            await client.clientize(Failing).retry()
    assert caught.value.retry_after == 1.5
    assert not caught.value.not_started


@pytest.mark.rule("VALUE-7")
async def test_an_error_that_is_too_large_loses_its_data_but_not_its_call(codec: Codec) -> None:
    async with pair([Failing()], codec=codec) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Failing).large(3 * 2**20)
        assert caught.value.data is None
        assert caught.value.message.startswith("mmm")
        assert await client.clientize(Failing).ping() == "pong"


@pytest.mark.rule("ERROR-5")
async def test_an_error_frame_is_answered_for_a_call_that_wanted_a_stream() -> None:
    async with pair([Failing()]) as (_, client):
        with error_of("unimplemented"):
            async for _ in client.clientize("Failing").no_such_method():
                pass


async def test_errors_are_not_shared_between_calls() -> None:
    errors: list[BaseException] = []

    class Waits:
        @wsrpc.method
        async def wait(self) -> None:
            await anyio.sleep_forever()

    with soon():
        async with pair([Waits()]) as (server, client):

            async def one() -> None:
                try:
                    await client.clientize(Waits).wait()
                except wsrpc.ConnectionLost as error:
                    errors.append(error)

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(one)
                await anyio.sleep(0.01)
                await server.aclose()
    assert len(set(map(id, errors))) == 3


# ------------------------------------------------------------------------------------ large values


class Large:
    @wsrpc.method
    async def blob(self, size: int) -> str:
        return "x" * size

    @wsrpc.method
    async def blobs(self, size: int) -> AsyncIterator[str]:
        yield "small"
        yield "x" * size

    @wsrpc.method
    async def take(self, text: str) -> int:
        return len(text)

    @wsrpc.method
    async def take_all(self, texts: AsyncIterator[str]) -> int:
        return sum([len(text) async for text in texts])


TOO_LARGE = 3 * 2**20


@pytest.mark.rule("VALUE-7")
async def test_a_value_that_is_too_large_fails_its_call_alone(codec: Codec, wire: Wire) -> None:
    limits = wsrpc.Limits(max_value=2 * 2**20)
    async with pair([Large()], codec=codec, limits=limits) as (_, client):
        large = client.clientize(Large)
        with error_of("resource_exhausted") as caught:
            await large.take("x" * TOO_LARGE)
        assert caught.value.not_started
        assert not wire.frames("call")
        with error_of("resource_exhausted") as caught:
            await large.blob(TOO_LARGE)
        assert "Large.blob" in caught.value.message
        got: list[str] = []
        with error_of("resource_exhausted"):
            async for item in large.blobs(TOO_LARGE):
                got.append(item)
        assert got == ["small"]
        with pytest.raises(Exception, match="at most"):
            await large.take_all(wsrpc.stream_of(["x" * TOO_LARGE]))
        assert await large.take("x" * 2**20) == 2**20


@pytest.mark.rule("BATCH-6")
async def test_a_message_that_is_too_large_is_closed_with_1009() -> None:
    async with bare_client(wsrpc.Server([Large()])) as peer:
        await peer.send(["call", 1, "Large.take", {"text": "x" * TOO_LARGE}])
        assert await peer.closed() == 1009


async def peer_answers_and_breaks_a_rule(peer: Any) -> None:
    call = await peer.expect("call")
    await peer.send(["result", call[1], "in time"], ["credit", 1_000_001, 1])


@pytest.mark.rule("BATCH-5")
async def test_an_answer_in_front_of_a_violation_counts(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare_server(monkeypatch, codec) as (peer, session):
        async with anyio.create_task_group() as group:
            group.start_soon(peer_answers_and_breaks_a_rule, peer)
            assert await session.clientize("X").y() == "in time"
        assert (await session.wait_closed()).close_code == 4505


class Secret(wsrpc.RpcError[str]):
    """An error of one peer, with data for its caller."""


class Behind:
    @wsrpc.method
    async def fail(self) -> int:
        raise Secret("aborted", "no", "the key")

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 1
        raise Secret("aborted", "no", "the key")


class Front:
    """Asks another session."""

    def __init__(self, behind: wsrpc.Session) -> None:
        self.behind = behind.clientize(Behind)

    @wsrpc.method
    async def careless(self) -> int:
        return await self.behind.fail()

    @wsrpc.method
    async def careless_items(self) -> AsyncIterator[int]:
        async for item in self.behind.items():
            yield item

    @wsrpc.method
    async def group(self) -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(self.careless_call)
        return 0

    async def careless_call(self) -> None:
        await self.behind.fail()

    @wsrpc.method
    async def careful(self) -> int:
        try:
            return await self.behind.fail()
        except wsrpc.RpcError as error:
            raise error.forward() from error

    @wsrpc.method
    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])


async def test_an_rpcerror_that_came_from_another_session_and_is_not_caught_does_not_cross_on_to_the_caller_with_its_data(
    caplog: pytest.LogCaptureFixture, wire: Wire
) -> None:
    async with pair([Behind()]) as (_, behind), pair([Front(behind)]) as (_, client):
        front = client.clientize(Front)
        for call in (front.careless, front.group):
            with error_of("internal") as caught:
                await call()
            assert caught.value.error_id
            assert caught.value.data is None
        assert "error.forward()" in caplog.text
        with error_of("internal"):
            await front.careless_items().collect()
        with error_of("aborted") as passed:
            await front.careful()
        assert isinstance(passed.value, Secret)
        assert passed.value.data == "the key"

        async def source() -> AsyncIterator[int]:
            yield await behind.clientize(Behind).fail()

        before = len(wire.batches)
        with error_of("aborted"):
            await front.total(source())
        late = [data for _, data in wire.batches[before:] if b"the key" in data]
        # From the one that raised it to this process, and no further.
        assert len(late) == 1


async def test_an_error_of_another_session_out_of_authenticate_authorize_or_an_interceptor_stays(
    caplog: pytest.LogCaptureFixture, codec: Codec
) -> None:
    where = ""
    knowingly = False

    async def ask(place: str) -> None:
        if place == where:
            try:
                await behind.clientize(Behind).fail()
            except wsrpc.RpcError as error:
                raise (error.forward() if knowingly else error) from None

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> None:
        await ask("authenticate")

    async def authorize(context: wsrpc.CallContext) -> bool:
        await ask("authorize")
        return True

    async def around(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        await ask("interceptor")
        return await call_next(request)

    class Guarded:
        @wsrpc.method
        async def one(self) -> int:
            return 1

    options: dict[str, Any] = {"authorize": authorize, "interceptors": [around]}
    async with pair([Behind()], codec=codec) as (_, behind):
        async with served([Guarded()], authenticate=authenticate, **options) as listener:
            async with wsrpc.connect(listener.url, codec=codec) as client:
                for place in ("authorize", "interceptor"):
                    where, knowingly = place, False
                    with error_of("internal") as caught:
                        await client.clientize(Guarded).one()
                    assert caught.value.data is None
                    knowingly = True
                    with error_of("aborted") as passed:
                        await client.clientize(Guarded).one()
                    assert passed.value.data == "the key"
                where = "authenticate"
                for knowingly in (False, True):
                    with pytest.raises(wsrpc.ConnectError) as refused:
                        async with wsrpc.connect(listener.url, reconnect=False):
                            pytest.fail("let in")
                    assert refused.value.close_code == 4501
                    assert ("4501: no)" in str(refused.value)) is knowingly
    assert "authenticate raised an error of another session" in caplog.text


async def test_an_error_of_the_callers_own_session_comes_back_to_it() -> None:
    class Asks:
        @wsrpc.method
        async def back(self) -> int:
            return await wsrpc.current().session.clientize(Behind).fail()

    async with pair([Asks()], [Behind()]) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Asks).back()
        assert caught.value.data == "the key"


class Grouped:
    async def raise_it(self, message: str) -> None:
        raise wsrpc.RpcError("not_found", message, [1])

    @wsrpc.method
    async def equal(self) -> None:
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as inner:
                for _ in range(3):
                    inner.start_soon(self.raise_it, "gone")
                outer.start_soon(self.raise_it, "gone")

    @wsrpc.method
    async def different(self) -> None:
        raise ExceptionGroup(
            "", [wsrpc.RpcError("not_found", "a"), wsrpc.RpcError("not_found", "b")]
        )


async def test_a_group_of_several_equal_rpcerrors_from_a_handlers_task_group_is_that_error() -> (
    None
):
    async with pair([Grouped()]) as (_, client):
        with error_of("not_found") as caught:
            await client.clientize(Grouped).equal()
        assert (caught.value.message, caught.value.data) == ("gone", [1])
        with error_of("internal"):
            await client.clientize(Grouped).different()
