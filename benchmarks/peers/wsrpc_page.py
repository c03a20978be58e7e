"""wsrpc.js in a page of Chromium, against the server of the peer `wsrpc`.

By itself, `python -m benchmarks.peers.wsrpc_page URL` is the client's process: it loads the page
that the server serves, and hands it the requests of the harness. The CPU time is that of the
browser's processes together.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil

_WORKS = Path(__file__).with_name("node") / "works.js"


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if not os.environ.get("CHROMIUM") and not any(map(shutil.which, names)):
        raise ImportError("there is no Chromium")
    if importlib.util.find_spec("tests.web.browser") is None:
        raise ImportError("the browser's driver is in tests/")
    if role == "server":
        return [sys.executable, "-m", "benchmarks.peers", "wsrpc", "server"]
    return [sys.executable, "-m", __name__, *address]


def _used(process: psutil.Process) -> float:
    """Seconds of CPU time of all processes below one."""
    total = 0.0
    for one in process.children(recursive=True):
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


async def _client(url: str) -> None:
    from tests.web.browser import chromium

    own = psutil.Process()
    async with chromium() as browser:
        page = await browser.page(url.replace("ws", "http", 1) + "/")
        source = _WORKS.read_text().replace("export ", "") + "; return { begin, works };"
        await page.run(
            f"""(async () => {{
                const made = new Function({json.dumps(source)})();
                window.answer = await made.begin((await import("/wsrpc.js")).connect, ".");
                window.offers = Object.keys(made.works);
            }})()"""
        )
        print(json.dumps({"ready": url, "offers": await page.run("offers")}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            cpu = _used(own)
            answer: dict[str, Any]
            try:
                answer = await page.run(f"answer({line.strip()})")
                answer["cpu"] = _used(own) - cpu
            except Exception as error:  # noqa: BLE001  whatever it is, the report names it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_client(sys.argv[1].split()[0]))
