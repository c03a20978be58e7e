"""The client and the explorer in Firefox, where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

import wsrpc
from wsrpc.interop.service import Interop, interop_server

from ..support import Codec
from .firefox import Firefox, firefox, require_firefox
from .page import outlives_cuts, passes_the_interop_service
from .relay import Relay, relay
from .showcase import Forms, Writer

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def browser_is_there() -> None:
    require_firefox()


@asynccontextmanager
async def in_firefox() -> AsyncIterator[tuple[Firefox, Relay]]:
    """A page of the interop server, and the relay by which it gets there."""
    async with (
        interop_server().listen(port=0) as listener,
        relay(listener.url) as carrier,
        firefox() as page,
    ):
        await page.open(carrier.url)
        yield page, carrier


async def test_the_client_passes_the_interop_service_in_firefox(codec: Codec) -> None:
    with anyio.fail_after(400):
        async with in_firefox() as (page, _):
            await passes_the_interop_service(page, codec)


async def test_cuts_lose_double_and_reorder_nothing_in_firefox(codec: Codec) -> None:
    with anyio.fail_after(200):
        async with in_firefox() as (page, carrier):
            await outlives_cuts(page, carrier, codec, 8, seed=4)


async def test_a_stream_is_begun_cut_continued_and_stopped_in_firefox() -> None:
    server = wsrpc.Server([Writer(), Forms(), Interop()], explorer=True)
    with anyio.fail_after(240):
        async with server.listen() as listener, firefox() as page:
            link = "Interop.count?%7B%22n%22%3A5000%2C%22delay%22%3A0.02%7D"
            await page.open(f"{listener.http_url}#{link}")
            await page.until_says("h1", "Interop.count")
            await page.press("Control", "Enter")
            await page.until("document.querySelectorAll('.items li').length > 3")
            await page.run("document.querySelector('#cut').click()")
            await page.until_says("#state", "resumed 1×")
            await page.press("Escape")
            await page.until_says(".out .what", "cleaned up after")
            rows = await page.run(
                "[...document.querySelectorAll('.items code')].map((one) => Number(one.innerText))"
            )
            assert rows == list(range(len(rows)))
            assert server.snapshot().calls_live == 0
            await page.press("/")
            for key in "greet":
                await page.press(key)
            await page.press("Enter")
            await page.until_says("h1", "Writer.greet")
            await page.run("document.querySelector('main input').focus()")
            for key in "Ada":
                await page.press(key)
            await page.press("Enter")
            await page.until_says(".out", '"Hello, Ada!"')
            assert page.messages == []


@pytest.mark.rule("BROWSER-4")
async def test_a_page_that_is_left_in_firefox_holds_no_call_at_the_server() -> None:
    server = interop_server()
    with anyio.fail_after(120):
        async with server.listen(port=0) as listener, relay(listener.url) as carrier:
            async with firefox() as page:
                await page.open(carrier.url)
                await page.run(
                    """(async () => {
                        const client = await import("/wsrpc.js");
                        const session = client.connect(".");
                        await session.clientize("Interop").count({ n: 1000, delay: 1 }).next();
                    })()"""
                )
                assert server.snapshot().calls_live == 1
                await page.open(carrier.url + "elsewhere")
                while server.snapshot().sessions > server.snapshot().detached:
                    await anyio.sleep(0.02)
                # Firefox closes sockets with 1001 by itself before it tells the page.
                assert set(server.snapshot().closes) <= {1000, 1001, 4000}
