"""What applications may rely on beside the wire: misuse, streams, closing, and other runtimes' ways in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsrpc.interop.service import interop_server
from wsrpc.limits import Limits

from .node import ROOT, STATIC, node_with_websocket, run, run_script

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


BEGIN = """
const session = client.connect(process.argv[1]);
const interop = session.clientize("Interop");
const of = (p) => p.then((v) => v, (e) => e.code ?? e.constructor.name);
const out = [];
const end = async () => { console.log(JSON.stringify(out)); await session.close(); process.exit(0); };
"""


async def told(source: str) -> list[Any]:
    """What a script found out about itself against the interop service."""
    async with interop_server().listen(port=0) as listener:
        said = await run_script(f"{BEGIN}{source}\nawait end();", listener.url)
    result: list[Any] = json.loads(said.splitlines()[-1])
    return result


async def test_a_stream_is_iterated_over_once_and_settles_once() -> None:
    assert await told(
        """
        const stream = interop.count({ n: 3 });
        for await (const _ of stream) break;
        out.push(await of((async () => { for await (const _ of stream); })()));
        const whole = interop.count({ n: 3 });
        out.push(await whole.collect(), (await whole.done) ?? null, (await whole.next()).done);
        const failing = interop.failAfter({ n: 1 });
        out.push(await of(failing.collect()), await of(failing.done));
        const reader = interop.count({ n: 2 }).readable().getReader();
        out.push((await reader.read()).value, (await reader.read()).value, (await reader.read()).done);
        """
    ) == ["TypeError", [0, 1, 2], None, True, "aborted", "aborted", 0, 1, True]


async def test_calls_that_expire_while_there_is_no_connection_leave_nothing_behind() -> None:
    assert await told(
        """
        const away = client.connect("ws://127.0.0.1:9", { auth: () => new Promise(() => {}) });
        const codes = await Promise.all(Array.from({ length: 50 }, () => of(away.call("X.y", {}, { timeout: 20 }))));
        out.push([...new Set(codes)], away._.waiting.length, away._.waitingBytes);
        const error = await away.call("X.y", {}, { timeout: 5 }).catch((e) => e);
        out.push(error.notStarted, /no connection/.test(error.message));
        await away.close();
        """
    ) == [["deadline_exceeded"], 0, 0, True, True]


async def test_a_call_that_waits_for_a_slot_says_who_holds_them() -> None:
    assert await told(
        """
        const streams = Array.from({ length: 256 }, () => interop.forever({ delay: 0 }));
        let error;
        // Until each has its first items, the message counts fewer.
        do error = await interop.echo({ value: 1 }, { timeout: 100 }).catch((e) => e);
        while (!/256 open, 256 unread/.test(error.message));
        out.push(error.code);
        for (const stream of streams) stream.cancel();
        out.push(await interop.echo({ value: 1 }));
        """
    ) == ["deadline_exceeded", 1]


async def test_closing_with_a_drain_lets_calls_end_and_takes_no_new_ones() -> None:
    assert await told(
        """
        await session.ready();
        const slow = interop.sleep({ seconds: 0.3 });
        const closing = session.close({ drain: 5000 });
        out.push(await of(session.call("Interop.echo", { value: 1 })), await slow);
        await closing;
        out.push(session.state);
        """
    ) == ["cancelled", None, "closed"]


@pytest.mark.rule("BROWSER-7", "SLOT-3")
async def test_what_a_handler_calls_carries_its_call_and_never_waits_for_a_slot() -> None:
    async with interop_server(limits=Limits(max_calls=8)).listen(port=0) as listener:
        said = await run_script(
            """
            const seen = [];
            const nested = async ({ depth }, ctx) => {
                try { return depth === 0 ? 0 : 1 + (await ctx.clientize("Interop").nested({ depth: depth - 1 })); }
                catch (e) { seen.push([e.code, e.notStarted]); throw e; }
            };
            const session = client.connect(process.argv[1], { controllers: { Interop: { nested } } });
            const fits = await session.call("Interop.nested", { depth: 10 });
            const ring = await session.call("Interop.nested", { depth: 50 }, { timeout: 10000 }).catch((e) => e.code);
            console.log(JSON.stringify([fits, ring, seen[0], await session.call("Interop.echo", { value: 1 })]));
            process.exit(0);
            """,
            listener.url,
        )
    assert json.loads(said) == [10, "resource_exhausted", ["resource_exhausted", True], 1]


async def test_callbacks_that_nobody_awaits_end_with_their_call() -> None:
    assert await told(
        """
        process.on("unhandledRejection", (e) => out.push(String(e)));
        const seen = [];
        out.push(await interop.progress({ n: 3, on_progress: async (i) => { seen.push(i); await sleep(1); } }), seen);
        await sleep(50);
        """
    ) == [3, [1, 2, 3]]


async def test_a_subscriber_is_told_at_once_and_after_each_change() -> None:
    assert await told(
        """
        const states = [];
        const stop = session.subscribe(({ state, resumes }) => states.push(`${state} ${resumes}`));
        await session.ready();
        session.cut();
        while (session.resumes < 1) await sleep(5);
        stop();
        out.push(states[0], states.includes("lost 0"), states.at(-1), Object.isFrozen(session.snapshot));
        """
    ) == ["connecting 0", True, "open 1", True]


async def test_a_value_that_is_being_sent_is_given_up_with_its_call() -> None:
    assert await told(
        """
        const stop = new AbortController();
        const big = interop.echo({ value: "z".repeat(8e6) }, { signal: stop.signal }).catch((e) => e.name);
        await sleep(5);
        stop.abort();
        out.push(await big, await interop.echo({ value: 1 }));
        const error = await interop.echo({ value: "x".repeat(20e6) }).catch((e) => e);
        out.push(error.code, error.notStarted, session._.wire.held, session._.wire.used);
        """
    ) == ["AbortError", 1, "resource_exhausted", True, 0, 0]


async def test_fresh_credentials_are_shown_on_the_live_connection() -> None:
    async with interop_server(auth_token="secret", auth_expires=3).listen(port=0) as listener:
        said = await run_script(
            """
            const session = client.connect(process.argv[1], { auth: () => "secret" });
            await session.ready();
            await session.refreshAuth();
            await sleep(2000);
            console.log(JSON.stringify([session.links, (await session.call("Interop.whoami")).principal]));
            process.exit(0);
            """,
            listener.url,
        )
    assert json.loads(said) == [1, "token"]


async def test_the_module_can_be_required() -> None:
    script = f"console.log(typeof require({str(STATIC / 'wsrpc.js')!r}).connect)"
    code, said = await run(node_with_websocket(), "--no-warnings", "--eval", script)
    assert (code, said.strip()) == (0, "function")


async def test_an_item_that_cannot_travel_fails_the_call_and_closes_its_producer() -> None:
    assert await told(
        """
        let closed = 0;
        async function* items(bad) { try { yield 1; yield bad; yield 3; } finally { closed++; } }
        for (const bad of [NaN, "x".repeat(40e6), () => 1]) {
            const error = await interop.sum({ numbers: items(bad) }).catch((e) => e);
            out.push(error instanceof client.RpcError, error.code, error.notStarted);
        }
        out.push(closed);
        """
    ) == [
        *(True, "invalid_argument", False),
        *(True, "resource_exhausted", False),
        *(True, "invalid_argument", False),
        3,
    ]


async def test_what_a_handler_yields_and_cannot_travel_closes_its_generator() -> None:
    assert await told(
        """
        console.error = () => {};
        let closed = 0;
        session.expose({ Interop: { async *echo() { try { yield NaN; } finally { closed++; } }, nested: () => 0 } });
        out.push(await of(interop.callBack({ times: 1 })));
        await sleep(20);
        out.push(closed);
        """
    ) == ["internal", 1]


async def test_options_of_connect_that_cannot_be_are_refused_at_once() -> None:
    assert await told(
        """
        const wrong = [{ timeout: -1 }, { timeout: "5" }, { window: -1 }, { maxCalls: 1 }, { maxValue: 5 }, { metadata: { a: 1 } }, { trace: 1 },
            { fallback: 1 }, { timeOut: 1 }, { codec: "json" }, { codec: {} }, { reconnect: "no" }, { controllers: 5 }, { controllers: [{}] }, null, []];
        for (const options of wrong) {
            try {
                client.connect(process.argv[1], options);
                out.push(options);
            } catch (error) {
                if (!(error instanceof TypeError)) out.push(String(error));
            }
        }
        const fine = { timeout: null, auth: undefined, reflection: false, window: 0, maxCalls: 8, maxValue: 65536, controllers: {}, trace: undefined };
        out.push(await client.connect(process.argv[1], fine).call("Interop.echo", { value: 1 }));
        """
    ) == [1]


async def test_credentials_that_are_on_their_way_are_not_wanted_after_the_close() -> None:
    assert await told(
        """
        let aborted = false;
        const away = client.connect("ws://127.0.0.1:9", { auth: ({ signal }) => new Promise(() => signal.addEventListener("abort", () => (aborted = true))) });
        await sleep(10);
        await away.close();
        out.push(aborted);
        """
    ) == [True]


async def test_integers_beyond_2_to_the_53_break_nothing_in_messagepack() -> None:
    """In limits they are large, in a credit they are too many."""
    said = await run_script(
        """
        console.error = (...all) => console.log("complained", ...all);
        const codes = [];
        class Far {
            constructor() { this.protocol = "wsrpc.v1.msgpack"; this.bufferedAmount = 0; queueMicrotask(() => { this.readyState = 1; this.onopen(); }); }
            send(data) {
                const frames = msgpack.decode(data);
                if (frames[0][0] === "hello") this.say(["hello", { version: 1, window: 4, limits: { max_batch: 2n ** 60n, max_calls: 2n ** 60n, max_value: null } }], ["call", 2, "A.items", {}]);
            }
            say(...frames) { queueMicrotask(() => this.onmessage({ data: msgpack.encode(frames).buffer })); }
            close(code) { codes.push(code); this.readyState = 3; }
        }
        let far;
        const session = client.connect("ws://x", { codec: msgpack, reconnect: false, WebSocket: class extends Far { constructor(...a) { super(...a); far = this; } }, controllers: { A: { async *items() { await sleep(1000); } } } });
        await session.ready();
        far.say(["credit", 2, 2n ** 63n]);
        await sleep(20);
        console.log(JSON.stringify([session.state, codes]));
        process.exit(0);
        """
    )
    assert json.loads(said) == ["closed", [4505]]


async def test_a_call_of_the_server_runs_no_getter_and_a_blob_is_no_value() -> None:
    assert await told(
        """
        console.error = () => {};
        let ran = 0;
        class Base { echo() { return new Blob(["lost"]); } }
        class Mine extends Base { get nested() { ran++; throw new Error("run"); } }
        session.expose({ Interop: new Mine() });
        out.push(await of(interop.callBack({ times: 1 })), await of(interop.nested({ depth: 1 })), ran);
        out.push(await of(interop.echo({ value: [new Blob(["lost"])] })), session.state);
        """
    ) == ["internal", "unimplemented", 0, "invalid_argument", "open"]


async def test_a_socket_that_closes_without_a_code_is_a_lost_connection() -> None:
    """As Deno tells of a connection that was reset."""
    assert await told(
        """
        const sockets = [];
        class Codeless extends WebSocket {
          constructor(...about) { super(...about); sockets.push(this); }
        }
        const other = client.connect(process.argv[1], { WebSocket: Codeless });
        const stream = other.stream("Interop.count", { n: 20, delay: 0.02 });
        const all = [(await stream.next()).value];
        sockets[0].onclose({ code: 0, wasClean: false });
        out.push(other.state);
        for await (const item of stream) all.push(item);
        out.push(all.length, other.resumes, other.lastClose);
        await other.close();
        """
    ) == ["lost", 20, 1, {"code": 1006, "reason": ""}]


@pytest.mark.slow
async def test_a_server_that_breaks_each_rule_at_random_gets_a_close_code_and_each_call_an_error() -> (
    None
):
    client, packed = ((STATIC / one).as_uri() for one in ("wsrpc.js", "wsrpc-msgpack.js"))
    script = str(ROOT / "tests" / "web" / "fuzz.mjs")
    code, said = await run(node_with_websocket(), script, client, packed, "1", "700", within=200)
    assert code == 0, said
    result = json.loads(said.splitlines()[-1])
    assert result["faults"] == [], said
    assert min(result["closes"][one] for one in ("4500", "4505")) > 50, result
