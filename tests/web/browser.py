"""A real Chromium, driven by its own protocol over `websockets`, which is there anyway."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .page import PATIENCE, BrowserPage

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--password-store=basic",
    "--use-mock-keychain",
    "--remote-debugging-port=0",
]


KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Tab": (9, ""),
    "Backspace": (8, ""),
    " ": (32, " "),
    "ArrowLeft": (37, ""),
    "ArrowUp": (38, ""),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
}
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}


def chromium_path() -> str | None:
    """The browser of this machine, if it has one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def require_chromium() -> str:
    """The browser; where there is none, tests are skipped, or fail if WSRPC_WEB=require."""
    path = chromium_path()
    if path is None:
        missing = "no Chromium: set CHROMIUM or apt-get install chromium; no browser test runs"
        if os.environ.get("WSRPC_WEB") == "require":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return path


class Chromium:
    """A running browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}

    async def read(self) -> None:
        """Take what the browser says, until it is gone."""
        with suppress(ConnectionClosed):
            async for text in self._socket:
                message = json.loads(text)
                if "id" in message:
                    future = self._waiting.pop(message["id"], None)
                    if future is not None and not future.done():
                        future.set_result(message)
                elif message.get("sessionId") in self._listeners:
                    self._listeners[message["sessionId"]](message["method"], message["params"])

    async def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """One command, and what it gives."""
        self._last += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = future
        command: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session is not None:
            command["sessionId"] = session
        await self._socket.send(json.dumps(command))
        with anyio.fail_after(2 * PATIENCE):
            answer = await future
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def page(
        self,
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        scale: float = 1,
    ) -> Page:
        """Open a page, in a context of its own: no storage is shared with others."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = (
            await self.send("Target.createTarget", url="about:blank", browserContextId=context)
        )["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))[
            "sessionId"
        ]
        page = Page(self, session, target)
        self._listeners[session] = page.hear
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            await self.send(f"{domain}.enable", session)
        await page.look(width=width, height=height, dark=dark, scale=scale)
        await page.go(url)
        return page


class Page(BrowserPage):
    """One page.

    Attributes:
        messages: What went to its console, errors that nobody caught included.
        requests: URLs that it asked for.
    """

    def __init__(self, chromium: Chromium, session: str, target: str) -> None:
        self.chromium = chromium
        self.session = session
        self.target = target
        self.messages: list[str] = []
        self.requests: list[str] = []

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """What the browser tells of the page."""
        if method == "Runtime.consoleAPICalled":
            said = [str(one.get("value", one.get("description"))) for one in params["args"]]
            self.messages.append(f"{params['type']}: {' '.join(said)}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            what = details.get("exception", {}).get("description") or details["text"]
            self.messages.append(f"exception: {what}")
        elif method == "Log.entryAdded":
            entry = params["entry"]
            self.messages.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command for this page."""
        return await self.chromium.send(method, self.session, **params)

    async def look(self, *, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        """The window's size, and what the user prefers."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def go(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def run(self, expression: str) -> Any:
        """The value of an expression; promises are awaited."""
        answer = await self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            what = details.get("exception", {}).get("description") or details["text"]
            raise AssertionError(f"{expression}: {what}")
        return answer["result"].get("value")

    async def key(self, key: str, *held: str) -> None:
        """Press a key, such as "Enter", "a", or "Enter" with "Control"."""
        code, text = KEYS.get(key, (ord(key.upper()) if len(key) == 1 else 0, key))
        modifiers = sum(MODIFIERS[one] for one in held)
        about: dict[str, Any] = {
            "key": key,
            "windowsVirtualKeyCode": code,
            "modifiers": modifiers,
        }
        if text and not modifiers & 6:
            about["text"] = text
        await self.send("Input.dispatchKeyEvent", type="keyDown", **about)
        about.pop("text", None)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        x, y = await self.run(
            f"""(() => {{
                const one = document.querySelector({json.dumps(selector)});
                one.scrollIntoView({{block: 'center'}});
                const box = one.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def files(self, selector: str, paths: Sequence[str]) -> None:
        """Choose files in a file input."""
        root = (await self.send("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.send("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        await self.send("DOM.setFileInputFiles", nodeId=node, files=list(paths))

    async def screenshot(self) -> bytes:
        """A PNG of what is to be seen."""
        return base64.b64decode((await self.send("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Chromium]:
    """A browser with an empty profile, killed with all its processes whatever happens."""
    path = require_chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path,
            *FLAGS,
            *flags,
            f"--user-data-dir={profile}",
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stderr is not None
        waste = reader = None
        try:
            with anyio.fail_after(2 * PATIENCE):
                url = await _address(process.stderr)
                socket = await connect(url, max_size=None, ping_interval=None)
            waste = asyncio.create_task(process.stderr.read())
            async with socket:
                browser = Chromium(socket)
                reader = asyncio.create_task(browser.read())
                yield browser
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            for task in (waste, reader):
                if task is not None:
                    await _ended(task)


async def _ended(task: Awaitable[Any]) -> None:
    with suppress(asyncio.CancelledError, ConnectionClosed):
        await task


async def _address(output: asyncio.StreamReader) -> str:
    """Where the browser takes commands, by what it says when it starts."""
    async for line in output:
        if b"DevTools listening on" in line:
            return line.split()[-1].decode()
    raise RuntimeError("Chromium ended before it took commands")
