"""A real WebKit (WebKitGTK's MiniBrowser), driven by WebDriver; tests skip where there is none.

A page has the methods of Chromium's page in `browser.py`, so that a test can be shown either.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from glob import glob
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from .page import PATIENCE, BrowserPage

KEYS = {
    "Backspace": "\ue003",
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Shift": "\ue008",
    "Control": "\ue009",
    "Alt": "\ue00a",
    "Escape": "\ue00c",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}
# The name that WebDriver gives to a reference to an element.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# WebDriver tells of no console, and an automated WebKit prints none: a page keeps its own messages,
# from the moment that it has loaded.
HEAR = """
    window.heard = [];
    for (const name of ["log", "info", "warn", "error", "debug"]) {
        const given = console[name];
        console[name] = (...said) => { heard.push(`${name}: ${said.join(" ")}`); given.apply(console, said); };
    }
    addEventListener("error", (event) => heard.push(`error: ${event.message}`));
    addEventListener("unhandledrejection", (event) => heard.push(`unhandled: ${event.reason}`));
    addEventListener("securitypolicyviolation", (event) => heard.push(`refused: ${event.blockedURI}`));
"""


class Parts(NamedTuple):
    """The programs that it takes."""

    driver: str
    browser: str
    display: str


def require_webkit() -> Parts:
    """The programs of this machine; the test is skipped where one of them is missing."""
    # Distributions have it on no PATH.
    name = "webkit2gtk-4.*/MiniBrowser"
    driver = shutil.which("WebKitWebDriver")
    found = (*glob(f"/usr/lib*/{name}"), *glob(f"/usr/lib*/*/{name}"))
    browser = next(iter(found), None)
    display = shutil.which("Xvfb")
    if driver is None or browser is None or display is None:
        pytest.skip("no WebKit: apt-get install webkit2gtk-driver xvfb; none of its tests run")
    return Parts(driver, browser, display)


class WebKit:
    """A screen on which pages are opened, each in a browser of its own: nothing is shared."""

    def __init__(
        self, parts: Parts, environment: Mapping[str, str], opened: AsyncExitStack
    ) -> None:
        self._parts = parts
        self._environment = environment
        self._opened = opened

    async def page(
        self,
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        scale: int = 1,
    ) -> Page:
        """Open a page."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        driver = started(
            self._parts.driver,
            f"--port={port}",
            env={**self._environment, "GDK_SCALE": str(scale)},
        )
        await self._opened.enter_async_context(driver)
        with anyio.fail_after(2 * PATIENCE):
            while True:
                with suppress(OSError):
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                    break
                await anyio.sleep(0.02)
        page = Page(port)
        await page.begin(self._parts.browser, dark=dark)
        await page.look(width=width, height=height)
        await page.go(url)
        return page


class Page(BrowserPage):
    """One page.

    Attributes:
        messages: What went to its console before the last look at it.
        requests: URLs that it had asked for by then, without those of WebSockets.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._session = ""
        self.messages: list[str] = []
        self.requests: list[str] = []

    async def begin(self, browser: str, *, dark: bool) -> None:
        """Start the browser."""
        args = ["--automation", "--full-screen", *(["--dark-mode"] if dark else [])]
        wanted = {
            "webkitgtk:browserOptions": {"binary": browser, "args": args},
            "timeouts": {"script": int(4 * PATIENCE * 1000)},
        }
        begun = await self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{begun['sessionId']}"

    async def _ask(self, method: str, path: str, content: object) -> Any:
        """One command, and what it gives."""
        body = json.dumps(content).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answer = bytearray()
        with anyio.fail_after(5 * PATIENCE):
            async with await anyio.connect_tcp("127.0.0.1", self._port) as stream:
                await stream.send(head.encode() + body)
                with suppress(anyio.EndOfStream):
                    while True:
                        answer += await stream.receive()
        value = json.loads(answer.partition(b"\r\n\r\n")[2])["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
        return value

    async def send(self, command: str, **content: Any) -> Any:
        """One command of the session, such as "url"."""
        return await self._ask("POST", f"{self._session}/{command}", content)

    async def look(self, *, width: int, height: int) -> None:
        """The window's size."""
        await self.send("window/rect", width=width, height=height)

    async def go(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        await self.send("url", url=url)
        await self.send("execute/sync", script=HEAR, args=[])

    async def close(self) -> None:
        """Close the window, as a person does."""
        await self._ask("DELETE", f"{self._session}/window", {})

    async def run(self, expression: str) -> Any:
        """The value of an expression, which crosses as JSON; promises are awaited."""
        script = f"""
            const tell = (about) => arguments[0]({{
                ...about,
                heard: window.heard ?? [],
                asked: performance.getEntriesByType("resource").map((one) => one.name),
            }});
            (async () => JSON.stringify([await ({expression})]))().then(
                (value) => tell({{ value }}),
                (error) => tell({{ error: `${{error}} ${{error?.stack}}` }}));
        """
        answer = await self.send("execute/async", script=script, args=[])
        self.messages, self.requests = answer["heard"], answer["asked"]
        if "error" in answer:
            raise AssertionError(f"{expression}: {answer['error']}")
        return json.loads(answer["value"])[0]

    async def _act(self, kind: str, *actions: Mapping[str, Any]) -> None:
        source = {"type": kind, "id": kind, "actions": actions}
        await self.send("actions", actions=[source])

    async def key(self, key: str, *held: str) -> None:
        """Press a key, such as "Enter", "a", or "Enter" with "Control"."""
        values = [KEYS.get(one, one) for one in (*held, key)]
        down = [{"type": "keyDown", "value": value} for value in values]
        up = [{"type": "keyUp", "value": value} for value in reversed(values)]
        await self._act("key", *down, *up)

    async def type(self, text: str) -> None:
        """Type into what has the focus, key by key."""
        await self._act(
            "key",
            *({"type": kind, "value": one} for one in text for kind in ("keyDown", "keyUp")),
        )

    async def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        x, y = await self.run(
            f"""(() => {{
                const one = document.querySelector({json.dumps(selector)});
                one.scrollIntoView({{block: 'center'}});
                const box = one.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2].map(Math.round);
            }})()"""
        )
        await self._act(
            "pointer",
            {"type": "pointerMove", "x": x, "y": y, "duration": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        )

    async def files(self, selector: str, paths: Sequence[str]) -> None:
        """Choose files in a file input."""
        element = await self.send("element", using="css selector", value=selector)
        await self.send(f"element/{element[ELEMENT]}/value", text="\n".join(paths))

    async def screenshot(self) -> bytes:
        """A PNG of what is to be seen."""
        return base64.b64decode(await self._ask("GET", f"{self._session}/screenshot", {}))


@asynccontextmanager
async def webkit() -> AsyncIterator[WebKit]:
    """Browsers that keep nothing; they and their display end with all their processes."""
    parts = require_webkit()
    async with display(parts.display) as environment, AsyncExitStack() as opened:
        yield WebKit(parts, environment, opened)


@asynccontextmanager
async def display(path: str) -> AsyncIterator[dict[str, str]]:
    """A screen that nobody sees; gives the variables that put a browser there."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        about = ("-screen", "0", "1600x2000x24", "-nolisten", "tcp", "-displayfd", "1")
        async with started(path, *about, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with anyio.fail_after(2 * PATIENCE):
                number = await TextReceiveStream(process.stdout).receive()
            yield {
                "DISPLAY": f":{number.strip()}",
                # The language of a page is made of it; "C" is none.
                "LC_ALL": "en_US.UTF-8",
                "HOME": home,
                "XDG_RUNTIME_DIR": home,
                # Its sandbox needs rights that containers withhold.
                "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",
            }


@asynccontextmanager
async def started(
    *command: str,
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> AsyncIterator[Process]:
    """A process, killed with all its processes whatever happens."""
    process = await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
