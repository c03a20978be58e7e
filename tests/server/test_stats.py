"""The controller `wsrpc.stats`: what it tells of sessions, and that metrics say the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry

import wsrpc
from tests.support import bare_client, error_of, live, served, soon, until
from tests.telemetry.test_observers import Work, use_all
from tests.telemetry.test_observers import authorize as no_secrets
from wsrpc.telemetry.prometheus import Exposition


class Prices:
    @wsrpc.method
    async def watch(self) -> AsyncIterator[int]:
        n = 0
        while True:
            yield n
            n += 1

    @wsrpc.method
    async def blob(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 60_000


def anybody(principal: Any) -> bool:
    return True


def stats_of(session: wsrpc.Session) -> Any:
    return session.clientize("wsrpc.stats")


async def row_of(asking: wsrpc.Session, id: str) -> dict[str, Any]:
    """What is told of one session."""
    told = await stats_of(asking).snapshot()
    (row,) = [row for row in told["sessions"] if row["id"] == id]
    assert isinstance(row, dict)
    return row


def sums(registry: CollectorRegistry) -> dict[str, float]:
    """The samples of a registry by metric, over all labels; failures apart."""
    found: dict[str, float] = {}
    Exposition(registry).render("")
    for family in registry.collect():
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
            if sample.name.endswith(("_handled_total", "_made_total")):
                ok = "ok" if sample.labels["code"] == "ok" else "failed"
                key = f"{sample.name} {ok}"
                found[key] = found.get(key, 0.0) + sample.value
    return found


async def test_stats_are_the_same_numbers_as_those_for_prometheus(transport: str) -> None:
    registry = CollectorRegistry()
    async with served(
        [Work(), Prices()], authorize=no_secrets, stats_for=anybody, metrics=registry
    ) as listener:
        async with (
            wsrpc.connect(listener.url, reconnect=False) as session,
            wsrpc.connect(listener.url, reconnect=False) as asking,
        ):
            await use_all(session)
            stats = listener.server.stats
            async with session.clientize(Prices).watch() as prices:
                await anext(prices)
                await until(lambda: listener.server.snapshot().paused_streams == 1)
                await until(lambda: stats.calls_live == 1)
                told = await stats_of(asking).snapshot()
                found = sums(registry)
                total, server = told["total"], told["server"]
    assert total["paused_seconds"] <= found["wsrpc_server_paused_seconds_total"]
    # The question itself had not ended when it was told of.
    assert found["wsrpc_server_started_total"] == (
        total["calls_live"] + total["calls_ended"] + total["calls_refused"]
    )
    assert found["wsrpc_server_handled_total"] == (
        total["calls_ended"] + total["calls_refused"] + 1
    )
    assert found["wsrpc_server_handled_total failed"] == (
        total["calls_failed"] + total["calls_refused"]
    )
    assert found["wsrpc_server_calls_in_flight"] == total["calls_live"] - 1 == 1
    assert found["wsrpc_client_handled_total"] == total["made_ended"] == 1
    assert total["messages_received"] == (
        found["wsrpc_server_msg_received_total"] + found["wsrpc_client_msg_received_total"]
    )
    assert total["messages_sent"] + 1 == (
        found["wsrpc_server_msg_sent_total"] + found["wsrpc_client_msg_sent_total"]
    )
    assert found["wsrpc_server_received_bytes_total"] == total["bytes_received"]
    assert total["bytes_received"] == server["bytes_received"]
    assert found["wsrpc_server_sent_bytes_total"] > total["bytes_sent"] == server["bytes_sent"]
    assert found["wsrpc_server_sessions"] == server["sessions"] == 2
    assert found["wsrpc_server_paused_streams"] == server["paused_streams"] == 1
    assert found["wsrpc_server_held_bytes"] >= server["replay_bytes"]
    assert found["wsrpc_server_connections"] == server["links"]


async def test_what_a_session_does_is_told_of_it_and_of_no_other() -> None:
    async with served([Work(), Prices()], authorize=no_secrets, stats_for=anybody) as listener:
        async with (
            wsrpc.connect(listener.url, reconnect=False) as session,
            wsrpc.connect(listener.url, reconnect=False) as asking,
        ):
            await use_all(session)
            await until(lambda: listener.server.stats.calls_live == 0)
            row = await row_of(asking, session.id)
            own = await row_of(asking, asking.id)
    assert (row["calls_live"], row["streams_live"], row["made_live"]) == (0, 0, 0)
    assert (row["calls_ended"], row["calls_failed"], row["calls_refused"]) == (9, 4, 3)
    assert (row["made_ended"], row["made_failed"]) == (1, 0)
    assert row["bytes_received"] > 100
    assert row["bytes_sent"] > 100
    assert (own["calls_ended"], own["calls_refused"], own["made_ended"]) == (1, 0, 0)
    assert own["calls_live"] == 1


async def test_a_stream_that_waits_for_credit_is_counted_while_it_waits() -> None:
    async with served([Prices()], stats_for=anybody) as listener:
        async with (
            wsrpc.connect(listener.url, reconnect=False) as session,
            wsrpc.connect(listener.url, reconnect=False) as asking,
        ):
            async with session.clientize(Prices).watch() as prices:
                await anext(prices)
                await until(lambda: listener.server.snapshot().paused_streams == 1)
                with soon():
                    while not (row := await row_of(asking, session.id))["paused_for"] > 1:
                        await anyio.sleep(0.1)
            assert row["paused_streams"] == 1
            assert row["slow"] == ["credit"]
            await until(lambda: listener.server.snapshot().paused_streams == 0)
            row = await row_of(asking, session.id)
            assert (row["paused_streams"], row["paused_for"], row["slow"]) == (0, 0.0, [])


async def test_a_peer_that_owes_an_ack_is_seen_to_lag_and_one_that_acks_is_not() -> None:
    async with served([Work()], stats_for=anybody) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as asking:
            async with bare_client(listener.server, resume=True) as mute:
                (id,) = {*listener.server.sessions} - {asking.id}
                assert (await row_of(asking, id))["lag"] == 0
                await mute.send(["call", 1, "Work.add", {"a": 1, "b": 2}])
                await mute.expect("result")
                with soon():
                    while not (row := await row_of(asking, id))["lag"] > 0.2:
                        await anyio.sleep(0.05)
                assert row["replay_bytes"] > 0
                await mute.send(["ack", 1])
                with soon():
                    while (row := await row_of(asking, id))["lag"] != 0:
                        await anyio.sleep(0.01)
                assert row["replay_bytes"] == 0


async def test_the_sessions_with_the_most_come_first_and_no_more_than_were_asked_for() -> None:
    async with served([Work(), Prices()], stats_for=anybody) as listener:
        async with (
            wsrpc.connect(listener.url, reconnect=False) as idle,
            wsrpc.connect(listener.url, reconnect=False) as busy,
            wsrpc.connect(listener.url, reconnect=False) as asking,
        ):
            work = busy.clientize(Work)
            for _ in range(5):
                await work.add(1, 1)
            told = await stats_of(asking).snapshot(sort="calls_ended", limit=1)
            assert [row["id"] for row in told["sessions"]] == [busy.id]
            assert told["server"]["sessions"] == 3
            told = await stats_of(asking).snapshot(sort="calls_live", limit=2)
            assert told["sessions"][0]["id"] == asking.id
            assert (await stats_of(asking).snapshot(limit=-1))["sessions"] == []
            with error_of("invalid_argument"):
                await stats_of(asking).snapshot(sort="agent")
            assert idle.state == "connected"


async def test_counts_of_a_session_that_is_gone_are_gone() -> None:
    async with served([Work()], stats_for=anybody) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as asking:
            async with wsrpc.connect(listener.url, reconnect=False) as session:
                await session.clientize(Work).add(1, 1)
            await until(lambda: listener.server.snapshot().sessions == 1)
            told = await stats_of(asking).snapshot()
            assert [row["id"] for row in told["sessions"]] == [asking.id]
            assert told["total"]["calls_ended"] == 1
            assert live(asking).limits is not None


@pytest.mark.parametrize("allows", [True, False])
async def test_an_async_function_may_say_for_whom_stats_are(allows: bool) -> None:
    async def decide(principal: Any) -> bool:
        await anyio.sleep(0)
        return allows

    async with served([Work()], stats_for=decide) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            if allows:
                assert (await stats_of(session).snapshot())["server"]["sessions"] == 1
            else:
                with error_of("permission_denied"):
                    await stats_of(session).snapshot()


async def test_stats_for_alone_decides_about_stats() -> None:
    async def nobody(context: wsrpc.CallContext) -> bool:
        return False

    async with served([Work()], authorize=nobody, stats_for=anybody) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            assert (await stats_of(session).snapshot())["server"]["sessions"] == 1
            with error_of("permission_denied"):
                await session.clientize(Work).add(1, 1)
