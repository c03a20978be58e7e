"""A well-behaved client in a process of its own: `python -m tests.soak.friend URL`.

Calls a hundred times a second over one connection, and beside that comes as a newcomer, twice a
second, from `begin` to `end` on stdin; then it prints how it was served, as one line of JSON.
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

__all__ = ["Served"]

PAUSE = 0.01
BETWEEN_VISITS = 0.5
ATTEMPTS = 5


class Served(TypedDict):
    """How a client was served.

    Attributes:
        times: Seconds that each call took.
        visits: Seconds that each visit took: to connect, to call, to leave.
        errors: What went wrong.
    """

    times: list[float]
    visits: list[float]
    errors: list[str]


class Friend:
    """One client."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.served: Served = {"times": [], "visits": [], "errors": []}

    def on_state(self, session: wsrpc.Session, change: StateChange) -> None:
        if change.state == "connecting":
            self.served["errors"].append(f"connection lost: {change.cause}")

    async def call(self, soak: Soak) -> None:
        while True:
            begin = time.monotonic()
            try:
                assert await soak.echo(7) == 7
            except wsrpc.WsrpcError as error:
                self.served["errors"].append(f"call: {error!r}")
            self.served["times"].append(time.monotonic() - begin)
            await anyio.sleep(PAUSE)

    async def visit(self) -> None:
        while True:
            begin = time.monotonic()
            try:
                await self.come_in()
            except wsrpc.WsrpcError as error:
                self.served["errors"].append(f"visit: {error!r}")
            self.served["visits"].append(time.monotonic() - begin)
            await anyio.sleep(BETWEEN_VISITS)

    async def come_in(self) -> None:
        """One visit; who is turned away because of a crowd at the door comes again, as all should."""
        for attempt in range(ATTEMPTS):
            try:
                async with wsrpc.connect(self.url) as session:
                    assert await session.clientize(Soak).echo(8) == 8
                    return
            except wsrpc.ConnectError:
                if attempt == ATTEMPTS - 1:
                    raise
            await anyio.sleep(BETWEEN_VISITS)

    async def run(self) -> None:
        async with wsrpc.connect(self.url, on_state=self.on_state) as session:
            soak = session.clientize(Soak)
            await soak.echo(0)
            print("there", flush=True)
            while await anyio.to_thread.run_sync(sys.stdin.readline) == "begin\n":
                self.served = {"times": [], "visits": [], "errors": []}
                async with anyio.create_task_group() as group:
                    group.start_soon(self.call, soak)
                    group.start_soon(self.visit)
                    await anyio.to_thread.run_sync(sys.stdin.readline)
                    group.cancel_scope.cancel()
                print("served", json.dumps(self.served), flush=True)


if __name__ == "__main__":
    anyio.run(partial(Friend(sys.argv[1]).run))
