"""Floods of what is legal by itself: they end with 4004, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

import wsrpc
from tests.support import Codec, soon, until
from wsrpc.transport.registry import Transport

from .cases import GOOD
from .raw import BINARY, CONTINUATION, PING, PONG, TEXT, raw_link, ws
from .target import guarded


def crumbs(kind: int, message: bytes) -> bytes:
    """A message in a thousand fragments."""
    first = ws(kind, message[:-1], final=False)
    return first + ws(CONTINUATION, b"", final=False) * 1000 + ws(CONTINUATION, message[-1:])


def extension(codec: Codec) -> bytes:
    return b'[["x-a"]]' if codec == "json" else b"\x91\x91\xa3x-a"


FLOODS: dict[str, Callable[[Codec], bytes]] = {
    "pings of WebSocket": lambda codec: ws(PING) * 1000,
    "long pings of WebSocket": lambda codec: ws(PING, b"x" * 125) * 1000,
    "pongs of WebSocket": lambda codec: ws(PONG, b"x") * 1000,
    "crumbs of messages": lambda codec: crumbs(
        TEXT if codec == "json" else BINARY, extension(codec)
    ),
    "tiny messages": lambda codec: ws(TEXT if codec == "json" else BINARY, extension(codec)) * 1000,
}


@pytest.mark.rule("CALM-1", "CALM-2", "CALM-4")
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_closed_with_4004_and_a_friend_does_not_notice(
    flood: str, transport: Transport
) -> None:
    codec: Codec = "msgpack" if "WebSocket" in flood else "json"
    data = FLOODS[flood](codec)
    # A rate that no machine is too slow for.
    few = {"idle_burst": 2000, "idle_rate": 10.0, "ping_rate": 10.0}
    with soon():
        async with guarded(codec, **few) as (listener, friend):
            async with raw_link(listener.url, codec) as link:
                await link.hello(auth=GOOD)
                codes: list[int] = []

                async def listen() -> None:
                    codes.append(await link.closed())

                async with anyio.create_task_group() as group:
                    group.start_soon(listen)
                    for _ in range(20):
                        await friend.call()
                        await link.send_bytes(data)
                # Where the socket is dropped with bytes of the flood unread, the code is lost.
                assert codes in ([4004], [1006])
            await until(lambda: listener.server.stats.closes[4004] == 1)
            await friend.call()


@pytest.mark.rule("CALM-2")
async def test_a_peer_that_pings_and_does_not_read_is_closed_or_made_to_wait(
    transport: Transport,
) -> None:
    with soon():
        async with guarded("json") as (listener, friend):
            async with raw_link(listener.url, "json") as link:
                await link.hello(auth=GOOD)
                with anyio.move_on_after(0.5) as scope:
                    while not listener.server.stats.closes:
                        await link.send_bytes(ws(PING, b"x" * 125) * 100)
                await friend.call()
                # On trio the answers have to go before the next ping is read.
                assert scope.cancelled_caught or listener.server.stats.closes == {4004: 1}


@pytest.mark.rule("SLOT-2", "SLOT-4", "CANCEL-2")
@pytest.mark.parametrize("apart", [False, True], ids=["one message", "two messages"])
async def test_opening_and_cancelling_without_regard_for_slots_runs_no_more_handlers(
    codec: Codec, apart: bool
) -> None:
    live: list[int] = []
    refused = begun = 0

    class Slow:
        @wsrpc.method
        async def wait(self) -> None:
            live.append(1)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
                live.pop()

    limits = wsrpc.Limits(max_calls=8, resume_window=0)
    server = wsrpc.Server([Slow()], limits=limits)
    with soon():
        async with server.listen() as listener, raw_link(listener.url, codec) as link:
            await link.hello()
            most = 0
            for first in range(1, 801, 80):
                ids = range(first, first + 80, 2)
                calls = [["call", id, "Slow.wait", {}] for id in ids]
                cancels = [["cancel", id] for id in ids]
                if apart:
                    await link.send(*calls)
                    await anyio.sleep(0.002)
                    most = max(most, len(live))
                    await link.send(*cancels)
                else:
                    await link.send(
                        *(one for two in zip(calls, cancels, strict=True) for one in two)
                    )
                for _ in ids:
                    frame = await link.next("error")
                    if frame[2]["code"] == "resource_exhausted":
                        assert frame[2]["not_started"]
                        refused += 1
                    else:
                        assert frame[2]["code"] == "cancelled"
                        begun += 1
            assert server.stats.calls_peak <= 8
            assert most <= 8
            await until(lambda: not live and server.stats.calls_live == 0)
    assert refused + begun == 400
    assert refused >= 300


@pytest.mark.rule("ERROR-5")
async def test_unknown_methods_by_the_thousand_take_no_long_look_for_their_names() -> None:
    many = type("Many", (), {f"method_{n}": wsrpc.method(_nothing(n)) for n in range(300)})
    server = wsrpc.Server([many()], limits=wsrpc.Limits(resume_window=0))
    with soon():
        async with server.listen() as listener, raw_link(listener.url, "json") as link:
            await link.hello()
            near = 0
            for id in range(1, 401, 2):
                await link.send(["call", id, f"Many.methods_{id}", {}])
                error = await link.next("error")
                assert error[2]["code"] == "unimplemented"
                near += bool(error[2]["data"]["near"])
    assert 1 <= near < 100


def _nothing(n: int) -> Callable[..., object]:
    async def method(self: object) -> None:
        """Does nothing."""

    method.__name__ = method.__qualname__ = f"method_{n}"
    return method
