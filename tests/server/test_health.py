"""The controllers `wsrpc.health` and `wsrpc.stats`: what they tell, and whom."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import error_of, served, soon, until


class Held:
    def __init__(self) -> None:
        self.go = anyio.Event()
        self.begun = 0

    @wsrpc.method
    async def wait(self) -> None:
        self.begun += 1
        await self.go.wait()

    @wsrpc.method
    async def fail(self) -> None:
        raise wsrpc.RpcError("aborted", "no")


async def test_health_is_told_in_the_words_of_grpc() -> None:
    async with served([Held()]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            health = session.clientize("wsrpc.health")
            assert await health.check() == {"status": "SERVING"}
            assert await health.check(service="Held") == {"status": "SERVING"}
            with error_of("not_found"):
                await health.check(service="Other")
            async with health.watch(service="Other") as watched:
                assert await anext(watched) == {"status": "SERVICE_UNKNOWN"}


async def test_whoever_watches_is_told_at_the_first_moment_of_a_drain() -> None:
    held = Held()
    async with served([held]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            found: list[Any] = []

            async def watch(service: str) -> None:
                async for one in session.clientize("wsrpc.health").watch(service=service):
                    found.append((service, one["status"]))

            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Held).wait)
                for service in ("", "Held", "Other"):
                    group.start_soon(watch, service)
                await until(lambda: held.begun == 1 and len(found) == 3)
                group.start_soon(listener.server.drain)
                # The call still runs: nothing has ended yet.
                await until(lambda: len(found) == 5)
                assert not session.closed
                held.go.set()
    assert sorted(found) == [
        ("", "NOT_SERVING"),
        ("", "SERVING"),
        ("Held", "NOT_SERVING"),
        ("Held", "SERVING"),
        ("Other", "SERVICE_UNKNOWN"),
    ]


async def test_a_watched_health_does_not_hold_up_a_drain() -> None:
    async with served([Held()]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            watched = aiter(session.clientize("wsrpc.health").watch())
            assert await anext(watched) == {"status": "SERVING"}
            with soon():
                await listener.server.drain(1_000)
            assert [one async for one in watched] == [{"status": "NOT_SERVING"}]


async def test_authorize_and_interceptors_are_not_asked_about_health() -> None:
    async def nobody(context: wsrpc.CallContext) -> bool:
        return False

    async def refuse(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        raise wsrpc.RpcError("permission_denied", "no")

    async with served([Held()], authorize=nobody, interceptors=[refuse]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            assert await session.clientize("wsrpc.health").check() == {"status": "SERVING"}
            async with session.clientize("wsrpc.health").watch() as watched:
                assert await anext(watched) == {"status": "SERVING"}
            for call in (
                session.clientize(Held).fail,
                session.clientize("wsrpc.reflection").describe,
            ):
                with error_of("permission_denied"):
                    await call()


async def test_health_as_a_controller_can_be_turned_off() -> None:
    async with served([Held()], health=False) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            with error_of("unimplemented"):
                await session.clientize("wsrpc.health").check()


async def by_name(handshake: wsrpc.Handshake, auth: Any) -> Any:
    return auth


async def test_stats_are_for_those_whom_the_server_names() -> None:
    held = Held()
    async with served(
        [held], authenticate=by_name, stats_for=lambda principal: principal == "ops"
    ) as listener:
        async with wsrpc.connect(listener.url, auth="ann", reconnect=False) as session:
            stats = session.clientize("wsrpc.stats")
            with error_of("permission_denied"):
                await stats.snapshot()
            with error_of("permission_denied"):
                await stats.watch().collect()
            with error_of("aborted"):
                await session.clientize(Held).fail()
            async with wsrpc.connect(listener.url, auth="ops", reconnect=False) as allowed:
                asked = allowed.clientize("wsrpc.stats")
                told = await asked.snapshot()
                async with asked.watch(interval=0) as watched:
                    assert (await anext(watched))["server"]["sessions"] == 2
                    assert (await anext(watched))["server"]["generators_open"] == 1
    json.dumps(told)
    assert told["server"]["sessions"] == 2
    assert told["server"]["calls_live"] == 1
    assert told["methods"]["Held.fail"]["failed"] == 1
    assert told["methods"]["wsrpc.stats.snapshot"]["live"] == 1
    people = {one["principal"]: one for one in told["sessions"]}
    assert people.keys() == {"s:ann", "s:ops"}
    assert people["s:ann"]["state"] == "connected"
    assert people["s:ann"]["peer"].startswith("127.0.0.1:")


async def test_stats_are_off_unless_a_server_says_for_whom() -> None:
    async with served([Held()]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            with error_of("unimplemented"):
                await session.clientize("wsrpc.stats").snapshot()


def test_stats_for_has_to_be_a_function() -> None:
    wrong: Any = "ops"
    with pytest.raises(ValueError, match="stats_for"):
        wsrpc.Server([Held()], stats_for=wrong)
