"""The harness that puts an ASGI application between the links and the server of a test."""

from __future__ import annotations

import gc
import weakref
from importlib import import_module
from typing import Any

import anyio

import wsrpc
from tests.over_asgi import over_asgi
from tests.session.left_out import ALWAYS, LEFT_OUT
from tests.support import pair, soon, turns
from wsrpc.testing import server as hosted


class Work:
    def __init__(self) -> None:
        self.scopes: list[Any] = []

    @wsrpc.method
    async def ping(self) -> None:
        handshake = wsrpc.current().session.handshake
        assert handshake is not None
        self.scopes.append(handshake.scope)


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


def test_the_tables_of_tests_over_asgi_name_tests_that_exist() -> None:
    for table in (*LEFT_OUT.values(), ALWAYS):
        for module, names in table.items():
            there = vars(import_module(f"tests.session.test_{module}"))
            assert [name for name in names if f"test_{name}" not in there] == []
