"""A fleet of workers on two nodes: one of them is killed in the midst of a job, another does it.

Workers are processes that connect to any node and join a pool. A program with a job asks the pool,
on any node too. With `requeue="always"` a job may run twice where its first worker died with it.
Needs the extras `nats` and `nats-server`.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import aclosing

import anyio

import wsrpc
from wsrpc.cluster import Cluster
from wsrpc.cluster.bus.embedded import NatsServer

JOBS = 12


class Worker:
    """Lives in each worker's process. `run` is a plain function, so it runs in a thread there."""

    def __init__(self, doomed: bool) -> None:
        self.doomed = doomed

    @wsrpc.method
    def run(self, number: int) -> tuple[int, int]:
        if self.doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid(), sum(one for one in range(1, number + 1) if number % one == 0)


class Fleet:
    """Lives in each node."""

    def __init__(self) -> None:
        self.cluster: Cluster  # there before the first client is

    @wsrpc.method
    async def enlist(self) -> None:
        await self.cluster.pool("fleet").add()  # the session of the caller


async def work(url: str, doomed: bool) -> None:
    """The whole work of a worker's process."""
    async with wsrpc.connect(url, controllers=[Worker(doomed)], reconnect=False) as session:
        await session.clientize(Fleet).enlist()
        await session.wait_closed()


async def start_worker(url: str, *flags: str) -> None:
    """Run a worker in a process of its own."""
    await anyio.run_process([sys.executable, __file__, url, *flags], check=False)


async def main() -> dict[int, tuple[int, int]]:
    fleets = Fleet(), Fleet()
    # A worker whose connection is gone comes back within a second, or its jobs go elsewhere.
    limits = wsrpc.Limits(resume_window=1.0)
    first, second = (wsrpc.Server([fleet], limits=limits) for fleet in fleets)
    done: dict[int, tuple[int, int]] = {}
    with NatsServer() as nats:
        async with (
            Cluster(first, nats.url) as fleets[0].cluster,
            Cluster(second, nats.url) as fleets[1].cluster,
            anyio.create_task_group() as group,
            first.listen() as here,
            second.listen() as there,
        ):
            group.start_soon(start_worker, here.url)
            group.start_soon(start_worker, there.url)
            group.start_soon(start_worker, there.url, "--doomed")
            pool = fleets[0].cluster.pool("fleet").options(requeue="always")
            async with aclosing(fleets[0].cluster.presence.watch()) as changes:
                async for _ in changes:
                    if pool.stats.workers == 3:
                        break

            async def job(number: int) -> None:
                done[number] = await pool.call(Worker.run, number)

            async with anyio.create_task_group() as jobs:
                for number in range(JOBS):
                    jobs.start_soon(job, 100_000 + number)
            print(f"{len(done)} jobs done by {len({pid for pid, _ in done.values()})} workers")
            print(f"{pool.stats.workers} of 3 workers are left")
    return done


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(work, sys.argv[1], "--doomed" in sys.argv)
    else:
        anyio.run(main)
