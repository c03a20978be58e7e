"""Topics over many nodes, in JetStream."""

from __future__ import annotations

import signal
import tempfile
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, Net, net
from tests.support import error_of, until
from wsrpc.cluster import (
    Cluster,
    ClusterConfigError,
    ClusterLimits,
    Snapshot,
    Superseded,
    TopicGap,
    TopicTaken,
)
from wsrpc.cluster.bus.embedded import NatsServer
from wsrpc.cluster.bus.nats import NatsBus
from wsrpc.cluster.ring import Start

pytestmark = [
    pytest.mark.nats,
    pytest.mark.slow,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]


async def test_history_is_read_from_any_node_and_survives_owner_and_readers() -> None:
    async with net("nats", 3, jetstream=True) as nodes:
        here, there, third = nodes.places
        async with here.cluster.topic("n", int).produce() as producer:
            ids = [producer.publish(i) for i in range(100)]
            await producer.flush()
            reader = there.cluster.topic("n", int).subscribe()
            got = [await anext(reader) for _ in range(100)]
            assert [one.value for one in got] == list(range(100))
            assert [one.id for one in got] == ids
            with pytest.raises(TopicTaken):
                async with there.cluster.topic("n", int).produce():
                    pass
            await reader.aclose()
            producer.publish(100)
        # Its producer has ended it.
        again = third.cluster.topic("n", int).subscribe(after=ids[89])
        assert [one.value async for one in again] == list(range(90, 101))
        async with third.cluster.topic("n", int).produce() as producer:
            assert await producer.durable(101)
            reader = here.cluster.topic("n", int).subscribe(after=got[-1].id)
            assert [(await anext(reader)).value for _ in range(2)] == [100, 101]
            await reader.aclose()


async def test_limits_evict_with_an_explicit_gap() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        async with here.cluster.topic("n", int, history=10).produce() as producer:
            ids = [producer.publish(i) for i in range(50)]
            await producer.flush()
            topic = there.cluster.topic("n", int, history=10)
            with pytest.raises(TopicGap) as caught:
                await anext(topic.subscribe(after=ids[5]))
            assert caught.value.data["why"] == "evicted"
            assert caught.value.data["first"] == ids[40]
            reader = topic.subscribe(after=ids[44])
            assert (await anext(reader)).value == 45
            await reader.aclose()


async def test_a_second_producer_is_fenced_off() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, _ = nodes.places
        async with here.cluster.topic("n", int).produce() as producer:
            await producer.durable(0)
            network = here.cluster.network
            assert network is not None
            js = nodes.buses[1].client.jetstream()
            found = [one.config for one in await js.streams_info() if "_T_" in one.config.name]
            await js.publish(found[0].subjects[0], b'["x",7]')
            producer.publish(1)
            with pytest.raises(Superseded):
                await producer.flush()
            with pytest.raises(Superseded):
                producer.publish(2)
            await producer.abandon()


async def test_a_latecomer_begins_with_the_last_snapshot_that_was_stored() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        total = 0
        topic = here.cluster.topic("n", int, int)
        async with topic.produce(snapshot=lambda: total) as producer:
            for i in range(200):
                total += i
                producer.publish(i)
                if i % 50 == 0:
                    await producer.flush()
            await producer.flush()
            await anyio.sleep(0.1)
            reader = there.cluster.topic("n", int, int).subscribe()
            first = await anext(reader)
            assert isinstance(first.value, Snapshot)
            at = int(first.id.rpartition(".")[2])
            assert first.value.snapshot == sum(range(at))
            rest = [(await anext(reader)).value for _ in range(200 - at)]
            assert rest == list(range(at, 200))
            await reader.aclose()


async def test_a_restart_of_nats_loses_and_doubles_nothing() -> None:
    with NatsServer() as nats, anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            nodes = Net(group, lambda: NatsBus(nats.url), QUICK)
            here, there = await nodes.add(), await nodes.add()
            got: list[int] = []
            ended: list[bool] = []
            async with here.cluster.topic("n", int).produce() as producer:

                async def read() -> None:
                    async for one in there.cluster.topic("n", int).subscribe():
                        got.append(one.value)
                    ended.append(True)

                group.start_soon(read)
                for i in range(400):
                    producer.publish(i)
                    if i % 20 == 0:
                        await producer.flush()
                    if i == 200:
                        await anyio.to_thread.run_sync(nats.stop, signal.SIGKILL)
                        await anyio.to_thread.run_sync(nats.start)
                await producer.flush()
            await until(lambda: len(got) >= 400 and bool(ended))
            assert got == list(range(400))
            nodes.end()


STARTS: list[tuple[int, Start]] = [
    (10, "earliest"),
    (200, "earliest"),
    (200, "snapshot"),
    (30, "earliest"),
]


async def topic_streams(bus: Any) -> list[str]:
    """The streams of JetStream that hold items of topics."""
    streams = await bus.run(bus.client.jetstream().streams_info)
    return [one.config.name for one in streams if "_T_" in one.config.name]


async def until_nobody_reads(bus: Any) -> None:
    """Wait until no node reads the one topic; NATS tells nobody, so it is asked again and again."""
    js, (stream,) = bus.client.jetstream(), await topic_streams(bus)
    while await bus.run(js.consumers_info, stream):
        await anyio.sleep(0.01)


async def test_a_reader_that_begins_with_the_latest_gets_no_item_of_before() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        async with here.cluster.topic("n", int).produce() as producer:
            for i in range(300):
                producer.publish(i)
                if i % 50 == 0:
                    await producer.flush()
            await producer.flush()
            # At first this node has not read the topic, and then it has stopped to.
            for turn in range(2):
                reader = there.cluster.topic("n", int).subscribe(start="latest")
                got: list[int] = []

                async def read(reader: Any = reader, got: list[int] = got) -> None:
                    got.extend([(await anext(reader)).value for _ in range(3)])

                async with anyio.create_task_group() as group:
                    group.start_soon(read)
                    item = 1000 * (turn + 1)
                    while len(got) < 3:
                        await producer.durable(item)
                        item += 1
                assert got[0] >= 1000 * (turn + 1)
                assert got == list(range(got[0], got[0] + 3))
                await reader.aclose()
                await until_nobody_reads(nodes.buses[1])
                for i in range(20):
                    await producer.durable(i)


async def test_a_latecomer_is_told_of_no_gap_by_a_node_that_has_not_read_for_a_while() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        topic = there.cluster.topic("n", int, int, history=50)
        writing = here.cluster.topic("n", int, int, history=50)
        async with writing.produce(snapshot=lambda: 7) as producer:
            bus, item = nodes.buses[1], 0
            for more, start in STARTS:
                for _ in range(more):
                    item += 1
                    await producer.durable(item)
                reader = topic.subscribe(start=start)
                got = [await anext(reader)]
                # The position of an item is its number.
                while got[-1].id.rpartition(".")[2] != str(item):
                    got.append(await anext(reader))
                if start == "snapshot":
                    assert got.pop(0).value == Snapshot(7)
                assert [one.value for one in got] == list(range(item + 1 - len(got), item + 1))
                if start == "earliest":
                    assert len(got) == min(item, 50)
                await reader.aclose()
                await until_nobody_reads(bus)


async def test_a_reader_that_is_ahead_of_its_node_waits_while_nats_is_away() -> None:
    limits = ClusterLimits(
        beat=0.2, suspect=1.0, grace=0.3, dead_after=6.0, reconnecting=0.5, ahead=0.1
    )
    with NatsServer() as nats, anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            nodes = Net(group, lambda: NatsBus(nats.url), limits)
            topic = (await nodes.add()).cluster.topic("n", int)
            async with topic.produce() as producer:
                first = await producer.durable(1)
                reader = topic.subscribe(start="earliest")
                assert (await anext(reader)).value == 1
                await anyio.to_thread.run_sync(nats.stop, signal.SIGKILL)
                epoch, _, position = first.partition(".")
                # As if another node had delivered that one, which this node has yet to read.
                ahead = topic.subscribe(after=f"{epoch}.{int(position) + 1}")
                got: list[int] = []

                async def read() -> None:
                    got.append((await anext(ahead)).value)

                group.start_soon(read)
                await anyio.sleep(10 * limits.ahead)
                await anyio.to_thread.run_sync(nats.start)
                for item in (2, 3):
                    await producer.durable(item)
                await until(lambda: bool(got))
                assert got == [3]
                for one in (reader, ahead):
                    await one.aclose()
            nodes.end()


async def test_jetstream_missing_is_said() -> None:
    async with net("nats", 1, jetstream=False) as nodes:
        (here,) = nodes.places
        with pytest.raises(ClusterConfigError, match="JetStream"):
            async with here.cluster.topic("n", int).produce():
                pass


async def test_nats_that_is_not_there_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    nats = NatsServer(jetstream=False)
    try:
        async with anyio.create_task_group() as group:

            async def start() -> None:
                await until(lambda: "waiting for it" in caplog.text)
                await anyio.to_thread.run_sync(nats.start)

            group.start_soon(start)
            with anyio.fail_after(30):
                async with Cluster(wsrpc.Server([]), nats.url) as cluster:
                    assert len(cluster.nodes) == 1
    finally:
        nats.close()


# nats-py leaves the socket of a connection that was refused to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_wrong_credentials_and_small_messages_are_said() -> None:
    with NatsServer(jetstream=False, extra=("--user", "a", "--pass", "b")) as nats:
        with pytest.raises(ClusterConfigError, match="credentials"):
            async with Cluster(wsrpc.Server([]), nats.url):
                pass
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write("max_payload: 65536\n")
        config.flush()
        with NatsServer(jetstream=False, extra=("-c", config.name)) as nats:
            with pytest.raises(ClusterConfigError, match="max_payload"):
                async with Cluster(wsrpc.Server([]), nats.url):
                    pass


@pytest.mark.parametrize("history", [10, 50, 1000])
async def test_a_latecomer_beside_other_readers_begins_with_a_snapshot_too(history: int) -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        total = 0
        topic = here.cluster.topic("n", int, int, history=history)
        async with topic.produce(snapshot=lambda: total) as producer:
            # There are readers on both nodes before most items are.
            early = [
                place.cluster.topic("n", int, int, history=history).subscribe(start="earliest")
                for place in nodes.places
            ]
            producer.publish(0)
            for reader in early:
                assert (await anext(reader)).value == 0
            for i in range(1, 200):
                total += i
                producer.publish(i)
                if i % 40 == 0:
                    await producer.flush()
            await producer.flush()
            for place in (there, here):
                late = place.cluster.topic("n", int, int, history=history).subscribe()
                first = await anext(late)
                assert isinstance(first.value, Snapshot)
                # Its position counts from 1, and the items from 0.
                at = int(first.id.rpartition(".")[2])
                assert first.value.snapshot == sum(range(at))
                assert [(await anext(late)).value for _ in range(200 - at)] == list(range(at, 200))
                await late.aclose()
            gapped = topic.subscribe(after="00000000.1", on_gap="snapshot")
            assert isinstance((await anext(gapped)).value, Snapshot)
            for reader in (gapped, *early):
                await reader.aclose()


async def test_a_topic_that_nobody_reads_any_more_has_no_consumer() -> None:
    async with net("nats", 1, jetstream=True) as nodes:
        topic = nodes.places[0].cluster.topic("n", int)
        js = nodes.buses[0].client.jetstream()
        async with topic.produce() as producer:
            await producer.durable(1)
            (stream,) = [
                one.config.name for one in await js.streams_info() if "_T_" in one.config.name
            ]
            for _ in range(3):
                reader = topic.subscribe()
                assert (await anext(reader)).value == 1
                with anyio.fail_after(20):
                    while len(await js.consumers_info(stream)) != 1:
                        await anyio.sleep(0.05)
                    await reader.aclose()
                    while await js.consumers_info(stream):
                        await anyio.sleep(0.05)


async def test_an_item_or_a_snapshot_too_large_for_nats_is_refused_where_it_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with net("nats", 1, jetstream=True) as nodes:
        topic = nodes.places[0].cluster.topic("n", str, str)
        large = "x" * nodes.buses[0].max_payload
        with error_of("resource_exhausted"):
            async with topic.produce(snapshot=lambda: large):
                pass
        state = ["small"]
        async with topic.produce(snapshot=lambda: state[0]) as producer:
            await producer.durable("one")
            with pytest.raises(wsrpc.RpcError, match="max_payload"):
                producer.publish(large)
            # What has become too large later is said, and items go on without it.
            state[0] = large
            await producer.durable("two")
            with anyio.fail_after(10):
                while "there is no snapshot of the topic 'n'" not in caplog.text:
                    await anyio.sleep(0.05)
            await producer.durable("three")
            reader = topic.subscribe(start="earliest")
            assert [(await anext(reader)).value for _ in range(3)] == ["one", "two", "three"]
            await reader.aclose()


async def test_a_snapshot_that_fails_stops_no_items(caplog: pytest.LogCaptureFixture) -> None:
    async with net("nats", 1, jetstream=True) as nodes:
        asked = 0

        def snapshot() -> int:
            nonlocal asked
            asked += 1
            if asked > 1:
                raise ZeroDivisionError
            return 0

        topic = nodes.places[0].cluster.topic("n", int, int, history=1000)
        async with topic.produce(snapshot=snapshot) as producer:
            for i in range(200):
                await producer.durable(i)
        assert asked > 2
        assert "there is no snapshot of the topic 'n'" in caplog.text
        reader = topic.subscribe(start="earliest")
        assert [one.value async for one in reader] == list(range(200))


async def test_an_ended_topic_is_read_to_its_end_from_every_start() -> None:
    async with net("nats", 2, jetstream=True) as nodes:
        here, there = nodes.places
        async with here.cluster.topic("n", int).produce() as producer:
            for i in range(100):
                producer.publish(i)
        for place in (there, here):
            for start in ("earliest", "snapshot"):
                reader = place.cluster.topic("n", int).subscribe(start=start)
                with anyio.fail_after(10):
                    assert [one.value async for one in reader] == list(range(100))
