"""The producer of a topic over many nodes: there is exactly one at a time."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, Net, net
from tests.proxy import resetting_proxy
from tests.support import turns, until
from wsrpc.cluster import Cluster, ClusterLimits, Superseded, TopicTaken
from wsrpc.cluster.bus.embedded import NatsServer
from wsrpc.cluster.bus.nats import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.slow]
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@on_asyncio
async def test_of_nodes_that_begin_at_once_one_produces_and_the_others_wait() -> None:
    async with net("nats", 3, jetstream=True) as nodes:
        order: list[str] = []

        async def run(cluster: Cluster) -> None:
            async with cluster.topic("n", str).produce(standby=True) as producer:
                order.append(f"{cluster.id} begins")
                for _ in range(10):
                    await producer.durable(cluster.id)
                order.append(f"{cluster.id} ends")

        async with anyio.create_task_group() as group:
            for place in nodes.places:
                group.start_soon(run, place.cluster)
        assert [one.split()[1] for one in order] == ["begins", "ends"] * 3
        assert [one.split()[0] for one in order[::2]] == [one.split()[0] for one in order[1::2]]


@on_asyncio
async def test_of_nodes_that_begin_at_once_one_gets_the_topic_and_the_others_are_told() -> None:
    async with net("nats", 3, jetstream=True) as nodes:
        taken: list[str] = []

        async def run(cluster: Cluster) -> None:
            try:
                async with cluster.topic("n", int).produce() as producer:
                    await producer.durable(1)
                    await until(lambda: len(taken) == 4)
            except TopicTaken as error:
                taken.append(error.message)

        async with anyio.create_task_group() as group:
            for place in nodes.places:
                # Two tasks of one node are two producers as well; of six, five at most are refused.
                group.start_soon(run, place.cluster)
            for place in nodes.places[:2]:
                group.start_soon(run, place.cluster)
        assert len(taken) == 4


class Stalling(NatsBus):
    """A bus that answers nothing for a while."""

    stalled = False

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        if not self.stalled:
            await super().publish(subject, data, reply)


@on_asyncio
async def test_a_producer_whose_node_stands_still_for_a_moment_keeps_its_topic() -> None:
    with NatsServer() as nats, anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            nodes = Net(group, lambda: Stalling(nats.url), QUICK)
            here, there = await nodes.add(), await nodes.add()
            begun = anyio.Event()

            async def wait() -> None:
                async with there.cluster.topic("n", int).produce(standby=True):
                    begun.set()

            async with here.cluster.topic("n", int).produce() as producer:
                await producer.durable(1)
                nodes.buses[0].stalled = True
                group.start_soon(wait)
                # Longer than anybody waits for an answer, and shorter than `dead_after`.
                await anyio.sleep(2.5)
                nodes.buses[0].stalled = False
                assert not begun.is_set()
                await producer.durable(2)
            await begun.wait()
            nodes.end()


@on_asyncio
async def test_a_producer_keeps_its_topic_when_its_node_finds_nats_later_than_others() -> None:
    with NatsServer() as nats, anyio.fail_after(60):
        async with resetting_proxy(nats.url) as proxy, anyio.create_task_group() as group:
            urls = iter((proxy.url, nats.url))
            nodes = Net(group, lambda: NatsBus(next(urls)), ClusterLimits())
            here, there = await nodes.add(), await nodes.add()
            begun = anyio.Event()

            async def wait() -> None:
                async with there.cluster.topic("n", int).produce(standby=True):
                    begun.set()

            async with here.cluster.topic("n", int).produce() as producer:
                group.start_soon(wait)
                await producer.durable(1)
                proxy.open = False
                await anyio.to_thread.run_sync(nats.stop, signal.SIGKILL)
                await anyio.to_thread.run_sync(nats.start)
                await until(lambda: nodes.buses[1].connected)
                # Long enough for the other node to look for a producer a few times.
                await anyio.sleep(2)
                proxy.open = True
                await until(lambda: nodes.buses[0].connected)
                await producer.durable(2)
                assert not begun.is_set()
            await begun.wait()
            nodes.end()


async def taken_over(nodes: Any, topic: str) -> Any:
    """Store what a producer stores that takes over from one that stands still."""
    js = nodes.buses[1].client.jetstream()
    (notes,) = [one.config for one in await js.streams_info() if "_N_" in one.config.name]
    last = await js.get_last_msg(notes.name, notes.subjects[0])
    note = last.data.replace(nodes.places[0].cluster.id.encode(), b"ffffffffff")
    await js.publish(notes.subjects[0], note, headers={"Wsrpc-Producer": "another"})


@on_asyncio
async def test_a_producer_that_was_taken_over_is_told_even_if_it_publishes_no_more() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        with pytest.raises(Superseded):
            async with here.cluster.topic("n", int).produce() as producer:
                await producer.durable(1)
                await taken_over(nodes, "n")
        # Its readers wait for the other one: the topic has not ended.
        reader = there.cluster.topic("n", int).subscribe(start="earliest", wait=None)
        assert (await anext(reader)).value == 1
        with anyio.move_on_after(1) as scope:
            await anext(reader)
        assert scope.cancelled_caught


@on_asyncio
@pytest.mark.parametrize("how", ["overtaken", "cancelled"])
async def test_a_producer_that_fails_while_it_ends_gives_the_topic_up(how: str) -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        topic = here.cluster.topic("n", int)
        with anyio.CancelScope() as scope:
            try:
                async with topic.produce() as producer:
                    await producer.durable(1)
                    if how == "overtaken":
                        js = nodes.buses[1].client.jetstream()
                        found = [one.config for one in await js.streams_info()]
                        (items,) = [one.subjects[0] for one in found if "_T_" in one.name]
                        await js.publish(items, b"7")
                    else:
                        scope.cancel()
                    producer.publish(2)
            except Superseded:
                assert how == "overtaken"
        # Neither this node nor another takes it for produced.
        for place in (there, here):
            async with place.cluster.topic("n", int).produce() as producer:
                await producer.durable(3)


async def test_what_waits_for_a_topic_fails_when_its_node_leaves() -> None:
    with NatsServer() as nats, anyio.fail_after(60):
        outcomes: dict[str, str] = {}

        async def keep(name: str, fn: Any, *args: Any) -> None:
            try:
                await fn(*args)
            except wsrpc.RpcError as error:
                outcomes[name] = f"{error.code} {error.not_started}"

        async with anyio.create_task_group() as group:
            server = wsrpc.Server([])
            async with Cluster(server, nats.url, limits=ClusterLimits()) as cluster:
                owning = cluster.topic("n", int).produce()
                producer = await owning.__aenter__()

                async def stand_by() -> None:
                    async with cluster.topic("n", int).produce(standby=True):
                        pass

                group.start_soon(keep, "standby", stand_by)
                await turns()
                producer.publish(1)
            await until(lambda: "standby" in outcomes)
            await keep("flush", producer.flush)
            await keep("durable", producer.durable, 2)
            await keep("end", producer.end)
            await keep("produce", stand_by)
            await owning.__aexit__(None, None, None)
        assert set(outcomes) == {"standby", "flush", "durable", "end", "produce"}
        assert set(outcomes.values()) == {"unavailable True"}
