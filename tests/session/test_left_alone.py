"""A server that asked its clients to stay away is not dialled before its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Peer, until
from tests.support import virtual_anyio_backend as anyio_backend  # noqa: F401
from wsrpc.transport.memory import MemoryLink, memory_link_pair

# Seconds. Longer than any delay of the client's own.
AWAY = 1000.0


class Places:
    """Two addresses. One server asks to be left alone; nothing is served at the other.

    Args:
        how: Whether it asks in a goaway, or as it refuses a handshake.
    """

    def __init__(self, how: str) -> None:
        self.how = how
        self.dials: list[tuple[str, float]] = []
        self.asked: float | None = None
        self.cut = anyio.Event()

    def times(self, place: str) -> list[float]:
        return [when for where, when in self.dials if where == place]

    @asynccontextmanager
    async def open_link(self, url: str, *args: Any, **options: Any) -> AsyncIterator[MemoryLink]:
        place = url.removeprefix("ws://")[0]
        self.dials.append((place, anyio.current_time()))
        if self.dials[1:]:
            error = wsrpc.ConnectError("refused")
            if place == "a" and self.asked is None:
                error.retry_after = AWAY
                self.asked = anyio.current_time()
            raise error
        accepting, connecting = memory_link_pair("wsrpc.v1.json")
        async with anyio.create_task_group() as group:
            group.start_soon(self.serve, Peer(accepting))
            yield connecting
            group.cancel_scope.cancel()

    async def serve(self, peer: Peer) -> None:
        hello = {"version": 1, "session": "s", "window": 32}
        await peer.expect("hello")
        await peer.send(["hello", {**hello, "token": "t", "resume_window": 10_000_000}])
        [_, id, *_] = await peer.expect("call")
        goaway = {"last_id": id, "grace": 10_000_000}
        if self.how == "goaway":
            goaway["reconnect_after"] = int(AWAY * 1000)
            self.asked = anyio.current_time()
        await peer.send(["goaway", goaway])
        await self.cut.wait()
        peer.link.abort()


@pytest.mark.rule("RETRY-2", "DRAIN-3")
@pytest.mark.parametrize("how", ["goaway", "retry_after"])
async def test_a_server_that_asked_to_be_left_alone_is_dialled_by_no_new_session(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even after the session that it still has lost its link, and was due there soon."""
    places, known = Places(how), 0
    monkeypatch.setattr("wsrpc.client.open_link", places.open_link)
    with anyio.fail_after(10 * AWAY):
        async with wsrpc.connect(["ws://a", "ws://b"]) as session:
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    with suppress(wsrpc.ConnectionLost):
                        await session.clientize("Work").wait()

                group.start_soon(call)
                await until(lambda: places.asked is not None and bool(places.times("b")))
                known = len(places.times("a"))
                places.cut.set()
                while len(places.times("a")) < known + 2:
                    await anyio.sleep(0.1)
                group.cancel_scope.cancel()
    assert places.asked is not None
    back, anew = places.times("a")[known:]
    # The old session was tried there at once; a new one waited, and tried the other address.
    assert back < places.asked + AWAY / 10
    assert anew >= places.asked + AWAY
    assert len([when for when in places.times("b") if when < anew]) > 10
