"""Connections that have fallen silent, over real sockets; virtual time has more of it."""

from __future__ import annotations

import time

import anyio
import pytest

import wsrpc
from tests.proxy import resetting_proxy
from tests.support import live, served, soon, turns, until, wire_of
from wsrpc.testing.pairs import connected_pair

# The fastest there is.
FAST = wsrpc.Limits(heartbeat_interval=1, heartbeat_timeout=1, close_timeout=0.1)


class Nap:
    @wsrpc.method
    async def nap(self, seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds


@pytest.mark.rule("HEART-1", "HEART-2")
async def test_both_ends_find_out_that_a_connection_is_half_open_and_go_on(transport: str) -> None:
    answers: list[float] = []

    async def call(session: wsrpc.Session) -> None:
        answers.append(await session.clientize(Nap).nap(1.0))

    async with served([Nap()], limits=FAST) as listener:
        async with resetting_proxy(listener.url) as proxy:
            async with wsrpc.connect(proxy.url, limits=FAST) as session:
                [peer] = listener.server.sessions.values()
                await until(lambda: wire_of(peer).endpoint.resumable)
                before = session.id
                async with anyio.create_task_group() as group:
                    group.start_soon(call, session)
                    await until(lambda: bool(wire_of(peer).calls.live))
                    proxy.silence()
                    proxy.open = False
                    # Nobody says a word to either of them.
                    await until(lambda: session.state == peer.state == "detached")
                    assert "no sign of life" in live(session).change.cause
                    assert listener.server.stats.closes[4002] == 1
                    proxy.open = True
                assert (answers, session.id) == ([1.0], before)


@pytest.mark.rule("HEART-2")
async def test_a_loop_that_was_held_up_does_not_take_its_peer_for_dead() -> None:
    """What has arrived meanwhile is looked at first."""
    pair = connected_pair([Nap()], limits=FAST)
    with soon():
        async with pair as (server, client):
            pair.stall(before="pong")
            await until(
                lambda: wire_of(client).endpoint._pings + wire_of(server).endpoint._pings > 0
            )
            time.sleep(1.7)  # noqa: ASYNC251  (all stands still)
            await turns()
            pair.mend()
            assert await client.clientize(Nap).nap(0.0) == 0.0
            assert (client.state, server.state) == ("connected", "connected")
