"""The client against servers made of bare frames: each breach has its close code, and none hangs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .node import run_script

pytestmark = pytest.mark.web

Frame: TypeAlias = list[Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


HELLO: dict[str, Any] = {
    "version": 1,
    "session": "s",
    "token": "t",
    "resume_window": 30000,
    "window": 4,
    "limits": {
        "max_batch": 262144,
        "max_calls": 16,
        "max_value": 10_000_000,
        "max_held": 20_000_000,
    },
}


class Server:
    """The accepting side by hand, link by link.

    Attributes:
        url: Where it listens.
        codes: The close codes of the links so far, as they came from the client.
        hellos: The bodies of the client's hellos.
        frames: All other frames that came.
        links: Links so far.
    """

    def __init__(self, script: Callable[[Server, Link], Awaitable[None]]) -> None:
        self.url = ""
        self.codes: list[int | None] = []
        self.hellos: list[dict[str, Any]] = []
        self.frames: list[Frame] = []
        self.links = 0
        self._script = script

    async def handle(self, connection: ServerConnection) -> None:
        self.links += 1
        link = Link(connection, self, self.links)
        try:
            await self._script(self, link)
            await connection.wait_closed()
        except ConnectionClosed:
            pass
        self.codes.append(None if connection.close_code is None else connection.close_code)

    def named(self, *names: str) -> list[Frame]:
        """The frames of these names."""
        return [frame for frame in self.frames if frame[0] in names]


class Link:
    """One WebSocket of the client's."""

    def __init__(self, connection: ServerConnection, server: Server, number: int) -> None:
        self._connection = connection
        self._server = server
        self._waiting: list[Frame] = []
        self.number = number

    async def send(self, *frames: Frame) -> None:
        await self._connection.send(json.dumps(frames, separators=(",", ":")))

    async def raw(self, data: str | bytes) -> None:
        await self._connection.send(data)

    async def close(self, code: int, reason: str = "") -> None:
        await self._connection.close(code, reason)

    async def frame(self, *names: str) -> Frame:
        """The next frame with one of these names; others are kept in `Server.frames` alone."""
        while True:
            while self._waiting:
                frame = self._waiting.pop(0)
                if not names or frame[0] in names:
                    return frame
            for frame in json.loads(await self._connection.recv()):
                if frame[0] == "hello":
                    self._server.hellos.append(frame[1])
                else:
                    self._server.frames.append(frame)
                self._waiting.append(frame)

    async def greet(self, **fields: Any) -> dict[str, Any]:
        """Say hello; the client's."""
        body: dict[str, Any] = (await self.frame("hello"))[1]
        await self.send(["hello", {**HELLO, **fields}])
        return body


@asynccontextmanager
async def scripted(
    script: Callable[[Server, Link], Awaitable[None]],
) -> AsyncIterator[Server]:
    made = Server(script)
    async with serve(
        made.handle,
        "127.0.0.1",
        0,
        subprotocols=["wsrpc.v1.json"],  # type: ignore[list-item]
        compression=None,
        max_size=None,
        ping_interval=None,
    ) as server:
        made.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield made


CALL = """
console.error = () => {};
const session = client.connect(process.argv[1]);
const outcome = await session.clientize("X").y({}, { timeout: 5000 })
    .then((value) => ({ value: value instanceof client.Stream ? "a stream" : value }), (e) => ({ code: e.code, notStarted: e.notStarted }));
await sleep(50);
console.log(JSON.stringify({ outcome, state: session.state, close: session.lastClose?.code }));
process.exit(0);
"""


async def told(server: Server, source: str = CALL) -> Any:
    """The last line that a script prints of its dealings with the server, decoded."""
    said = await run_script(source, server.url)
    result: Any = json.loads(said.splitlines()[-1])
    with anyio.fail_after(5):
        while len(server.codes) < server.links:
            await anyio.sleep(0.01)
    return result


BREACHES: list[tuple[str, int, list[Frame] | str | bytes]] = [
    ("text that is no JSON", 4500, "hm"),
    ("a binary message", 4500, b"[]"),
    ("no batch", 4500, "{}"),
    ("an empty batch", 4500, "[]"),
    ("a frame that is none", 4500, "[7]"),
    ("an unknown frame", 4500, [["nonsense", 1]]),
    ("a frame named as a property of objects", 4500, [["constructor", 1]]),
    ("a result without a value", 4500, [["result", 1]]),
    ("a message without items", 4500, [["message", 1, []]]),
    ("an end with two values", 4500, [["end", 1, [1, 2]]]),
    ("an error without a code", 4500, [["error", 1, {"message": "m"}]]),
    (
        "an error whose retry_after is text",
        4500,
        [["error", 1, {"code": "a", "message": "m", "retry_after": "1"}]],
    ),
    ("an id that is text", 4500, [["result", "1", 1]]),
    ("an id of 0", 4500, [["result", 0, 1]]),
    ("an id beyond 2^53", 4500, [["result", 2**53, 1]]),
    ("a call with positional arguments", 4500, [["call", 2, "A.b", []]]),
    ("a callback with named arguments", 4500, [["call", 2, 1, {}]]),
    ("an option of a wrong type", 4500, [["call", 2, "A.b", {}, {"timeout": -1}]]),
    ("metadata that is no text", 4500, [["call", 2, "A.b", {}, {"metadata": {"a": 1}}]]),
    ("a size beside a value", 4500, [["result", 1, 7, 100000]]),
    ("a ping without a number", 4500, [["ping"]]),
    ("a goaway without its fields", 4500, [["goaway", {}]]),
    ("a good frame before a bad one", 4500, [["result", 1, 7], ["nonsense"]]),
    ("a second hello", 4505, [["hello", HELLO]]),
    ("auth from the server", 4505, [["auth", 1]]),
    ("a result for an id that nobody opened", 4505, [["result", 99, 1]]),
    ("a credit on a call of the client's", 4505, [["credit", 1, 1]]),
    ("an ack of frames that were never sent", 4505, [["ack", 999]]),
    ("an odd id of the server's", 4505, [["call", 3, "A.b", {}]]),
    ("ids that do not rise", 4505, [["call", 4, "A.b", {}], ["call", 2, "A.b", {}]]),
    ("uploads that share an id", 4505, [["call", 2, "A.b", {}, {"uploads": {"a": 4, "b": 4}}]]),
    ("a notify with an upload", 4505, [["notify", 2, "A.b", {}, {"uploads": {"a": 4}}]]),
    (
        "a call that opens 17 ids",
        4505,
        [["call", 2, "A.b", {}, {"uploads": {str(i): 4 + 2 * i for i in range(16)}}]],
    ),
    ("a callback that was never opened", 4505, [["call", 2, 101, []]]),
    ("a call of a call", 4505, [["call", 2, 1, []]]),
    ("items beyond the credit", 4505, [["message", 1, list(range(33))]]),
    ("a result after items", 4505, [["message", 1, [1]], ["result", 1, 1]]),
    ("credit below 1 on a handler", 4505, [["call", 2, "H.wait", {}], ["credit", 2, 0]]),
    ("credit beyond 2^31", 4505, [["call", 2, "H.wait", {}], ["credit", 2, 2**31 - 1]]),
    ("a chunk of nothing", 4505, [["chunk", 1, True, "x"]]),
    ("a chunk that is too small", 4505, [["result", 1, None, 100000], ["chunk", 1, False, "x"]]),
    (
        "a chunk that is too large",
        4505,
        [["result", 1, None, 100000], ["chunk", 1, False, "x" * 65537]],
    ),
    (
        "chunks of another size",
        4505,
        [["result", 1, None, 100000], ["chunk", 1, True, "x" * 20000]],
    ),
    ("another frame between chunks", 4505, [["result", 1, None, 100000], ["end", 1]]),
    (
        "values beyond max_held",
        4505,
        [
            ["call", 2, "A.b", None, None, 16 * 2**20],
            ["call", 4, "A.b", None, None, 16 * 2**20],
            ["call", 6, "A.b", None, None, 1],
        ],
    ),
    ("an answer to a handler's call", 4505, [["call", 2, "H.wait", {}], ["result", 2, 1]]),
]


@pytest.mark.rule("BATCH-1", "BATCH-2", "BATCH-3", "CHUNK-3", "CHUNK-4", "CREDIT-3", "ID-2", "ID-5")
@pytest.mark.parametrize(("what", "code", "sent"), BREACHES, ids=[one[0] for one in BREACHES])
@pytest.mark.slow
async def test_a_server_that_breaks_a_rule_is_closed_with_its_code(
    what: str, code: int, sent: list[Frame] | str | bytes
) -> None:
    await breach(code, sent)


async def breach(code: int, sent: list[Frame] | str | bytes) -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet()
        await link.frame("call")
        if isinstance(sent, list):
            await link.send(*sent)
        else:
            await link.raw(sent)

    source = CALL.replace(
        "connect(process.argv[1])",
        "connect(process.argv[1], { controllers: { H: { wait: () => sleep(60000) }, A: { b() {} } } })",
    )
    async with scripted(script) as server:
        result = await told(server, source)
        assert server.codes == [code]
        if not str(sent).startswith("[['message'"):
            # A stream that is awaited is there with its first item, and fails where it is read.
            assert result["outcome"] == {"code": "unavailable", "notStarted": False}
        assert result["state"] == "closed"
        assert server.links == 1


@pytest.mark.rule("BROWSER-1", "BATCH-6")
async def test_a_message_that_is_too_large_closes_with_4500_in_place_of_1009() -> None:
    await breach(4500, '[["x-large","' + "a" * 256 * 1024 + '"]]')


@pytest.mark.rule("BATCH-3")
async def test_a_broken_frame_closes_the_link_with_4500() -> None:
    await breach(4500, [["result", 1, 7], ["nonsense"]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (4501, "unauthenticated"),
        (4503, "unauthenticated"),
        (4504, "unavailable"),
        (4507, "unavailable"),
        (1000, "unavailable"),
    ],
)
@pytest.mark.rule("HELLO-8", "CLOSE-2", "CLOSE-4")
async def test_a_refusal_before_the_hello_fails_the_calls_that_wait(
    code: int, outcome: str
) -> None:
    async def script(server: Server, link: Link) -> None:
        await link.frame("hello")
        await link.close(code)

    async with scripted(script) as server:
        result = await told(server)
        assert result == {
            "outcome": {"code": outcome, "notStarted": True},
            "state": "closed",
            "close": code,
        }


@pytest.mark.slow
@pytest.mark.rule("HELLO-1", "HELLO-3")
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (["ping", 1], 4505),
        (["x-trace", 1], 4505),
        (["hello", {**HELLO, "version": 2}], 4507),
        (["hello", {"session": "s"}], 4500),
        (["hello", {**HELLO, "limits": {"max_batch": 1}}], 4500),
        (["hello", {**HELLO, "resumed": True}], 4505),
        (["hello", {**HELLO, "received": 1}], 4505),
    ],
)
@pytest.mark.rule("HELLO-12")
async def test_the_first_frame_is_a_hello_of_this_version(frame: Frame, code: int) -> None:
    async def script(server: Server, link: Link) -> None:
        await link.frame("hello")
        await link.send(frame)

    async with scripted(script) as server:
        result = await told(server)
        assert server.codes == [code]
        assert result["state"] == "closed"


@pytest.mark.rule("EXT-1", "BATCH-4", "ACK-1", "PING-1", "ID-6")
async def test_what_is_legal_and_of_no_use_is_ignored() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet(later=1)
        await link.frame("call")
        await link.send(["x-y", 1, {}], ["pong", 7], ["ping", 5], ["ping", 6], ["ack", 1])
        await link.send(["result", 1, {"__proto__": 1}, None, "trailing"])
        await link.send(["message", 1, [1]], ["error", 1, {"code": "x", "message": ""}])
        await link.frame("pong")

    async with scripted(script) as server:
        result = await told(server)
        assert result["outcome"] == {"value": {"__proto__": 1}}
        assert server.frames[0] == ["ack", 0]
        assert server.named("pong")[-1] == ["pong", 6]


@pytest.mark.slow
@pytest.mark.rule("RESUME-2", "CLOSE-4", "CLOSE-1")
async def test_a_resume_that_is_denied_fails_what_was_numbered_and_goes_on() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet(token=f"t{link.number}")
        if link.number == 1:
            await link.frame("call")
            await link.close(1012)
        await link.send(["result", (await link.frame("call"))[1], "again"])

    source = """
        const session = client.connect(process.argv[1]);
        const x = session.clientize("X");
        const first = await x.y().catch((e) => e.code);
        console.log(JSON.stringify({ first, second: await x.y(), repeated: session.links }));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
        assert result == {"first": "unavailable", "second": "again", "repeated": 2}
        assert server.codes == [1012, 4010, server.codes[2]]
        assert [one["token"] for one in server.hellos] == [None, "t1", None]


@pytest.mark.slow
@pytest.mark.rule("RESUME-1", "RESUME-4", "RETRY-1", "NUM-1")
async def test_a_resumed_link_repeats_the_very_same_frames() -> None:
    async def script(server: Server, link: Link) -> None:
        hello = await link.greet(resumed=link.number > 1, received=0)
        if link.number == 1:
            await link.frame("call")
            await link.close(4000)
        else:
            assert hello["link"] == 2
            assert hello["token"] == "t"
            await link.send(["result", (await link.frame("call"))[1], "there"])

    async with scripted(script) as server:
        result = await told(server)
        assert result["outcome"] == {"value": "there"}
        first, second = server.named("call")
        assert first == second


@pytest.mark.slow
@pytest.mark.rule("RETRY-1", "ERROR-1", "ERROR-7")
async def test_calls_are_repeated_where_that_is_safe_and_not_otherwise() -> None:
    answers = {
        "X.not_begun": {"code": "unavailable", "message": "", "not_started": True},
        "X.full": {"code": "resource_exhausted", "message": "", "not_started": True},
        "X.begun": {"code": "unavailable", "message": ""},
        "X.odd": {"code": "odd", "message": "m"},
    }
    seen: dict[str, int] = {}

    async def script(server: Server, link: Link) -> None:
        await link.greet()
        while True:
            _, id, method, *_ = await link.frame("call")
            seen[method] = seen.get(method, 0) + 1
            if seen[method] == 1 or method == "X.odd":
                await link.send(["error", id, answers[method]])
            else:
                await link.send(["result", id, seen[method]])

    source = """
        const x = client.connect(process.argv[1]).clientize("X");
        const of = (p) => p.then((v) => v, (e) => e.code);
        console.log(JSON.stringify([await of(x.notBegun()), await of(x.full()), await of(x.begun()),
            await of(x.begun({}, { idempotent: true })), await of(x.odd())]));
        process.exit(0);
    """
    async with scripted(script) as server:
        said = await run_script(source, server.url)
        assert json.loads(said) == [2, 2, "unavailable", 2, "unknown"]


@pytest.mark.slow
@pytest.mark.rule("RETRY-1")
async def test_the_budget_ends_repeats_when_a_server_is_in_trouble() -> None:
    calls = 0

    async def script(server: Server, link: Link) -> None:
        nonlocal calls
        await link.greet(limits={**HELLO["limits"], "max_calls": 5000})
        while True:
            frame = await link.frame("call")
            calls += 1
            await link.send(
                ["error", frame[1], {"code": "unavailable", "message": "", "not_started": True}]
            )

    source = """
        const x = client.connect(process.argv[1]).clientize("X");
        const all = await Promise.allSettled(Array.from({ length: 3000 }, () => x.y()));
        console.log(JSON.stringify(all.every((one) => one.reason?.code === "unavailable")));
        process.exit(0);
    """
    async with scripted(script) as server:
        assert json.loads(await run_script(source, server.url)) is True
    assert 3000 < calls < 3000 + 1200


@pytest.mark.slow
@pytest.mark.rule("RETRY-3")
async def test_a_tracked_stream_is_reopened_after_its_last_item() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet(token=f"t{link.number}", window=1)
        call = await link.frame("call")
        if link.number == 1:
            await link.send(["message", call[1], [["a", 1], ["b", 2]]])
            await link.frame("ack")
            await link.close(4010)
        else:
            await link.send(["message", call[1], [["c", 3]]], ["end", call[1], ["over"]])

    source = """
        const made = { name: "X", methods: { y: { kind: "stream", tracked: true } } };
        const stream = client.connect(process.argv[1]).clientize(made).y();
        console.log(JSON.stringify({ items: await stream.collect(), last: stream.lastId, final: await stream.done }));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
        assert result == {"items": [1, 2, 3], "last": "c", "final": "over"}
        first, second = server.named("call")
        assert "last_id" not in (first[4] if len(first) > 4 else {})
        assert second[4]["last_id"] == "b"


@pytest.mark.slow
@pytest.mark.rule("GOAWAY-2", "DRAIN-4", "DRAIN-2")
async def test_after_a_goaway_new_calls_go_to_another_session_while_old_ones_finish() -> None:
    others = anyio.Event()

    async def script(server: Server, link: Link) -> None:
        await link.greet(session=f"s{link.number}", token=f"t{link.number}")
        if link.number == 1:
            first = await link.frame("call")
            second = await link.frame("call")
            await link.send(["goaway", {"last_id": first[1], "grace": 9000}])
            await others.wait()
            await link.send(["result", first[1], "old"])
            assert second[2] == "X.second"
            await link.close(1012)
        else:
            for _ in range(2):
                call = await link.frame("call")
                await link.send(["result", call[1], f"new {call[2]}"])
            others.set()
            await link.frame("call")

    source = """
        const session = client.connect(process.argv[1]);
        const x = session.clientize("X");
        const order = [];
        const note = (p) => p.then((v) => order.push(v), (e) => order.push(e.code));
        const all = [note(x.first()), note(x.second())];
        while (!session.draining) await sleep(5);
        all.push(note(x.third()));
        await Promise.all(all);
        while (session.draining) await sleep(5);
        console.log(JSON.stringify({ order: order.slice(0, 2).sort(), last: order[2], draining: session.draining, state: session.state }));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
        assert result["order"] == ["new X.second", "new X.third"]
        assert result["last"] == "old"
        assert result["draining"] is False
        assert result["state"] == "open"


@pytest.mark.slow
@pytest.mark.rule(
    "CANCEL-2",
    "CANCEL-3",
    "TIME-2",
    "NOTIFY-3",
    "ERROR-3",
    "ERROR-5",
    "CALL-5",
    "SLOT-4",
    "BROWSER-7",
)
async def test_the_server_calls_the_client_by_the_rules_of_a_callee() -> None:
    got: dict[int, Frame] = {}

    async def script(server: Server, link: Link) -> None:
        await link.greet()
        calls: list[Frame] = [
            ["call", 2, "H.echo", {"value": [1]}],
            ["call", 4, "H.snake_name", {}],
            ["call", 6, "H.numbers", {"n": 3}],
            ["call", 8, "H.ehco", {}],
            ["call", 10, "H.boom", {}],
            ["call", 12, "H.typed", {}],
            ["call", 14, "H.echo", {"value": 1}, {"timeout": 0}],
            ["call", 16, "H.wait", {}],
            ["cancel", 16],
            ["notify", 18, "H.echo", {}],
            ["notify", 20, "H.numbers", {"n": 1}],
            ["call", 22, "__proto__.toString", {}],
            ["call", 24, "H.constructor", {}],
            ["call", 26, "H._hidden", {}],
            ["call", 28, "Else.where", {"a": 1}],
            ["call", 30, "H.sum", {}, {"uploads": {"numbers": 32}}],
            ["message", 32, [1, 2]],
            ["end", 32],
            ["call", 34, "H.slow", {}],
            ["call", 36, "H.ask", {}, {"callbacks": {"ask": 38}}],
            ["call", 40, "H.bad", {}],
        ]
        await link.send(*calls)
        await anyio.sleep(0.1)
        await link.send(["cancel", 34, "deadline_exceeded"])
        items: list[Any] = []
        while len(got) < 18:
            frame = await link.frame("result", "end", "error", "message", "call")
            if frame[0] == "message":
                items += frame[2]
            elif frame[0] == "call":
                assert frame[2] == 38
                assert frame[4]["parent"] == 36
                await link.send(["result", frame[1], frame[3][0] * 2])
            else:
                got[frame[1]] = frame
        assert items == [0, 1, 2]
        await link.close(1000)

    source = """
        console.error = () => {};
        const H = { echo: ({ value }) => value, snakeName: () => "found", async *numbers({ n }) { for (let i = 0; i < n; i++) yield i; return "all"; },
            boom() { throw new Error("secret"); }, typed() { throw new client.RpcError("aborted", "m", { x: 1 }, { type: "Quota" }); },
            wait: () => sleep(60000), _hidden: () => 1, async sum({ numbers }) { let t = 0; for await (const n of numbers) t += n; return t; },
            slow: (args, { signal }) => new Promise((go) => signal.addEventListener("abort", () => go("ignored"))),
            ask: async ({ ask }) => await ask(21), bad: () => NaN };
        const session = client.connect(process.argv[1], { controllers: { H }, fallback: (method, args) => method === "Else.where" ? args : Promise.reject(new client.RpcError("unimplemented", "no")) });
        await session.ready();
        while (session.state !== "closed") await sleep(10);
        process.exit(0);
    """
    async with scripted(script) as server:
        await run_script(source, server.url)
    assert sorted(got) == [*range(2, 32, 2), 34, 36, 40]
    assert got[2] == ["result", 2, [1]]
    assert got[4] == ["result", 4, "found"]
    assert got[6] == ["end", 6, ["all"]]
    assert got[10][2].keys() == {"code", "message", "error_id"}
    assert (got[10][2]["code"], got[10][2]["message"]) == ("internal", "internal error")
    assert got[12][2] == {"code": "aborted", "message": "m", "data": {"x": 1}, "type": "Quota"}
    assert (got[14][2]["code"], got[14][2]["not_started"]) == ("deadline_exceeded", True)
    assert (got[16][2]["code"], got[16][2]["not_started"]) == ("cancelled", True)
    assert got[18] == ["end", 18]
    assert got[20][2]["code"] == "failed_precondition"
    for refused in (8, 22, 24, 26):
        assert got[refused][2]["code"] == "unimplemented", refused
    assert got[28] == ["result", 28, {"a": 1}]
    assert got[30] == ["result", 30, 3]
    assert got[34][2]["code"] == "deadline_exceeded"
    assert got[36] == ["result", 36, 42]
    assert got[40][2]["code"] == "internal"


@pytest.mark.rule("CB-5", "ERROR-4")
async def test_arguments_that_a_callback_does_not_take_are_refused_with_their_position() -> None:
    got: dict[int, Frame] = {}

    async def script(server: Server, link: Link) -> None:
        await link.greet()
        while len([frame for frame in server.frames if frame[0] == "call"]) < 2:
            await link.frame("call")
        (known, bare) = [frame for frame in server.frames if frame[0] == "call"]
        two, none = (known[4]["callbacks"][name] for name in ("two", "none"))
        open_, some = (bare[4]["callbacks"][name] for name in ("open", "some"))
        sent: list[tuple[int, list[Any]]] = [
            (two, [1, 2]),
            (two, [1]),
            (two, [1, 2, 3]),
            (none, []),
            (none, [1]),
            (open_, []),
            (open_, [1, 2]),
            (some, []),
            (some, [1]),
            (some, [1, 2, 3]),
        ]
        await link.send(*(["call", 2 * n, id, args] for n, (id, args) in enumerate(sent, 1)))
        while len(got) < len(sent):
            frame = await link.frame("result", "error")
            got[frame[1] // 2] = frame
        await link.close(1000)

    source = """
        const session = client.connect(process.argv[1]);
        const facts = { name: "X", methods: { known: { kind: "unary", callbacks: { two: 2, none: 0 } } } };
        // Of two arguments a function may take one; the number is the method's, where it is known.
        session.clientize(facts).known({ two: (a) => a, none: (a) => 0 }).catch(() => {});
        session.clientize("X").bare({ open: (...all) => all.length, some: (a, b, c = 3) => a }).catch(() => {});
        await session.ready();
        while (session.state !== "closed") await sleep(10);
        process.exit(0);
    """
    async with scripted(script) as server:
        await run_script(source, server.url)

    def refused(n: int) -> tuple[str, list[Any], str]:
        body = got[n][2]
        (error,) = body["data"]["errors"]
        assert (body["code"], error["type"]) == ("invalid_argument", "arguments")
        return body["message"], error["loc"], error["msg"]

    assert [got[n][2] for n in (1, 4, 6, 7, 10)] == [1, 0, 0, 2, 1]
    assert [got[n][0] for n in (1, 4, 6, 7, 10)] == ["result"] * 5
    for n, loc, said in (
        (2, 1, "expected 2 arguments, got 1"),
        (3, 2, "expected 2 arguments, got 3"),
        (5, 0, "expected 0 arguments, got 1"),
        (8, 0, "expected 2 arguments, got 0"),
        (9, 1, "expected 2 arguments, got 1"),
    ):
        assert refused(n) == (said, [loc], said)


@pytest.mark.rule("ERROR-5", "REFLECT-1", "REFLECT-2")
async def test_an_unknown_method_is_answered_with_near_names_and_reflection_with_all_names() -> (
    None
):
    got: list[Frame] = []

    async def script(server: Server, link: Link) -> None:
        await link.greet()
        await link.send(["call", 2, "Page.aks", {}], ["call", 4, "wsrpc.reflection.describe", {}])
        got.extend([await link.frame("error"), await link.frame("result")])
        await link.close(1000)

    source = """
        class Page { ask({ question, twice = false }) {} async *ticks() {} }
        const session = client.connect(process.argv[1], { controllers: [new Page()] });
        await session.ready();
        while (session.state !== "closed") await sleep(10);
        let refused; try { session.expose({ "wsrpc.x": {} }); } catch (e) { refused = e instanceof TypeError; }
        console.log(refused); process.exit(0);
    """
    async with scripted(script) as server:
        assert "true" in await run_script(source, server.url)
    error, result = sorted(got)
    assert error[2]["data"]["near"][0] == "Page.ask"
    page = result[2]["controllers"]["Page"]
    assert page["methods"]["ticks"]["kind"] == "stream"
    assert {name: one["required"] for name, one in page["methods"]["ask"]["params"].items()} == {
        "question": True,
        "twice": False,
    }


@pytest.mark.rule("CALL-3")
async def test_reflection_takes_no_arguments() -> None:
    got: list[Frame] = []

    async def script(server: Server, link: Link) -> None:
        await link.greet()
        await link.send(["call", 2, "wsrpc.reflection.describe", {"of": "Page"}])
        got.append(await link.frame("error", "result"))
        await link.close(1000)

    source = """
        const session = client.connect(process.argv[1]);
        await session.ready();
        while (session.state !== "closed") await sleep(10);
        process.exit(0);
    """
    async with scripted(script) as server:
        await run_script(source, server.url)
    assert got[0][0] == "error"
    assert got[0][2]["code"] == "invalid_argument"
    assert got[0][2]["data"]["errors"][0]["loc"] == ["of"]


@pytest.mark.rule("MSG-2", "VALUE-4")
async def test_items_before_one_that_cannot_be_used_arrive_in_whatever_frame_they_came() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet()
        for number in (1, 3):
            call = await link.frame("call")
            text = ("1,2,1e999,3", '["a",1],["b",2],["c"],["d",4]')[number // 2]
            await link.raw(f'[["message",{call[1]},[{text}]]]')
        while len(server.named("cancel")) < 2:
            await link.frame()
        await link.close(1000)

    source = """
        const session = client.connect(process.argv[1], { window: 9 });
        const api = session.clientize({ name: "X", methods: { plain: { kind: "stream" }, tracked: { kind: "stream", tracked: true } } });
        const got = [];
        for (const stream of [api.plain(), api.tracked()]) {
            const items = [];
            try { for await (const one of stream) items.push(one); } catch (e) { items.push(e.code, stream.lastId ?? null); }
            got.push(items);
        }
        await sleep(50);
        console.log(JSON.stringify(got));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
    assert result == [[1, 2, "internal", None], [1, 2, "internal", "b"]]


@pytest.mark.rule("GOAWAY-2")
async def test_without_another_session_a_goaway_fails_the_calls_that_cannot_begin() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet(limits={"max_calls": 8})
        first = await link.frame("call")
        await link.send(["goaway", {"last_id": first[1], "grace": 9000}])
        await link.frame("hello")

    source = """
        const session = client.connect(process.argv[1], { reconnect: false });
        const calls = Array.from({ length: 12 }, (_, i) => session.call("X.y", { i }));
        const told = (call) => call.then((value) => value, (e) => [e.code, e.notStarted].join());
        const early = await Promise.all(calls.slice(1).map(told));
        const late = await told(session.call("X.z"));
        console.log(JSON.stringify({ early, late, state: session.state }));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
    assert result == {
        "early": ["unavailable,true"] * 11,
        "late": "unavailable,true",
        "state": "open",
    }


@pytest.mark.rule("ERROR-8")
async def test_wrong_arguments_never_say_that_the_call_may_be_made_again() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet()

    source = """
        const session = client.connect(process.argv[1]);
        const told = (call) => call.then((value) => value, (e) => [e.code, e.notStarted].join());
        console.log(JSON.stringify([await told(session.call("X.y", { a: NaN })), await told(session.call("X.y", [1])), await told(session.call("X.y", {}, 5))]));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
    assert result == ["invalid_argument,false"] * 3


@pytest.mark.slow
@pytest.mark.rule("HEART-1", "HEART-2")
async def test_a_silent_server_is_asked_once_and_then_given_up() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet(heartbeat=[1000, 1000], resumed=link.number > 1)
        if link.number == 2:
            await link.send(["result", 1, "back"])
        while True:
            await link.frame()

    async with scripted(script) as server:
        result = await told(server)
        assert result["outcome"] == {"value": "back"}
        assert len(server.named("ping")) == 1
        assert server.codes[0] == 4002


@pytest.mark.slow
async def test_credentials_are_asked_for_in_time_and_before_each_attempt() -> None:
    async def script(server: Server, link: Link) -> None:
        await link.greet(resumed=link.number > 1)
        if link.number == 1:
            await link.close(4003)
        await link.frame("goodbye")

    source = """
        const asked = [];
        const auth = ({ attempt, lastClose }) => { asked.push([attempt, lastClose?.code ?? null]); if (asked.length === 1) throw new Error("no network"); return { token: asked.length }; };
        const seen = [];
        const session = client.connect(process.argv[1], { auth, trace: (sent, frame) => frame[0] === "hello" && seen.push([sent, frame[1].auth ?? null, frame[1].token ?? null]) });
        await session.ready();
        while (session.resumes < 1) await sleep(10);
        const denied = client.connect(process.argv[1], { auth: () => { throw new client.RpcError("unauthenticated", "log in"); } });
        const why = await denied.ready().catch((e) => e.code);
        console.log(JSON.stringify({ asked, seen, why, state: denied.state }));
        process.exit(0);
    """
    async with scripted(script) as server:
        result = await told(server, source)
        assert [one["auth"] for one in server.hellos] == [{"token": 2}, {"token": 3}]
        assert result["asked"] == [[1, None], [2, 1006], [1, 4003]]
        assert result["why"] == "unauthenticated"
        assert result["state"] == "closed"
        assert result["seen"][0] == [True, "…", None]
        assert result["seen"][1] == [False, None, "…"]


@pytest.mark.rule("BROWSER-6")
@pytest.mark.slow
async def test_a_server_that_is_not_there_is_given_up_after_three_attempts() -> None:
    source = """
        const session = client.connect("ws://127.0.0.1:9");
        const error = await session.clientize("X").y().catch((e) => e);
        console.log(JSON.stringify({ code: error.code, notStarted: error.notStarted, says: /3 attempts/.test(error.message) && /origin/.test(error.message), state: session.state }));
        process.exit(0);
    """
    assert json.loads(await run_script(source)) == {
        "code": "unavailable",
        "notStarted": True,
        "says": True,
        "state": "closed",
    }


async def test_connect_is_there_at_once_and_refuses_what_can_never_work() -> None:
    source = """
        const of = (f) => { try { f(); return null; } catch (e) { return e.constructor.name; } };
        const out = [of(() => client.connect("no url")), of(() => client.connect("ftp://a/")), of(() => client.connect(".")),
            of(() => client.connect("ws://a/", { codec: "msgpack" })), of(() => client.connect("ws://a/", 7))];
        let dialled = 0;
        class Never { constructor() { dialled++; } }
        const session = client.connect(new URL("http://a/b#c"), { WebSocket: Never });
        const seen = [];
        const stop = session.subscribe((s) => seen.push(s.state));
        const { snapshot } = session;
        await session.close();
        stop();
        const after = await session.call("X.y").catch((e) => e.code);
        const api = session.clientize("X");
        out.push(dialled, seen, Object.isFrozen(snapshot), snapshot !== session.snapshot, after, api.then === undefined && api.toJSON === undefined && api.__proto__ === undefined, typeof api.greetAll);
        const made = { name: "X", methods: { a: { kind: "unary" } } };
        out.push(session.clientize(made) === session.clientize(made));
        const copy = await import(import.meta.resolve(process.argv[1]) + "?copy");
        out.push(new copy.RpcError("aborted") instanceof client.RpcError, {} instanceof client.RpcError);
        class Own extends client.RpcError {}
        out.push(new client.RpcError("aborted") instanceof Own, new Own("aborted") instanceof Own);
        try { client.connect({ auth: 7 }); } catch (e) { out.push(e.message); }
        console.log(JSON.stringify(out));
    """
    from .node import STATIC

    result = json.loads(await run_script(source, (STATIC / "wsrpc.js").as_uri()))
    assert result[:5] == ["TypeError"] * 5
    assert result[5:] == [
        0,
        ["connecting", "closed"],
        True,
        True,
        "cancelled",
        True,
        "function",
        True,
        True,
        False,
        False,
        True,
        'connect(url, options): the URL comes first, such as "."',
    ]
