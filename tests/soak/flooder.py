"""One flood in a process of its own: `python -m tests.soak.flooder URL NAME N SEED`.

Bare sockets that know no restraint. Whenever the server closes one of them, another takes its place,
until all has been sent. Prints in the end what came of it, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
from typing_extensions import TypedDict

from tests.hostile.raw import CONTINUATION, PING, PONG, REQUEST, TEXT, RawLink, raw_link, ws

from .usage import many_files

__all__ = ["FLOODS", "Sums"]

# On closing, a reset at once.
NO_LINGER = struct.pack("ii", 1, 0)

GONE = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

CALLS = 100
HANDSHAKE = REQUEST.format(codec="json", more="").encode()
HELLO = ws(TEXT, b'[["hello",{"version":1,"window":32}]]')


class Sums(TypedDict):
    """What came of a flood.

    Attributes:
        sent: Calls, frames or connections.
        links: Connections that it took.
        answers: How calls ended, by error code.
        closes: How the server closed connections, by code.
    """

    sent: int
    links: int
    answers: dict[str, int]
    closes: dict[int, int]


class Flood:
    """What is shared by the connections of one flood.

    Attributes:
        left: How much is still to be sent.
    """

    def __init__(self, url: str, n: int, seed: int) -> None:
        self.url = url
        self.left = n
        self.rng = random.Random(seed)
        self.answers: Counter[str] = Counter()
        self.closes: Counter[int] = Counter()
        self.links = 0

    @asynccontextmanager
    async def link(self) -> AsyncIterator[Stranger]:
        """A connection that has said hello, and whose answers are read."""
        self.links += 1
        async with AsyncExitStack() as stack:
            try:
                raw = await stack.enter_async_context(raw_link(self.url, "json"))
                await raw.hello()
            except (*GONE, AssertionError):
                # There is no room at the moment.
                await anyio.sleep(0.01)
                stranger = Stranger(self, None)
            else:
                stranger = Stranger(self, raw)
                group = await stack.enter_async_context(anyio.create_task_group())
                stack.callback(group.cancel_scope.cancel)
                group.start_soon(stranger.listen)
            yield stranger


class Stranger:
    """One connection of a flood.

    Attributes:
        open: Whether the server has not closed it.
        waits: Calls without an answer.
    """

    def __init__(self, flood: Flood, raw: RawLink | None) -> None:
        self.open = raw is not None
        self.waits = 0
        self._flood = flood
        self._raw = raw
        self._taken = 0
        self._turn = anyio.Lock()
        self._news = anyio.Event()

    async def send(self, data: bytes) -> None:
        assert self._raw is not None
        async with self._turn:
            await self._raw.send_bytes(data)

    async def batch(self, *frames: Any) -> None:
        await self.send(ws(TEXT, json.dumps(frames, separators=(",", ":")).encode()))

    async def listen(self) -> None:
        """Read, so that the server has no reason to wait."""
        assert self._raw is not None
        while True:
            try:
                frame = await self._raw.verdict("result", "error", "message", "end", "credit")
            except TimeoutError:
                continue
            if isinstance(frame, int):
                self._flood.closes[frame] += 1
                self.open = False
            else:
                self._taken += 1
                if frame[0] in ("result", "error"):
                    self.waits -= 1
                    self._flood.answers[frame[2]["code"] if frame[0] == "error" else "ok"] += 1
                if self._taken % 64 == 0:
                    await self.batch(["ack", self._taken])
            self._news.set()
            if not self.open:
                return

    async def answered(self) -> None:
        """Wait until no call is without an answer, or the server has closed."""
        while self.open and self.waits > 0:
            self._news = anyio.Event()
            await self._news.wait()

    async def closed(self) -> None:
        """Wait until the server has closed."""
        while self.open:
            self._news = anyio.Event()
            await self._news.wait()


# ------------------------------------------------------------------------------ within sessions


async def cancels(flood: Flood) -> None:
    """Calls, each cancelled at once, of handlers that take a while to clean up; slots are ignored."""
    while flood.left > 0:
        async with flood.link() as link:
            first = 1
            while link.open and flood.left > 0:
                ids = range(first, first + 2 * CALLS, 2)
                first = ids.stop + ids.stop % 2 - 1
                calls = [["call", id, "Soak.linger", {"cleanup": 0.05}] for id in ids]
                ends = [["cancel", id] for id in ids]
                flood.left -= CALLS
                link.waits += CALLS
                if flood.rng.random() < 0.5:
                    await link.batch(*(one for two in zip(calls, ends, strict=True) for one in two))
                else:
                    await link.batch(*calls)
                    await anyio.sleep(0.002)
                    await link.batch(*ends)
            await link.answered()
            flood.left += link.waits


async def failures(flood: Flood) -> None:
    """Calls that fail, in each way they can, as many at a time as there are slots."""
    bad: list[tuple[str, Any]] = [
        ("Soak.fail", {"how": "rpc"}),
        ("Soak.fail", {"how": "fault"}),
        ("Soak.echo", {"n": "no number"}),
        ("Soak.eccho", {"n": 1}),
        ("Nobody.knows", {}),
    ]
    while flood.left > 0:
        async with flood.link() as link:
            first = 1
            while link.open and flood.left > 0:
                ids = range(first, first + 2 * CALLS, 2)
                first = ids.stop + ids.stop % 2 - 1
                flood.left -= CALLS
                link.waits += CALLS
                await link.batch(*(["call", id, *flood.rng.choice(bad)] for id in ids))
                await link.answered()


async def crumbs(flood: Flood) -> None:
    """Tiny messages without effect, and messages in fragments of a byte."""
    message = b'[["x-a"]]'
    kinds = [
        ws(TEXT, message) * 1000,
        ws(TEXT, b'[["ack",0]]') * 1000,
        ws(TEXT, b"[" + b",".join([b'["x-a"]'] * 1000) + b"]"),
        ws(TEXT, b"[", final=False)
        + ws(CONTINUATION, b" ", final=False) * 998
        + ws(CONTINUATION, message[1:]),
    ]
    await _pour(flood, kinds, 20_000)


async def pings(flood: Flood) -> None:
    """Pings, those of WebSockets and the others."""
    kinds = [
        ws(PING) * 1000,
        ws(PING, b"x" * 125) * 1000,
        ws(PONG, b"x") * 1000,
        ws(TEXT, b"[" + b",".join([b'["ping",1]'] * 1000) + b"]"),
        ws(TEXT, b'[["ping",1]]') * 1000,
    ]
    await _pour(flood, kinds, 5000)


async def _pour(flood: Flood, kinds: list[bytes], most: int) -> None:
    """Send frames by the thousand, and no more over one connection than are likely to be read."""
    while flood.left > 0:
        async with flood.link() as link:
            kind = flood.rng.choice(kinds)
            for _ in range(most // 1000):
                if not link.open or flood.left <= 0:
                    break
                flood.left -= 1000
                await link.send(kind)
            with anyio.move_on_after(1):
                await link.closed()


# ------------------------------------------------------------------------------ before sessions


async def resets(flood: Flood) -> None:
    """Connections that are reset, at once or somewhere on their way to a session."""
    await _crowd(20, flood, _reset)


async def _reset(flood: Flood) -> None:
    parts = urlsplit(flood.url)
    assert parts.hostname
    assert parts.port
    while flood.left > 0:
        flood.left -= 1
        flood.links += 1
        with suppress(*GONE):
            stream = await anyio.connect_tcp(parts.hostname, parts.port)
            raw: socket.socket = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            async with stream:
                how = flood.rng.choice(("at once", "half", "open", "hello", "session"))
                if how == "half":
                    await stream.send(HANDSHAKE[:50])
                elif how != "at once":
                    await stream.send(HANDSHAKE)
                    await stream.receive()
                if how in ("hello", "session"):
                    await stream.send(HELLO)
                if how == "session":
                    await stream.receive()


async def slow(flood: Flood) -> None:
    """Connections that take their time to say who they are, each until the server has closed it."""
    await _crowd(flood.left, flood, _dawdle)


async def _dawdle(flood: Flood) -> None:
    flood.left -= 1
    flood.links += 1
    parts = urlsplit(flood.url)
    assert parts.hostname
    assert parts.port
    with suppress(*GONE):
        async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
            quick = flood.rng.choice((0, 0, 60, len(HANDSHAKE)))
            await stream.send(HANDSHAKE[:quick] or b"G")

            async def drip() -> None:
                for byte in HANDSHAKE[max(quick, 1) :] + HELLO[:-1] * 20:
                    await anyio.sleep(flood.rng.uniform(0.2, 0.8))
                    with suppress(*GONE):
                        await stream.send(bytes([byte]))

            async with anyio.create_task_group() as group:
                group.start_soon(drip)
                with suppress(*GONE):
                    while True:
                        await stream.receive()
                group.cancel_scope.cancel()


async def _crowd(n: int, flood: Flood, one: Callable[[Flood], Coroutine[Any, Any, None]]) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(n):
            group.start_soon(one, flood)


# Each with how many it is at full size.
FLOODS: dict[str, tuple[Callable[[Flood], Coroutine[Any, Any, None]], int]] = {
    "cancels": (cancels, 10_000),
    "failures": (failures, 10_000),
    "resets": (resets, 10_000),
    "crumbs": (crumbs, 300_000),
    "pings": (pings, 100_000),
    "slow": (slow, 500),
}


async def _main(url: str, name: str, n: int, seed: int) -> None:
    many_files()
    # A flood comes from other machines; here it is not to take the processor from who is flooded.
    os.nice(10)
    flood = Flood(url, n, seed)
    print("flooding", flush=True)
    await FLOODS[name][0](flood)
    sums: Sums = {
        "sent": n - flood.left,
        "links": flood.links,
        "answers": dict(flood.answers),
        "closes": dict(flood.closes),
    }
    print("sums", json.dumps(sums), flush=True)


if __name__ == "__main__":
    _url, _name, _n, _seed = sys.argv[1:]
    anyio.run(partial(_main, _url, _name, int(_n), int(_seed)))
