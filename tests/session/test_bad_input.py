"""Bad input at every door gets a clear answer, and harms nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, bare_client, bare_server, error_of, pair, turns, until


class Hello:
    def __init__(self) -> None:
        self.begun = 0
        self.cleaned = 0

    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    @wsrpc.method
    async def wait(self) -> None:
        self.begun += 1
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0)
            self.cleaned += 1

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 1

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])

    @wsrpc.method
    async def build(self, on_progress: Callable[[int], Awaitable[None]]) -> None:
        await on_progress(1)

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None: ...


# ------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"window": 0}, ValueError, "window"),
        ({"window": -1}, ValueError, "window"),
        ({"validate": "some"}, ValueError, "validate"),
        (
            {"overflow": "newest"},
            ValueError,
            "overflow must be .block., .latest., .drop_oldest. or .fail.",
        ),
        ({"metadata": {"a": 1}}, TypeError, "strings"),
    ],
)
async def test_an_option_of_clientize_that_makes_no_sense(
    options: Any, error: type[Exception], says: str
) -> None:
    async with pair([Hello()]) as (_, client):
        with pytest.raises(error, match=says):
            client.clientize(Hello, **options)


@pytest.mark.parametrize("thing", [3, None, object(), [Hello], Hello()])
async def test_something_that_cannot_be_clientized(thing: Any) -> None:
    async with pair([Hello()]) as (_, client):
        with pytest.raises(TypeError):
            client.clientize(thing)


async def test_a_contract_that_is_none() -> None:
    contract = wsrpc.Server([Hello()]).contract()
    async with pair([Hello()]) as (_, client):
        with pytest.raises(wsrpc.RegistrationError, match="pick one"):
            client.clientize(contract)
        with pytest.raises(wsrpc.RegistrationError, match="no controller's contract"):
            client.clientize({"a": 1})


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_calls": 7}, ValueError),
        ({"max_batch": 65_535}, ValueError),
        ({"window": 0}, ValueError),
        ({"hello_timeout": -1}, ValueError),
        ({"close_timeout": float("nan")}, ValueError),
        ({"max_calls": "many"}, TypeError),
        ({"max_calls": None}, TypeError),
        ({"no_such_limit": 1}, TypeError),
    ],
)
def test_limits_that_make_no_sense(limits: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        wsrpc.Limits(**limits)


def test_an_error_with_a_code_that_is_none() -> None:
    with pytest.raises(ValueError, match="'teapot' is no status code"):
        wsrpc.RpcError("teapot", "short and stout")


async def test_a_name_that_cannot_travel_is_refused_and_the_session_lives() -> None:
    async with pair([Hello()]) as (_, client):
        with pytest.raises(ValueError, match="name"):
            client.clientize("\ud800").greet(name="Ann")
        with pytest.raises(ValueError, match="name"):
            getattr(client.clientize("Hello"), "gr\ud800")(name="Ann")
        assert await client.clientize(Hello).greet("Ann") == "Hello, Ann!"


@pytest.mark.rule("VALUE-1", "VALUE-3")
async def test_text_that_is_no_unicode_is_an_invalid_argument(codec: Codec) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        for hello in (client.clientize(Hello), client.clientize("Hello")):
            with error_of("invalid_argument"):
                await hello.greet(name="\ud800")
        assert await client.clientize(Hello).greet("Ann") == "Hello, Ann!"


@pytest.mark.rule("VALUE-2", "VALUE-3")
async def test_values_nested_too_deeply_are_an_invalid_argument(codec: Codec) -> None:

    class Echo:
        @wsrpc.method
        async def echo(self, value: object) -> object:
            return value

    def nested(depth: int) -> object:
        value: object = 1
        for _ in range(depth):
            value = [value]
        return value

    async with pair([Echo()], codec=codec) as (_, client):
        echo = client.clientize(Echo)
        assert await echo.echo(nested(100)) == nested(100)
        for depth in (101, 5000):
            with error_of("invalid_argument"):
                await echo.echo(nested(depth))
        assert await echo.echo(1) == 1


@pytest.mark.rule("VALUE-3", "ERROR-8")
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "NaN and Infinity cannot travel"),
        (2**64, "Integers go from"),
        ("\ud800", "A string with a lone surrogate cannot travel"),
        (object(), "Unable to serialize"),
    ],
)
async def test_the_error_for_a_value_that_cannot_travel_names_the_argument_once(
    codec: Codec, value: object, says: str
) -> None:
    class Desk:
        @wsrpc.method
        async def put(self, first: Any, second: Any = None, more: list[Any] = []) -> None: ...  # noqa: B006

        @wsrpc.method
        async def pile(self, papers: AsyncIterator[Any]) -> None:
            async for _ in papers:
                pass

    async with pair([Desk()], codec=codec) as (_, client):
        for desk in (client.clientize(Desk), client.clientize("Desk")):
            with error_of("invalid_argument") as refused:
                await desk.put(first=1, second=value)
            assert refused.value.message.startswith(f"the arguments of Desk.put: second: {says}")
            with error_of("invalid_argument") as refused:
                await desk.put(first=1, more=[[value]])
            assert refused.value.message.startswith("the arguments of Desk.put: more: ")
            assert says in refused.value.message
        with error_of("invalid_argument") as refused:
            await client.clientize(Desk).pile(wsrpc.stream_of([value]))
        assert refused.value.message.startswith(f"an item of Desk.pile(papers=…): {says}")
        with error_of("invalid_argument") as refused:
            await client.clientize(Desk).put(1, more=3)  # type: ignore[arg-type]
        assert refused.value.message.startswith("the arguments of Desk.put: more: Input")
        await client.clientize(Desk).put(1)


# ------------------------------------------------------------------------------------ calls


@pytest.mark.rule("CALL-3", "CALL-4", "NOTIFY-3", "ERROR-7")
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (["call", 1, "Hello.gret", {"name": "Ann"}], "unimplemented"),
        (["call", 1, "Hello.greet", {}], "invalid_argument"),
        (["call", 1, "Hello.greet", {"name": 7}], "invalid_argument"),
        (["call", 1, "Hello.greet", {"name": None}], "invalid_argument"),
        (["call", 1, "Hello.greet", {"name": "x", "y": 1}], "invalid_argument"),
        (["call", 1, "Hello.greet", {"name": "x"}, {"uploads": {"name": 3}}], "invalid_argument"),
        (["call", 1, "Hello.greet", {"name": "x"}, {"callbacks": {"f": 3}}], "invalid_argument"),
        (["call", 1, "Hello.total", {}], "invalid_argument"),
        (["call", 1, "Hello.total", {"numbers": []}], "invalid_argument"),
        (["call", 1, "Hello.build", {}], "invalid_argument"),
        (["call", 1, "Hello.build", {}, {"uploads": {"on_progress": 3}}], "invalid_argument"),
        (["notify", 1, "Hello.items", {}], "failed_precondition"),
        (["notify", 1, "Hello.total", {}], "failed_precondition"),
        (["notify", 1, "Hello.build", {}], "failed_precondition"),
        (["notify", 1, "Hello.nothing", {}], "unimplemented"),
        (["notify", 1, "Hello.note", {"text": 7}], "invalid_argument"),
    ],
    ids=repr,
)
async def test_a_bad_call_is_answered_on_its_id_and_everything_else_lives(
    codec: Codec, frame: list[Any], code: str
) -> None:
    async with bare_client(wsrpc.Server([Hello()]), codec) as peer:
        await peer.send(frame)
        error = await peer.expect("error", "result", "end")
        assert error[:2] == ["error", 1]
        assert error[2]["code"] == code
        assert not error[2].get("not_started")
        await peer.send(["call", 11, "Hello.greet", {"name": "Ann"}])
        assert await peer.expect("error", "result") == ["result", 11, "Hello, Ann!"]


@pytest.mark.rule("VALUE-4")
async def test_a_number_that_is_not_finite_spoils_its_call_alone(codec: Codec) -> None:

    class Echo:
        @wsrpc.method
        async def number(self, value: float) -> float:
            return value

        @wsrpc.method
        async def anything(self, value: object) -> object:
            return value

    async with bare_client(wsrpc.Server([Echo()]), codec) as peer:
        for id, method in ((1, "Echo.number"), (3, "Echo.anything")):
            if codec == "json":
                await peer.send_bytes(b'[["call",%d,"%s",{"value":1e999}]]' % (id, method.encode()))
            else:
                await peer.send(["call", id, method, {"value": float("nan")}])
            error = await peer.expect("error")
            assert error[1] == id
            assert error[2]["code"] == "invalid_argument"
        await peer.send(["call", 5, "Echo.number", {"value": 1.5}])
        assert await peer.expect("error", "result") == ["result", 5, 1.5]


@pytest.mark.rule("VALUE-4")
async def test_an_answer_that_is_no_value_fails_its_call_alone(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [b'["result",%d,1e999]', b'["message",%d,[1,1e999]]']

    class Number:
        @wsrpc.method
        async def one(self) -> float:
            return 1.0

        @wsrpc.method
        async def many(self) -> AsyncIterator[float]:
            yield 1.0

    async with bare_server(monkeypatch, codec) as (peer, session):
        proxy = session.clientize(Number)
        for n, answer in enumerate(answers):

            async def respond(n: int = n, answer: bytes = answer) -> None:
                call = await peer.expect("call")
                if codec == "json":
                    await peer.send_bytes(b"[" + answer % call[1] + b"]")
                elif n == 0:
                    await peer.send(["result", call[1], float("nan")])
                else:
                    await peer.send(["message", call[1], [1.0, float("nan")]])

            async with anyio.create_task_group() as group:
                group.start_soon(respond)
                with error_of("internal"):
                    if n == 0:
                        await proxy.one()
                    else:
                        await proxy.many().collect()
        assert not session.closed
        assert (await peer.expect("cancel"))[0] == "cancel"


@pytest.mark.rule("CALL-8")
@pytest.mark.parametrize("answer", ["result", "message", "end"])
async def test_an_answer_of_the_wrong_kind_fails_its_call_alone(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare_server(monkeypatch) as (peer, session):
        hello = session.clientize(Hello)

        async def respond() -> None:
            call = await peer.expect("call")
            await peer.send(
                {
                    "result": ["result", call[1], 1],
                    "message": ["message", call[1], [1]],
                    "end": ["end", call[1]],
                }[answer]
            )

        async with anyio.create_task_group() as group:
            group.start_soon(respond)
            with error_of("internal") as caught:
                if answer == "result":
                    await hello.items().collect()
                else:
                    await hello.greet("Ann")
            assert isinstance(caught.value, TypeError)
        if answer == "message":
            assert (await peer.expect("cancel"))[0] == "cancel"
        assert not session.closed


# ------------------------------------------------------------------------------------ frames


VIOLATIONS: list[tuple[Any, int]] = [
    ([], 4500),
    ({}, 4500),
    ("text", 4500),
    (7, 4500),
    ([7], 4500),
    ([[]], 4500),
    ([["nonsense"]], 4500),
    ([["call"]], 4500),
    ([["call", "1", "Hello.greet", {}]], 4500),
    ([["call", 1, "Hello.greet", []]], 4500),
    ([["call", 0, "Hello.greet", {}]], 4500),
    ([["call", 2, "Hello.greet", {}]], 4505),
    ([["call", 1, "Hello.greet", {}], ["call", 1, "Hello.greet", {}]], 4505),
    ([["cancel", 9]], 4505),
    ([["credit", 1, 0]], 4505),
    ([["message", 1, [1]]], 4505),
    ([["result", 2, 1]], 4505),
    ([["hello", {"version": 1}]], 4505),
    ([["ack", 99]], 4505),
    ([["call", 1, 4, []]], 4505),
    ([["chunk", 1, True, b""]], 4505),
    ([["notify", 1, "Hello.note", {}, {"uploads": {"a": 3}}]], 4505),
]


@pytest.mark.rule(
    "BATCH-1",
    "BATCH-2",
    "BATCH-3",
    "ID-1",
    "ID-2",
    "ID-5",
    "CREDIT-6",
    "HELLO-2",
    "ACK-3",
    "CLOSE-5",
)
@pytest.mark.parametrize(("batch", "code"), VIOLATIONS, ids=repr)
async def test_a_frame_that_cannot_be_trusted_ends_the_session_and_its_handlers_clean_up(
    codec: Codec, batch: Any, code: int
) -> None:
    hello = Hello()
    server = wsrpc.Server([hello])
    async with bare_client(server, codec) as peer:
        await peer.send(["call", 101, "Hello.wait", {}])
        await until(lambda: hello.begun == 1)
        shifted = _shift(batch)
        await peer.send_bytes(peer.codec.dump(shifted))
        assert await peer.closed() == code
        await until(lambda: hello.cleaned == 1)
    assert server.stats.closes == {code: 1}


def _shift(batch: Any) -> Any:
    """The batch with its odd ids after those that are in use."""
    if not isinstance(batch, list):
        return batch
    return [
        [frame[0], frame[1] + 200, *frame[2:]]
        if isinstance(frame, list) and len(frame) > 1 and type(frame[1]) is int and frame[1]
        else frame
        for frame in batch
    ]


@pytest.mark.rule("BATCH-1")
async def test_bytes_that_are_no_batch(codec: Codec) -> None:
    for data in (b"", b"\xff\xfe", b"[[", b'["call"', b"NaN"):
        async with bare_client(wsrpc.Server([Hello()]), codec) as peer:
            await peer.send_bytes(data)
            assert await peer.closed() in (4500, 1007)


@pytest.mark.rule("EXT-1", "ID-6", "PING-1")
async def test_extensions_and_leftovers_are_ignored_and_counted(codec: Codec) -> None:
    server = wsrpc.Server([Hello()])
    async with bare_client(server, codec) as peer:
        await peer.send(["x-trace", "anything", 1], ["x-"], ["ping", 7])
        assert await peer.expect("pong") == ["pong", 7]
        await peer.send(["call", 5, "Hello.greet", {"name": "Ann"}])
        await peer.expect("result")
        await peer.send(["cancel", 5], ["credit", 5, 1], ["cancel", 3])
        await turns()
        (session,) = server.sessions.values()
        assert session.frames_ignored == 5


@pytest.mark.rule("OUT-4", "ID-6")
async def test_a_flood_of_frames_for_finished_ids_is_closed_with_4004(codec: Codec) -> None:
    server = wsrpc.Server([Hello()])
    async with bare_client(server, codec) as peer:
        await peer.send(["call", 1, "Hello.greet", {"name": "Ann"}])
        await peer.expect("result")
        flood = peer.codec.dump([["credit", 1, 1]] * 10_000)
        await peer.send_bytes(flood)
        await peer.send_bytes(flood)
        assert await peer.closed() == 4004
    assert server.stats.closes == {4004: 1}


@pytest.mark.rule("BATCH-5")
async def test_an_answer_ahead_of_a_violation_in_the_same_message_reaches_its_caller(
    monkeypatch: pytest.MonkeyPatch, codec: Codec
) -> None:
    async with bare_server(monkeypatch, codec) as (peer, session):
        answers: list[str] = []

        async def greet() -> None:
            answers.append(await session.clientize(Hello).greet("Ann"))

        async with anyio.create_task_group() as group:
            group.start_soon(greet)
            call = await peer.expect("call")
            await peer.send(["result", call[1], "Hello, Ann!"], ["hello", {"version": 1}])
            assert await peer.closed() == 4505
        assert answers == ["Hello, Ann!"]
