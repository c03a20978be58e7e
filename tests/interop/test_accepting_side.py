"""A server against a bare connecting side: what the interop service has no method for."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, served, soon, until
from wsrpc.interop.bare_peer import Bare, Refused, hello, open_bare
from wsrpc.interop.service import interop_server

from .support import Background, bare_client, body_of, call, error


class Guest(Protocol):
    """What the connecting side is said to expose."""

    @wsrpc.method
    async def name(self) -> str: ...

    @wsrpc.method
    def names(self) -> AsyncIterator[str]: ...

    @wsrpc.method(oneway=True)
    async def log(self, line: str) -> None: ...

    @wsrpc.method
    async def work(self, on_progress: Callable[[int, str], Awaitable[str]]) -> str: ...


def guest() -> Guest:
    return wsrpc.current().session.clientize(Guest)


# ------------------------------------------------------------------------ letting in


class Gate:
    """Counts calls that were handled."""

    def __init__(self) -> None:
        self.handled = 0

    @wsrpc.method
    async def enter(self) -> int:
        self.handled += 1
        return self.handled


async def refused(authenticate: Any, *, auth: Any = None) -> int:
    """The code with which a server refuses these credentials, after a handshake that succeeds."""
    async with served([Gate()], authenticate=authenticate) as listener:
        async with open_bare(listener.url, "json") as bare:
            assert bare.subprotocol == "wsrpc.v1.json"
            await bare.send(hello(auth=auth), call(1, "Gate.enter"))
            code = await bare.closed()
            assert bare.peer == {}
            assert bare.waiting(1) == []
            return code


@pytest.mark.rule("HELLO-7")
async def test_refused_credentials_close_with_4501() -> None:

    async def refuse(handshake: object, auth: object) -> None:
        raise wsrpc.RpcError("unauthenticated", "who are you?")

    assert await refused(refuse) == 4501


@pytest.mark.rule("HELLO-7")
async def test_a_fault_in_authenticate_refuses() -> None:

    async def stumble(handshake: object, auth: Any) -> None:
        raise KeyError(auth)

    assert await refused(stumble) == 4501


@pytest.mark.rule("HELLO-7")
async def test_credentials_that_are_known_and_not_allowed_in_close_with_4503() -> None:

    async def forbid(handshake: object, auth: object) -> None:
        raise wsrpc.RpcError("permission_denied", "not you")

    assert await refused(forbid) == 4503


@pytest.mark.rule("HELLO-7", "VALUE-1")
async def test_credentials_outside_the_value_space_are_wrong_credentials() -> None:
    async with interop_server(auth_token="open sesame").listen() as listener:
        async with open_bare(listener.url, "json") as bare:
            await bare.send_message('[["hello",{"version":1,"auth":1e999}]]')
            with soon():
                assert await bare.closed() == 4501


@pytest.mark.rule("HELLO-7")
async def test_the_principal_and_the_credentials_reach_the_handler() -> None:

    class Who:
        @wsrpc.method
        async def am_i(self) -> str:
            return str(wsrpc.current().principal)

    async def admit(handshake: wsrpc.Handshake, auth: Any) -> str:
        return f"{auth['name']} on {handshake.path}"

    async with served([Who()], authenticate=admit) as listener:
        async with open_bare(f"{listener.url}/way/in?x=1", "json") as bare:
            await bare.hello(auth={"name": "Ann"})
            await bare.send(call(1, "Who.am_i"))
            assert await bare.terminal(1) == ["result", 1, "Ann on /way/in?x=1"]


@pytest.mark.rule("HELLO-6")
async def test_nothing_is_acted_upon_before_the_peer_is_let_in() -> None:
    asked, decided, gate = anyio.Event(), anyio.Event(), Gate()

    async def hesitate(handshake: object, auth: object) -> None:
        asked.set()
        await decided.wait()

    async with served([gate], authenticate=hesitate) as listener:
        async with open_bare(listener.url, "json") as bare:
            await bare.send(hello(), call(1, "Gate.enter"))
            await bare.send(call(3, "Gate.enter"))
            await asked.wait()
            async with open_bare(listener.url, "json") as other:
                # A frame that would be closed with 4500 at once, if it were looked at.
                await other.send(hello(), ["nonsense"])
                assert gate.handled == 0
                decided.set()
                await bare.greeted()
                assert await bare.terminal(1) == ["result", 1, 1]
                assert await bare.terminal(3) == ["result", 3, 2]
                assert await other.closed() == 4500


@pytest.mark.rule("HELLO-9")
async def test_a_peer_that_does_not_say_hello_is_closed_with_4008() -> None:
    async with served([Gate()], limits=wsrpc.Limits(hello_timeout=0.05)) as listener:
        async with open_bare(listener.url, "json") as bare:
            assert await bare.closed() == 4008


async def test_an_origin_that_is_not_allowed_is_refused_with_403() -> None:
    server = interop_server(origins=["https://good.example"])
    with soon():
        async with server.listen() as listener:
            with pytest.raises(Refused) as caught:
                async with open_bare(
                    listener.url, "json", headers={"Origin": "https://evil.example"}
                ):
                    pass
            assert caught.value.status == 403
            for headers in ({"Origin": "https://good.example"}, {}):
                async with open_bare(listener.url, "json", headers=headers) as bare:
                    await bare.hello()


@pytest.mark.rule("HELLO-1", "HELLO-10")
async def test_the_first_frame_of_the_server_is_hello_and_says_that_there_is_no_resume() -> None:
    limits = wsrpc.Limits(resume_window=0)
    async with bare_client([Gate()], limits=limits) as bare:
        assert bare.peer["version"] == 1
        assert not bare.peer.get("resume_window")
        assert not bare.peer.get("resumed")


@pytest.mark.rule("HELLO-10", "CLOSE-5")
async def test_a_session_ends_with_its_link_whatever_the_close_code() -> None:
    async with served([Gate()], limits=wsrpc.Limits(resume_window=0)) as listener:
        sessions = listener.server.sessions
        for code in (1000, 1001, 4000, 4499, 4999):
            async with open_bare(listener.url, "json") as bare:
                await bare.hello()
                assert len(sessions) == 1
                await bare.close(code)
            await until(lambda: not sessions)
        assert listener.server.snapshot().closes == {1000: 1, 1001: 1, 4000: 1, 4499: 1, 4999: 1}


# ------------------------------------------------------------------------ values


class Colour(Enum):
    RED = "red"


class Parcel(BaseModel):
    day: date
    price: Decimal
    colour: Colour
    tags: set[str]
    content: bytes


class Values:
    """Methods with typed and with untyped values."""

    @wsrpc.method
    async def give(self, which: str) -> Any:
        return WRONG[which]

    @wsrpc.method
    async def stream(self, which: str) -> AsyncIterator[Any]:
        yield "before"
        yield WRONG[which]
        yield "after"

    @wsrpc.method
    async def take(self, data: bytes) -> list[int]:
        return list(data)

    @wsrpc.method
    async def parcel(self, parcel: Parcel) -> Parcel:
        assert type(parcel.day) is date
        assert type(parcel.content) is bytes
        return parcel

    @wsrpc.method
    async def anything(self, value: Any) -> Any:
        return value

    @wsrpc.method
    async def sizes(self, sizes: AsyncIterator[int]) -> AsyncIterator[str]:
        async for size in sizes:
            yield "x" * size


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


WRONG: dict[str, Any] = {
    "too large": 2**64,
    "too small": -(2**63) - 1,
    "infinite": math.inf,
    "not a number": [math.nan],
    "a surrogate": "\ud800",
    "a surrogate as key": {"\ud800": 1},
    "too deep": nested(101),
    "an object of Python's": object(),
}


@pytest.mark.rule("VALUE-1", "VALUE-2", "VALUE-3", "ERROR-3")
@pytest.mark.parametrize("which", WRONG)
async def test_a_value_outside_the_value_space_does_not_leave(which: str, codec: Codec) -> None:
    async with bare_client([Values()], codec) as bare:
        await bare.send(
            call(1, "Values.give", {"which": which}), call(3, "Values.stream", {"which": which})
        )
        body_of(await bare.terminal(1), "internal")
        items, terminal = await bare.outcome(3)
        assert items == ["before"]
        assert body_of(terminal, "internal")["message"] == "internal error"


@pytest.mark.rule("VALUE-2")
async def test_values_up_to_100_deep_travel(codec: Codec) -> None:
    async with bare_client([Values()], codec) as bare:
        await bare.send(call(1, "Values.anything", {"value": nested(99)}))
        assert await bare.terminal(1) == ["result", 1, nested(99)]
        await bare.send(call(3, "Values.anything", {"value": nested(101)}))
        body_of(await bare.terminal(3), "invalid_argument")


@pytest.mark.rule("VALUE-5")
@pytest.mark.parametrize("text", ["-_-_", "+/+/", "AA==", "_w==", "/w==", ""])
async def test_bytes_are_taken_in_both_alphabets_of_base64(text: str) -> None:
    import base64

    async with bare_client([Values()]) as bare:
        await bare.send(call(1, "Values.take", {"data": text}))
        expected = base64.b64decode(text.translate(str.maketrans("-_", "+/")))
        assert await bare.terminal(1) == ["result", 1, list(expected)]


@pytest.mark.rule("VALUE-6")
async def test_a_method_accepts_the_same_in_both_codecs(codec: Codec) -> None:
    content: Any = b"\xff\x00" if codec == "msgpack" else "_wA="
    parcel = {
        "day": "2026-11-22",
        "price": "9.90",
        "colour": "red",
        "tags": ["a"],
        "content": content,
    }
    async with bare_client([Values()], codec) as bare:
        await bare.send(call(1, "Values.parcel", {"parcel": parcel}))
        assert await bare.terminal(1) == ["result", 1, parcel]
        await bare.send(call(3, "Values.parcel", {"parcel": {**parcel, "colour": "blue"}}))
        body = body_of(await bare.terminal(3), "invalid_argument")
        assert body["data"]["errors"][0]["loc"] == ["parcel", "colour"]


@pytest.mark.rule("VALUE-7", "ERROR-2")
async def test_an_item_that_the_caller_does_not_take_fails_the_stream_alone(codec: Codec) -> None:
    async with bare_client([Values()], codec, hello={"limits": {"max_batch": 65_536}}) as bare:
        await bare.send(call(1, "Values.sizes", uploads={"sizes": 3}))
        await bare.send(["message", 3, [1, 2, 70_000, 3]])
        items, terminal = await bare.outcome(1)
        assert items == ["x", "xx"]
        body_of(terminal, "resource_exhausted")
        await bare.send(call(5, "Values.anything", {"value": 5}))
        assert await bare.terminal(5) == ["result", 5, 5]


# ------------------------------------------------------------------------ notify, end, errors


class Odds:
    """Methods for single rules."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.gate = anyio.Event()
        self.asked: list[int] = []

    @wsrpc.method(oneway=True)
    async def note(self, line: str) -> None:
        self.notes.append(line)

    @wsrpc.method
    async def ends_with(self, value: int | None) -> AsyncIterator[int | wsrpc.Final[int | None]]:
        yield 1
        yield wsrpc.Final(value)

    @wsrpc.method
    async def ends_without(self) -> AsyncIterator[int]:
        yield 1

    @wsrpc.method
    async def key(self) -> str | None:
        return wsrpc.current().key

    @wsrpc.method
    async def asks_guest(self) -> str:
        try:
            return await guest().name()
        except wsrpc.RpcError as error:
            return f"{type(error).__name__} {error.code} {error.message} {error.data}"

    @wsrpc.method
    async def notifies_guest(self) -> None:
        await guest().log("hello")

    @wsrpc.method
    async def two_of(self, items: AsyncIterator[int]) -> int:
        total = await anext(items) + await anext(items)
        await items.aclose()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        await self.gate.wait()
        return total

    @wsrpc.method
    async def reads_nothing(self, items: AsyncIterator[int]) -> None:
        await self.gate.wait()

    @wsrpc.method
    async def both(self, left: AsyncIterator[int], right: AsyncIterator[int]) -> list[int]:
        total = [0, 0]
        async for item in left:
            total[0] += item
        async for item in right:
            total[1] += item
        return total

    @wsrpc.method
    async def notes_what_is_asked(self) -> AsyncIterator[int]:
        for i in range(10):
            self.asked.append(i)
            yield i

    @wsrpc.method
    async def stubborn(self, how: str) -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if how == "raises":
                raise ValueError("in the cleanup") from None
            return "all the same"
        return "never"

    @wsrpc.method
    async def holds_up(self) -> None:
        time.sleep(0.05)  # noqa: ASYNC251  (that is the point)
        await anyio.sleep_forever()

    @wsrpc.method
    async def waits(self) -> None:
        await self.gate.wait()

    @wsrpc.method
    async def refuses(self) -> None:
        error = wsrpc.RpcError("unavailable", "not now", {"not_started": True})
        error.not_started = True
        error.retry_after = 1.5
        raise error


@pytest.mark.rule("NOTIFY-3")
async def test_a_call_of_a_notify_is_answered_with_null() -> None:
    odds = Odds()
    async with bare_client([odds]) as bare:
        await bare.send(call(1, "Odds.note", {"line": "called"}))
        assert await bare.terminal(1) == ["result", 1, None]
        await bare.send(["notify", 3, "Odds.note", {"line": "notified"}])
        assert (await bare.terminal(3))[:2] == ["end", 3]
        assert odds.notes == ["called", "notified"]


@pytest.mark.rule("NOTIFY-1")
@pytest.mark.parametrize("frame", [["message", [1]], ["result", None]], ids=repr)
async def test_a_notify_of_the_servers_takes_no_answer_but_end(frame: list[Any]) -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.notifies_guest"))
        notify = await bare.frame(lambda frame: frame[0] == "notify", "a notify")
        assert notify[2:4] == ["Guest.log", {"line": "hello"}]
        assert (await bare.terminal(1))[0] == "result"
        await bare.send([frame[0], notify[1], *frame[1:]])
        assert await bare.closed() == 4505


@pytest.mark.rule("END-1")
async def test_an_end_tells_a_final_null_from_none() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(
            call(1, "Odds.ends_with", {"value": None}),
            call(3, "Odds.ends_with", {"value": 7}),
            call(5, "Odds.ends_without"),
        )
        assert await bare.outcome(1) == ([1], ["end", 1, [None]])
        assert await bare.outcome(3) == ([1], ["end", 3, [7]])
        items, terminal = await bare.outcome(5)
        assert items == [1]
        assert terminal in (["end", 5], ["end", 5, None])


@pytest.mark.rule("CALL-7")
async def test_a_key_reaches_the_handler() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.key", key="abc"), call(3, "Odds.key"))
        assert await bare.terminal(1) == ["result", 1, "abc"]
        assert await bare.terminal(3) == ["result", 3, None]


async def test_a_parent_that_is_no_live_call_has_no_effect() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.key", parent=999), call(3, "Odds.key", parent=-1))
        assert (await bare.terminal(1))[0] == "result"
        assert (await bare.terminal(3))[0] == "result"


async def asks_guest(bare: Bare, answer: dict[str, Any]) -> Any:
    """What a handler makes of this error."""
    await bare.send(call(1, "Odds.asks_guest"))
    await bare.send(["error", (await bare.called())[1], answer])
    return (await bare.terminal(1))[2]


@pytest.mark.rule("ERROR-1")
async def test_an_unknown_error_code_counts_as_unknown() -> None:
    async with bare_client([Odds()]) as bare:
        answer = await asks_guest(bare, {"code": "out_of_coffee", "message": "no", "data": 1})
        assert answer == "RpcError unknown no 1"


class Tired(wsrpc.RpcError[int]):
    """An error that this application knows."""

    def __init__(self, hours: int) -> None:
        super().__init__("aborted", "tired", hours)


@pytest.mark.rule("ERROR-6")
@pytest.mark.parametrize(
    ("type_name", "data", "expected"),
    [
        ("Tired", 8, "Tired aborted x 8"),
        ("Tired", "eight", "RpcError aborted x eight"),
        ("ValueError", 8, "RpcError aborted x 8"),
        ("wsrpc.errors.ProtocolError", 8, "RpcError aborted x 8"),
    ],
)
async def test_an_error_type_selects_a_class_only_among_the_known_ones(
    type_name: str, data: Any, expected: str
) -> None:
    async with bare_client([Odds()]) as bare:
        body = {"code": "aborted", "message": "x", "data": data, "type": type_name}
        assert await asks_guest(bare, body) == expected


@pytest.mark.rule("ERROR-7")
async def test_a_handler_cannot_claim_not_started() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.refuses"))
        body = body_of(await bare.terminal(1), "unavailable", not_started=False)
        assert body["data"] == {"not_started": True}
        assert body["retry_after"] == 1500


@pytest.mark.rule("ERROR-3")
async def test_in_debug_mode_an_unforeseen_error_is_told() -> None:
    with soon():
        async with interop_server(debug=True).listen() as listener:
            async with open_bare(listener.url, "json") as bare:
                await bare.hello()
                await bare.send(call(1, "Interop.boom"))
                body = body_of(await bare.terminal(1), "internal")
                assert body["message"].startswith("ZeroDivisionError: boom")
                assert "Traceback" in body["data"]["traceback"]


@pytest.mark.rule("REFLECT-3")
async def test_reflection_can_be_turned_off() -> None:
    async with bare_client([Odds()], reflection=False) as bare:
        await bare.send(call(1, "wsrpc.reflection.describe"))
        body_of(await bare.terminal(1), "unimplemented")


@pytest.mark.rule("REFLECT-1")
async def test_reflection_tells_kinds_and_schemas() -> None:
    async with bare_client([Odds(), Values()]) as bare:
        await bare.send(call(1, "wsrpc.reflection.describe"))
        contract = (await bare.terminal(1))[2]
        assert contract["version"] == 1
        assert list(contract["controllers"]) == ["Odds", "Values"]
        methods = contract["controllers"]["Odds"]["methods"]
        assert methods["note"]["kind"] == "notify"
        assert methods["ends_with"]["kind"] == "stream"
        assert methods["ends_with"]["item"] == {"type": "integer"}
        assert "final" in methods["ends_with"]
        assert "final" not in methods["ends_without"]
        assert methods["two_of"]["params"]["items"] == {
            "kind": "upload",
            "required": True,
            "schema": {"type": "integer"},
        }


@pytest.mark.rule("REFLECT-2")
def test_reserved_names_cannot_be_exposed() -> None:

    class Reserved:
        controller_name = "wsrpc.mine"

        @wsrpc.method
        async def run(self) -> None: ...

    with pytest.raises(wsrpc.RegistrationError, match="reserved"):
        wsrpc.Server([Reserved()])


# ------------------------------------------------------------------------ uploads, credit


@pytest.mark.rule("UP-4")
async def test_a_handler_that_wants_no_more_of_an_upload_cancels_it() -> None:
    odds = Odds()
    async with bare_client([odds]) as bare:
        await bare.send(call(1, "Odds.two_of", uploads={"items": 3}), ["message", 3, [1, 2]])
        await bare.sent("cancel", 3)
        await bare.send(["message", 3, [3]], error(3, "cancelled"))
        odds.gate.set()
        assert await bare.terminal(1) == ["result", 1, 3]


@pytest.mark.rule("UP-1", "MSG-2")
async def test_several_uploads_of_one_call_do_not_mix() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.both", uploads={"left": 3, "right": 5}))
        await bare.send(["message", 5, [10]], ["message", 3, [1]], ["message", 5, [10]])
        await bare.send(["end", 5], ["message", 3, [1]], ["end", 3])
        assert await bare.terminal(1) == ["result", 1, [2, 20]]


@pytest.mark.rule("CREDIT-4")
async def test_credit_comes_back_only_for_what_was_consumed() -> None:
    odds = Odds()
    async with bare_client([odds], limits=wsrpc.Limits(window=4)) as bare:
        await bare.send(call(1, "Odds.reads_nothing", uploads={"items": 3}))
        await bare.send(["message", 3, [1, 2, 3, 4]], call(5, "Odds.key"))
        seen: list[str] = []
        while seen[-1:] != ["result"]:
            seen.append((await bare.frame())[0])
        assert "credit" not in seen
        odds.gate.set()
        assert await bare.terminal(1) == ["result", 1, None]


@pytest.mark.rule("CREDIT-2")
async def test_a_producer_is_not_asked_without_credit() -> None:
    odds = Odds()
    async with bare_client([odds]) as bare:
        await bare.send(call(1, "Odds.notes_what_is_asked", credit=0), call(3, "Odds.key"))
        await bare.terminal(3)
        assert odds.asked == []
        await bare.send(["credit", 1, 3])
        assert await bare.items(1, 3) == [0, 1, 2]
        await bare.send(call(5, "Odds.key"))
        await bare.terminal(5)
        assert odds.asked == [0, 1, 2]


# ------------------------------------------------------------------------ cancellation, time


@pytest.mark.rule("CANCEL-3", "CALL-5")
@pytest.mark.parametrize("how", ["returns", "raises"])
async def test_whatever_a_cancelled_handler_does_its_answer_is_the_reason(how: str) -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.stubborn", {"how": how}), call(3, "Odds.key"))
        await bare.terminal(3)
        await bare.send(["cancel", 1])
        body_of(await bare.terminal(1), "cancelled")


@pytest.mark.rule("CANCEL-3", "TIME-1")
async def test_a_deadline_that_comes_before_the_cancel_is_the_reason() -> None:
    with soon():
        async with interop_server().listen() as listener:
            async with open_bare(listener.url, "json") as bare:
                await bare.hello()
                await bare.send(call(1, "Interop.slow_cleanup", {"seconds": 0.1}, timeout=20))
                watch = call(3, "Interop.stats")
                while True:
                    await bare.send(watch)
                    if (await bare.terminal(watch[1]))[2]["cleanups_begun"]:
                        break
                    watch = call(watch[1] + 2, "Interop.stats")
                await bare.send(["cancel", 1])
                body_of(await bare.terminal(1), "deadline_exceeded")


@pytest.mark.rule("TIME-1")
async def test_a_deadline_that_passes_while_the_loop_is_held_up_is_the_reason_too() -> None:
    async with bare_client([Odds()]) as bare:
        # Which of the two alarms that are due then is looked at first is a matter of chance.
        for id in range(1, 17, 2):
            await bare.send(call(id, "Odds.holds_up", timeout=20))
            body_of(await bare.terminal(id), "deadline_exceeded")


@pytest.mark.rule("TIME-5", "TIME-1")
async def test_a_nested_call_has_no_more_time_than_its_handler() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.asks_guest", timeout=5000))
        frame = await bare.called()
        assert 0 < frame[4]["timeout"] <= 5000
        assert frame[4]["parent"] == 1
        await bare.send(["result", frame[1], "Ann"])
        assert await bare.terminal(1) == ["result", 1, "Ann"]


@pytest.mark.rule("CANCEL-3")
async def test_a_handler_that_is_cancelled_cancels_what_it_awaits() -> None:
    async with bare_client([Odds()]) as bare:
        await bare.send(call(1, "Odds.asks_guest"))
        inner = (await bare.called())[1]
        await bare.send(["cancel", 1])
        await bare.sent("cancel", inner)
        body_of(await bare.terminal(1), "cancelled")


# ------------------------------------------------------------------------ slots


@pytest.mark.rule("SLOT-1", "SLOT-2")
async def test_calls_out_of_the_blue_wait_for_the_slots_of_the_connecting_side() -> None:
    async with served([Odds()]) as listener:
        async with open_bare(listener.url, "json") as bare, Background() as background:
            await bare.hello(limits={"max_calls": 8})
            (session,) = listener.server.sessions.values()
            name = session.clientize(Guest).name
            first = background.start(name)
            cancelled = await bare.called()
            others = [background.start(name) for _ in range(8)]
            calls = [await bare.called() for _ in range(7)]
            assert not await called_already(bare)
            first.cancel()
            await bare.sent("cancel", cancelled[1])
            assert not await called_already(bare)
            await bare.send(error(cancelled[1], "cancelled"))
            calls.append(await bare.called())
            for frame in calls:
                await bare.send(["result", frame[1], "Ann"])
            assert [await other.outcome() for other in others] == ["Ann"] * 8


async def called_already(bare: Bare) -> bool:
    """Whether another call has come by the time that a call of this side's is answered."""
    await bare.send(call(1_000_001 + 2 * bare.taken, "Odds.key"))
    frame = await bare.frame(lambda frame: frame[0] in ("call", "result"), "the answer")
    return bool(frame[0] == "call")


@pytest.mark.rule("CANCEL-1", "TIME-4")
async def test_a_call_that_waits_for_a_slot_and_is_cancelled_is_never_sent() -> None:
    async with served([Odds()]) as listener:
        async with open_bare(listener.url, "json") as bare, Background() as background:
            await bare.hello(limits={"max_calls": 8})
            (session,) = listener.server.sessions.values()
            for _ in range(8):
                background.start(session.clientize(Guest).name)
            calls = [await bare.called() for _ in range(8)]
            late = background.start(session.clientize(Guest, timeout=0.02).name)
            failure = await late.failure()
            assert (failure.code, failure.not_started) == ("deadline_exceeded", True)
            gone = background.start(session.clientize(Guest).name)
            gone.cancel()
            await gone.done.wait()
            for frame in calls:
                await bare.send(["result", frame[1], "Ann"])
            assert not await called_already(bare)


# ------------------------------------------------------------------------ callbacks


class Burst:
    """Calls a callback many times at once; offers one; keeps one for too long."""

    def __init__(self) -> None:
        self.kept: Callable[[int], Awaitable[None]] | None = None
        self.progress: list[tuple[int, str]] = []
        self.go_on = anyio.Event()

    @wsrpc.method
    async def burst(self, n: int, on_item: Callable[[int], Awaitable[None]]) -> int:
        async def one(i: int) -> None:
            await on_item(i)

        async with anyio.create_task_group() as group:
            for i in range(n):
                group.start_soon(one, i)
        return n

    @wsrpc.method
    async def keep(self, on_item: Callable[[int], Awaitable[None]]) -> None:
        self.kept = on_item

    @wsrpc.method
    async def use_kept(self) -> None:
        assert self.kept is not None
        await self.kept(1)

    @wsrpc.method
    async def hand_work(self) -> str:
        async def on_progress(i: int, what: str) -> str:
            self.progress.append((i, what))
            await self.go_on.wait()
            return f"{what} {i}"

        return await guest().work(on_progress)


@pytest.mark.rule("CB-2")
async def test_at_most_eight_invocations_of_a_callback_are_live_at_a_time() -> None:
    async with bare_client([Burst()]) as bare:
        await bare.send(call(1, "Burst.burst", {"n": 10}, callbacks={"on_item": 3}))
        live = [await bare.called() for _ in range(8)]
        await bare.send(call(5, "Burst.nothing"))
        assert (await bare.frame(lambda frame: frame[0] != "credit"))[0] == "error"
        done: list[int] = []
        while live:
            frame = live.pop(0)
            done.append(frame[3][0])
            await bare.send(["result", frame[1], None])
            if len(done) <= 2:
                live.append(await bare.called())
        assert sorted(done) == list(range(10))
        assert await bare.terminal(1) == ["result", 1, 10]


@pytest.mark.rule("CB-4")
async def test_a_callback_whose_call_has_ended_cannot_be_invoked() -> None:
    async with bare_client([Burst()]) as bare:
        await bare.send(call(1, "Burst.keep", callbacks={"on_item": 3}))
        assert (await bare.terminal(1))[0] == "result"
        await bare.send(call(5, "Burst.use_kept"))
        body_of(await bare.terminal(5), "failed_precondition")


async def handed_work(bare: Bare) -> tuple[int, int]:
    """The ids of the server's call to `Guest.work`, and of the callback that it offers."""
    await bare.send(call(1, "Burst.hand_work"))
    frame = await bare.called()
    assert frame[2] == "Guest.work"
    callback = frame[4]["callbacks"]["on_progress"]
    assert callback > frame[1]
    assert callback % 2 == 0
    return frame[1], callback


@pytest.mark.rule("CB-1", "CB-2", "ID-1", "ID-2")
async def test_a_callback_of_the_servers_can_be_invoked_and_takes_no_slot() -> None:
    burst, odds = Burst(), Odds()
    async with bare_client([burst, odds], limits=wsrpc.Limits(max_calls=8)) as bare:
        work, callback = await handed_work(bare)
        await bare.send(*(call(id, "Odds.waits") for id in range(101, 115, 2)))
        await bare.send(call(115, callback, [50, "half"]))
        await until(lambda: burst.progress == [(50, "half")])
        burst.go_on.set()
        assert await bare.terminal(115) == ["result", 115, "half 50"]
        await bare.send(["result", work, "done"])
        assert await bare.terminal(1) == ["result", 1, "done"]


@pytest.mark.rule("CB-2")
async def test_a_ninth_invocation_of_a_callback_is_refused() -> None:
    burst = Burst()
    async with bare_client([burst]) as bare:
        _, callback = await handed_work(bare)
        ids = range(3, 21, 2)
        await bare.send(*(call(id, callback, [id, ""]) for id in ids))
        body_of(await bare.terminal(19), "resource_exhausted", not_started=True)
        assert len(burst.progress) == 8
        burst.go_on.set()
        for id in ids[:-1]:
            assert (await bare.terminal(id))[0] == "result"


@pytest.mark.rule("CB-4")
async def test_an_invocation_after_the_end_of_its_call_is_refused() -> None:
    async with bare_client([Burst()]) as bare:
        work, callback = await handed_work(bare)
        await bare.send(["result", work, "done"], call(3, callback, [1, ""]))
        body_of(await bare.terminal(3), "failed_precondition")
        assert await bare.terminal(1) == ["result", 1, "done"]


@pytest.mark.rule("CB-4")
async def test_a_call_of_a_live_id_that_is_no_callback_closes_with_4505() -> None:
    async with bare_client([Burst()]) as bare:
        work, _ = await handed_work(bare)
        await bare.send(call(3, work, [1]))
        assert await bare.closed() == 4505


@pytest.mark.rule("CB-5", "ERROR-4")
@pytest.mark.parametrize(
    ("args", "position"), [([], 0), ([1], 1), ([1, "a", 2], 2), (["a", "b"], 0), ([1, 2], 1)]
)
async def test_arguments_that_do_not_fit_a_callback_are_named_by_position(
    args: list[Any], position: int
) -> None:
    async with bare_client([Burst()]) as bare:
        _, callback = await handed_work(bare)
        await bare.send(call(3, callback, args))
        body = body_of(await bare.terminal(3), "invalid_argument")
        assert body["data"]["errors"][0]["loc"][0] == position


@pytest.mark.rule("CB-1")
@pytest.mark.parametrize("options", [{"uploads": {"a": 5}}, {"callbacks": {"a": 5}}], ids=str)
async def test_an_invocation_with_streams_or_callbacks_closes_with_4505(
    options: dict[str, Any],
) -> None:
    async with bare_client([Burst()]) as bare:
        _, callback = await handed_work(bare)
        await bare.send(call(3, callback, [1, ""], **options))
        assert await bare.closed() == 4505


@pytest.mark.rule("CB-1", "CANCEL-3", "TIME-1", "CREDIT-7")
async def test_an_invocation_is_cancelled_like_any_call() -> None:
    async with bare_client([Burst()]) as bare:
        _, callback = await handed_work(bare)
        await bare.send(call(3, callback, [1, ""]), call(5, callback, [1, ""], timeout=20))
        body_of(await bare.terminal(5), "deadline_exceeded")
        await bare.send(["credit", 3, 5], ["cancel", 3])
        body_of(await bare.terminal(3), "cancelled")
