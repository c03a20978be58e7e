"""Several nodes: who is there, calls between them, and what becomes of all that when one dies."""

from __future__ import annotations

import json
import math
import random
from typing import Literal

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, BusKind, Net, Worker, as_given, net
from tests.support import error_of, live, until
from wsrpc.cluster import Cluster, ClusterConfigError, NodeLost, SessionGone
from wsrpc.cluster.directory import Directory


async def test_calls_reach_a_session_of_another_node(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        worker = Worker("far")
        for codec in ("json", "msgpack"):
            session = await there.connect(worker, codec=codec)
            proxy = here.cluster.session(session.id).clientize(Worker)
            assert await proxy.square(3) == 9
            assert await proxy.count(500).collect() == list(range(500))
            with error_of("not_found"):
                await proxy.fail()
            await proxy.note("hello")
            await until(lambda: "hello" in worker.notes)
            worker.notes.clear()
        with pytest.raises(SessionGone) as caught:
            await here.cluster.session(f"{there.cluster.id}-j00").clientize(Worker).square(3)
        assert caught.value.not_started
        with pytest.raises(SessionGone):
            await here.cluster.session("0123456789-j00").clientize(Worker).square(3)


async def test_credit_crosses_nodes(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        session = await there.connect(Worker())
        proxy = here.cluster.session(session.id).clientize(Worker, window=8)
        async with proxy.endless() as items:
            for i in range(3):
                assert await anext(items) == i
            hub = live(there.has(session)).wire.hub
            sent = hub.endpoint.received
            await anyio.sleep(0.05)
            # The consumer has stopped, and so has the producer.
            assert hub.endpoint.received - sent <= 2


async def test_groups_and_presence_cover_all_nodes(bus: BusKind) -> None:
    async with net(bus, 3) as nodes:
        sessions = []
        for i, place in enumerate(nodes.places):
            for j in range(3):
                session = await place.connect(Worker(f"{i}.{j}"))
                await place.cluster.group("room").join(session.id, everywhere=True)
                sessions.append(session.id)
        expected = [f"{i}.{j}" for i in range(3) for j in range(3)]
        for place in nodes.places:
            assert sorted(m.session for m in place.cluster.presence.list()) == sorted(sessions)
            replies = await place.cluster.group("room").call(Worker.whoami)
            assert sorted(reply.unwrap() for reply in replies) == expected
            sent = await place.cluster.group("room").notify(Worker.note, "x")
            assert (sent.sessions, sent.nodes, sent.failed) == (9, 3, [])
        items = [
            one
            async for one in nodes.places[0].cluster.group("room").stream(Worker.count, 5)
            if not one.ended
        ]
        assert len(items) == 45


async def test_a_node_that_leaves_takes_its_sessions_with_it(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        session = await there.connect(Worker())
        changes = here.cluster.presence.watch()
        change = await anext(changes)
        assert (change.kind, change.member.session) == ("join", session.id)
        await nodes.remove(there)
        change = await anext(changes)
        while change.kind != "leave":
            change = await anext(changes)
        assert here.cluster.presence.count() == 0
        assert list(here.cluster.nodes) == [here.cluster.id]
        with pytest.raises(SessionGone):
            await here.cluster.session(session.id).clientize(Worker).square(3)
        await changes.aclose()


async def test_a_call_under_way_to_a_node_that_dies_gets_one_typed_error(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        worker = Worker()
        session = await there.connect(worker)
        outcomes: list[BaseException] = []

        async def call() -> None:
            try:
                await here.cluster.session(session.id).clientize(Worker).wait()
            except wsrpc.RpcError as error:
                outcomes.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: worker.live == 1)
            await die(nodes, 1)
            await until(lambda: there.cluster.id not in here.cluster.nodes)
        (error,) = outcomes
        assert isinstance(error, NodeLost)
        assert not error.not_started
        # Its client's handler has nobody any more to answer to.
        worker.release.set()


async def die(nodes: Net, at: int) -> None:
    """Let a node fall silent, as a killed process does: nobody listens there any more."""
    bus = nodes.buses[at]
    await bus.close()


async def test_a_bus_that_is_away_for_a_while_loses_nothing(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        session = await there.connect(Worker())
        proxy = here.cluster.session(session.id).clientize(Worker)
        got = []
        async with proxy.count(3000) as items:
            async for item in items:
                got.append(item)
                if item in (500, 1500, 2500):
                    away = nodes.buses[item % 2]
                    if bus == "local":
                        away.cut()
                        await anyio.sleep(0.02)
                        away.mend()
                    else:
                        await away.run(away.client.force_reconnect)
        assert got == list(range(3000))
        assert await proxy.square(4) == 16


@pytest.mark.slow
async def test_dropped_messages_are_noticed_and_made_good() -> None:
    async with net("local") as nodes:
        here, there = nodes.places
        session = await there.connect(Worker())
        proxy = here.cluster.session(session.id).clientize(Worker, timeout=50)
        for at, one in enumerate(nodes.buses):
            one.drop(0.02, seed=at)
        assert await proxy.count(2000).collect() == list(range(2000))
        for i in range(50):
            assert await proxy.square(i) == i * i
        for one in nodes.buses:
            one.drop(0)
        snapshot = here.cluster.network
        assert snapshot is not None


async def test_junk_on_any_subject_is_counted_and_dropped(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        session = await there.connect(Worker())
        network = here.cluster.network
        assert network is not None
        node = there.cluster.id
        for data in (b"", b"{}", b"\xff\xfe", b"[1,2]", b'{"n":1}', b"x" * 1000):
            for subject in ("beat", "load", "dial", "forward", "ping", "link.x", "nonsense"):
                where = subject if subject in ("beat", "load") else f"to.{node}.{subject}"
                await network.say(where, data)
        proxy = here.cluster.session(session.id).clientize(Worker)
        assert await proxy.square(3) == 9
        await until(lambda: there.cluster.snapshot().junk > 10)


def _changes(*changes: dict[str, object]) -> tuple[dict[str, object], ...]:
    return changes


async def test_random_bytes_on_each_subject_are_counted_and_never_raise(
    bus: BusKind, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(5)
    deep = b'{"n":"a","g":1,"l":"x","p":"wsrpc.json.1","m":' + b'{"a":' * 50_000
    async with net(bus) as nodes:
        here, there = nodes.places
        session = await there.connect(Worker())
        proxy = here.cluster.session(session.id).clientize(Worker)
        assert await proxy.square(3) == 9
        network = here.cluster.network
        assert network is not None
        node = there.cluster.id
        dial = {"n": "a", "g": 1, "l": "x", "p": "wsrpc.json.1"}
        forward = {**dial, "path": "/", "headers": {}, "remote": "", "tls": False, "address": ""}
        shaped: list[dict[str, object]] = [
            {**forward, **change}
            for change in _changes(
                {"n": "a b"},
                {"n": "a.>"},
                {"n": ""},
                {"n": "x" * 65},
                {"n": "a\r\nPUB x 1"},
                {"l": ">"},
                {"l": " "},
                {"p": "telnet"},
                {"g": 10**30},
                {"g": -1},
                {"g": "1"},
                {"headers": {"a": 1}},
                {"headers": []},
                {"remote": None},
                {"certificate": 7},
            )
        ]
        junk = [json.dumps(one).encode() for one in shaped]
        junk += [chance.randbytes(chance.choice([1, 9, 10, 11, 100, 5000])) for _ in range(40)]
        junk += [deep, b"", b"\x01" + bytes(8), b"\x02" + bytes(10), b"\x03" + b"\xff" * 8]
        beat = {"n": "b", "c": 1, "g": 1, "s": "up", "t": 0.0}
        odd: list[dict[str, object]]
        odd = [{"n": "a b"}, {"m": {"a": "x" * 2000}}, {"c": "1"}, {"p": 99}, {"t": None}]
        junk += [json.dumps({**beat, **one}).encode() for one in odd]
        subjects = ["beat", "void", "load", "dir.x", f"to.{node}", f"to.{node}."]
        subjects += [f"to.{node}.{rest}" for rest in ("ping", "dial", "forward", "link", "link.x")]
        subjects += [f"to.{node}.{rest}" for rest in ("nonsense", "a.b.c", "link.x.y")]
        before = there.cluster.snapshot().junk
        for data in junk:
            for subject in subjects:
                await network.say(subject, data)
        assert await proxy.square(4) == 16
        await until(lambda: there.cluster.snapshot().junk > before + 200)
        assert sorted(there.cluster.nodes) == sorted(here.cluster.nodes)
        assert len(here.cluster.nodes) == 2
    assert "Traceback" not in caplog.text


async def test_what_another_node_says_of_its_sessions_is_looked_at() -> None:
    directory = Directory("here", 10)
    for op in (
        [],
        ["+"],
        ["?", "s"],
        [[], "s"],
        ["+", 1, {}],
        ["+", "s", []],
        ["+", "s", {"k": 1}],
        ["+", "s", {"t": "x"}],
        ["+", "s", {"m": {"a": 1}}],
        ["j", "s"],
        ["j", "s", 1],
        ["w", "s", "p", "1"],
        ["w", "s", "p", -1],
        ["s", "s", "gone"],
        ["m", "s", None],
        ["-", "s", "closed", 1],
    ):
        with pytest.raises(ValueError, match="no operation"):
            directory.apply("there", op)
        with pytest.raises(ValueError, match="no operation"):
            directory.replace("there", [op])


async def test_a_principal_without_a_key_is_an_error_that_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def authenticate(handshake: object, auth: object) -> object:
        return object()

    async with net("local", 0) as nodes:
        place = await nodes.add(authenticate=authenticate)
        for _ in range(3):
            await place.connect(auth="x")
        # They can be called and join groups, but nobody can find them by their principal.
        assert [one.principal for one in place.cluster.presence.list()] == [None] * 3
        with pytest.raises(ClusterConfigError, match=r"Grant\(principal, key="):
            place.cluster.principal(object())
    assert caplog.text.count("Grant(principal, key=") == 1


async def test_a_principal_is_found_by_its_key_and_by_what_it_says_of_itself() -> None:
    async def authenticate(handshake: object, auth: str) -> object:
        return {"sub": auth} if auth != "bob" else wsrpc.Grant(object(), key=7)

    async with net("local", 0) as nodes:
        here = await nodes.add(authenticate=authenticate)
        there = await nodes.add(authenticate=authenticate)
        await there.connect(Worker("ann"), auth="ann")
        await there.connect(Worker("bob"), auth="bob")
        await until(lambda: here.cluster.presence.count() == 2)
        for principal, name in (({"sub": "ann"}, "ann"), (7, "bob"), ("n:7", "bob")):
            proxy = here.cluster.principal(principal).clientize(Worker)
            assert await proxy.whoami() == name
        assert await here.cluster.revoke({"sub": "ann"}) == 1
        assert await here.cluster.revoke("n:7") == 1


async def test_revoking_ends_the_sessions_of_a_principal_everywhere(bus: BusKind) -> None:
    async with net(bus, 0) as nodes:
        here = await nodes.add(authenticate=as_given)
        there = await nodes.add(authenticate=as_given)
        await here.connect(auth="ann", reconnect=False)
        await there.connect(auth="ann", reconnect=False)
        await there.connect(auth="bob", reconnect=False)
        assert await here.cluster.revoke("ann") == 2
        await until(lambda: not here.server.sessions)
        await until(lambda: len(there.server.sessions) == 1)


async def test_what_was_revoked_is_revoked_on_a_node_that_was_cut_off_when_it_is_back() -> None:
    async with net("local", 0) as nodes:
        here = await nodes.add(authenticate=as_given)
        there = await nodes.add(authenticate=as_given)
        await there.connect(auth="ann", reconnect=False)
        await there.connect(auth="bob", reconnect=False)
        nodes.buses[1].cut()
        await until(lambda: there.cluster.id not in here.cluster.nodes)
        assert await here.cluster.revoke("ann") == 0
        assert len(there.server.sessions) == 2
        nodes.buses[1].mend()
        await until(lambda: len(there.server.sessions) == 1)
        assert [one.principal for one in there.server.sessions.values()] == ["bob"]


@pytest.mark.slow
async def test_a_node_that_was_not_reached_is_named_and_told_later() -> None:
    async with net("local", 0) as nodes:
        here = await nodes.add(authenticate=as_given)
        there = await nodes.add(authenticate=as_given)
        await there.connect(auth="ann", reconnect=False)
        nodes.buses[1].freeze()
        with error_of("unavailable") as caught:
            await here.cluster.revoke("ann")
        assert there.cluster.id in caught.value.message
        nodes.buses[1].thaw()
        await until(lambda: not there.server.sessions)


async def test_two_clusters_with_different_names_do_not_see_each_other() -> None:
    async with net("local", 1) as nodes:
        (place,) = nodes.places
        server = wsrpc.Server([])
        from wsrpc.cluster import LocalBus

        other = LocalBus(nodes.buses[0]._broker)
        async with Cluster(server, other, name="other", limits=QUICK) as cluster:
            await anyio.sleep(0.3)
            assert len(cluster.nodes) == 1
            assert len(place.cluster.nodes) == 1


@pytest.mark.parametrize("name", ["", "Prod", "a.b", "a b", "x" * 33, "a>"])
def test_a_clusters_name_fits_into_a_subject(name: str) -> None:
    with pytest.raises(ClusterConfigError, match="name"):
        Cluster(wsrpc.Server([]), name=name)


async def test_a_pool_covers_all_nodes_and_its_capacity_holds(bus: BusKind) -> None:
    async with net(bus, 3) as nodes:
        workers = []
        for place in nodes.places:
            worker = Worker(place.cluster.id)
            session = await place.connect(worker)
            await place.cluster.pool("jobs").add(session.id, capacity=2)
            workers.append(worker)
        pools = [place.cluster.pool("jobs") for place in nodes.places]
        await until(lambda: all(pool.stats.workers == 3 for pool in pools))
        done: list[str] = []

        async def call(at: int) -> None:
            done.append(await pools[at].call(Worker.wait))

        async with anyio.create_task_group() as group:
            for i in range(18):
                group.start_soon(call, i % 3)
            await until(lambda: sum(worker.live for worker in workers) == 6)
            for worker in workers:
                worker.release.set()
        assert len(done) == 18
        assert all(worker.peak <= 2 for worker in workers)


async def test_a_dead_nodes_workers_calls_go_to_another_by_their_policy(bus: BusKind) -> None:
    async with net(bus) as nodes:
        here, there = nodes.places
        dead, alive = Worker("dead"), Worker("alive")
        session = await there.connect(dead)
        await there.cluster.pool("jobs").add(session.id)
        pool = here.cluster.pool("jobs").options(requeue="always")
        await until(lambda: pool.stats.workers == 1)
        found: list[str] = []

        async def call() -> None:
            found.append(await pool.call(Worker.wait))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: dead.live == 1)
            other = await here.connect(alive)
            alive.release.set()
            await here.cluster.pool("jobs").add(other.id)
            await die(nodes, 1)
        assert found == ["alive"]
        dead.release.set()


def test_the_command_says_what_is_wrong_with_a_clusters_name() -> None:
    from wsrpc.cli.failures import Failure
    from wsrpc.cli.serve_command import node_of_cluster

    with pytest.raises(Failure, match="name"):
        node_of_cluster(wsrpc.Server([]), ["nats://127.0.0.1:1"], "Prod")


async def test_a_worker_that_another_node_keeps_busy_is_left_alone(
    bus: BusKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.cluster.node.POLL", math.inf)
    async with net(bus, 3) as nodes:
        here, there, third = nodes.places
        workers = await third.workers(2)
        for session, _ in workers:
            await third.cluster.pool("jobs").add(session.id, capacity=2)
        mine, theirs = here.cluster.pool("jobs"), there.cluster.pool("jobs")
        await until(lambda: mine.stats.workers == theirs.stats.workers == 2)
        found: list[str] = []

        async def wait() -> None:
            found.append(await theirs.call(Worker.wait))

        async with anyio.create_task_group() as group:
            for busy in (1, 2, 3):
                group.start_soon(wait)
                await until(lambda: mine.stats.busy == busy)  # noqa: B023
            (idler,) = [one.name for _, one in workers if one.live == 1]
            # It has one call of the other node's, and the other worker two.
            assert [await mine.call(Worker.whoami) for _ in range(5)] == [idler] * 5
            await until(lambda: theirs.stats.busy == 3)
            group.start_soon(wait)
            await until(lambda: mine.stats.busy == 4)

            async def late() -> None:
                found.append(await mine.call(Worker.whoami))

            group.start_soon(late)
            await until(lambda: mine.stats.waiting == 1)
            # A waiting call is told of the free place, and does not have to look for it.
            for _, one in workers:
                one.release.set()
        assert len(found) == 5
        await until(lambda: mine.stats.busy == theirs.stats.busy == 0)


class Onward:
    """Calls sessions of the cluster for its callers."""

    def __init__(self) -> None:
        self.cluster: Cluster

    @wsrpc.method
    async def square(self, session: str) -> int:
        return await self.cluster.session(session).clientize(Worker).square(3)

    @wsrpc.method
    async def lie(self, session: str) -> None:
        await self.cluster.session(session).clientize(Liar).lie()


class Liar:
    @wsrpc.method
    async def lie(self) -> None:
        raise SessionGone("so it says")


async def test_what_a_node_says_of_itself_crosses_and_what_a_session_says_does_not(
    bus: BusKind,
) -> None:
    async with net(bus, 0) as nodes:
        onward = Onward()
        here, there = await nodes.add([onward]), await nodes.add()
        onward.cluster = here.cluster
        caller = await here.connect()
        proxy = caller.clientize(Onward)
        liar = await there.connect(Liar())
        # Its node knows that this session is gone, and the caller's does not.
        with error_of("unavailable"):
            await proxy.square(f"{there.cluster.id}-j00")
        with error_of("unavailable"):
            await proxy.square("0123456789-j00")
        with error_of("internal"):
            await proxy.lie(liar.id)
        with pytest.raises(wsrpc.RpcError) as caught:
            await here.cluster.session(liar.id).clientize(Liar).lie()
        assert not isinstance(caught.value, SessionGone)
        assert (caught.value.code, caught.value.message) == ("unavailable", "so it says")


class Messages(wsrpc.Observer):
    """Counts the messages of sessions."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}

    def bytes(
        self, session: wsrpc.Session, direction: Literal["sent", "received"], count: int
    ) -> None:
        if direction == "sent":
            self.sent[session.id] = self.sent.get(session.id, 0) + 1


async def test_calls_that_come_in_one_message_go_on_in_one(bus: BusKind) -> None:
    messages = Messages()
    async with net(bus, n=1) as nodes:
        here = nodes.places[0]
        there = await nodes.add(observers=[messages])
        session = await there.connect(Worker())
        proxy = here.cluster.session(session.id).clientize(Worker)
        assert await proxy.square(2) == 4
        before = messages.sent[session.id]
        answers: list[int] = []

        async def ask(n: int) -> None:
            answers.append(await proxy.square(n))

        async with anyio.create_task_group() as group:
            for n in range(64):
                group.start_soon(ask, n)
        assert sorted(answers) == [n * n for n in range(64)]
        # The calls of one message are acted on in a few portions. Each call by itself makes 64.
        assert messages.sent[session.id] - before < 20
