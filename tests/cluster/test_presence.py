"""Presence in one process: who is there, and each change once."""

from __future__ import annotations

import anyio
import pytest

import wsrpc
from tests.cluster.support import as_given, node
from tests.support import error_of, until, visited
from wsrpc.cluster import Cluster, ClusterLimits, PresenceChange, SessionGone


async def take(changes: wsrpc.Stream[PresenceChange], n: int) -> list[tuple[str, str, str]]:
    """The next `n` changes: kind, session and reason."""
    found: list[tuple[str, str, str]] = []
    for _ in range(n):
        change = await anext(changes)
        found.append((change.kind, change.member.session, change.reason))
    return found


async def test_presence_lists_and_counts_what_fits_all_that_is_asked() -> None:
    async with node(authenticate=as_given) as place:
        ann = await place.connect(auth="ann")
        bob = await place.connect(auth="bob")
        await place.cluster.group("room").join(ann.id)
        place.cluster.set_meta(ann.id, {"colour": "red"})
        presence = place.cluster.presence
        (member,) = presence.list(group="room")
        assert (member.session, member.principal, member.node) == (
            ann.id,
            "s:ann",
            place.cluster.id,
        )
        assert member.groups == {"room"}
        assert member.meta == {"colour": "red"}
        assert member.state == "connected"
        assert presence.count() == 2
        assert presence.count(group="room", principal="s:bob") == 0
        assert [one.session for one in presence.list(principal="s:bob")] == [bob.id]
        assert presence.count(node=place.cluster.id) == 2
        assert presence.count(node="another") == 0


async def test_a_watcher_hears_of_those_who_are_there_and_then_of_each_change_once() -> None:
    async with node() as place:
        first = await place.connect()
        changes = place.cluster.presence.watch()
        assert await take(changes, 1) == [("join", first.id, "initial")]
        second = await place.connect()
        assert await take(changes, 1) == [("join", second.id, "connected")]
        await place.cluster.group("room").join(second.id)
        assert await take(changes, 1) == [("update", second.id, "moved")]
        await second.aclose()
        assert await take(changes, 1) == [("leave", second.id, "closed")]
        await changes.aclose()


async def test_a_watcher_of_a_group_hears_who_joins_and_leaves_it() -> None:
    async with node() as place:
        first, second = await place.connect(), await place.connect()
        group = place.cluster.group("room")
        await group.join(first.id)
        changes = place.cluster.presence.watch(group="room")
        assert await take(changes, 1) == [("join", first.id, "initial")]
        await group.join(second.id)
        assert await take(changes, 1) == [("join", second.id, "connected")]
        await group.leave(first.id)
        assert await take(changes, 1) == [("leave", first.id, "moved")]
        await changes.aclose()


async def test_a_slow_watcher_holds_one_change_a_member_and_hears_the_latest() -> None:
    async with node() as place:
        session = await place.connect()
        changes = place.cluster.presence.watch()
        await anext(changes)
        group = place.cluster.group("room")
        for _ in range(100):
            await group.join(session.id)
            await group.leave(session.id)
        place.cluster.set_meta(session.id, {"a": "1"})
        change = await anext(changes)
        assert change.kind == "update"
        assert change.member.meta == {"a": "1"}
        assert change.member.groups == frozenset()
        ghost = await place.connect()
        await ghost.aclose()
        await until(lambda: len(place.server.sessions) == 1)
        other = await place.connect()
        # What came and went meanwhile is not told.
        assert await take(changes, 1) == [("join", other.id, "connected")]
        await changes.aclose()


async def test_a_lost_connection_is_an_update_and_its_return_as_well() -> None:
    async with node() as place, visited(place.server) as visit:
        peer = visit()
        hello = await peer.say_hello()
        id = hello[1]["session"]
        changes = place.cluster.presence.watch()
        assert await take(changes, 1) == [("join", id, "initial")]
        peer.link.abort()
        change = await anext(changes)
        assert (change.kind, change.member.state) == ("update", "detached")
        back = visit()
        hello = [
            "hello",
            {"version": 1, "token": hello[1]["token"], "link": 2, "received": 0, "window": 32},
        ]
        await back.send(hello)
        await back.expect("hello")
        change = await anext(changes)
        assert (change.kind, change.member.state) == ("update", "connected")
        await changes.aclose()


async def test_lingering_leaves_are_told_only_if_nobody_of_the_principal_comes_back() -> None:
    async with node(authenticate=as_given) as place:
        changes = place.cluster.presence.watch(linger=0.05)
        ann, bob = await place.connect(auth="ann"), await place.connect(auth="bob")
        await take(changes, 2)
        slow = place.cluster.presence.watch(linger=30)
        await take(slow, 2)
        with anyio.move_on_after(0):
            await anext(slow)
        slow = place.cluster.presence.watch(linger=30)
        await take(slow, 2)
        await bob.aclose()
        assert await take(changes, 1) == [("leave", bob.id, "closed")]
        await ann.aclose()
        await until(lambda: len(place.server.sessions) == 0)
        with anyio.move_on_after(0.01):
            await anext(slow)
            raise AssertionError("it lingers")
        await changes.aclose()
        await slow.aclose()


async def test_a_principal_that_comes_back_in_time_has_moved() -> None:
    async with node(authenticate=as_given) as place:
        ann = await place.connect(auth="ann")
        changes = place.cluster.presence.watch(linger=30)
        await take(changes, 1)
        await ann.aclose()
        await until(lambda: len(place.server.sessions) == 0)
        told = []
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                told.append(await anext(changes))

            group.start_soon(watch)
            await anyio.sleep(0.01)
            # Nobody has been told that it left.
            await place.connect(auth="ann")
        (change,) = told
        assert (change.kind, change.reason) == ("update", "moved")
        await changes.aclose()


async def test_there_are_so_many_watchers_at_most() -> None:
    async with node(limits=ClusterLimits(max_watch=1)) as place:
        await place.connect()
        first, second = place.cluster.presence.watch(), place.cluster.presence.watch()
        await anext(first)
        with error_of("resource_exhausted"):
            await anext(second)
        await first.aclose()
        third = place.cluster.presence.watch()
        await anext(third)
        await third.aclose()


async def test_a_watcher_waits_for_a_limited_time_and_never_looks_complete_when_cancelled() -> None:
    async with node() as place:
        changes = place.cluster.presence.watch()
        with pytest.raises(TimeoutError):
            await changes.next(timeout=0.01)
        client = await place.connect()
        assert await take(changes, 1) == [("join", client.id, "connected")]
        with anyio.move_on_after(0.01):
            await anext(changes)
        with pytest.raises(wsrpc.RpcError, match=r"presence\.watch\(\) was cancelled"):
            await anext(changes)
        assert place.cluster.presence.watchers == 0


async def test_the_directory_is_bounded_and_says_what_it_left_out() -> None:
    async with node(limits=ClusterLimits(max_members=1)) as place:
        await place.connect()
        await place.connect()
        assert place.cluster.presence.count() == 1
        assert place.cluster.snapshot().members_refused == 1


async def test_meta_is_text_and_bounded() -> None:
    async with node(limits=ClusterLimits(max_meta=8)) as place:
        session = await place.connect()
        place.cluster.set_meta(session.id, {"1234": "5678"})
        with pytest.raises(ValueError, match="max_meta"):
            place.cluster.set_meta(session.id, {"1234": "56789"})
        with pytest.raises(TypeError):
            place.cluster.set_meta(session.id, {"a": 1})  # type: ignore[dict-item]
        with pytest.raises(SessionGone):
            place.cluster.set_meta("nobody", {})


async def test_a_cluster_is_built_once_and_before_the_server_listens() -> None:
    server = wsrpc.Server([])
    async with server.listen():
        with pytest.raises(RuntimeError, match="before the server listens"):
            Cluster(server)
    Cluster(server)
    with pytest.raises(RuntimeError, match="once"):
        Cluster(server)


async def test_ids_and_tokens_begin_with_the_node() -> None:
    async with node() as place:
        json = await place.connect()
        pack = await place.connect(codec="msgpack")
        assert json.id.startswith(f"{place.cluster.id}-j")
        assert pack.id.startswith(f"{place.cluster.id}-m")


@pytest.mark.parametrize("changes", [{"beat": 0.01}, {"max_nodes": 0}, {"fan": True}, {"beat": 2}])
def test_limits_have_floors(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ClusterLimits"):
        ClusterLimits(**changes)  # type: ignore[arg-type]
