"""A server hands jobs to the workers that are connected; a job whose worker dies goes to another.

Workers connect and call `join`, which lasts as long as there is work; meanwhile the server calls
them back, job by job. When a worker's connection is gone, its job goes back into the queue at once:
with `on_disconnect="cancel"` the server does not wait for the worker to come back.
"""

from __future__ import annotations

import os
import sys

import anyio

import wsrpc


class Worker:
    """Lives in a worker's process. `run` is a plain function, so it runs in a thread there."""

    def __init__(self, dies: bool = False) -> None:
        self.dies = dies

    @wsrpc.method
    def run(self, number: int) -> int:
        if self.dies:
            os._exit(1)  # no goodbye and no cleanup, as when the power fails
        return sum(divisor for divisor in range(1, number + 1) if number % divisor == 0)


class Pool:
    """Lives in the server."""

    def __init__(self, numbers: list[int]) -> None:
        self.put, self.jobs = anyio.create_memory_object_stream[int](len(numbers))
        self.unfinished = len(numbers)
        self.results: dict[int, int] = {}
        self.requeued: list[int] = []
        for number in numbers:
            self.put.send_nowait(number)

    @wsrpc.method(on_disconnect="cancel")
    async def join(self) -> int:
        """Work until all is done; returns the number of jobs of this worker."""
        worker = wsrpc.current().session.clientize(Worker)
        done = 0
        async for number in self.jobs:
            try:
                self.results[number] = await worker.run(number)
            except BaseException:
                # The worker is lost, and this handler cancelled with it; or the job itself failed.
                print(f"job {number} goes back into the queue")
                self.requeued.append(number)
                self.put.send_nowait(number)
                raise
            done += 1
            self.unfinished -= 1
            if not self.unfinished:
                self.put.close()  # which ends the loop above, for every worker
        return done


async def work(url: str, dies: bool) -> None:
    """The whole work of a worker's process."""
    async with wsrpc.connect(url, controllers=[Worker(dies)]) as session:
        done = await session.clientize(Pool, timeout=None).join()
        print(f"a worker did {done} jobs")


async def start_worker(url: str, *flags: str) -> int:
    """Run a worker in a process of its own; returns its exit code."""
    command = [sys.executable, __file__, url, *flags]
    return (await anyio.run_process(command, stdout=None, stderr=None, check=False)).returncode


async def main() -> Pool:
    pool = Pool([500_000 + number for number in range(20)])
    with pool.put, pool.jobs:
        async with wsrpc.Server([pool]).listen() as listener:
            code = await start_worker(listener.url, "--dies")
            print(f"the first worker is dead, exit code {code}; two others take over")
            async with anyio.create_task_group() as workers:
                workers.start_soon(start_worker, listener.url)
                workers.start_soon(start_worker, listener.url)
    print(f"{len(pool.results)} jobs done, {len(pool.requeued)} of them begun twice")
    return pool


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(work, sys.argv[1], "--dies" in sys.argv)
    else:
        anyio.run(main)
