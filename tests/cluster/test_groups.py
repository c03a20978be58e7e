"""Groups of sessions in one process: exactly one reply a member, and nobody waits for a slow one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import Worker, as_given, net, node
from tests.support import error_of, until, visited
from wsrpc.cluster import Cluster, ClusterConfigError, ClusterLimits, NoMember, SessionGone


async def test_a_call_to_a_group_gets_exactly_one_reply_per_member() -> None:
    async with node() as place:
        workers = await place.workers(5)
        group = place.cluster.group("room")
        for session, _ in workers[:4]:
            await group.join(session.id)
        replies = await group.call(Worker.whoami)
        assert sorted(reply.unwrap() for reply in replies) == ["w0", "w1", "w2", "w3"]
        assert {reply.session for reply in replies} == {s.id for s, _ in workers[:4]}
        assert {reply.node for reply in replies} == {place.cluster.id}


async def test_an_empty_group_has_no_replies_and_no_member() -> None:
    async with node() as place:
        group = place.cluster.group("nobody")
        assert await group.call(Worker.whoami) == []
        assert await group.replies(Worker.whoami).collect() == []
        assert await group.stream(Worker.count, 3).collect() == []
        assert (await group.notify(Worker.note, "x")).sessions == 0
        with pytest.raises(NoMember) as caught:
            await group.one().clientize(Worker).whoami()
        assert caught.value.not_started


async def test_a_members_failure_is_its_reply_and_nobody_elses() -> None:
    async with node() as place:
        workers = await place.workers(3)
        bare = await place.connect()
        everyone = place.cluster.everyone()
        replies = {reply.session: reply for reply in await everyone.call(Worker.whoami)}
        assert len(replies) == 4
        error = replies[bare.id].error
        assert error is not None
        assert error.code == "unimplemented"
        with error_of("unimplemented"):
            replies[bare.id].unwrap()
        assert replies[workers[0][0].id].unwrap() == "w0"


async def test_a_late_member_has_deadline_exceeded_as_its_error() -> None:
    async with node() as place:
        ((_, worker),) = await place.workers(1)
        (reply,) = await place.cluster.everyone().options(timeout=0.05).call(Worker.wait)
        assert isinstance(reply.error, wsrpc.DeadlineExceeded)
        await until(lambda: worker.ended == 1)


async def test_members_leave_with_their_session_and_when_they_are_told_to() -> None:
    async with node() as place:
        workers = await place.workers(2)
        group = place.cluster.group("room")
        for session, _ in workers:
            await group.join(session.id)
            await group.join(session.id)
        await group.leave(workers[0][0].id)
        await group.leave(workers[0][0].id)
        assert [r.value for r in await group.call(Worker.whoami)] == ["w1"]
        await workers[1][0].aclose()
        await until(lambda: len(place.server.sessions) == 1)
        assert await group.call(Worker.whoami) == []
        with pytest.raises(SessionGone):
            await group.join(workers[1][0].id)


async def test_a_handler_joins_its_own_session() -> None:
    class Rooms:
        @wsrpc.method
        async def enter(self) -> None:
            await place.cluster.group("room").join()

    async with node([Rooms()]) as place:
        session = await place.connect(Worker("me"))
        await session.clientize(Rooms).enter()
        assert place.cluster.presence.count(group="room") == 1
        with pytest.raises(RuntimeError):
            await place.cluster.group("room").join()


async def test_excluded_members_are_left_out() -> None:
    async with node() as place:
        workers = await place.workers(2)
        everyone = place.cluster.everyone().options(exclude=workers[0][0].id)
        assert [r.value for r in await everyone.call(Worker.whoami)] == ["w1"]


async def test_replies_come_in_the_order_in_which_members_answer() -> None:
    async with node() as place:
        workers = await place.workers(3)
        names = []
        async with place.cluster.everyone().replies(Worker.wait) as replies:
            async with anyio.create_task_group() as group:

                async def take() -> None:
                    async for reply in replies:
                        names.append(reply.unwrap())

                group.start_soon(take)
                await until(lambda: all(worker.live for _, worker in workers))
                for i in (2, 0, 1):
                    workers[i][1].release.set()
                    await until(lambda: workers[i][1].name in names)  # noqa: B023
        assert names == ["w2", "w0", "w1"]


async def test_closing_the_replies_cancels_the_handlers() -> None:
    async with node() as place:
        workers = await place.workers(2)
        async with place.cluster.everyone().replies(Worker.wait) as replies:
            workers[0][1].release.set()
            assert (await anext(replies)).value == "w0"
            await until(lambda: workers[1][1].live == 1)
        await until(lambda: workers[1][1].ended == 1)


async def test_a_frozen_member_never_delays_the_others() -> None:
    limits = ClusterLimits(member_timeout=0.2)
    async with node(limits=limits) as place:
        workers = await place.workers(2)
        async with visited(place.server) as visit:
            frozen = visit()
            hello = await frozen.say_hello()
            id = hello[1]["session"]
            everyone = place.cluster.everyone()
            text = "x" * 60_000
            failed = []
            told = 0
            while told < 400:
                told += 1
                sent = await everyone.notify(Worker.note, text)
                assert sent.sessions + len(sent.failed) == 3
                if sent.failed:
                    failed = sent.failed
                    break
            assert [one.session for one in failed] == [id]
            assert failed[0].error is not None
            assert failed[0].error.not_started
            # The others have everything, while the frozen one is still frozen.
            await until(lambda: all(len(worker.notes) == told for _, worker in workers))


async def test_notifications_of_one_task_keep_their_order() -> None:
    async with node() as place:
        workers = await place.workers(2)
        for i in range(50):
            sent = await place.cluster.everyone().notify(Worker.note, str(i))
            assert (sent.sessions, sent.nodes, sent.failed) == (2, 1, [])
        for _, worker in workers:
            await until(lambda: len(worker.notes) == 50)  # noqa: B023
            assert worker.notes == [str(i) for i in range(50)]


async def test_any_method_can_be_notified() -> None:
    async with node() as place:
        ((_, worker),) = await place.workers(1)
        await place.cluster.everyone().notify(Worker.wait)
        await until(lambda: worker.live == 1)
        worker.release.set()
        with pytest.raises(TypeError):
            await place.cluster.everyone().notify(Worker.count, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_stream_of_a_group_is_merged_and_tagged() -> None:
    async with node() as place:
        workers = await place.workers(3)
        found: dict[str, list[int]] = {}
        ended = []
        async with place.cluster.everyone().stream(Worker.count, 20) as items:
            async for one in items:
                if one.ended:
                    assert one.error is None
                    ended.append(one.session)
                else:
                    assert one.item is not None
                    found.setdefault(one.session, []).append(one.item)
        assert sorted(ended) == sorted(s.id for s, _ in workers)
        assert found == {s.id: list(range(20)) for s, _ in workers}


async def test_one_members_failure_ends_that_member_and_not_the_stream() -> None:
    async with node() as place:
        await place.workers(1)
        bare = await place.connect()
        ends = []
        async for one in place.cluster.everyone().stream(Worker.count, 3):
            if one.ended:
                ends.append((one.session == bare.id, one.error is not None))
        assert sorted(ends) == [(False, False), (True, True)]


async def test_closing_a_stream_of_a_group_reaches_all() -> None:
    async with node() as place:
        workers = await place.workers(3)
        async with place.cluster.everyone().stream(Worker.endless) as items:
            for _ in range(10):
                await anext(items)
        await until(lambda: all(worker.ended == 1 for _, worker in workers))


async def test_one_picks_the_newest_member() -> None:
    async with node() as place:
        workers = await place.workers(2)
        group = place.cluster.group("room")
        for session, _ in workers:
            await group.join(session.id)
        proxy = group.one().clientize(Worker)
        assert await proxy.whoami() == "w1"
        assert await proxy.count(3).collect() == [0, 1, 2]
        with error_of("not_found"):
            await proxy.fail()
        await workers[1][0].aclose()
        await until(lambda: len(place.server.sessions) == 1)
        assert await proxy.whoami() == "w0"
        with pytest.raises(TypeError, match="one"):
            group.clientize(Worker)
        with pytest.raises(AttributeError, match="whoami"):
            _ = proxy.whoam  # type: ignore[attr-defined]


async def test_a_session_is_called_by_its_id() -> None:
    async with node() as place:
        ((session, _),) = await place.workers(1)
        target = place.cluster.session(session.id)
        assert await target.clientize(Worker).square(3) == 9
        assert await target.clientize("Worker").square(n=4) == 16
        assert [r.value for r in await target.call(Worker.whoami)] == ["w0"]
        gone = place.cluster.session("nobody")
        with pytest.raises(SessionGone) as caught:
            await gone.clientize(Worker).square(3)
        assert caught.value.not_started
        assert caught.value.code == "unavailable"


async def test_a_principal_is_called_at_its_newest_session() -> None:
    async with node(authenticate=as_given) as place:
        await place.connect(Worker("old"), auth="ann")
        await place.connect(Worker("new"), auth="ann")
        await place.connect(Worker("other"), auth="bob")
        target = place.cluster.principal("ann")
        assert await target.clientize(Worker).whoami() == "new"
        assert sorted(r.unwrap() for r in await target.call(Worker.whoami)) == ["new", "old"]


async def test_a_session_is_in_so_many_groups_at_most() -> None:
    async with node(limits=ClusterLimits(max_groups=2)) as place:
        session = await place.connect()
        await place.cluster.group("a").join(session.id)
        await place.cluster.group("b").join(session.id)
        await place.cluster.group("b").join(session.id)
        with error_of("resource_exhausted"):
            await place.cluster.group("c").join(session.id)


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_a_name_has_a_bounded_length(name: str) -> None:
    cluster = Cluster(wsrpc.Server([]))
    with pytest.raises(ValueError, match="named by"):
        cluster.group(name)
    with pytest.raises(ValueError, match="named by"):
        cluster.pool(name)
    with pytest.raises(ValueError, match="named by"):
        cluster.topic(name, int)


async def test_arguments_that_no_method_takes_are_the_callers_fault_and_raised_as_such() -> None:
    async with node() as place:
        await place.workers(3)
        everyone: Any = place.cluster.everyone()
        for wrong in ((), (1, 2, 3)):
            with pytest.raises(TypeError, match="square"):
                await everyone.call(Worker.square, *wrong)
            with pytest.raises(TypeError, match="note"):
                await everyone.notify(Worker.note, *wrong)
            with pytest.raises(TypeError, match="square"):
                await everyone.replies(Worker.square, *wrong).collect()
        with pytest.raises(TypeError):
            await everyone.call("Worker.square", 3)


async def test_an_empty_group_answers_with_nothing_and_has_nobody_to_pick() -> None:
    async with node() as place:
        group = place.cluster.group("room")
        assert await group.call(Worker.square, 3) == []
        assert await group.replies(Worker.square, 3).collect() == []
        assert await group.stream(Worker.count, 3).collect() == []
        sent = await group.notify(Worker.note, "x")
        assert (sent.sessions, sent.nodes, sent.failed) == (0, 0, [])
        with pytest.raises(NoMember, match="group 'room' has no member") as caught:
            await group.one().clientize(Worker).square(3)
        assert caught.value.not_started


@pytest.mark.parametrize("url", ["http://x", "nats://", [], "redis://me:secret@x"])
def test_what_is_no_address_of_nats_is_said_at_once(url: str | list[str]) -> None:
    with pytest.raises(ClusterConfigError, match="address of NATS") as caught:
        Cluster(wsrpc.Server([]), url)
    assert "secret" not in str(caught.value)


async def test_one_member_is_one_in_every_way_of_calling_it() -> None:
    async with node() as place:
        workers = await place.workers(3)
        one = place.cluster.everyone().one()
        assert [reply.value for reply in await one.call(Worker.whoami)] == ["w2"]
        assert [reply.value async for reply in one.replies(Worker.whoami)] == ["w2"]
        assert [item.item async for item in one.stream(Worker.count, 2)] == [0, 1, None]
        assert (await one.notify(Worker.note, "a")).sessions == 1
        await until(lambda: workers[2][1].notes == ["a"])
        assert [worker.notes for _, worker in workers[:2]] == [[], []]


async def test_the_options_of_a_target_hold_for_its_proxies() -> None:
    async with net("local", 2) as nodes:
        here, there = nodes.places
        session = await here.connect(Telling(), auth=None)
        await until(lambda: there.cluster.presence.count() == 1)
        for cluster in (here.cluster, there.cluster):
            for target in (cluster.session(session.id), cluster.everyone().one()):
                told = target.options(metadata={"a": "b"}, timeout=20).clientize(Telling)
                assert await told.told() == {"a": "b"}
                with error_of("deadline_exceeded"):
                    await target.options(timeout=0.05).clientize(Telling).hang()
                # What `clientize` is given itself comes first.
                own = target.options(timeout=0.01).clientize(
                    Telling, timeout=20, metadata={"c": "d"}
                )
                assert await own.told() == {"c": "d"}


class Telling:
    """A controller that tells the metadata of its call."""

    @wsrpc.method
    async def told(self) -> dict[str, str]:
        return dict(wsrpc.current().metadata)

    @wsrpc.method
    async def hang(self) -> None:
        await anyio.sleep_forever()


async def test_an_upload_that_is_read_once_is_not_shared_by_many() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    class Again:
        def __aiter__(self) -> AsyncIterator[int]:
            return numbers()

    async with node() as place:
        for _ in range(2):
            await place.connect(Adding())
        everyone = place.cluster.everyone()
        await until(lambda: place.cluster.presence.count() == 2)
        for ask in (everyone.call, everyone.replies, everyone.notify):
            with pytest.raises(TypeError, match="an upload is read once"):
                found: Any = ask(Adding.total, numbers())
                if hasattr(found, "__await__"):
                    await found
        again: Any = Again()
        replies = await everyone.call(Adding.total, again)
        assert [reply.value for reply in replies] == [3, 3]
        assert [one.value for one in await everyone.one().call(Adding.total, numbers())] == [3]


class Adding:
    """A controller that takes an upload."""

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])


async def test_next_with_a_timeout_leaves_a_merged_stream_alone_and_no_item_is_lost() -> None:
    async with node() as place:
        await place.workers(2)
        got: list[int] = []
        waits = 0
        async with place.cluster.everyone().stream(Worker.count, 20) as items:
            while True:
                try:
                    one = await items.next(timeout=0.0005)
                except TimeoutError:
                    waits += 1
                except StopAsyncIteration:
                    break
                else:
                    if one.item is not None:
                        got.append(one.item)
        assert sorted(got) == sorted([*range(20), *range(20)])
