"""A client against a bare accepting side: what it sends, and what it makes of what it gets."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import anyio
import pytest

import wsrpc
from tests.support import Codec, error_of, until
from wsrpc.interop.bare_peer import Bare, Frame

from .support import HELLO, Background, BareServer, bare_server, body_of, call, conversation, error


class Far(Protocol):
    """What the accepting side is said to expose."""

    @wsrpc.method
    async def value(self, a: object = None) -> object: ...

    @wsrpc.method
    async def number(self) -> int: ...

    @wsrpc.method
    def items(self) -> AsyncIterator[object]: ...

    @wsrpc.method
    def numbers(self) -> AsyncIterator[int]: ...

    @wsrpc.method(oneway=True)
    async def note(self, line: str) -> None: ...

    @wsrpc.method
    async def take(self, items: AsyncIterator[object]) -> int: ...

    @wsrpc.method
    async def work(self, on_progress: Callable[[int], Awaitable[int]]) -> int: ...


class Near:
    """What the connecting side exposes."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.cleaned = anyio.Event()

    @wsrpc.method
    async def name(self) -> str:
        return "Ann"

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def wait(self) -> None:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cleaned.set()

    @wsrpc.method
    async def asks_back(self) -> object:
        return await wsrpc.current().session.clientize(Far).value(1)


async def negated(i: int) -> int:
    return -i


def far(session: wsrpc.Session, **options: Any) -> Far:
    return session.clientize(Far, **options)


# ------------------------------------------------------------------------ opening


@pytest.mark.rule("LINK-2")
async def test_a_handshake_without_a_subprotocol_closes_with_1002() -> None:
    async with bare_server(subprotocols=[]) as server, Background() as background:
        connecting = background.start(connected, server)
        bare = await server.accept()
        assert await bare.closed() == 1002
        assert bare.taken == 0
        with pytest.raises(wsrpc.ConnectError, match="does not speak wsrpc"):
            await connecting.outcome()


async def connected(server: BareServer, **options: Any) -> None:
    async with wsrpc.connect(server.url, **{"reconnect": False, **options}):
        pass


@pytest.mark.rule("HELLO-1", "ACK-1", "LINK-1")
async def test_hello_is_the_first_frame_and_the_ack_the_second() -> None:
    async with bare_server() as server, Background() as background:
        background.start(connected, server)
        bare = await server.accept()
        (frame,) = await bare.batch()
        assert frame[0] == "hello"
        body = frame[1]
        assert body["version"] == 1
        assert body.get("link", 1) == 1
        assert body.get("token") is None
        assert body["limits"]["max_batch"] >= 65_536
        assert body["limits"]["max_calls"] >= 8
        await bare.send(["hello", HELLO])
        assert (await bare.batch())[0] == ["ack", 0]


@pytest.mark.rule("ACK-1", "ACK-2", "NUM-3")
async def test_the_first_ack_counts_what_came_with_the_hello() -> None:
    async with bare_server() as server, Background() as background:
        background.start(lambda: connected(server, controllers=[Near()]))
        bare = await server.accept()
        await bare.greeted()
        await bare.send(["hello", HELLO], call(2, "Near.name"), call(4, "Near.nothing"))
        assert (await bare.batch())[0] == ["ack", 2]


async def first_frame_answered(*frames: Frame) -> tuple[int, wsrpc.ConnectError]:
    """The code with which a client closes after these instead of a hello, and its error."""
    async with bare_server() as server, Background() as background:
        connecting = background.start(connected, server)
        bare = await server.accept()
        await bare.greeted()
        await bare.send(*frames)
        code = await bare.closed()
        with pytest.raises(wsrpc.ConnectError) as caught:
            await connecting.outcome()
        return code, caught.value


@pytest.mark.rule("HELLO-1")
@pytest.mark.parametrize(
    "frame", [["ack", 0], ["ping", 1], call(2, "Near.name"), ["end", 1]], ids=repr
)
async def test_any_other_frame_before_the_servers_hello_closes_with_4505(frame: Frame) -> None:
    code, refused = await first_frame_answered(frame)
    assert code == 4505
    assert refused.close_code == 4505


@pytest.mark.rule("HELLO-3")
@pytest.mark.parametrize("version", [2, 0, -1])
async def test_a_server_of_another_version_is_closed_with_4507(version: int) -> None:
    code, refused = await first_frame_answered(["hello", {**HELLO, "version": version}])
    assert code == 4507
    assert refused.close_code == 4507


@pytest.mark.rule("BATCH-3")
@pytest.mark.parametrize(
    "body",
    [{}, {"version": "1"}, {"version": 1, "window": -1}, {"version": 1, "session": 5}],
    ids=repr,
)
async def test_a_malformed_hello_of_the_server_is_closed_with_4500(body: dict[str, Any]) -> None:
    code, refused = await first_frame_answered(["hello", body])
    assert code == 4500
    assert refused.close_code == 4500


@pytest.mark.rule("BATCH-4", "UP-1")
async def test_a_hello_of_nothing_but_the_version_will_do() -> None:
    async with bare_server() as server, Background() as background:
        connecting = background.start(connected, server)
        bare = await server.accept()
        await bare.greeted()
        await bare.send(["hello", {"version": 1, "limits": None, "window": None, "x": []}, "more"])
        await connecting.outcome()


@pytest.mark.rule("HELLO-8")
@pytest.mark.parametrize("code", [4501, 4503, 4500, 1000, 1011])
async def test_a_close_before_the_servers_hello_is_a_refusal(code: int) -> None:
    async with bare_server() as server, Background() as background:
        connecting = background.start(connected, server)
        bare = await server.accept()
        await bare.greeted()
        await bare.close(code)
        with pytest.raises(wsrpc.ConnectError) as caught:
            await connecting.outcome()
        assert caught.value.close_code == code


@pytest.mark.rule("HELLO-9")
async def test_a_server_that_never_says_hello_is_given_up() -> None:
    async with bare_server() as server, Background() as background:
        limits = wsrpc.Limits(connect_timeout=0.2)
        connecting = background.start(lambda: connected(server, limits=limits))
        bare = await server.accept()
        assert await bare.closed() == 4008
        with pytest.raises(wsrpc.ConnectError):
            await connecting.outcome()


# ------------------------------------------------------------------------ what is not allowed


@pytest.mark.rule(
    "HELLO-2",
    "AUTH-2",
    "ACK-3",
    "ID-1",
    "ID-2",
    "ID-5",
    "CHUNK-3",
    "CB-4",
    "CALL-1",
    "BATCH-2",
    "BATCH-3",
)
@pytest.mark.parametrize(
    ("code", "frames"),
    [
        (4505, [["hello", HELLO]]),
        (4505, [["auth", "secret"]]),
        (4505, [["ack", 1]]),
        (4505, [call(1, "Near.name")]),
        (4505, [call(4, "Near.name"), call(2, "Near.name")]),
        (4505, [["result", 1, 1]]),
        (4505, [["message", 2, [1]]]),
        (4505, [call(2, "Near.wait"), ["result", 2, 1]]),
        (4505, [call(2, "Near.wait"), ["chunk", 2, True, ""]]),
        (4505, [call(2, 1, [])]),
        (4500, [call(2, "Near.name", [])]),
        (4500, [["nonsense"]]),
        (4500, [["result", 1]]),
        (4500, [["message", 1, []]]),
    ],
    ids=repr,
)
async def test_what_a_server_must_not_send_closes_the_link(code: int, frames: list[Frame]) -> None:
    async with conversation(controllers=[Near()]) as (session, bare):
        await bare.send(*frames)
        assert await bare.closed() == code
        assert (await session.wait_closed()).close_code == code


@pytest.mark.rule("BATCH-1")
async def test_a_message_of_the_wrong_type_closes_with_4500(codec: Codec) -> None:
    async with conversation(codec) as (_, bare):
        message = bare.encode([["ping", 1]])
        await bare.send_message(message.encode() if isinstance(message, str) else '[["ping",1]]')
        assert await bare.closed() == 4500


@pytest.mark.rule("BATCH-6")
async def test_a_message_above_max_batch_closes_with_1009() -> None:
    async with conversation(limits=wsrpc.Limits(max_batch=65_536)) as (_, bare):
        await bare.send_message(bare.padded(["x-pad"], 65_536))
        await bare.pong(1)
        await bare.send_message(bare.padded(["x-pad"], 65_537))
        assert await bare.closed() == 1009


@pytest.mark.rule("PING-1", "EXT-1")
async def test_pings_are_answered_and_extensions_ignored() -> None:
    async with conversation() as (session, bare):
        await bare.send(["x-trace", 1], ["pong", 5], ["x-", {}])
        await bare.pong(7)
        assert session.frames_ignored == 2


@pytest.mark.rule("ID-6")
async def test_without_resume_goaway_and_late_frames_do_no_harm() -> None:
    async with conversation() as (session, bare), Background() as background:
        value = background.start(far(session).value)
        await bare.called()
        await bare.send(["result", 1, "first"])
        assert await value.outcome() == "first"
        await bare.send(
            ["result", 1, "second"], ["message", 1, [1]], ["end", 1], error(1, "aborted")
        )
        await bare.pong(1)
        assert session.frames_ignored == 4


# ------------------------------------------------------------------------ calls


@pytest.mark.rule("ID-1", "ID-2", "ID-4", "CALL-1")
async def test_calls_have_rising_odd_ids_and_named_arguments(codec: Codec) -> None:
    async with conversation(codec) as (session, bare), Background() as background:
        background.start(far(session).value, [1])
        assert (await bare.called())[:4] == ["call", 1, "Far.value", {"a": [1]}]
        background.start(far(session).take, wsrpc.stream_of([]))
        frame = await bare.called()
        assert frame[1:4] == [3, "Far.take", {}]
        assert frame[4]["uploads"] == {"items": 5}
        await bare.frame(lambda frame: frame[:2] == ["end", 5])
        background.start(far(session).work, negated)
        frame = await bare.called()
        assert frame[1] == 7
        assert frame[4]["callbacks"] == {"on_progress": 9}


@pytest.mark.rule("TIME-1")
async def test_a_call_carries_its_time_and_a_stream_none_unless_told() -> None:
    async with conversation() as (session, bare), Background() as background:
        background.start(far(session, timeout=15).value)
        assert 14_000 < (await bare.called())[4]["timeout"] <= 15_000
        background.start(far(session, timeout=15).items().collect)
        assert 14_000 < (await bare.called())[4]["timeout"] <= 15_000


@pytest.mark.rule("ERROR-1", "ERROR-2", "ERROR-7")
async def test_an_answer_that_is_an_error_arrives_as_it_is() -> None:
    async with conversation() as (session, bare), Background() as background:
        bodies: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
            ({"code": "aborted", "message": "x", "data": [1]}, ("aborted", "x", [1], False)),
            ({"code": "no_such_code", "message": "y"}, ("unknown", "y", None, False)),
            (
                {"code": "unauthenticated", "message": "", "not_started": True, "data": None},
                ("unauthenticated", "", None, True),
            ),
        ]
        for body, expected in bodies:
            value = background.start(far(session).value)
            await bare.send(["error", (await bare.called())[1], body])
            failure = await value.failure()
            assert (
                str(failure.code),
                failure.message,
                failure.data,
                failure.not_started,
            ) == expected


@pytest.mark.rule("CALL-8")
async def test_a_value_where_a_stream_was_expected_fails_the_call() -> None:
    async with conversation() as (session, bare), Background() as background:
        items = background.start(far(session).items().collect)
        await bare.called()
        await bare.send(["result", 1, 5])
        assert (await items.failure()).code == "internal"
        await bare.pong(1)


@pytest.mark.rule("CALL-8")
async def test_a_stream_where_a_value_was_expected_fails_the_call_and_is_cancelled() -> None:
    async with conversation() as (session, bare), Background() as background:
        value = background.start(far(session).value)
        await bare.called()
        await bare.send(["message", 1, [5]])
        assert (await value.failure()).code == "internal"
        await bare.sent("cancel", 1)
        await bare.send(["message", 1, [6]], error(1, "cancelled"))
        ended = background.start(far(session).value)
        await bare.called()
        await bare.send(["end", 3])
        assert (await ended.failure()).code == "internal"
        await bare.pong(1)


@pytest.mark.rule("RESULT-1")
async def test_a_result_after_items_closes_with_4505() -> None:
    async with conversation() as (session, bare), Background() as background:
        items = background.start(far(session).items().collect)
        await bare.called()
        await bare.send(["message", 1, [5]], ["result", 1, 6])
        assert await bare.closed() == 4505
        assert (await items.failure()).code == "unavailable"


@pytest.mark.rule("NOTIFY-1")
@pytest.mark.parametrize("frame", [["message", 1, [1]], ["result", 1, None]], ids=repr)
async def test_a_notify_takes_no_answer_but_end(frame: Frame) -> None:
    async with conversation() as (session, bare):
        await far(session).note("hello")
        notify = await bare.frame(lambda frame: frame[0] == "notify")
        assert notify[1:4] == [1, "Far.note", {"line": "hello"}]
        await bare.send(frame)
        assert await bare.closed() == 4505


# ------------------------------------------------------------------------ values


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.rule("VALUE-1", "VALUE-2", "VALUE-3")
@pytest.mark.parametrize(
    "value",
    [2**64, -(2**63) - 1, math.nan, math.inf, "\ud800", {"\udfff": 1}, nested(101), object()],
)
async def test_an_argument_outside_the_value_space_is_not_sent(value: Any, codec: Codec) -> None:
    async with conversation(codec) as (session, bare), Background() as background:
        with error_of("invalid_argument"):
            await far(session).value(value)
        background.start(far(session).value, 1)
        assert (await bare.called())[1:4] == [1, "Far.value", {"a": 1}]


WRONG_JSON = ["1e999", "18446744073709551616", '"\\ud800"', '{"a":[-1e999]}']


@pytest.mark.rule("VALUE-4")
@pytest.mark.parametrize("text", WRONG_JSON)
async def test_an_answer_outside_the_value_space_fails_its_call_alone(text: str) -> None:
    async with conversation() as (session, bare), Background() as background:
        value = background.start(far(session).value)
        await bare.called()
        await bare.send_message(f'[["result",1,{text}]]')
        assert (await value.failure()).code == "internal"
        items = background.start(far(session).items().collect)
        await bare.called()
        await bare.send_message(f'[["message",3,[1,{text},2]]]')
        assert (await items.failure()).code == "internal"
        await bare.sent("cancel", 3)
        await bare.send(error(3, "cancelled"))
        await bare.pong(1)


@pytest.mark.rule("VALUE-4")
async def test_an_answer_that_does_not_validate_fails_its_call_alone() -> None:
    async with conversation() as (session, bare), Background() as background:
        number = background.start(far(session).number)
        await bare.called()
        await bare.send(["result", 1, "seven"])
        failure = await number.failure()
        assert failure.code == "internal"
        stream = far(session).numbers()
        first = background.start(stream.__anext__)
        await bare.called()
        await bare.send(["message", 3, [1, "two", 3]])
        assert await first.outcome() == 1
        with error_of("internal"):
            await anext(stream)
        await bare.sent("cancel", 3)
        await bare.send(error(3, "cancelled"))


@pytest.mark.rule("VALUE-7")
async def test_values_that_the_server_does_not_take_are_not_sent(codec: Codec) -> None:
    hello = {"limits": {"max_batch": 65_536}}
    async with conversation(codec, hello=hello) as (session, bare), Background() as background:
        with error_of("resource_exhausted"):
            await far(session).value("x" * 70_000)
        taking = background.start(far(session).take, wsrpc.stream_of(["small", "x" * 70_000]))
        frame = await bare.called()
        assert frame[1] == 1
        upload = frame[4]["uploads"]["items"]
        items, terminal = await bare.outcome(upload)
        assert items == ["small"]
        await bare.send(error(1, "aborted", "the upload failed"))
        body_of(terminal, "resource_exhausted")
        assert (await taking.failure()).code == "resource_exhausted"


# ------------------------------------------------------------------------ credit


@pytest.mark.rule("CREDIT-1", "CREDIT-4", "CREDIT-5")
async def test_a_stream_gets_credit_as_it_is_consumed() -> None:
    limits = wsrpc.Limits(window=2, window_bytes=1)
    async with conversation(limits=limits) as (session, bare), Background() as background:
        assert bare.peer["window"] == 2
        stream = far(session).items()
        first = background.start(stream.__anext__)
        frame = await bare.called()
        assert (frame[4] if len(frame) > 4 else None or {}).get("credit", 2) == 2
        await bare.send(["message", 1, ["a", "b"]])
        assert await first.outcome() == "a"
        assert await anext(stream) == "b"
        third = background.start(stream.__anext__)
        granted = (await bare.sent("credit", 1))[2]
        assert granted >= 1
        await bare.send(["message", 1, ["c"] * granted])
        assert await third.outcome() == "c"
        await stream.aclose()
        await bare.sent("cancel", 1)
        await bare.send(error(1, "cancelled"))


@pytest.mark.rule("CREDIT-4")
async def test_a_consumer_that_does_not_read_gives_no_credit() -> None:
    async with conversation(limits=wsrpc.Limits(window=2)) as (session, bare):
        async with Background() as background:
            stream = far(session).items()
            first = background.start(stream.__anext__)
            await bare.called()
            await bare.send(["message", 1, ["a", "b"]])
            assert await first.outcome() == "a"
            granted = 0
            while True:
                await bare.send(["ping", 1])
                frame = await bare.frame(lambda frame: frame[0] in ("credit", "pong"))
                if frame[0] == "pong":
                    break
                granted += frame[2]
            assert granted <= 1
            await bare.send(["end", 1])
            assert await stream.collect() == ["b"]


@pytest.mark.rule("CREDIT-3")
async def test_items_beyond_the_credit_close_with_4505() -> None:
    async with conversation() as (session, bare), Background() as background:
        items = background.start(far(session, window=3).items().collect)
        frame = await bare.called()
        assert frame[4]["credit"] == 3
        await bare.send(["message", 1, [1, 2, 3, 4]])
        assert await bare.closed() == 4505
        assert (await items.failure()).code == "unavailable"


@pytest.mark.rule("MSG-1", "MSG-2", "END-1")
async def test_every_value_is_an_item_and_grouping_is_invisible(codec: Codec) -> None:
    values: list[Any] = ["", 0, False, None, [], {"isError": True}, ["end", 1]]
    async with conversation(codec) as (session, bare), Background() as background:
        for id, size in ((1, 1), (3, 2), (5, 7)):
            items = background.start(far(session).items().collect)
            await bare.called()
            for at in range(0, 7, size):
                await bare.send(["message", id, values[at : at + size]])
            await bare.send(["end", id])
            assert await items.outcome() == values


@pytest.mark.rule("UP-1", "CREDIT-2", "CREDIT-6")
async def test_an_upload_waits_for_credit() -> None:
    asked: list[int] = []

    async def source() -> AsyncIterator[int]:
        for i in range(4):
            asked.append(i)
            yield i

    async with conversation(hello={"window": 0}) as (session, bare), Background() as background:
        taking = background.start(far(session).take, source())
        await bare.called()
        await bare.pong(1)
        assert asked == []
        await bare.send(["credit", 3, 2])
        assert await bare.items(3, 2) == [0, 1]
        await bare.pong(2)
        assert asked == [0, 1]
        await bare.send(["credit", 3, 9])
        items, terminal = await bare.outcome(3)
        assert items == [2, 3]
        assert terminal[:2] == ["end", 3]
        await bare.send(["result", 1, 4])
        assert await taking.outcome() == 4
        await bare.send(["credit", 3, 1])
        await bare.pong(3)


@pytest.mark.rule("CREDIT-6")
@pytest.mark.parametrize("n", [0, -1, 2**31 - 1])
async def test_impossible_credit_closes_with_4505(n: int) -> None:

    async def source() -> AsyncIterator[int]:
        await anyio.sleep_forever()
        yield 1

    async with conversation() as (session, bare), Background() as background:
        taking = background.start(far(session).take, source())
        await bare.called()
        await bare.send(["credit", 3, n])
        assert await bare.closed() == 4505
        assert (await taking.failure()).code == "unavailable"


# ------------------------------------------------------------------------ uploads


class Source:
    """An endless source that tells when it was closed."""

    def __init__(self) -> None:
        self.closed = anyio.Event()

    async def __call__(self) -> AsyncIterator[int]:
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            self.closed.set()


@pytest.mark.rule("UP-2")
async def test_a_source_that_fails_closes_the_upload_with_its_error() -> None:

    async def source() -> AsyncIterator[int]:
        yield 1
        raise wsrpc.RpcError("data_loss", "the disk", {"sector": 7})

    async with conversation() as (session, bare), Background() as background:
        taking = background.start(far(session).take, source())
        await bare.called()
        items, terminal = await bare.outcome(3)
        assert items == [1]
        body = body_of(terminal, "data_loss")
        assert (body["message"], body["data"]) == ("the disk", {"sector": 7})
        await bare.send(error(1, "aborted"))
        assert (await taking.failure()).code == "data_loss"


@pytest.mark.rule("UP-3")
async def test_the_terminal_of_a_call_stops_its_uploads_without_a_word() -> None:
    source = Source()
    async with conversation() as (session, bare), Background() as background:
        taking = background.start(far(session).take, source())
        await bare.called()
        await bare.on(3)
        await bare.send(["result", 1, 1])
        assert await taking.outcome() == 1
        await source.closed.wait()
        await bare.pong(1)
        assert all(frame[0] == "message" for frame in bare.waiting(3))


@pytest.mark.rule("UP-4")
async def test_a_server_that_wants_no_more_of_an_upload_gets_its_reason_back() -> None:
    source = Source()
    async with conversation() as (session, bare), Background() as background:
        taking = background.start(far(session).take, source())
        await bare.called()
        await bare.on(3)
        await bare.send(["cancel", 3], ["cancel", 3], ["credit", 3, 5])
        _, terminal = await bare.outcome(3)
        body_of(terminal, "cancelled")
        await source.closed.wait()
        await bare.send(["result", 1, 9])
        assert await taking.outcome() == 9


@pytest.mark.rule("UP-3", "CANCEL-3")
async def test_a_call_that_is_cancelled_begins_no_further_item() -> None:
    source = Source()
    async with conversation() as (session, bare), Background() as background:
        taking = background.start(far(session).take, source())
        await bare.called()
        await bare.on(3)
        taking.cancel()
        await bare.sent("cancel", 1)
        await source.closed.wait()
        await bare.send(["credit", 3, 100])
        await bare.pong(1)
        before = len(bare.waiting(3))
        await bare.pong(2)
        assert len(bare.waiting(3)) == before
        await bare.send(error(1, "cancelled"))


# ------------------------------------------------------------------------ time, cancellation


@pytest.mark.rule("CANCEL-3", "CANCEL-5")
async def test_a_caller_that_is_cancelled_says_so_and_does_not_wait() -> None:
    async with conversation() as (session, bare), Background() as background:
        value = background.start(far(session).value)
        await bare.called()
        value.cancel()
        frame = await bare.sent("cancel", 1)
        assert frame[2:] in ([], [None], ["cancelled"])
        await value.done.wait()
        await bare.send(["result", 1, "late"])
        await bare.pong(1)


@pytest.mark.rule("CANCEL-5", "SLOT-2")
async def test_items_that_cross_a_cancel_are_dropped() -> None:
    async with conversation(hello={"limits": {"max_calls": 8}}) as (session, bare):
        async with Background() as background:
            stream = far(session).items()
            first = background.start(stream.__anext__)
            await bare.called()
            await bare.send(["message", 1, ["a"]])
            assert await first.outcome() == "a"
            await stream.aclose()
            await bare.sent("cancel", 1)
            await bare.send(["message", 1, ["b"]], ["message", 1, ["c"]])
            for _ in range(8):
                background.start(far(session).value)
            for _ in range(7):
                await bare.called()
            assert await nothing_called(bare)
            await bare.send(["end", 1])
            await bare.called()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


async def nothing_called(bare: Bare) -> bool:
    """Whether no call has come by the time that a ping is answered."""
    await bare.send(["ping", 99])
    frame = await bare.frame(lambda frame: frame[0] == "call" or frame == ["pong", 99])
    return bool(frame[0] == "pong")


@pytest.mark.rule("TIME-3")
async def test_a_deadline_fails_the_call_at_once_and_cancels_it() -> None:
    async with conversation() as (session, bare):
        with pytest.raises(wsrpc.DeadlineExceeded) as caught:
            await far(session, timeout=0.02).value()
        assert not caught.value.not_started
        assert (await bare.called())[4]["timeout"] <= 20
        assert await bare.sent("cancel", 1) == ["cancel", 1, "deadline_exceeded"]
        await bare.send(error(1, "deadline_exceeded"))


@pytest.mark.rule("TIME-1", "TIME-3")
async def test_the_deadline_of_a_scope_travels_and_the_scope_fires() -> None:
    async with conversation() as (session, bare):
        with anyio.move_on_after(0.02) as scope:
            await far(session).value()
        assert scope.cancelled_caught
        assert (await bare.called())[4]["timeout"] <= 20
        await bare.sent("cancel", 1)
        await bare.send(error(1, "deadline_exceeded"))


@pytest.mark.rule("ERROR-2")
async def test_an_error_of_a_handler_with_that_code_does_not_wait_for_the_callers_scope() -> None:
    async with conversation() as (session, bare), Background() as background:

        async def within_a_scope() -> None:
            with anyio.fail_after(10):
                await far(session).value()

        value = background.start(within_a_scope)
        await bare.called()
        await bare.send(error(1, "deadline_exceeded", "the market is closed"))
        with anyio.move_on_after(5):
            assert (await value.failure()).message == "the market is closed"
            return
        pytest.fail("it waited for a scope that is far from its end")


@pytest.mark.rule("TIME-6")
async def test_an_idle_stream_is_cancelled_as_at_a_deadline() -> None:
    async with conversation() as (session, bare), Background() as background:
        stream = far(session, idle_timeout=0.2).items()
        first = background.start(stream.__anext__)
        await bare.called()
        await bare.send(["message", 1, ["a"]])
        assert await first.outcome() == "a"
        with pytest.raises(wsrpc.DeadlineExceeded):
            await anext(stream)
        assert await bare.sent("cancel", 1) == ["cancel", 1, "deadline_exceeded"]
        await bare.send(error(1, "deadline_exceeded"))


@pytest.mark.rule("SLOT-1", "TIME-4", "CANCEL-1")
async def test_a_call_that_finds_no_slot_in_time_is_never_sent() -> None:
    async with conversation(hello={"limits": {"max_calls": 8}}) as (session, bare):
        async with Background() as background:
            for _ in range(8):
                background.start(far(session).value)
            calls = [await bare.called() for _ in range(8)]
            with pytest.raises(wsrpc.DeadlineExceeded) as caught:
                await far(session, timeout=0.02).value()
            assert caught.value.not_started
            gone = background.start(far(session).value)
            assert await nothing_called(bare)
            gone.cancel()
            await gone.done.wait()
            for frame in calls:
                await bare.send(["result", frame[1], None])
            assert await nothing_called(bare)
            background.start(far(session).value)
            assert (await bare.called())[1] == 17


@pytest.mark.rule("SLOT-3")
async def test_a_call_from_a_handler_does_not_wait_for_a_slot() -> None:
    hello = {"limits": {"max_calls": 8}}
    async with conversation(hello=hello, controllers=[Near()]) as (session, bare):
        async with Background() as background:
            for _ in range(8):
                background.start(far(session).value)
            for _ in range(8):
                await bare.called()
            await bare.send(call(2, "Near.asks_back"))
            body_of(await bare.terminal(2), "resource_exhausted")


@pytest.mark.rule("TIME-5", "INTEROP-2")
async def test_a_handlers_deadline_bounds_what_it_asks_for() -> None:
    async with conversation(controllers=[Near()]) as (_, bare):
        await bare.send(call(2, "Near.asks_back", timeout=5000))
        frame = await bare.called()
        assert 0 < frame[4]["timeout"] <= 5000
        assert frame[4]["parent"] == 2
        await bare.send(["result", frame[1], "back"])
        assert await bare.terminal(2) == ["result", 2, "back"]


# ------------------------------------------------------------------------ the callee's side


@pytest.mark.rule("CALL-5", "CALL-6", "CREDIT-1", "CANCEL-2", "ERROR-5")
async def test_the_connecting_side_answers_calls(codec: Codec) -> None:
    near = Near()
    async with conversation(codec, controllers=[near]) as (_, bare):
        await bare.send(
            call(2, "Near.wait"),
            call(4, "Near.name"),
            call(6, "Near.count", {"n": 3}, credit=2),
            call(8, "Near.nothing"),
            call(10, "Near.name"),
            ["cancel", 10],
        )
        assert await bare.terminal(4) == ["result", 4, "Ann"]
        assert await bare.items(6, 2) == [0, 1]
        body_of(await bare.terminal(8), "unimplemented")
        body_of(await bare.terminal(10), "cancelled", not_started=True)
        await bare.send(["credit", 6, 5])
        items, terminal = await bare.outcome(6)
        assert (items, terminal[0]) == ([2], "end")
        await near.begun.wait()
        await bare.send(["cancel", 2])
        body_of(await bare.terminal(2), "cancelled")
        assert near.cleaned.is_set()


@pytest.mark.rule("SLOT-4")
async def test_calls_above_the_announced_bound_are_refused() -> None:
    async with conversation(controllers=[Near()], limits=wsrpc.Limits(max_calls=8)) as (_, bare):
        assert bare.peer["limits"]["max_calls"] == 8
        await bare.send(*(call(id, "Near.wait") for id in range(2, 20, 2)))
        body_of(await bare.terminal(18), "resource_exhausted", not_started=True)


@pytest.mark.rule("CB-1", "CB-2", "CB-4", "CB-5")
async def test_a_callback_serves_eight_invocations_at_a_time_until_its_call_ends() -> None:
    live: list[int] = []
    go_on = anyio.Event()

    async def on_progress(i: int) -> int:
        live.append(i)
        await go_on.wait()
        return -i

    async with conversation() as (session, bare), Background() as background:
        work = background.start(far(session).work, on_progress)
        callback = (await bare.called())[4]["callbacks"]["on_progress"]
        ids = range(2, 20, 2)
        await bare.send(*(call(id, callback, [id]) for id in ids))
        body_of(await bare.terminal(18), "resource_exhausted", not_started=True)
        assert sorted(live) == list(ids[:-1])
        go_on.set()
        for id in ids[:-1]:
            assert await bare.terminal(id) == ["result", id, -id]
        await bare.send(call(20, callback, ["one"]))
        body = body_of(await bare.terminal(20), "invalid_argument")
        assert body["data"]["errors"][0]["loc"] == [0]
        await bare.send(["result", 1, 1])
        assert await work.outcome() == 1
        await bare.send(call(22, callback, [1]))
        body_of(await bare.terminal(22), "failed_precondition")


# ------------------------------------------------------------------------ acks


@pytest.mark.rule("RESUME-7", "ACK-2", "ACK-4", "NUM-3")
async def test_where_resume_is_offered_acks_are_sent() -> None:
    hello = {"resume_window": 30_000, "token": "t" * 43}
    async with conversation(hello=hello, controllers=[Near()]) as (_, bare):
        await bare.send(*(call(id, "Near.name") for id in range(2, 66, 2)))
        await until_acked(bare, 32)
        await bare.send(["cancel", 2], *(["cancel", id] for id in range(4, 64, 2)), ["cancel", 64])
        await until_acked(bare, 64)


async def until_acked(bare: Bare, n: int) -> None:
    while n not in bare.acks:
        await bare.pong(1)
    assert bare.acks == sorted(bare.acks)


# ------------------------------------------------------------------------ the end


@pytest.mark.rule("CLOSE-1", "CLOSE-2", "CLOSE-4", "HELLO-10")
@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000, 4500, 4505, 4999, None])
async def test_the_end_of_a_session_fails_what_is_pending(code: int | None) -> None:
    async with conversation(hello={"limits": {"max_calls": 8}}) as (session, bare):
        async with Background() as background:
            stream = far(session).items()
            first = background.start(stream.__anext__)
            await bare.called()
            await bare.send(["message", 1, ["a"]])
            assert await first.outcome() == "a"
            live = [background.start(far(session).value) for _ in range(7)]
            for _ in range(7):
                await bare.called()
            waiting = background.start(far(session).value)
            assert await nothing_called(bare)
            await (bare.cut() if code is None else bare.close(code))
            for value in live:
                failure = await value.failure()
                assert (failure.code, failure.not_started) == ("unavailable", False)
            failure = await waiting.failure()
            assert (failure.code, failure.not_started) == ("unavailable", True)
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await anext(stream)
            assert caught.value.close_code == (code or 1006)
            assert session.closed


@pytest.mark.rule("CLOSE-3")
async def test_two_closes_that_cross_end_the_session() -> None:
    async with conversation() as (session, bare), Background() as background:
        value = background.start(far(session).value)
        await bare.called()
        both = [background.start(session.aclose, 4999), background.start(bare.close, 4000)]
        for close in both:
            await close.outcome()
        assert (await value.failure()).code == "unavailable"
        assert session.closed


@pytest.mark.rule("CLOSE-5")
async def test_the_end_of_a_session_cancels_its_handlers() -> None:
    near = Near()
    async with conversation(controllers=[near]) as (session, bare):
        await bare.send(call(2, "Near.wait"))
        await near.begun.wait()
        await bare.close(1000)
        await near.cleaned.wait()
        await until(lambda: session.closed)


@pytest.mark.rule("CLOSE-2")
async def test_leaving_a_session_closes_with_1000_after_all_that_was_queued() -> None:
    async with bare_server() as server, Background() as background:

        async def greet() -> Bare:
            bare = await server.accept()
            await bare.greeted()
            await bare.send(["hello", HELLO])
            return bare

        greeting = background.start(greet)
        async with wsrpc.connect(server.url, reconnect=False) as session:
            bare = await greeting.outcome()
            for i in range(5):
                await far(session).note(f"line {i}")
        assert await bare.closed() == 1000
        notes = [await bare.frame(lambda frame: frame[0] == "notify") for _ in range(5)]
        assert [note[3]["line"] for note in notes] == [f"line {i}" for i in range(5)]
