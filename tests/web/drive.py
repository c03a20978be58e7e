"""`python -m tests.web.drive URL`: the interop service of any server, through wsrpc.js.

It runs in Chromium, by way of a relay that drops the page's origin, or in Node::

    python -m wsrpc.interop.server --port 8765 &
    python -m tests.web.drive ws://127.0.0.1:8765 --in chromium --codec msgpack

Node alone needs no Python: `node tests/web/drive.mjs URL`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import anyio

from .browser import chromium
from .node import ROOT, node_with_websocket, run
from .relay import relay


async def in_chromium(url: str, codec: str, auth: str | None = None, only: str = "") -> list[Any]:
    """Run the cases in a page; a `{title, why, ms}` each."""
    options = json.dumps({"codec": codec, "only": only, **({} if auth is None else {"auth": auth})})
    async with relay(url) as carrier, chromium() as browser:
        page = await browser.page(carrier.url)
        await page.run(
            f"""(async () => {{
                const client = await import("/wsrpc.js");
                const {{ msgpack }} = await import("/wsrpc-msgpack.js");
                const {{ run }} = await import("/interop.js");
                window.results = [];
                run({{ client, msgpack, url: ".", ...{options}, say: (one) => results.push(one) }})
                    .then(() => (window.through = true));
            }})()"""
        )
        while not await page.run("window.through"):
            await anyio.sleep(0.1)
        results: list[Any] = await page.run("results")
        complaints = [
            line
            for line in page.messages
            if not line.startswith("verbose") and "favicon" not in line
        ]
        results.append(
            {
                "title": "the console is silent, but for connections that were cut",
                "why": "; ".join(line for line in complaints if "WebSocket" not in line) or None,
            }
        )
        return results


async def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.web.drive")
    parser.add_argument("url", help="for instance ws://127.0.0.1:8765")
    parser.add_argument("--in", dest="where", choices=["chromium", "node"], default="node")
    parser.add_argument("--codec", choices=["json", "msgpack"], default="json")
    parser.add_argument("--auth-token")
    parser.add_argument("--only", default="", help="words of the cases' titles")
    args = parser.parse_args()
    if args.where == "node":
        auth = [] if args.auth_token is None else ["--auth-token", args.auth_token]
        script = str(ROOT / "tests" / "web" / "drive.mjs")
        command = [node_with_websocket(), script, args.url, "--codec", args.codec]
        code, said = await run(*command, "--only", args.only, *auth, within=600)
        print(said, end="")
        return code
    failed = 0
    for one in await in_chromium(args.url, args.codec, args.auth_token, args.only):
        failed += one["why"] is not None
        print(f"FAIL {one['title']}: {one['why']}" if one["why"] else f"ok   {one['title']}")
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
