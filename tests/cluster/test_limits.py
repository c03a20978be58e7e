"""Each bound of a cluster, at the bound."""

from __future__ import annotations

import json
import time
import tracemalloc

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, Worker, net, node
from tests.support import error_of, live, until
from wsrpc import runtime as runtimes
from wsrpc.cluster import Cluster, ClusterConfigError, ClusterLimits, LocalBus, TopicGap
from wsrpc.cluster.bus.embedded import NatsServer
from wsrpc.cluster.bus.nats import NatsBus
from wsrpc.cluster.bus.thread import ThreadBus
from wsrpc.cluster.directory import Directory
from wsrpc.cluster.link import DATA, HEAD, BusLink, Inbound, link_class
from wsrpc.cluster.relay import Relay
from wsrpc.cluster.tunnels import tunnel_limits
from wsrpc.interfaces import Handshake
from wsrpc.runtime.timers import Timers
from wsrpc.telemetry.events import Events
from wsrpc.transport.base import LinkClosed


def quick(**changes: float) -> ClusterLimits:
    fields = {name: getattr(QUICK, name) for name in ClusterLimits.__slots__}
    return ClusterLimits(**{**fields, **changes})


async def test_there_is_a_tunnel_more_at_three_quarters_of_its_slots() -> None:
    async with net("local", limits=quick(tunnel_calls=8, tunnels=2)) as nodes:
        here, there = nodes.places
        worker = Worker("far")
        session = await there.connect(worker)
        proxy = here.cluster.session(session.id).clientize(Worker)
        assert await proxy.square(2) == 4
        found: list[str] = []

        async def call() -> None:
            found.append(await proxy.wait())

        async with anyio.create_task_group() as group:
            # The directory's own stream is a call as well.
            for _ in range(5):
                group.start_soon(call)
            await until(lambda: worker.live == 5)
            assert here.cluster.snapshot().tunnels == 1
            group.start_soon(call)
            await until(lambda: worker.live == 6)
            assert here.cluster.snapshot().tunnels == 2
            # Notifications stay on one, in their order.
            for i in range(50):
                await proxy.note(str(i))
            await until(lambda: len(worker.notes) == 50)
            assert worker.notes == [str(i) for i in range(50)]
            for _ in range(20):
                group.start_soon(call)
            await until(lambda: worker.live == 15)
            assert here.cluster.snapshot().tunnels == 2
            worker.release.set()
        assert len(found) == 26


async def test_a_tunnel_without_calls_is_closed_and_opened_again_when_it_is_needed() -> None:
    async with net("local", limits=quick(tunnel_idle=0.1)) as nodes:
        here, there = nodes.places
        session = await there.connect(Worker(), codec="msgpack")
        proxy = here.cluster.session(session.id).clientize(Worker)
        for _ in range(2):
            assert await proxy.square(2) == 4
            # That of the directory is never idle.
            assert here.cluster.snapshot().tunnels == 2
            await until(lambda: here.cluster.snapshot().tunnels == 1)
        async with proxy.endless() as items:
            for _ in range(3):
                await anext(items)
                await anyio.sleep(0.1)
            assert here.cluster.snapshot().tunnels == 2


async def test_a_call_of_another_node_waits_for_a_slot_for_so_long() -> None:
    async with net("local", limits=quick(slot_timeout=0.05)) as nodes:
        here, there = nodes.places
        worker = Worker()
        session = await there.connect(worker, limits=wsrpc.Limits(max_calls=8))
        proxy = here.cluster.session(session.id).clientize(Worker)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(proxy.wait)
            await until(lambda: worker.live == 8)
            with pytest.raises(wsrpc.RpcError) as caught:
                await proxy.square(2)
            assert caught.value.code == "resource_exhausted"
            assert caught.value.not_started
            worker.release.set()


async def test_so_many_calls_and_bytes_wait_for_a_session_that_does_not_read() -> None:
    async with node(limits=ClusterLimits(relay_waiting=2, relay_bytes=100)) as place:
        hub = live(place.has(await place.connect())).wire.hub
        limits = ClusterLimits(relay_waiting=2, relay_bytes=100)
        relay = Relay(lambda id: hub, lambda pool, id, caller: None, limits, Events())
        assert relay.unread.admit(hub, 40)
        assert not relay.unread.admit(hub, 61)
        assert relay.unread.admit(hub, 60)
        assert not relay.unread.admit(hub, 0)
        assert relay.unread.refused == 2
        relay.unread.taken(hub, 40)
        relay.unread.taken(hub, 60)
        # One value may be larger.
        assert relay.unread.admit(hub, 1000)
        relay.unread.taken(hub, 1000)


def test_what_the_sessions_between_nodes_hold_is_bounded_by_the_clusters_limits() -> None:
    limits = ClusterLimits(tunnel_calls=9, tunnel_outbox=70_000, tunnel_replay=80_000)
    for one in tunnel_limits(limits, wsrpc.Limits()):
        assert (one.max_calls, one.outbox, one.replay) == (9, 70_000, 80_000)


async def links(most: int) -> tuple[list[BusLink], Inbound, list[bytes]]:
    runtime = runtimes.current()
    nursery = await runtime.open_nursery()
    timers = Timers(runtime, nursery)
    said: list[bytes] = []
    inbound = Inbound(most)
    made = [
        link_class(bus := LocalBus(), runtime)(
            id=str(i),
            peer="peer",
            bus=bus,
            subject="subject",
            runtime=runtime,
            timers=timers,
            subprotocol="wsrpc.json.1",
            handshake=handshake,
            forget=lambda link: None,
            say=lambda subject, data: said.append(data),
            spawn=nursery.spawn,
            inbound=inbound,
        )
        for i, handshake in enumerate([None, Handshake(remote="client")])
    ]
    timers.close()
    await nursery.close()
    return made, inbound, said


async def test_links_into_a_node_share_a_bound_and_a_clients_gets_1013_beyond_it() -> None:
    (tunnel, client), inbound, said = await links(100)
    assert tunnel.deliver(HEAD.pack(DATA, 1) + b"x" * 60)
    assert client.deliver(HEAD.pack(DATA, 1) + b"x" * 40)
    assert inbound.full
    assert await client.receive() == b"x" * 40
    assert not inbound.full
    assert client.deliver(HEAD.pack(DATA, 2) + b"x" * 41)
    with pytest.raises(LinkClosed) as closed:
        await client.receive()
    assert closed.value.code == 1013
    assert said
    # The session of a link between nodes goes on over another one.
    assert tunnel.deliver(HEAD.pack(DATA, 2) + b"x" * 41)
    assert await tunnel.receive() == b"x" * 60
    with pytest.raises(LinkClosed) as closed:
        await tunnel.receive()
    assert closed.value.code == 1006
    assert inbound.take(100)


async def test_a_large_message_reaches_a_node_in_which_nothing_waits() -> None:
    (tunnel, _), inbound, _ = await links(10)
    assert tunnel.deliver(HEAD.pack(DATA, 1) + b"x" * 60)
    assert await tunnel.receive() == b"x" * 60
    assert not inbound.full


async def test_a_node_too_many_is_not_taken_in() -> None:
    async with net("local", limits=quick(max_nodes=2)) as nodes:
        here, there = nodes.places
        network = there.cluster.network
        assert network is not None
        before = here.cluster.snapshot().junk
        await network.say("beat", b'{"n":"0000000001","c":1,"g":1,"s":"up","t":1}')
        await until(lambda: here.cluster.snapshot().junk > before)
        assert len(here.cluster.nodes) == 2


def test_the_metadata_of_a_node_is_bounded() -> None:
    limits = ClusterLimits(max_meta=8)
    Cluster(wsrpc.Server([]), meta={"zone": "abcd"}, limits=limits)
    with pytest.raises(ValueError, match="max_meta"):
        Cluster(wsrpc.Server([]), meta={"zone": "abcde"}, limits=limits)


async def test_names_are_bounded() -> None:
    async with node(limits=ClusterLimits(max_name=4)) as place:
        for make in (place.cluster.group, place.cluster.pool):
            make("four")
            with pytest.raises(ValueError, match="4 characters"):
                make("fives")
        place.cluster.topic("four", int)
        with pytest.raises(ValueError, match="4 characters"):
            place.cluster.topic("fives", int)


async def test_members_of_a_groups_stream_have_so_much_credit_each() -> None:
    async with node(limits=ClusterLimits(member_window=3)) as place:
        worker = Worker()
        session = await place.connect(worker)
        await place.cluster.group("room").join(session.id)
        hub = live(place.has(session)).wire.hub
        async with place.cluster.group("room").stream(Worker.endless) as items:
            await anext(items)
            received = hub.endpoint.received
            await anyio.sleep(0.05)
            # Those that the credit allowed; nobody took them.
            assert hub.endpoint.received - received <= 3 + 3


async def test_the_history_of_a_topic_that_names_none_is_bounded() -> None:
    async with node(limits=ClusterLimits(topic_items=3)) as place:
        topic = place.cluster.topic("t", int)
        async with topic.produce() as producer:
            for i in range(5):
                producer.publish(i)
            reader = topic.subscribe(start="earliest")
            assert (await anext(reader)).value == 2
            await reader.aclose()
    async with node(limits=ClusterLimits(topic_bytes=100)) as place:
        async with place.cluster.topic("t", int).produce() as producer:
            for i in range(100):
                producer.publish(i)
                assert place.cluster.snapshot().topic_bytes <= 100
            assert place.cluster.snapshot().topic_bytes > 50


async def test_a_group_is_written_to_so_many_at_a_time() -> None:
    async with node(limits=ClusterLimits(fan=1)) as place:
        for session, _ in await place.workers(4):
            await place.cluster.group("room").join(session.id)
        replies = await place.cluster.group("room").call(Worker.square, 3)
        assert [reply.unwrap() for reply in replies] == [9] * 4
        stream = place.cluster.group("room").replies(Worker.square, 3)
        assert [reply.unwrap() async for reply in stream] == [9] * 4


async def test_a_node_takes_so_many_bytes_that_nobody_has_read() -> None:
    async with net("local", 1, limits=quick(inbound_bytes=100)) as nodes:
        network = nodes.places[0].cluster.network
        assert network is not None
        client = network.link("a1", "b2", "wsrpc.v1.json", Handshake(remote="client"))
        assert client.deliver(HEAD.pack(DATA, 1) + b"x" * 60)
        assert client.deliver(HEAD.pack(DATA, 2) + b"x" * 40)
        assert [len(await client.receive()) for _ in range(2)] == [60, 40]
        assert client.deliver(HEAD.pack(DATA, 3) + b"x" * 60)
        assert client.deliver(HEAD.pack(DATA, 4) + b"x" * 41)
        await client.receive()
        with pytest.raises(LinkClosed) as closed:
            await client.receive()
        assert closed.value.code == 1013


@pytest.mark.nats
@pytest.mark.slow
async def test_so_many_bytes_of_one_subscription_wait_and_the_rest_is_counted() -> None:
    with NatsServer(jetstream=False) as nats:
        # In a thread of its own, the bus reads on while the application's loop is busy.
        bus = ThreadBus(NatsBus(nats.url, pending=1000))
        with anyio.fail_after(20):
            async with (
                Cluster(wsrpc.Server([]), bus, limits=QUICK) as here,
                Cluster(wsrpc.Server([]), nats.url) as there,
            ):
                await until(lambda: here.id in there.nodes and there.id in here.nodes)
                network = there.network
                assert network is not None
                before = here.snapshot().junk
                for _ in range(10):
                    async with anyio.create_task_group() as group:
                        for _ in range(200):
                            group.start_soon(network.say, f"to.{here.id}.junk", b"x" * 90)
                        await anyio.sleep(0.01)
                        # Nobody takes what comes meanwhile.
                        time.sleep(0.2)  # noqa: ASYNC251
                    await anyio.sleep(0.05)
                    if here.snapshot().bus_dropped:
                        break
                await until(lambda: here.snapshot().bus_dropped > 0)
                # What fitted has come, and the node goes on.
                await until(lambda: here.snapshot().junk > before)
                await until(lambda: there.id in here.nodes)


@pytest.mark.nats
@pytest.mark.slow
async def test_so_many_items_of_a_topic_may_be_unacknowledged() -> None:
    async with net("nats", 1, limits=quick(unacknowledged=5), jetstream=True) as nodes:
        async with nodes.places[0].cluster.topic("n", int).produce() as producer:
            for _ in range(2):
                for i in range(5):
                    producer.publish(i)
                with error_of("resource_exhausted"):
                    producer.publish(5)
                await producer.flush()


@pytest.mark.nats
@pytest.mark.slow
async def test_jetstream_is_asked_for_so_many_copies() -> None:
    async with net("nats", 1, limits=quick(replicas=3), jetstream=True) as nodes:
        topic = nodes.places[0].cluster.topic("n", int)
        with pytest.raises(ClusterConfigError, match=r"3 copies \(ClusterLimits\.replicas\)"):
            async with topic.produce():
                pass
        with error_of("failed_precondition"):
            await anext(topic.subscribe())


@pytest.mark.nats
@pytest.mark.slow
async def test_a_reader_waits_so_long_for_an_item_that_no_node_has_yet() -> None:
    for ahead in (0.05, 30.0):
        async with net("nats", 1, limits=quick(ahead=ahead), jetstream=True) as nodes:
            topic = nodes.places[0].cluster.topic("n", int)
            async with topic.produce() as producer:
                first = await producer.durable(1)
                epoch, _, position = first.partition(".")
                reader = topic.subscribe(after=f"{epoch}.{int(position) + 1}")
                if ahead < 1:
                    with pytest.raises(TopicGap) as caught:
                        await anext(reader)
                    assert caught.value.data["why"] == "ahead"
                else:
                    producer.publish(2)
                    producer.publish(3)
                    assert (await anext(reader)).value == 3
                    await reader.aclose()


def test_a_member_of_another_node_takes_at_most_400_bytes() -> None:
    directory = Directory("here", 100_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(5_000):
            about = {"k": f"s:{i:016x}", "s": "connected", "m": {}, "t": i / 7}
            directory.apply("there", json.loads(json.dumps(["+", f"there-j{i:016x}", about])))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / 5_000 <= 400


def test_the_groups_and_states_of_members_share_their_names() -> None:
    directory = Directory("here", 100)
    for session in ("there-j1", "there-j2"):
        for op in (
            ["+", session, {"k": "s:ann"}],
            ["j", session, "room"],
            ["s", session, "detached"],
        ):
            directory.apply("there", json.loads(json.dumps(op)))
    first, second = directory.find(group="room")
    assert first.groups[0] is second.groups[0]
    assert first.state is second.state
    assert first.principal is second.principal
