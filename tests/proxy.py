"""A TCP proxy that resets connections: `async with resetting_proxy(url) as proxy`.

By itself, as `python -m tests.proxy URL`, it prints its own URL, then a line for each reset, and
takes orders on stdin: `lifetime 0.5 4` resets each connection after a time between these, `calm`
no new one any more, `reset` all at once, `silence` carries nothing more over those that are there,
`shut` and `open` are about new ones, `stop` ends it.
"""

from __future__ import annotations

import argparse
import math
import random
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.abc
import anyio.lowlevel

# On closing, send a reset at once in place of what is left.
NO_LINGER = struct.pack("ii", 1, 0)

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class SpentError(Exception):
    """A connection has carried all that it may."""


# Called with the path of the request that came first, and the time.
OnReset = Callable[[str, float], None]


class Proxy:
    """What goes through, and for how long.

    Attributes:
        url: Where clients connect.
        target: Where they get through to; may change.
        resets: Connections reset so far.
        lifetime: Seconds, from and to, after which each new connection is reset; None: never.
        open: Whether new connections get through; others are reset at once.
        budget: Bytes from the server after which each new connection is reset; None: no bound.
        upward: Bytes from the client after which it is; None: no bound.
    """

    def __init__(self, target: str, rng: random.Random, on_reset: OnReset | None) -> None:
        self.url = ""
        self.target = target
        self.resets = 0
        self.lifetime: tuple[float, float] | None = None
        self.open = True
        self.budget: int | None = None
        self.upward: int | None = None
        self._rng = rng
        self._on_reset = on_reset
        self._scopes: set[anyio.CancelScope] = set()
        self._silent: set[anyio.CancelScope] = set()

    @property
    def connections(self) -> int:
        """How many are through at present."""
        return len(self._scopes)

    def limit(self, low: float, high: float) -> None:
        """Reset each connection after a time between these seconds, from now on."""
        self.lifetime = low, high
        for scope in self._scopes:
            scope.deadline = anyio.current_time() + self._rng.uniform(low, high)

    def reset(self) -> None:
        """Reset all connections."""
        for scope in list(self._scopes):
            scope.cancel()

    def silence(self) -> None:
        """Carry nothing more over the connections that are there, and leave them open."""
        self._silent |= self._scopes

    async def handle(self, client: anyio.abc.SocketStream) -> None:
        """Carry one connection."""
        address = urlsplit(self.target)
        assert address.hostname is not None
        assert address.port is not None
        path: list[str] = []
        after = self._rng.uniform(*self.lifetime) if self.lifetime else math.inf
        ends: list[anyio.abc.SocketStream] = [client]
        reset = not self.open
        scope = anyio.CancelScope()
        try:
            if self.open:
                # Cancelled when it has just connected, it would leave an open socket.
                with anyio.CancelScope(shield=True):
                    ends.append(await anyio.connect_tcp(address.hostname, address.port))
                with scope:
                    scope.deadline = anyio.current_time() + after
                    self._scopes.add(scope)
                    try:
                        await self._carry(client, ends[1], path, lambda: scope in self._silent)
                    except* SpentError:
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
                reset = scope.cancelled_caught
        except OSError:
            # Nobody is there: the client is to notice it as it would without a proxy.
            reset = True
        finally:
            self._scopes.discard(scope)
            self._silent.discard(scope)
            if reset:
                self.resets += 1
                for end in ends:
                    raw = end.extra(anyio.abc.SocketAttribute.raw_socket)
                    with suppress(OSError):
                        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                if self._on_reset is not None:
                    self._on_reset(path[0] if path else "", time.monotonic())
            # Cancelled after the first end, it would leave the second one open.
            with anyio.CancelScope(shield=True):
                for end in ends:
                    await anyio.aclose_forcefully(end)

    def _down(self) -> int | None:
        return self.budget

    def _up(self) -> int | None:
        return self.upward

    async def _carry(
        self,
        client: anyio.abc.SocketStream,
        server: anyio.abc.SocketStream,
        path: list[str],
        silent: Callable[[], bool],
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_pump, server, client, group.cancel_scope, None, silent, self._down)
            await _pump(client, server, group.cancel_scope, path, silent, self._up)


async def _pump(
    source: anyio.abc.SocketStream,
    sink: anyio.abc.SocketStream,
    scope: anyio.CancelScope,
    path: list[str] | None,
    silent: Callable[[], bool],
    budget: Callable[[], int | None],
) -> None:
    carried = 0
    with suppress(*GONE):
        while True:
            data = await source.receive()
            most = budget()
            if most is not None and carried + len(data) > most:
                await sink.send(data[: most - carried])
                raise SpentError
            carried += len(data)
            if path is not None and not path:
                path.append(data.split(b" ", 2)[1].decode("ascii", "replace"))
            if not silent():
                await sink.send(data)
    if not silent():
        # After a whole closing handshake there is nothing left to carry.
        scope.cancel()


@asynccontextmanager
async def serving(
    handle: Callable[[anyio.abc.SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    """A listener on the loopback interface, whose connections go to `handle`; its port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        try:
            yield listener.extra(anyio.abc.SocketAttribute.local_port)
        finally:
            group.cancel_scope.cancel()


@asynccontextmanager
async def resetting_proxy(
    target: str, *, seed: int = 0, on_reset: OnReset | None = None
) -> AsyncIterator[Proxy]:
    """A proxy in front of a server on the loopback interface."""
    proxy = Proxy(target, random.Random(seed), on_reset)
    async with serving(proxy.handle) as port:
        proxy.url = urlunsplit(urlsplit(target)._replace(netloc=f"127.0.0.1:{port}"))
        yield proxy


async def _main(target: str, seed: int) -> None:
    def said(path: str, at: float) -> None:
        print("reset", path, at, flush=True)

    async with resetting_proxy(target, seed=seed, on_reset=said) as proxy:
        print(proxy.url, flush=True)
        while True:
            order, *numbers = (await anyio.to_thread.run_sync(sys.stdin.readline)).split() or [""]
            if order == "lifetime":
                proxy.limit(*map(float, numbers))
            elif order == "calm":
                proxy.lifetime = None
            elif order == "reset":
                proxy.reset()
            elif order == "silence":
                proxy.silence()
            elif order in ("open", "shut"):
                proxy.open = order == "open"
            else:
                return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.proxy")
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    anyio.run(_main, arguments.target, arguments.seed)
