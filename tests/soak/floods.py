"""Strangers flood a server in six ways; a good client beside them sees no error, and is served in time.

The strangers live in a process of their own, one kind at a time. They ignore slots and rates, and come
back when they are sent away.
"""

from __future__ import annotations

import argparse
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import count
from time import perf_counter

import anyio

import wsrpc
from tests.hostile.raw import PING, TEXT, RawLink, raw_link, ws

from .service import Soak
from .support import Verdict, child, main
from .usage import Usage, many_files

__all__ = ["floods"]

# Seconds for which the floods without a number last, and that the server has to come to rest.
LASTS = 4.0
REST = 10.0

# The server's `Limits.max_calls`, and the good client's own calls.
MOST_HANDLERS = 256 + 2


# ------------------------------------------------------------------------------------ the strangers


async def calls(url: str, frames: Callable[[int], list[list[object]]], n: int) -> None:
    """So many calls, on as many connections as it takes."""
    sent = 0
    while sent < n:
        async with raw_link(url, "json") as link, anyio.create_task_group() as group:
            await link.hello()
            group.start_soon(until_closed, link, group.cancel_scope)
            for id in count(1, 200):
                await link.send(*(one for k in range(id, id + 200, 2) for one in frames(k)))
                sent += 100
                if sent >= n:
                    break
            group.cancel_scope.cancel()


async def until_closed(link: RawLink, scope: anyio.CancelScope) -> None:
    await link.closed()
    scope.cancel()


async def open_and_cancel(url: str) -> None:
    def frames(id: int) -> list[list[object]]:
        return [["call", id, "Soak.nap", {"seconds": 60}], ["cancel", id]]

    await calls(url, frames, 10_000)


async def failing(url: str) -> None:
    def frames(id: int) -> list[list[object]]:
        return [["call", id, "Soak.nap", {"seconds": "long"}]]

    await calls(url, frames, 10_000)


async def resets(url: str) -> None:
    host, _, port = url.removeprefix("ws://").rstrip("/").partition(":")
    for n in range(10_000):
        stranger = socket.create_connection((host, int(port)))
        if n % 2:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stranger.close()


async def messages(url: str, data: bytes) -> None:
    """The same bytes again and again, on a new connection where one is closed."""
    with anyio.move_on_after(LASTS):
        while True:
            async with raw_link(url, "json") as link, anyio.create_task_group() as group:
                await link.hello()
                group.start_soon(until_closed, link, group.cancel_scope)
                while True:
                    await link.send_bytes(data)


async def tiny_frames(url: str) -> None:
    await messages(url, ws(TEXT, b'[["x-a"]]') * 100)


async def pings(url: str) -> None:
    await messages(url, ws(PING, b"x") * 100)


async def slow_handshakes(url: str) -> None:
    host, _, port = url.removeprefix("ws://").rstrip("/").partition(":")

    async def one() -> None:
        try:
            async with await anyio.connect_tcp(host, int(port)) as stream:
                for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n":
                    await stream.send(bytes([byte]))
                    await anyio.sleep(0.1)
        except (OSError, anyio.BrokenResourceError):
            # It was sent away.
            return

    with anyio.move_on_after(LASTS):
        async with anyio.create_task_group() as group:
            for _ in range(500):
                group.start_soon(one)


KINDS: dict[str, Callable[[str], Awaitable[None]]] = {
    "10,000 calls that are opened and cancelled": open_and_cancel,
    "10,000 calls that fail": failing,
    "10,000 connections that are reset": resets,
    "tiny frames": tiny_frames,
    "pings": pings,
    "500 slow handshakes": slow_handshakes,
}


async def attack(kind: str, url: str) -> None:
    """What the process of the strangers does."""
    print("begun", flush=True)
    await KINDS[kind](url)
    print("done", flush=True)


# ------------------------------------------------------------------------------------ the good client


class Good:
    """Somebody who calls every few milliseconds."""

    def __init__(self, session: wsrpc.Session) -> None:
        self._soak = session.clientize(Soak, timeout=10)
        self.took: list[float] = []
        self.errors: list[str] = []
        self.most_handlers = 0

    async def call(self) -> None:
        for n in count():
            begin = perf_counter()
            try:
                await self._soak.echo(n)
            except wsrpc.WsrpcError as error:
                self.errors.append(repr(error))
            self.took.append(perf_counter() - begin)
            if n % 10 == 0:
                now = await self._soak.counts()
                self.most_handlers = max(self.most_handlers, now["calls"])
            await anyio.sleep(0.005)

    def p99(self) -> float:
        """Of the calls since the last time; seconds."""
        took, self.took = sorted(self.took), []
        return took[len(took) * 99 // 100]


async def floods() -> bool:
    """Show it; returns whether all is well."""
    verdict = Verdict(f"floods: {len(KINDS)} kinds, one after the other, beside a good client", 1)
    many_files()
    options = ("--max-calls", 256, "--resume-window", 0)
    async with child(verdict, "tests.soak.service", *options) as server:
        async with wsrpc.connect(server.url) as session, anyio.create_task_group() as group:
            soak, good = session.clientize(Soak), Good(session)
            group.start_soon(good.call)
            await anyio.sleep(1)
            good.p99()
            await anyio.sleep(2)
            quiet = good.p99()
            allowed = max(5 * quiet, 0.1)
            verdict.check("p99 when it is quiet", f"{quiet * 1000:.1f} ms", good=True)
            before = await soak.usage()
            for kind in KINDS:
                async with child(
                    verdict, "tests.soak.floods", "--attack", kind, server.url
                ) as other:
                    with anyio.fail_after(120):
                        while "done" not in other.lines:
                            await anyio.sleep(0.01)
                p99 = good.p99()
                told = f"(at most {allowed * 1000:.0f} ms)"
                verdict.check(f"p99 beside {kind}", f"{p99 * 1000:.1f} ms", p99 <= allowed, told)
            verdict.zero("errors of the good client", len(good.errors))
            most = good.most_handlers
            verdict.check(
                "most handlers", most, most <= MOST_HANDLERS, f"(at most {MOST_HANDLERS})"
            )
            await at_rest(verdict, soak, before)
            group.cancel_scope.cancel()
    return verdict.end()


async def at_rest(verdict: Verdict, soak: Soak, before: Usage) -> None:
    """The server holds what it held, within 10 s."""
    with anyio.move_on_after(REST):
        while (await soak.counts())["links"] > 1:
            await anyio.sleep(0.1)
    now, after = await soak.counts(), await soak.usage()
    verdict.check("links afterwards", now["links"], now["links"] == 1, "(the good client's)")
    grown = after["memory"] - before["memory"]
    verdict.check("memory grew by", f"{grown:.1f} MiB", grown <= 32, "(at most 32)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--attack", choices=KINDS)
    parser.add_argument("url", nargs="?")
    options, _ = parser.parse_known_args()
    if options.attack:
        anyio.run(attack, options.attack, options.url)
    else:
        main(floods)
