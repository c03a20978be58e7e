"""The wire by hand: a client that is nothing but a WebSocket library and `json`.

Every message is an array of frames, and every frame an array that begins with its name. A client in
another language sends and gets the same; protocol.md has the rest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
from anyio.to_thread import run_sync
from websockets.sync.client import connect
from websockets.typing import Subprotocol

import wsrpc


def raw_client(url: str) -> list[Any]:
    frames: list[Any] = []
    with connect(url, subprotocols=[Subprotocol("wsrpc.v1.json")]) as websocket:
        for frame in (
            ["hello", {"version": 1, "window": 8}],
            ["call", 1, "Greeter.greet", {"name": "Ann"}],
            ["call", 3, "Greeter.count", {"up_to": 3}],
        ):
            print("->", json.dumps(frame))
            websocket.send(json.dumps([frame]))
        open_calls = {1, 3}
        while open_calls:
            for frame in json.loads(websocket.recv(timeout=10)):
                print("<-", json.dumps(frame))
                frames.append(frame)
                if frame[0] in ("result", "end", "error"):
                    open_calls.remove(frame[1])
    return frames


class Greeter:
    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    @wsrpc.method
    async def count(self, up_to: int) -> AsyncIterator[int]:
        for number in range(1, up_to + 1):
            yield number


async def main() -> list[Any]:
    async with wsrpc.Server([Greeter()]).listen() as listener:
        return await run_sync(raw_client, listener.url)


if __name__ == "__main__":
    anyio.run(main)
