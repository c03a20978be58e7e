"""Clients in a process that can be frozen: `python -m tests.soak.consumer URL CLIENTS N PAUSE`.

Prints `begun` when all have their streams, and in the end one line of JSON: for each client what
became of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from functools import partial

import anyio
from typing_extensions import TypedDict

import wsrpc
from wsrpc.interfaces import StateChange

from .service import Ledger, Soak

__all__ = ["Outcome"]


class Outcome(TypedDict):
    """What became of one client.

    Attributes:
        states: Those that its session went through.
        ends: For each of its streams: "whole", or the class and the code of the error it ended in.
        received: Items that came, of both downloads.
        whole: Whether nothing was left out, twice or in another order among them.
        sums: What the server says of the upload: lost, duplicated, reordered.
        goes_on: Whether the session answers calls in the end.
    """

    states: list[str]
    ends: list[str]
    received: int
    whole: bool
    sums: list[int]
    goes_on: bool


class Consumer:
    """One session with its streams."""

    def __init__(self, n: int, pause: float) -> None:
        self.n = n
        self.pause = pause
        self.begun = 0
        self.outcome: Outcome = {
            "states": [],
            "ends": [],
            "received": 0,
            "whole": True,
            "sums": [],
            "goes_on": False,
        }

    def on_state(self, session: wsrpc.Session, change: StateChange) -> None:
        self.outcome["states"].append(change.state)

    async def run(self, url: str) -> None:
        async with wsrpc.connect(url, on_state=self.on_state) as session:
            soak = session.clientize(Soak, timeout=None)
            async with anyio.create_task_group() as group:
                group.start_soon(self.read, soak.download(self.n, self.pause))
                group.start_soon(self.read, soak.exchange(self.numbers()))
                group.start_soon(self.upload, soak)
            self.outcome["goes_on"] = await soak.echo(1) == 1

    async def numbers(self) -> AsyncIterator[int]:
        for i in range(self.n):
            yield i
            await anyio.sleep(self.pause)

    async def read(self, stream: wsrpc.Stream[int]) -> None:
        ledger = Ledger()
        end = "whole"
        try:
            async for item in stream:
                self.begun += item == 0
                self.outcome["received"] += 1
                ledger.note(item)
        except wsrpc.RpcError as error:
            end = f"{type(error).__name__} {error.code}"
        if end == "whole" and ledger.expected < self.n:
            end = "silently"
        self.outcome["ends"].append(end)
        self.outcome["whole"] &= ledger.whole

    async def upload(self, soak: Soak) -> None:
        try:
            self.outcome["sums"] = await soak.upload(self.n, self.numbers())
            self.outcome["ends"].append("whole")
        except wsrpc.RpcError as error:
            self.outcome["ends"].append(f"{type(error).__name__} {error.code}")


async def _main(url: str, clients: int, n: int, pause: float) -> None:
    consumers = [Consumer(n, pause) for _ in range(clients)]
    print("consuming", flush=True)
    async with anyio.create_task_group() as group:
        for one in consumers:
            group.start_soon(one.run, url)
        while not all(one.begun == 2 for one in consumers):
            await anyio.sleep(0.01)
        print("begun", flush=True)
    print("outcomes", json.dumps([one.outcome for one in consumers]), flush=True)


if __name__ == "__main__":
    _url, _clients, _n, _pause = sys.argv[1:]
    anyio.run(partial(_main, _url, int(_clients), int(_n), float(_pause)))
