"""The example in the browser: one command serves it, and its pages do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import Process

from .browser import Page, chromium, require_chromium

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    """The browser is driven by asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def browser_is_there() -> None:
    require_chromium()


@asynccontextmanager
async def served_example() -> AsyncIterator[tuple[str, Process]]:
    """The example, as its one command serves it."""
    command = [sys.executable, "-u", "-m", "examples.browser", "--port", "0", "--wsrpc-port", "0"]
    with anyio.fail_after(60):
        async with await anyio.open_process(command, stderr=subprocess.STDOUT) as process:
            try:
                yield await address(process), process
            finally:
                process.terminate()
                await process.wait()


async def told(process: Process, pattern: str) -> str:
    """Wait until a program has said what matches the pattern, in one piece or in several."""
    assert process.stdout is not None
    said = ""
    while (found := re.search(pattern, said)) is None:
        said += (await process.stdout.receive()).decode()
    return found.group()


async def address(process: Process) -> str:
    """The address of the pages, as the program says it."""
    return (await told(process, r"http://[^ /\s]+[ /\s]"))[:-1]


async def say(page: Page, text: str) -> None:
    await page.until("!document.querySelector('#send').hidden")
    await page.run("document.querySelector('#text').focus()")
    await page.type(text)
    await page.key("Enter")


async def test_the_seed_in_a_page() -> None:
    """A chat streams, stops at a button, and asks for approval."""
    async with served_example() as (url, process), chromium() as browser:
        page = await browser.page(f"{url}/")
        await page.until_says("#state", "open")
        await say(page, "hello")
        await page.until_says(".theirs", "I read your message")
        await page.click("#stop")
        await page.until_says(".theirs", "stopped")
        await told(process, "an answer has ended")
        for answer, outcome in (("no", "Then I keep them."), ("yes", "Forgotten.")):
            await say(page, "forget it")
            await page.until("!document.querySelector('#ask').hidden")
            await page.until_says("#action", "forget 1 messages")
            await page.click(f"#ask button[value={answer}]")
            await page.until_says(".theirs:last-child", outcome)
        assert page.messages == []


async def test_a_stream_fetcher_of_the_page_fetches_once_and_gives_twice() -> None:
    async with served_example() as (url, _), chromium() as browser:
        page = await browser.page(f"{url}/tokens.html")
        await page.until_says("#calls", "calls that went to the server: 1")
        for place in ("#first", "#again"):
            await page.until_says(place, "Hello, World!")
        assert page.messages == []


@asynccontextmanager
async def served(*words: str) -> AsyncIterator[str]:
    """Another example, as its one command serves it; gives where its page is."""
    command = [sys.executable, "-u", "-m", *words, "--port", "0"]
    with anyio.fail_after(60):
        async with await anyio.open_process(command, stderr=subprocess.STDOUT) as process:
            try:
                yield await address(process)
            finally:
                process.terminate()
                await process.wait()


async def test_a_page_chats_with_a_model_stops_approves_and_renews_its_token() -> None:
    async with served("examples.ai_chat", "--lifetime", "6") as url, chromium() as browser:
        page = await browser.page(f"{url}/?as=bob")
        await page.until_says("#state", "open")
        await say(page, "hello")
        await page.until_says(".theirs", "I read what")
        await page.click("#stop")
        await page.until_says(".theirs", "— stopped")
        for answer, outcome in (("no", "Then I do not."), ("yes", "It is sent.")):
            await say(page, "send a mail to Cid")
            await page.until("!document.querySelector('#permit').hidden")
            await page.until_says("#action", "send a mail to Cid")
            await page.click(f"#permit button[value={answer}]")
            await page.until_says(".theirs:last-child", outcome)
            await page.until_says(".theirs:last-child small", "tokens, 0.0")
        await page.click("#bill")
        await page.until_says(".theirs:last-child", "permission_denied")
        await page.until("Number(document.querySelector('#renewed').textContent) >= 2")
        await page.until_says("#state", "open")
        assert page.messages == []


async def test_two_windows_see_each_others_cursors_move_and_leave() -> None:
    async with served("examples.cursors") as url, chromium() as browser:
        ann = await browser.page(f"{url}/?as=ann")
        bob = await browser.page(f"{url}/?as=bob")
        for page, other in ((ann, "bob"), (bob, "ann")):
            await page.until_says("#state", "open")
            await page.until(f"!!document.querySelector('.cursor[data-name={other}]')")
        box = await bob.run(
            "(({x, y, width, height}) => [x, y, width, height])(board.getBoundingClientRect())"
        )
        for part in (0.25, 0.5):
            await bob.send(
                "Input.dispatchMouseEvent",
                type="mouseMoved",
                x=box[0] + box[2] * part,
                y=box[1] + box[3] * part,
            )
            at = f"Math.abs(parseFloat(document.querySelector('.cursor').style.left) - {part * 100}) < 1"
            await ann.until(f"document.querySelector('.cursor').style.left && {at}")
        await bob.send("Page.navigate", url="about:blank")
        await ann.until("!document.querySelector('.cursor')")
        assert ann.messages == []
        assert bob.messages == []


async def test_a_dashboard_draws_the_same_prices_for_the_quick_the_slow_and_the_late() -> None:
    async with served("examples.dashboard", "--period", "0.02") as url, chromium() as browser:
        page = await browser.page(f"{url}/")
        await page.until("Number(document.querySelector('#quick')?.dataset.items) > 50")
        await page.click("#late")
        await page.until("Number(document.querySelector('#late-1')?.dataset.items) > 5")
        began = "Number(document.querySelector('#late-1').dataset.began)"
        assert await page.run(f"{began} > 50")
        items = "(name) => Number(document.querySelector(name).dataset.items)"
        assert await page.run(f"(({items})('#slow') < ({items})('#quick') / 2)")
        # Each has a chart with something on it.
        for name in ("quick", "slow", "late-1"):
            drawn = f"""(() => {{
                const canvas = document.querySelector('#{name} canvas');
                const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                return data.data.some((value) => value);
            }})()"""
            await page.until(drawn)
        assert page.messages == []
