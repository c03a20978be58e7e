"""A real Firefox, driven by WebDriver BiDi over `websockets`; tests skip where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .page import PATIENCE, BrowserPage

# No request to anyone but the tested page.
SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "Control": "\ue009"}


def require_firefox() -> str:
    """The browser of this machine; the test is skipped where there is none."""
    path = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("no Firefox: set FIREFOX or apt-get install firefox-esr; none of its tests run")
    return path


class Firefox(BrowserPage):
    """A running browser with one page.

    Attributes:
        messages: What went to the page's console, errors that nobody caught included.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._context = ""
        self.messages: list[str] = []

    async def read(self) -> None:
        """Take what the browser says, until it is gone."""
        with suppress(ConnectionClosed):
            async for text in self._socket:
                said = json.loads(text)
                future = self._waiting.pop(said.get("id") or 0, None)
                if future is not None and not future.done():
                    future.set_result(said)
                elif said.get("method") == "log.entryAdded":
                    entry = said["params"]
                    self.messages.append(f"{entry['level']}: {entry['text']}")

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and what it gives."""
        self._last += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = future
        command = {"id": self._last, "method": method, "params": params}
        await self._socket.send(json.dumps(command))
        with anyio.fail_after(2 * PATIENCE):
            answer = await future
        if answer["type"] == "error":
            raise RuntimeError(f"{method}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        if not self._context:
            await self.send("session.new", capabilities={})
            await self.send("session.subscribe", events=["log.entryAdded"])
            tree = await self.send("browsingContext.getTree")
            self._context = tree["contexts"][0]["context"]
        await self.send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def run(self, expression: str) -> Any:
        """The value of an expression, which crosses as JSON; promises are awaited."""
        answer = await self.send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['text']}")
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    async def press(self, *keys: str) -> None:
        """Press keys together, such as "Control" and "Enter"; or one after the other by calls."""
        values = [KEYS.get(key, key) for key in keys]
        actions = [{"type": "keyDown", "value": value} for value in values]
        actions += [{"type": "keyUp", "value": value} for value in reversed(values)]
        await self.send(
            "input.performActions",
            context=self._context,
            actions=[{"type": "key", "id": "keys", "actions": actions}],
        )


@asynccontextmanager
async def firefox() -> AsyncIterator[Firefox]:
    """A browser with an empty profile, killed with all its processes whatever happens."""
    path = require_firefox()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in SETTINGS.items()]
        await anyio.Path(profile, "user.js").write_text("".join(lines))
        process = await asyncio.create_subprocess_exec(
            path,
            "--headless",
            "--no-remote",
            "--remote-debugging-port=0",
            "--profile",
            profile,
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stderr is not None
        tasks: list[asyncio.Task[Any]] = []
        try:
            with anyio.fail_after(4 * PATIENCE):
                url = await _address(process.stderr)
                socket = await connect(f"{url}/session", max_size=None, ping_interval=None)
            tasks.append(asyncio.create_task(process.stderr.read()))
            async with socket:
                browser = Firefox(socket)
                tasks.append(asyncio.create_task(browser.read()))
                yield browser
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _address(output: asyncio.StreamReader) -> str:
    """Where the browser takes commands, by what it says when it starts."""
    async for line in output:
        if b"WebDriver BiDi listening on" in line:
            return line.split()[-1].decode()
    raise RuntimeError("Firefox ended before it took commands")
