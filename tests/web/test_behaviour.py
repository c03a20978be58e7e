"""What applications may rely on beside the wire: misuse, streams, closing, and other runtimes' ways in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsrpc.interop.service import interop_server
from wsrpc.limits import Limits

from .node import STATIC, node_with_websocket, run, run_script

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
        await sleep(300);
        const error = await interop.echo({ value: 1 }, { timeout: 100 }).catch((e) => e);
        out.push(error.code, /256 open, 256 unread/.test(error.message));
        for (const stream of streams) stream.cancel();
        out.push(await interop.echo({ value: 1 }));
        """
    ) == ["deadline_exceeded", True, 1]


async def test_closing_with_a_drain_lets_calls_end_and_takes_no_new_ones() -> None:
    assert await told(
        """
        const slow = interop.sleep({ seconds: 0.3 });
        await sleep(50);
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
