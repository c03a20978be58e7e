"""Pages that are hidden, stopped and left: what browsers do to timers is not what ends a session."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from wsrpc.interop.service import interop_server
from wsrpc.limits import Limits
from wsrpc.server.server import Server

from .browser import Chromium, Page, chromium
from .relay import Relay, relay

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(
    *flags: str,
    heartbeat: float = 20.0,
) -> AsyncIterator[tuple[Server, Relay, Chromium, Page]]:
    """A page with the client in it, and the server's end."""
    limits = Limits(heartbeat_interval=heartbeat, heartbeat_timeout=min(heartbeat, 10.0))
    server = interop_server(limits=limits)
    async with (
        server.listen(port=0) as listener,
        relay(listener.url) as carrier,
        chromium(*flags) as browser,
    ):
        page = await browser.page(carrier.url)
        await page.run(
            """(async () => {
                const client = await import("/wsrpc.js");
                window.session = client.connect(".");
                await session.ready();
                window.got = [];
                window.count = async (n, delay) => {
                    for await (const i of session.clientize("Interop").count({ n, delay })) got.push(i);
                    window.through = true;
                };
            })()"""
        )
        yield server, carrier, browser, page


async def renderers(browser: Chromium) -> list[int]:
    """The processes that run pages."""
    info = (await browser.send("SystemInfo.getProcessInfo"))["processInfo"]
    return [one["id"] for one in info if one["type"] == "renderer"]


def tell(process: int, number: signal.Signals) -> None:
    """Send a signal. Chromium keeps a renderer in reserve, and may end that one at any time."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


async def all_in_order(page: Page, n: int) -> None:
    with anyio.fail_after(60):
        while not await page.run("!!window.through"):
            await anyio.sleep(0.1)
    assert await page.run("got.length") == n
    assert await page.run("got.every((x, i) => x === i)")


@pytest.mark.rule("HEART-2", "RESUME-4")
async def test_a_page_that_was_stopped_comes_back_and_loses_nothing() -> None:
    async with opened(heartbeat=1.0) as (_, _, browser, page):
        await page.run("void count(60, 0.1)")
        await page.until("got.length > 5")
        stopped = await renderers(browser)
        for process in stopped:
            tell(process, signal.SIGSTOP)
        try:
            await anyio.sleep(4)
        finally:
            for process in stopped:
                tell(process, signal.SIGCONT)
        await all_in_order(page, 60)
        assert await page.run("session.state") == "open"
        assert await page.run("session.resumes") >= 1


@pytest.mark.rule("BROWSER-2", "BROWSER-3")
async def test_a_hidden_page_goes_on_and_comes_back_at_once() -> None:
    async with opened(heartbeat=1.0) as (_, carrier, _, page):
        # Headless, nothing covers a page: it is told that it is hidden, and its timers are slow.
        await page.run(
            """(() => {
                Object.defineProperty(document, "hidden", { get: () => true });
                Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
                const own = setTimeout;
                window.setTimeout = (run, ms, ...more) => own(run, Math.max(ms ?? 0, 30000), ...more);
            })()"""
        )
        await page.run("void count(400, 0.01)")
        await page.until("got.length > 100")
        carrier.cut()
        await all_in_order(page, 400)
        assert await page.run("session.resumes") == 1
        assert await page.run("session.state") == "open"


@pytest.mark.rule("BROWSER-4")
async def test_a_page_that_is_left_closes_with_1000() -> None:
    async with opened("--disable-features=BackForwardCache") as (server, carrier, _, page):
        await page.run("void count(1000, 1)")
        with anyio.fail_after(20):
            while not server.snapshot().calls_live:
                await anyio.sleep(0.02)
            await page.go(carrier.url + "elsewhere")
            while server.snapshot().sessions:
                await anyio.sleep(0.02)
        assert server.snapshot().closes == {1000: 1}


@pytest.mark.rule("BROWSER-4")
async def test_a_page_that_may_come_back_is_detached_at_once_and_goes_on_when_it_does() -> None:
    async with opened() as (server, carrier, _, page):
        await page.run("addEventListener('pageshow', (event) => (window.kept = event.persisted))")
        await page.run("void count(60, 0.1)")
        await page.until("got.length > 5")
        session = await page.run("session.id")
        await page.go(carrier.url + "elsewhere")
        with anyio.fail_after(20):
            while not server.snapshot().detached:
                await anyio.sleep(0.02)
        assert server.snapshot().closes == {4000: 1}
        await page.run("void history.back()")
        await page.until("window.kept")
        await all_in_order(page, 60)
        assert await page.run("[session.id, session.resumes]") == [session, 1]


@pytest.mark.rule("BROWSER-5")
async def test_a_page_that_is_loaded_again_begins_a_new_session() -> None:
    async with opened() as (server, carrier, _, page):
        first = await page.run("session.id")
        await page.go(carrier.url)
        await page.run(
            """(async () => {
                const client = await import("/wsrpc.js");
                window.session = client.connect(".");
                await session.ready();
            })()"""
        )
        assert await page.run("session.id") != first
        assert await page.run("Object.keys({ ...localStorage, ...sessionStorage }).length") == 0
        with anyio.fail_after(20):
            while server.snapshot().sessions > 1:
                await anyio.sleep(0.02)
