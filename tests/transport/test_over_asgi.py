"""The harness that puts an ASGI application between the links and the server of a test."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import anyio

import wsrpc
from tests.over_asgi import over_asgi
from tests.session.left_out import ALWAYS, LEFT_OUT
from tests.support import bare_client, pair, soon, turns, until
from wsrpc.testing import server as hosted


class Work:
    def __init__(self) -> None:
        self.scopes: list[Any] = []

    @wsrpc.method
    async def ping(self) -> None:
        handshake = wsrpc.current().session.handshake
        assert handshake is not None
        self.scopes.append(handshake.scope)

    @wsrpc.method
    async def flood(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 1000
            await anyio.sleep(0)


async def test_a_pair_in_memory_runs_over_an_asgi_application() -> None:
    work = Work()
    async with over_asgi() as links, pair([work]) as (_, client):
        await client.clientize(Work).ping()
    assert len(links) == 1
    assert work.scopes[0]["type"] == "websocket"


async def test_a_session_over_asgi_that_is_over_is_forgotten() -> None:
    server = wsrpc.Server([Work()])
    async with over_asgi(), hosted(server) as host:
        with soon():
            async with host.connect() as client:
                await client.clientize(Work).ping()
                gone = weakref.ref(host.session_of(client))
            del client
            await host.settled()
        with anyio.fail_after(5):
            while gone() is not None:
                await turns()
                gc.collect()


async def test_the_close_code_of_a_peer_counts_though_the_host_refuses_messages_before_it_is_read() -> (
    None
):
    server = wsrpc.Server([Work()])
    async with over_asgi(), bare_client(server, resume=True) as peer:
        await peer.send(["call", 1, "Work.flood", {}, {"credit": 100_000}])
        await peer.expect("message")
        for id in range(3, 15, 2):
            await peer.send(["notify", id, "Work.ping", {}])
        await peer.link.close(1000)
        await until(lambda: not server.sessions)
        assert server.stats.closes == {1000: 1}


def test_the_tables_of_tests_over_asgi_name_tests_that_exist() -> None:
    for table in (*LEFT_OUT.values(), ALWAYS):
        for module, names in table.items():
            there = vars(import_module(f"tests.session.test_{module}"))
            # An entry may name one parameter of a test, in brackets.
            assert [name for name in names if f"test_{name.partition('[')[0]}" not in there] == []
