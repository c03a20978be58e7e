"""What all browsers' pages have in common, and what each must show of the client."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from typing import Any

import anyio

from .relay import Relay

# Seconds for anything that a page is to do; a busy machine needs more than one would think.
PATIENCE = 30.0

IMPORTS = """
    const client = await import("/wsrpc.js");
    const { msgpack } = await import("/wsrpc-msgpack.js");
"""


class BrowserPage(ABC):
    """A page in a browser.

    Attributes:
        messages: What went to its console, errors that nobody caught included.
    """

    messages: list[str]

    @abstractmethod
    async def run(self, expression: str) -> Any:
        """The value of an expression; promises are awaited."""

    async def until(self, expression: str) -> Any:
        """Wait until an expression gives something true, and give that."""
        try:
            with anyio.fail_after(PATIENCE):
                while not (value := await self.run(expression)):
                    await anyio.sleep(0.02)
        except TimeoutError:
            text = await self.run("document.body?.innerText.slice(0, 1500)")
            said = "\n".join(self.messages)
            raise AssertionError(f"never: {expression}\n{text}\n{said}") from None
        return value

    async def until_says(self, selector: str, words: str) -> None:
        """Wait until an element says some words."""
        await self.until(
            f"document.querySelector({json.dumps(selector)})"
            f"?.innerText.includes({json.dumps(words)})"
        )


async def passes_the_interop_service(page: BrowserPage, codec: str) -> None:
    """Run the whole interop service in a page of a relay."""
    await page.run(
        f"""(async () => {{
            {IMPORTS}
            const {{ run }} = await import("/interop.js");
            run({{ client, msgpack, url: ".", codec: {json.dumps(codec)} }}).then(
                (results) => (window.results = results));
        }})()"""
    )
    while not await page.run("!!window.results"):
        await anyio.sleep(0.5)
    results = await page.run("window.results")
    failed = [f"{one['title']}: {one['why']}" for one in results if one["why"]]
    assert not failed, "\n".join(failed)
    assert len(results) > 50


async def outlives_cuts(
    page: BrowserPage, carrier: Relay, codec: str, seconds: float, seed: int
) -> None:
    """Cut the connections of a page of a relay: nothing is lost, doubled or reordered."""
    await page.run(
        f"""(async () => {{
            {IMPORTS}
            const {{ chaos }} = await import("/chaos.js");
            const codec = {json.dumps(codec)} === "msgpack" ? msgpack : undefined;
            chaos({{ client, url: ".", seconds: {seconds}, codec }}).then(
                (result) => (window.result = JSON.stringify(result)),
                (error) => (window.result = JSON.stringify({{ bad: [String(error)] }})));
        }})()"""
    )
    async with anyio.create_task_group() as group:
        group.start_soon(cuts, carrier, seconds, seed)
        while not await page.run("window.result"):
            await anyio.sleep(0.2)
    judged(await page.run("window.result"))


async def cuts(carrier: Relay, seconds: float, seed: int) -> None:
    """Reset the connections at random moments."""
    rng = random.Random(seed)
    with anyio.move_on_after(seconds):
        while True:
            await anyio.sleep(rng.uniform(0.02, 1.2))
            carrier.cut()


def judged(said: str) -> None:
    """What the chaos came to."""
    result = json.loads(said)
    assert not result["bad"], "\n".join(result["bad"])
    assert result["sameSession"], "the session was lost"
    assert result["resumes"] > 0, "nothing was cut"
    assert min(result["done"].values()) > 0, result["done"]
