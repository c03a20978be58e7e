"""The server of the soak programs: `python -m tests.soak.service`; prints its URL."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator

import anyio

import wsrpc

from .usage import Usage, usage

__all__ = ["Ledger", "Soak"]


class Ledger:
    """Checks that numbers come from 0 on, each once and in order."""

    def __init__(self) -> None:
        self.expected = 0
        self.lost: set[int] = set()
        self.duplicated = 0
        self.reordered = 0

    def note(self, number: int) -> None:
        """The next number is here."""
        if number in self.lost:
            self.lost.discard(number)
            self.reordered += 1
        elif number < self.expected:
            self.duplicated += 1
        else:
            self.lost.update(range(self.expected, number))
            self.expected = number + 1

    def sums(self, n: int) -> list[int]:
        """How many of `n` were lost, duplicated, reordered."""
        return [len(self.lost) + max(n - self.expected, 0), self.duplicated, self.reordered]


class Soak:
    """Streams with numbered items, and cleanups that are counted."""

    def __init__(self) -> None:
        self.begun = 0
        self.cleaned = 0

    @wsrpc.method
    async def download(self, n: int, delay: float) -> AsyncIterator[int]:
        """0 to n - 1, with pauses."""
        begin = anyio.current_time()
        for i in range(n):
            await anyio.sleep_until(begin + i * delay)
            yield i

    @wsrpc.method
    async def upload(self, n: int, numbers: AsyncIterator[int]) -> list[int]:
        """How many of `n` numbers were lost, duplicated, reordered."""
        ledger = Ledger()
        async for number in numbers:
            ledger.note(number)
        return ledger.sums(n)

    @wsrpc.method
    async def exchange(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        """What comes, back."""
        async for number in numbers:
            yield number

    @wsrpc.method
    async def slow_cleanup(self, seconds: float) -> AsyncIterator[int]:
        """One item; then nothing, until cancelled, and a cleanup that takes its time."""
        try:
            self.begun += 1
            yield 0
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(seconds)
            self.cleaned += 1

    @wsrpc.method
    async def cleanups(self) -> tuple[int, int]:
        """How many `slow_cleanup` have begun, and how many have cleaned up."""
        return self.begun, self.cleaned

    @wsrpc.method
    async def echo(self, n: int) -> int:
        """The same."""
        return n

    @wsrpc.method
    async def nap(self, seconds: float) -> float:
        """The same, that much later."""
        await anyio.sleep(seconds)
        return seconds

    @wsrpc.method
    async def usage(self) -> Usage:
        """What this process holds."""
        return usage()

    @wsrpc.method
    async def counts(self) -> dict[str, int]:
        """What the server counts."""
        server = server_of[0]
        now = server.snapshot()
        return {"sessions": now.sessions, "detached": now.detached, "links": now.links}


server_of: list[wsrpc.Server] = []


async def _main(port: int, resume_window: float) -> None:
    limits = wsrpc.Limits(max_calls=2048, resume_window=resume_window, max_detached=4096)
    server = wsrpc.Server([Soak()], limits=limits)
    server_of.append(server)
    async with server.listen(port=port) as listener:
        print(listener.url, flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.service")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--resume-window", type=float, default=30.0)
    arguments = parser.parse_args()
    anyio.run(_main, arguments.port, arguments.resume_window)
