"""Idle clients in a process of their own: `python -m tests.soak.flock URL CLIENTS`.

Prints `there` when all are connected, and one line of JSON when all have lost their connections and
are back, or a minute later.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import anyio
from typing_extensions import TypedDict

import wsrpc
from wsrpc.interfaces import StateChange

from .service import Soak

__all__ = ["Times"]

# Clients that connect at a time, in the beginning.
AT_ONCE = 10


class Times(TypedDict):
    """What the clients did, on the clock that all processes share.

    Attributes:
        tried: When each attempt to connect began, those of the beginning included.
        back: When the session of each went on; no entry for one that was not back.
        errors: Sessions that were lost.
    """

    tried: list[float]
    back: list[float]
    errors: list[str]


class Client:
    """One idle session."""

    def __init__(self, url: str, times: Times) -> None:
        self.url = url
        self.times = times
        self.connected = 0
        self.closing = False

    async def ask_url(self) -> str:
        self.times["tried"].append(time.monotonic())
        return self.url

    def on_state(self, session: wsrpc.Session, change: StateChange) -> None:
        if change.state == "connected":
            self.connected += 1
            if self.connected == 2:
                self.times["back"].append(time.monotonic())
        elif change.state in ("connecting", "closed") and not self.closing:
            self.times["errors"].append(f"{change.state}: {change.cause}")

    async def run(self, door: anyio.Semaphore, done: anyio.Event) -> None:
        await door.acquire()
        async with wsrpc.connect(self.ask_url, on_state=self.on_state) as session:
            await session.clientize(Soak).echo(0)
            door.release()
            await done.wait()
            await session.clientize(Soak, timeout=60).echo(1)
            self.closing = True


async def _main(url: str, clients: int) -> None:
    times: Times = {"tried": [], "back": [], "errors": []}
    flock = [Client(url, times) for _ in range(clients)]
    door, done = anyio.Semaphore(AT_ONCE), anyio.Event()
    print("flock", flush=True)
    async with anyio.create_task_group() as group:
        for one in flock:
            group.start_soon(one.run, door, done)
        while not all(one.connected for one in flock) or door.value < AT_ONCE:
            await anyio.sleep(0.05)
        print("there", flush=True)
        while any(one.connected == 1 for one in flock):
            await anyio.sleep(0.05)
        done.set()
    print("times", json.dumps(times), flush=True)


if __name__ == "__main__":
    _url, _clients = sys.argv[1:]
    anyio.run(partial(_main, _url, int(_clients)))
