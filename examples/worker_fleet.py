"""A fleet of workers behind NAT: they connect to the server, which gives them jobs by calling them.

A job is a call from the server to a worker, and a stream: its progress, and its result as the final
value. In the midst of it one worker is killed as `kill -9` does, and its job goes to another at once.
A worker that is asked to stop (SIGTERM, as a deployment does) finishes its job, takes no other, and
its successor goes on::

    worker    pid     job   progress                        done
    w1        48113    17   ##################............     6   at work
    w2        48114    12   ########......................     3   killed; job 12 goes back
    w3        48115    19   ##############################     5   has left after its job
    w4        48120    18   ####..........................     2   at work

`python examples/worker_fleet.py`; `examples/worker_pool.py` has less to read.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
from anyio.abc import Process
from pydantic import BaseModel

import wsrpc

JOBS = 24
WORKERS = 3
STEPS = 20


class Progress(BaseModel):
    """The progress of a job.

    Attributes:
        step: The step, of `STEPS` in all.
    """

    step: int


class Worker:
    """Lives in a worker's process."""

    @wsrpc.method
    async def run(self, job: int) -> AsyncIterator[Progress | wsrpc.Final[int]]:
        """Do a job; the final value is its result."""
        total = 0
        for step in range(1, STEPS + 1):
            await anyio.sleep(0.01)  # the work
            total += job * step
            yield Progress(step=step)
        yield wsrpc.Final(total)


@dataclass
class Seat:
    """A worker, as the server sees it.

    Attributes:
        name: Its name.
        pid: Its process.
        job: Its present job, or its last one.
        step: How far that is.
        done: Jobs that it has finished.
        state: Its state.
        leaves: Whether it is to get no other job.
    """

    name: str
    pid: int
    job: int | None = None
    step: int = 0
    done: int = 0
    state: str = "at work"
    leaves: bool = False
    begun: anyio.Event = field(default_factory=anyio.Event)

    def __str__(self) -> str:
        bar = f"{'#' * (30 * self.step // STEPS):.<30}"
        job = "" if self.job is None else self.job
        return f"{self.name:9} {self.pid:<7} {job:>3}   {bar} {self.done:5}   {self.state}"


class Fleet:
    """Lives in the server."""

    def __init__(self, jobs: int) -> None:
        self.put, self.jobs = anyio.create_memory_object_stream[int](jobs)
        self.seats: dict[str, Seat] = {}
        self.results: dict[int, int] = {}
        self.requeued: list[int] = []
        self.count = jobs
        self.complete = anyio.Event()
        for job in range(jobs):
            self.put.send_nowait(job)

    @wsrpc.method(on_disconnect="cancel")
    async def join(self, name: str, pid: int) -> int:
        """Work until there are no jobs, or the worker has to leave; returns the number of its jobs.

        The connection of a worker that is killed is gone at once, and `on_disconnect="cancel"` ends
        this with it. One that hangs is noticed by the heartbeat.
        """
        session = wsrpc.current().session
        worker = session.clientize(Worker, timeout=None)
        seat = self.seats[session.id] = Seat(name, pid)
        if len(self.seats) == WORKERS:
            self.complete.set()
        await self.complete.wait()
        while not seat.leaves:
            try:
                seat.job = await self.jobs.receive()
            except anyio.EndOfStream:
                seat.state = "went home"
                return seat.done
            try:
                seat.step = 0
                stream = worker.run(seat.job)
                async for progress in stream:
                    seat.step = progress.step
                    seat.begun.set()
                assert isinstance(stream, wsrpc.Stream)
                self.results[seat.job] = stream.final
            except BaseException:
                seat.state = f"lost; job {seat.job} goes back"
                self.requeued.append(seat.job)
                self.put.send_nowait(seat.job)
                raise
            seat.done += 1
            if len(self.results) == self.count:
                self.put.close()  # which ends the others' wait for jobs
        seat.state = "has left after its job"
        return seat.done

    @wsrpc.method
    async def leave(self) -> None:
        """Get no other job; a worker calls it before it is restarted."""
        self.seats[wsrpc.current().session.id].leaves = True

    def table(self) -> list[str]:
        """A line for each worker that has ever joined."""
        head = f"{'worker':9} {'pid':7} {'job':>3}   {'progress':30} {'done':>5}"
        return [head, *map(str, self.seats.values())]


# ---------------------------------------------------------------- a worker's process


async def work(url: str, name: str) -> None:
    """The whole work of a worker's process."""
    async with wsrpc.connect(url, controllers=[Worker()]) as session:
        fleet = session.clientize(Fleet, timeout=None)

        async def leave_when_asked() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    await fleet.leave()

        async with anyio.create_task_group() as group:
            group.start_soon(leave_when_asked)
            await fleet.join(name, os.getpid())
            group.cancel_scope.cancel()


async def start_worker(url: str, name: str) -> Process:
    """Run a worker in a process of its own."""
    return await anyio.open_process(
        [sys.executable, __file__, url, name], stdin=None, stdout=None, stderr=None
    )


# ---------------------------------------------------------------- the server


async def draw(fleet: Fleet) -> None:
    """Draw the table again and again, where there is a terminal that can."""
    while sys.stdout.isatty():
        lines = fleet.table()
        print("".join(f"\x1b[K{line}\n" for line in lines), end=f"\x1b[{len(lines)}A", flush=True)
        await anyio.sleep(0.05)


async def seat_of(fleet: Fleet, process: Process) -> Seat:
    """A worker that has joined, once it has begun a job."""
    while True:
        for seat in fleet.seats.values():
            if seat.pid == process.pid:
                await seat.begun.wait()
                return seat
        await anyio.sleep(0.01)


async def main(jobs: int = JOBS) -> tuple[Fleet, int]:
    """Returns the fleet, and the exit code of the worker that was restarted."""
    fleet = Fleet(jobs)
    with fleet.put, fleet.jobs:
        async with wsrpc.Server([fleet]).listen() as listener:
            workers = [await start_worker(listener.url, f"w{n}") for n in range(1, WORKERS + 1)]
            killed = await seat_of(fleet, workers[1])
            leaving = await seat_of(fleet, workers[2])
            async with anyio.create_task_group() as drawing:
                drawing.start_soon(draw, fleet)
                workers[1].kill()
                workers[2].send_signal(signal.SIGTERM)
                # Its successor is there before it has left.
                workers.append(await start_worker(listener.url, "w4"))
                for process in workers:
                    await process.wait()
                drawing.cancel_scope.cancel()
            killed.state = f"killed; {killed.state.partition('; ')[2]}"
    print("\n".join(fleet.table()))
    print(f"{len(fleet.results)} jobs done, {len(fleet.requeued)} of them begun twice")
    assert leaving.leaves
    return fleet, workers[2].returncode or 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        anyio.run(work, sys.argv[1], sys.argv[2])
    else:
        anyio.run(main)
