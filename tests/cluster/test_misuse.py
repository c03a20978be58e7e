"""Each mistake of a newcomer gets an error of its own, at the wrong line, and harms nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import BusKind, Worker, as_given, net, node
from tests.support import error_of, soon, until
from wsrpc.cluster import Cluster, ClusterConfigError, ClusterLimits, LocalBus, SessionGone

LONE = "a\ud800"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda cluster, session: cluster.group(LONE), "lone surrogate"),
        (lambda cluster, session: cluster.pool(LONE), "lone surrogate"),
        (lambda cluster, session: cluster.topic(LONE, int), "lone surrogate"),
        (lambda cluster, session: cluster.set_meta(session, {"a": LONE}), "lone surrogate"),
        (lambda cluster, session: cluster.set_meta(session, {LONE: "a"}), "lone surrogate"),
        (lambda cluster, session: cluster.pool("p").add(session, capacity=2**31), "at most"),
        (lambda cluster, session: cluster.pool("p").add(session, capacity=2**70), "at most"),
    ],
)
async def test_what_cannot_travel_is_refused_and_other_nodes_go_on_to_hear_of_this_one(
    what: Callable[[Cluster, str], Any], words: str, bus: BusKind
) -> None:
    async with net(bus, 2) as nodes:
        here, there = nodes.places
        session = await here.connect(Worker())
        await until(lambda: here.cluster.presence.count() == 1)
        with pytest.raises(ValueError, match=words):
            found = what(here.cluster, session.id)
            if hasattr(found, "__await__"):
                await found
        with soon():
            await here.cluster.group("room").join(session.id, everywhere=True)
        assert there.cluster.presence.count(group="room") == 1


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    monkeypatch.delitem(sys.modules, "wsrpc.cluster.bus.nats", raising=False)
    with pytest.raises(ImportError, match=r"wsrpc-anyio\[nats\]"):
        import_module("wsrpc.cluster.bus.nats")
    with pytest.raises(ImportError, match=r"wsrpc-anyio\[nats\]"):
        Cluster(wsrpc.Server([]), "nats://127.0.0.1:4222")


async def test_a_principal_whose_key_cannot_travel_is_listed_without_it(bus: BusKind) -> None:
    async with net(bus, 1) as nodes:

        async def authenticate(handshake: object, auth: object) -> object:
            return LONE if auth == "lone" else auth

        here = await nodes.add(authenticate=authenticate)
        there = nodes.places[0]
        await here.connect(auth="lone")
        await here.connect(auth="ann")
        await until(lambda: there.cluster.presence.count() == 2)
        assert {one.principal for one in there.cluster.presence.list()} == {None, "s:ann"}


MISUSES: list[tuple[type[Exception], str, Callable[[Cluster, str], Any]]] = [
    (TypeError, "named by its id", lambda c, s: c.session(5)),  # type: ignore[arg-type]
    (TypeError, "name a session, or its id", lambda c, s: c.group("g").join(5)),  # type: ignore[arg-type]
    (TypeError, "name a session, or its id", lambda c, s: c.group("g").leave(Worker)),  # type: ignore[arg-type]
    (TypeError, "name a session, or its id", lambda c, s: c.pool("p").add(5)),  # type: ignore[arg-type]
    (TypeError, "map of strings", lambda c, s: c.set_meta(s, "abc")),  # type: ignore[arg-type]
    (TypeError, "map of strings", lambda c, s: c.set_meta(s, [("a", "b")])),  # type: ignore[arg-type]
    (ValueError, "overflow must be", lambda c, s: c.everyone().options(overflow="blok")),  # type: ignore[arg-type]
    (ValueError, "window must be at least", lambda c, s: c.everyone().options(window=0)),
    (ValueError, "window must be at most", lambda c, s: c.everyone().options(window=2**31)),
    (ValueError, "timeout must be", lambda c, s: c.everyone().options(timeout=math.nan)),
    (TypeError, "map of strings", lambda c, s: c.everyone().options(metadata={"a": 1})),  # type: ignore[dict-item]
    (ValueError, "exclude must be a list", lambda c, s: c.everyone().options(exclude=5)),  # type: ignore[arg-type]
    (ValueError, "each of exclude", lambda c, s: c.everyone().options(exclude=[5])),  # type: ignore[list-item]
    (ValueError, "attempts must be", lambda c, s: c.pool("p").options(attempts="2")),  # type: ignore[arg-type]
    (ValueError, "attempts must be", lambda c, s: c.pool("p").options(attempts=True)),
    (ValueError, "wait must be", lambda c, s: c.pool("p").options(wait=math.nan)),
    (ValueError, "history of a topic", lambda c, s: c.topic("t", int, history=1.5)),  # type: ignore[call-overload]
    (ValueError, "history of a topic", lambda c, s: c.topic("t", int, history=2**70)),
    (ValueError, "history_bytes", lambda c, s: c.topic("t", int, history_bytes=0)),
    (ValueError, "max_age", lambda c, s: c.topic("t", int, max_age=0)),
    (ValueError, "max_age", lambda c, s: c.topic("t", int, max_age=math.nan)),
    (ValueError, "durable", lambda c, s: c.topic("t", int, durable="x")),  # type: ignore[call-overload]
    (ValueError, "after must be", lambda c, s: c.topic("t", int).subscribe(after=5)),  # type: ignore[call-overload]
    (ValueError, "wait must be", lambda c, s: c.topic("t", int).subscribe(wait=math.nan)),
    (ValueError, "snapshot must be", lambda c, s: produce(c, snapshot=5)),
    (ValueError, "snapshot must be a plain", lambda c, s: produce(c, snapshot=anyio.sleep)),
    (ValueError, "standby must be", lambda c, s: produce(c, standby="x")),
    (ValueError, "group must be a text", lambda c, s: c.presence.list(group=5)),  # type: ignore[arg-type]
    (ValueError, "node must be a text", lambda c, s: c.presence.count(node=5)),  # type: ignore[arg-type]
    (ValueError, "linger must be", lambda c, s: anext(c.presence.watch(linger=-1))),
    (ValueError, "linger must be", lambda c, s: anext(c.presence.watch(linger=math.nan))),
    (TypeError, "together with its controller", lambda c, s: every(c).call("Worker.")),
    (TypeError, "together with its controller", lambda c, s: every(c).call(".square")),
    (TypeError, "method of the class", lambda c, s: every(c).call(Worker)),
    (TypeError, "decorate it with", lambda c, s: every(c).call(plain)),
]


def every(cluster: Cluster) -> Any:
    """All sessions, for calls that no type checker lets pass."""
    return cluster.everyone()


async def plain(self: object) -> None:
    """No method of any controller."""


async def produce(cluster: Cluster, **options: Any) -> None:
    async with cluster.topic("t", int).produce(**options):
        pass


@pytest.mark.parametrize(("error", "words", "what"), MISUSES)
async def test_a_wrong_argument_is_refused_where_it_is_written(
    error: type[Exception], words: str, what: Callable[[Cluster, str], Any]
) -> None:
    async with node() as place:
        session = await place.connect(Worker())
        await until(lambda: place.cluster.presence.count() == 1)
        with pytest.raises(error, match=words), soon():
            found = what(place.cluster, session.id)
            if hasattr(found, "__await__"):
                await found
        assert [one.value for one in await place.cluster.everyone().call(Worker.square, 3)] == [9]


async def test_a_window_that_no_credit_can_hold_is_refused_and_the_session_lives() -> None:
    async with node() as place:
        session = await place.connect(Worker())
        await until(lambda: place.cluster.presence.count() == 1)
        with pytest.raises(ValueError, match="window must be at most 2147483647 items"):
            place.has(session).clientize(Worker, window=2**31)
        with pytest.raises(ValueError, match=r"Limits\.window must be at most"):
            wsrpc.Limits(window=2**31)
        with pytest.raises(ValueError, match="member_window must be at most"):
            ClusterLimits(member_window=2**31)
        assert await place.has(session).clientize(Worker).square(3) == 9


async def test_a_wrong_option_of_a_call_to_another_node_is_refused_as_at_home() -> None:
    async with net("local", 2) as nodes:
        here, there = nodes.places
        session = await here.connect(Worker())
        await until(lambda: there.cluster.presence.count() == 1)
        target = there.cluster.session(session.id)
        for options in ({"window": 0}, {"window": 2**31}):
            with pytest.raises(ValueError, match="window must be at"):
                target.clientize(Worker, **options)
        with pytest.raises(TypeError, match="map of strings"):
            target.clientize(Worker, metadata="x")
        for id in (session.id + LONE, session.id + "0" * 100_000):
            with error_of("unavailable") as caught:
                there.cluster.session(id).clientize(Worker)
            assert isinstance(caught.value, SessionGone)
        for principal in (LONE, {"id": LONE}):
            with pytest.raises(ClusterConfigError, match="lone surrogate"):
                await there.cluster.revoke(principal)
        assert await target.clientize(Worker).square(3) == 9


@pytest.mark.parametrize("value", [2.5, math.inf])
def test_a_bound_that_counts_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"ClusterLimits\.fan must be a whole number"):
        ClusterLimits(fan=value)
    with pytest.raises(ValueError, match=r"ClusterLimits\.beat"):
        ClusterLimits(beat=math.inf, suspect=math.inf)


async def test_a_cluster_is_entered_once() -> None:
    cluster = Cluster(wsrpc.Server([]))
    with pytest.raises(RuntimeError, match="enter the cluster first"):
        await cluster.__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="enter the cluster first"):
        await produce(cluster)
    async with cluster:
        with pytest.raises(RuntimeError, match="enter a Cluster once"):
            await cluster.__aenter__()
        # The first entering has not been harmed.
        await produce(cluster)
    with pytest.raises(RuntimeError, match="enter a Cluster once"):
        await cluster.__aenter__()


async def test_a_bus_serves_one_cluster() -> None:
    bus = LocalBus()
    async with Cluster(wsrpc.Server([]), bus):
        with pytest.raises(RuntimeError, match="one Cluster"):
            await Cluster(wsrpc.Server([]), bus).__aenter__()


async def test_a_cluster_that_was_left_refuses_what_it_is_asked_for() -> None:
    server = wsrpc.Server([Worker()], authenticate=as_given)
    outcomes: list[wsrpc.RpcError] = []
    cluster, holding = Cluster(server), AsyncExitStack()
    producer: Any = None
    with soon():
        async with anyio.create_task_group() as group:
            async with cluster:
                producer = await holding.enter_async_context(cluster.topic("t", int).produce())

                async def stand_by() -> None:
                    with pytest.raises(wsrpc.RpcError) as caught:
                        await produce(cluster, standby=True)
                    outcomes.append(caught.value)

                group.start_soon(stand_by)
                await anyio.wait_all_tasks_blocked()
            await until(lambda: len(outcomes) == 1)
        everyone = cluster.everyone()
        for call in (
            everyone.call(Worker.square, 3),
            everyone.notify(Worker.note, "a"),
            everyone.one().clientize(Worker).square(3),
            cluster.pool("p").call(Worker.square, 3),
            producer.durable(1),
            producer.flush(),
            produce(cluster),
            produce(cluster, standby=True),
        ):
            with error_of("unavailable") as refused:
                await call
            outcomes.append(refused.value)
        for fails in (
            lambda: cluster.topic("t", int).subscribe(),
            lambda: cluster.topic("u", int).subscribe(),
            lambda: everyone.stream(Worker.count, 3),
            lambda: everyone.replies(Worker.square, 3),
        ):
            with pytest.raises(wsrpc.RpcError) as caught:
                fails()
            outcomes.append(caught.value)
        assert {(one.code, one.not_started) for one in outcomes} == {("unavailable", True)}
        assert [one async for one in cluster.presence.watch()] == []
        with error_of("unavailable"):
            await holding.aclose()


async def test_a_cluster_that_is_used_from_another_event_loop_says_so(
    anyio_backend_name: str,
) -> None:
    async with node() as place:
        session = await place.connect(Worker())
        await until(lambda: place.cluster.presence.count() == 1)
        cluster, pool = place.cluster, place.cluster.pool("p")
        await pool.add(session.id)

        async def subscribe() -> None:
            cluster.topic("t", int).subscribe()

        async def one() -> None:
            await cluster.everyone().one().clientize(Worker).square(3)

        for use in (
            lambda: produce(cluster),
            subscribe,
            lambda: cluster.group("g").join(session.id),
            lambda: cluster.group("g").leave(session.id),
            lambda: pool.add(session.id),
            lambda: pool.remove(session.id),
            lambda: pool.call(Worker.square, 3),
            lambda: cluster.everyone().call(Worker.square, 3),
            lambda: cluster.everyone().notify(Worker.note, "a"),
            one,
        ):

            def elsewhere(use: Any = use) -> None:
                anyio.run(use, backend=anyio_backend_name)

            with pytest.raises(RuntimeError, match="another event loop, or another thread"):
                await anyio.to_thread.run_sync(elsewhere)
        assert await pool.call(Worker.square, 3) == 9


async def test_a_session_that_the_full_directory_left_out_is_not_said_to_be_gone() -> None:
    async with node(limits=ClusterLimits(max_members=1)) as place:
        await place.connect()
        left_out = await place.connect()
        await until(lambda: place.cluster.snapshot().members_refused == 1)
        with error_of("resource_exhausted") as caught:
            await place.cluster.group("g").join(left_out.id)
        assert "ClusterLimits.max_members" in str(caught.value)


@pytest.mark.parametrize("bound", ["tunnel_replay", "link_pending"])
def test_a_bound_under_which_no_message_would_pass_is_refused(bound: str) -> None:
    bounds: dict[str, Any] = {bound: 1000}
    with pytest.raises(ValueError, match=rf"ClusterLimits\.{bound} must be at least"):
        ClusterLimits(**bounds)
