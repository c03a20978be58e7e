"""The controllers of the demo's server process."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from pydantic import BaseModel

import wsrpc

from .text import read, tokens_of

__all__ = [
    "Clock",
    "Counts",
    "Digest",
    "Fate",
    "Greeting",
    "Guest",
    "Library",
    "Progress",
    "Quota",
    "QuotaExceeded",
    "Tally",
    "Token",
    "server",
]


class Greeting(BaseModel):
    """A greeting, and the process that it comes from."""

    text: str
    pid: int


class Token(BaseModel):
    """One piece of a text."""

    text: str


class Digest(BaseModel):
    """The counts of an upload that arrived."""

    tokens: int
    size: int
    sha256: str


class Progress(BaseModel):
    """How far a long job has come."""

    done: int
    total: int


class Tally(BaseModel):
    """The words of a text."""

    sections: int
    words: int
    most_common: str


class Quota(BaseModel):
    """How much of something is used up."""

    used: int
    limit: int


class QuotaExceeded(wsrpc.RpcError[Quota]):
    """There is no more of it."""

    # The plain name is left to applications.
    type_name = "wsrpc.demo.QuotaExceeded"

    def __init__(self, quota: Quota) -> None:
        super().__init__("resource_exhausted", "the quota is used up", quota)


class Counts(BaseModel):
    """The server's counts at this moment."""

    streams: int
    links: int


class Fate(BaseModel):
    """The fate of a handler."""

    state: str
    after: float | None = None


class Guest:
    """The controller of the client process."""

    def __init__(self) -> None:
        self.asked = 0

    @wsrpc.method
    async def pid(self) -> int:
        """The id of the process that answers."""
        self.asked += 1
        return os.getpid()


class Library:
    """Sends a text, takes it back, and reads it."""

    @wsrpc.method
    async def greet(self, name: str) -> Greeting:
        """Greet a person."""
        return Greeting(text=f"Hello, {name}!", pid=os.getpid())

    @wsrpc.method
    async def tokens(self) -> AsyncIterator[Token]:
        """The text, word by word."""
        for token in tokens_of(read()):
            yield Token(text=token)

    @wsrpc.method
    async def store(self, tokens: AsyncIterator[Token]) -> Digest:
        """Take a text word by word."""
        digest, count, size = hashlib.sha256(), 0, 0
        async for token in tokens:
            data = token.text.encode()
            digest.update(data)
            count += 1
            size += len(data)
        return Digest(tokens=count, size=size, sha256=digest.hexdigest())

    @wsrpc.method
    async def tally(self, on_progress: Callable[[Progress], Awaitable[None]]) -> Tally:
        """Count the words of the text, section by section, at a pace that eyes can follow."""
        sections = re.split(r"\n(?=#|class |def )", read())
        words: Counter[str] = Counter()
        for number, section in enumerate(sections, 1):
            words.update(word.lower() for word in re.findall(r"[A-Za-z]{4,}", section))
            await on_progress(Progress(done=number, total=len(sections)))
            await anyio.sleep(0.6 / len(sections))
        return Tally(
            sections=len(sections), words=words.total(), most_common=words.most_common(1)[0][0]
        )


class Clock:
    """Handlers that run on until something stops them."""

    def __init__(self) -> None:
        self._fates: dict[str, Fate] = {}

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        """The numbers from 0 to n − 1."""
        for number in range(n):
            yield number

    @wsrpc.method
    async def counts(self) -> Counts:
        """The handlers that run now, and the number of sockets."""
        return Counts(streams=server.stats.generators_open, links=server.stats.links)

    @wsrpc.method
    async def ask_back(self, times: int) -> list[int]:
        """Call the caller."""
        guest = wsrpc.current().session.clientize(Guest)
        return [await guest.pid() for _ in range(times)]

    @wsrpc.method
    async def ticks(self, name: str) -> AsyncIterator[int]:
        """Count without end; `fate` tells how it ended."""
        self._fates[name] = Fate(state="running")
        begin = time.perf_counter()
        try:
            number = 0
            while True:
                yield number
                number += 1
                await anyio.sleep(0.01)
        finally:
            self._fates[name] = Fate(state="finally ran", after=time.perf_counter() - begin)

    @wsrpc.method
    async def sleep(self, name: str, seconds: float) -> None:
        """Sleep; `fate` tells how it ended."""
        self._fates[name] = Fate(state="running")
        begin = time.perf_counter()
        try:
            await anyio.sleep(seconds)
        finally:
            self._fates[name] = Fate(state="stopped", after=time.perf_counter() - begin)

    @wsrpc.method
    async def fate(self, name: str) -> Fate:
        """The fate of a handler."""
        return self._fates.get(name, Fate(state="never ran"))

    @wsrpc.method
    async def metered(self, limit: int) -> AsyncIterator[int]:
        """Count until the quota is used up."""
        for number in range(limit):
            yield number
        raise QuotaExceeded(Quota(used=limit, limit=limit))


server = wsrpc.Server([Library(), Clock()])
