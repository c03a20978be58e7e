"""What operators see of a cluster: events, the tools of NATS, and nodes that do not belong to it."""

from __future__ import annotations

import json

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, BusKind, Worker, bus_of, net
from tests.support import soon, until
from wsrpc.cluster import Cluster, ClusterEvent, LocalBroker, LocalBus


class Other:
    @wsrpc.method
    async def other(self) -> str:
        return "other"


async def test_an_operator_is_told_of_nodes_and_of_the_bus() -> None:
    told: list[ClusterEvent] = []
    broker = LocalBroker()
    bus, there_bus = LocalBus(broker), LocalBus(broker)

    def kinds(node: str) -> list[str]:
        return [event.kind for event in told if event.node == node]

    with soon():
        async with Cluster(wsrpc.Server([]), bus, limits=QUICK, on_event=told.append) as here:
            there_cluster = Cluster(wsrpc.Server([]), there_bus, limits=QUICK)
            async with there_cluster as there:
                await until(lambda: kinds(there.id) == ["node_up"])
                there_bus.cut()
                await until(lambda: kinds(there.id) == ["node_up", "node_suspect", "node_dead"])
                there_bus.mend()
                await until(lambda: kinds(there.id)[-1] == "node_up")
                bus.cut()
                bus.mend()
                assert kinds(here.id) == ["bus_down", "bus_up"]
                assert all(event.node in event.message for event in told if event.node == there.id)
            await until(lambda: kinds(there.id)[-1] == "node_left")
            assert told[-1].message == f"node {there.id}: left"


async def test_a_message_that_was_lost_is_told() -> None:
    told: list[ClusterEvent] = []
    broker = LocalBroker()
    bus = LocalBus(broker)
    with soon():
        async with (
            Cluster(wsrpc.Server([]), bus, limits=QUICK, on_event=told.append) as here,
            Cluster(wsrpc.Server([]), LocalBus(broker), limits=QUICK) as there,
        ):
            await until(lambda: there.id in here.nodes and here.id in there.nodes)
            bus.drop(0.2, 1)
            await until(lambda: any(event.kind == "link_gap" for event in told))
            bus.drop(0)
            assert here.snapshot().link_gaps > 0


async def test_what_on_event_raises_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: ClusterEvent) -> None:
        raise ZeroDivisionError

    broker = LocalBroker()
    with soon():
        async with (
            Cluster(wsrpc.Server([]), LocalBus(broker), limits=QUICK, on_event=fail) as here,
            Cluster(wsrpc.Server([]), LocalBus(broker), limits=QUICK) as there,
        ):
            await until(lambda: there.id in here.nodes)
            await until(lambda: "on_event of a cluster failed" in caplog.text)
            assert here.nodes[there.id].state == "up"


async def test_two_clusters_with_one_name_are_told_apart_and_each_node_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[ClusterEvent] = []
    broker = LocalBroker()
    with soon():
        async with (
            Cluster(wsrpc.Server([Worker()]), LocalBus(broker), limits=QUICK, on_event=told.append),
            Cluster(wsrpc.Server([Other()]), LocalBus(broker), limits=QUICK) as there,
        ):
            await until(lambda: any(event.kind == "foreign" for event in told))
            (event,) = [event for event in told if event.kind == "foreign"]
            assert event.node == there.id
            assert "Other" in event.message
            assert "Cluster(…, name=…)" in event.message
            assert event.message in caplog.text


async def test_clusters_of_two_names_do_not_see_each_other(bus: BusKind) -> None:
    with bus_of(bus) as make, soon():
        async with (
            Cluster(wsrpc.Server([]), make(), name="one", limits=QUICK) as one,
            Cluster(wsrpc.Server([]), make(), name="two", limits=QUICK) as two,
            Cluster(wsrpc.Server([]), make(), name="two", limits=QUICK) as three,
        ):
            await until(lambda: set(two.nodes) == set(three.nodes) == {two.id, three.id})
            assert set(one.nodes) == {one.id}


async def test_the_tools_of_nats_list_the_nodes(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        session = await here.connect(Worker())
        proxy = there.cluster.session(session.id).clientize(Worker)
        assert await proxy.square(3) == 9
        asking = nodes.buses[1]
        service = "wsrpc-wsrpc"

        async def ask(subject: str) -> dict[str, object]:
            answer: dict[str, object] = json.loads(await asking.request(subject, b"", 5))
            return answer

        with anyio.fail_after(20):
            for subject in ("$SRV.PING", f"$SRV.PING.{service}"):
                ping = await ask(f"{subject}.{here.cluster.id}" if "wsrpc" in subject else subject)
                assert ping["type"] == "io.nats.micro.v1.ping_response"
                assert ping["name"] == service
            info = await ask(f"$SRV.INFO.{service}.{here.cluster.id}")
            assert info["id"] == here.cluster.id
            stats = await ask(f"$SRV.STATS.{service}.{here.cluster.id}")
            endpoints = stats["endpoints"]
            assert isinstance(endpoints, list)
            assert endpoints[0]["num_requests"] == 1
            assert endpoints[0]["data"]["tunnels"] >= 1
