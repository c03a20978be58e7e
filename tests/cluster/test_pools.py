"""Pools in one process: capacity, the least busy worker, and what becomes of a dead one's calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

import wsrpc
from tests.cluster.support import Place, Worker, net, node
from tests.support import error_of, until, visited
from wsrpc.cluster import ClusterLimits, Pool


async def wait_at(pool: Pool) -> None:
    await pool.call(Worker.wait)


async def staffed(place: Place, n: int, capacity: int = 1) -> tuple[Pool, list[Worker]]:
    workers = await place.workers(n)
    pool = place.cluster.pool("jobs")
    for session, _ in workers:
        await pool.add(session.id, capacity=capacity)
    return pool, [worker for _, worker in workers]


async def test_a_worker_never_has_more_calls_than_its_capacity() -> None:
    async with node() as place:
        pool, workers = await staffed(place, 2, capacity=3)
        done = []
        async with anyio.create_task_group() as group:

            async def call() -> None:
                done.append(await pool.call(Worker.wait))

            for _ in range(20):
                group.start_soon(call)
            await until(lambda: sum(worker.live for worker in workers) == 6)
            stats = pool.stats
            assert (stats.workers, stats.capacity, stats.busy, stats.waiting) == (2, 6, 6, 14)
            assert stats.nodes == {place.cluster.id: 2}
            for worker in workers:
                worker.release.set()
        assert len(done) == 20
        assert all(worker.peak == 3 for worker in workers)
        assert pool.stats.busy == 0


async def test_calls_go_to_the_least_busy_worker_by_its_capacity() -> None:
    async with node() as place:
        workers = await place.workers(2)
        pool = place.cluster.pool("jobs")
        await pool.add(workers[0][0].id, capacity=1)
        await pool.add(workers[1][0].id, capacity=3)
        async with anyio.create_task_group() as group:
            for i in range(4):
                group.start_soon(wait_at, pool)
                await until(lambda: workers[0][1].live + workers[1][1].live == i + 1)  # noqa: B023
            assert (workers[0][1].live, workers[1][1].live) == (1, 3)
            for _, worker in workers:
                worker.release.set()


async def test_equal_workers_have_equal_shares() -> None:
    async with node() as place:
        pool, workers = await staffed(place, 4)
        proxy = pool.clientize(Worker)
        names = [await proxy.whoami() for _ in range(100)]
        assert {name: names.count(name) for name in names} == {w.name: 25 for w in workers}


async def test_those_who_wait_are_served_in_their_order() -> None:
    async with node() as place:
        pool, (worker,) = await staffed(place, 1)
        order: list[int] = []
        async with anyio.create_task_group() as group:

            async def call(i: int) -> None:
                await pool.call(Worker.square, i)
                order.append(i)

            group.start_soon(wait_at, pool)
            await until(lambda: worker.live == 1)
            for i in range(5):
                group.start_soon(call, i)
                await until(lambda: pool.stats.waiting == i + 1)  # noqa: B023
            worker.release.set()
        assert order == list(range(5))


async def test_who_gives_up_waiting_leaves_its_turn_to_the_next() -> None:
    async with node() as place:
        pool, (worker,) = await staffed(place, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(wait_at, pool)
            await until(lambda: worker.live == 1)
            with anyio.move_on_after(0.02):
                await pool.call(Worker.square, 1)
            assert pool.stats.waiting == 0
            with error_of("deadline_exceeded"):
                await pool.clientize(Worker, timeout=0.02).square(1)
            with error_of("resource_exhausted") as caught:
                await pool.options(wait=0.02).call(Worker.square, 1)
            assert caught.value.not_started
            worker.release.set()
        assert await pool.call(Worker.square, 3) == 9


async def test_a_pool_without_workers_waits_for_one() -> None:
    async with node() as place:
        pool = place.cluster.pool("jobs")
        ((session, _),) = await place.workers(1)
        found: list[int] = []
        async with anyio.create_task_group() as group:

            async def call() -> None:
                found.append(await pool.call(Worker.square, 3))

            group.start_soon(call)
            await until(lambda: pool.stats.waiting == 1)
            await pool.add(session.id)
        assert found == [9]


async def test_calls_that_wait_are_bounded() -> None:
    async with node(limits=ClusterLimits(pool_waiting=1)) as place:
        pool = place.cluster.pool("jobs")
        async with anyio.create_task_group() as group:
            group.start_soon(wait_at, pool)
            await until(lambda: pool.stats.waiting == 1)
            with error_of("resource_exhausted"):
                await pool.call(Worker.square, 3)
            group.cancel_scope.cancel()


async def test_a_dead_workers_idempotent_calls_go_to_another() -> None:
    async with node() as place:
        pool, workers = await staffed(place, 2)
        found: list[str] = []
        other = workers[0]
        async with anyio.create_task_group() as group:

            async def call() -> None:
                found.append(await pool.call(Worker.wait_safely))

            group.start_soon(call)
            await until(lambda: any(worker.live for worker in workers))
            first = next(worker for worker in workers if worker.live)
            other = next(worker for worker in workers if worker is not first)
            other.release.set()
            for id in list(place.server.sessions):
                if await whose(place, id) == first.name:
                    await place.server.sessions[id].aclose()
        assert found == [other.name]


async def whose(place: Place, id: str) -> str:
    return await place.cluster.session(id).clientize(Worker).whoami()


@pytest.mark.parametrize("requeue", ["not_started", "idempotent", "always"])
async def test_a_call_that_may_have_run_is_repeated_only_where_that_was_asked_for(
    requeue: str,
) -> None:
    async with node() as place:
        pool, workers = await staffed(place, 2)
        outcomes: list[object] = []
        other = workers[0]
        async with anyio.create_task_group() as group:

            async def call() -> None:
                try:
                    outcomes.append(
                        await pool.options(requeue=requeue).call(Worker.wait)  # type: ignore[arg-type]
                    )
                except wsrpc.ConnectionLost as error:
                    outcomes.append(error)

            group.start_soon(call)
            await until(lambda: any(worker.live for worker in workers))
            first = next(worker for worker in workers if worker.live)
            other = next(worker for worker in workers if worker is not first)
            other.release.set()
            for id in list(place.server.sessions):
                if await whose(place, id) == first.name:
                    await place.server.sessions[id].aclose()
        if requeue == "always":
            assert outcomes == [other.name]
        else:
            (error,) = outcomes
            assert isinstance(error, wsrpc.ConnectionLost)
            assert not error.not_started


class Summing(Worker):
    """A worker that takes uploads."""

    controller_name = "Summing"

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.read: list[int] = []

    @wsrpc.method(idempotent=True)
    async def total(self, numbers: AsyncIterator[int]) -> int:
        self.read.clear()
        async for number in numbers:
            self.read.append(number)
        return sum(self.read)


async def some(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("form", ["typed", "by name"])
async def test_a_call_whose_upload_was_begun_is_not_repeated_with_the_rest_of_it(form: str) -> None:
    async with node() as place:
        pool = place.cluster.pool("jobs").options(requeue="always")
        workers = [Summing(), Summing()]
        for worker in workers:
            await pool.add((await place.connect(worker)).id)
        go_on = anyio.Event()

        async def numbers() -> AsyncIterator[int]:
            yield 1
            await go_on.wait()
            yield 2

        outcomes: list[object] = []

        async def call() -> None:
            proxy = pool.clientize(Summing if form == "typed" else "Summing")
            try:
                outcomes.append(await proxy.total(numbers=numbers()))
            except wsrpc.ConnectionLost as error:
                outcomes.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: any(worker.read for worker in workers))
            first = next(worker for worker in workers if worker.read)
            sessions = list(place.server.sessions.values())
            await sessions[workers.index(first)].aclose()
            await until(lambda: bool(outcomes))
            go_on.set()
        (error,) = outcomes
        assert isinstance(error, wsrpc.ConnectionLost)
        # A worker that has begun none of it gets all of it.
        assert await pool.clientize(Summing).total(some(10)) == 45


async def test_an_upload_goes_whole_to_the_next_worker_where_the_first_had_no_room() -> None:
    async with net("local", 2) as nodes:
        here, there = nodes.places
        for place in (here, there):
            await place.cluster.pool("jobs").add((await place.connect(Summing())).id)
        await until(lambda: here.cluster.pool("jobs").stats.workers == 2)
        totals: list[int] = []

        async def call(place: Place) -> None:
            totals.append(await place.cluster.pool("jobs").clientize(Summing).total(some(10)))

        async with anyio.create_task_group() as group:
            for place in (here, there) * 10:
                group.start_soon(call, place)
        assert totals == [45] * 20


async def test_a_call_of_the_only_worker_which_dies_waits_for_the_next_one() -> None:
    async with node() as place:
        pool, (worker,) = await staffed(place, 1)
        found: list[str] = []

        async def call() -> None:
            found.append(await pool.call(Worker.wait_safely))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: worker.live == 1)
            await next(iter(place.server.sessions.values())).aclose()
            await until(lambda: pool.stats.workers == 0)
            await anyio.wait_all_tasks_blocked()
            assert pool.stats.waiting == 1
            second = Worker("second")
            second.release.set()
            await pool.add((await place.connect(second)).id)
        assert found == ["second"]


async def test_a_worker_without_its_connection_is_not_picked_and_then_given_up() -> None:
    async with node(limits=ClusterLimits(worker_grace=1)) as place, visited(place.server) as visit:
        peer = visit()
        hello = await peer.say_hello()
        pool = place.cluster.pool("jobs")
        await pool.add(hello[1]["session"])
        ((session, _),) = await place.workers(1)
        found = []
        async with anyio.create_task_group() as group:

            async def call() -> None:
                found.append(await pool.call(Worker.square, 3))

            group.start_soon(call)
            await peer.expect("call")
            await pool.add(session.id)
            peer.link.abort()
        assert found == [9]


async def test_a_workers_own_error_is_the_callers() -> None:
    async with node() as place:
        pool, _ = await staffed(place, 2)
        with error_of("not_found"):
            await pool.call(Worker.fail)
        assert pool.stats.busy == 0


async def test_a_stream_takes_up_a_place_until_it_is_over() -> None:
    async with node() as place:
        pool, (worker,) = await staffed(place, 1)
        async with pool.stream(Worker.endless) as items:
            assert await anext(items) == 0
            assert pool.stats.busy == 1
        assert pool.stats.busy == 0
        await until(lambda: worker.ended == 1)
        assert await pool.stream(Worker.count, 3).collect() == [0, 1, 2]


async def test_a_worker_that_is_removed_finishes_what_it_has() -> None:
    async with node() as place:
        pool, (worker,) = await staffed(place, 1)
        ((id, _),) = place.server.sessions.items()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_at, pool)
            await until(lambda: worker.live == 1)
            await pool.remove(id)
            assert pool.stats.workers == 0
            worker.release.set()


async def test_what_a_pool_is_told_is_checked() -> None:
    async with node() as place:
        pool = place.cluster.pool("jobs")
        session = await place.connect()
        with pytest.raises(ValueError, match="capacity"):
            await pool.add(session.id, capacity=0)
        with pytest.raises(ValueError, match="requeue"):
            pool.options(requeue="sometimes")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="attempts"):
            pool.options(attempts=0)
