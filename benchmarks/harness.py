"""Runs the peers' processes and takes the samples, the peers interleaved within each repetition."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.works import Work

START_TIMEOUT = 30.0
"""Seconds that a process may take to be ready."""
WORK_TIMEOUT = 120.0
"""Seconds that one work may take."""
END_TIMEOUT = 5.0
"""Seconds that a process may take to end, before it is killed."""
WARM_UP = 0.05
"""The part of each work's full count that is done, unmeasured, in every new pair of processes."""

_ROOT = Path(__file__).resolve().parent.parent


class PeerError(Exception):
    """A peer's process broke, gave a wrong answer, or took too long."""


class PeerUnavailable(PeerError):
    """The peer cannot run on this machine at all: something is not installed or not yet there."""


@dataclass(frozen=True)
class Sample:
    """One work done once by one peer. Times are seconds, CPU time is user and system together."""

    repetition: int
    work: str
    peer: str
    operations: int
    seconds: float
    client_cpu: float
    server_cpu: float
    fairness: float | None
    foreign: float
    """The share of the machine's CPU time that went to anything but these two processes."""

    @property
    def rate(self) -> float:
        """Operations a second of wall time."""
        return self.operations / self.seconds

    @property
    def cpu(self) -> float:
        """CPU seconds an operation, both processes together."""
        return (self.client_cpu + self.server_cpu) / self.operations


@dataclass(frozen=True)
class Failure:
    """One work that a peer did not do, and why; without a work, the peer did not start."""

    repetition: int
    work: str | None
    peer: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """All that a run found out."""

    samples: list[Sample]
    failures: list[Failure]
    unavailable: dict[str, str]


class Child:
    """One process of `benchmarks.peers`, asked and answered in JSON lines."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in __aexit__
        self.address = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.peers",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
        )
        try:
            first = await self._answer(START_TIMEOUT)
            if "unavailable" in first:
                raise PeerUnavailable(first["unavailable"])
        except BaseException:
            await self.__aexit__()
            raise
        self.address = first["ready"]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._errors.close()

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self._answer(WORK_TIMEOUT)

    async def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        who = " ".join(self._arguments[:2])
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        except TimeoutError:
            raise PeerError(f"{who}: no answer within {timeout:.0f} s") from None
        if not line:
            raise PeerError(f"{who} ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


class Pair:
    """A peer's server process and its client process, connected and checked."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._server = await stack.enter_async_context(Child(self.peer, "server"))
            client = Child(self.peer, "client", self._server.address)
            self._client = await stack.enter_async_context(client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End both processes; once is enough, twice does no harm."""
        await self._stack.aclose()

    async def warm_up(self, works: Sequence[Work]) -> None:
        """Do a little of each work."""
        for work in works:
            await self._do(work, work.scaled(WARM_UP))

    async def sample(self, work: Work, count: int, repetition: int) -> Sample:
        """Do ``count`` operations of the work and measure them."""
        server_cpu = (await self._server.ask(tidy=True))["cpu"]
        busy, wall = _machine()
        done = await self._do(work, count)
        busy, wall = (
            after - before for after, before in zip(_machine(), (busy, wall), strict=True)
        )
        server_cpu = (await self._server.ask(tidy=False))["cpu"] - server_cpu
        return Sample(
            repetition=repetition,
            work=work.name,
            peer=self.peer,
            operations=count,
            seconds=done["seconds"],
            client_cpu=done["cpu"],
            server_cpu=server_cpu,
            fairness=done["fairness"],
            foreign=max(busy - done["cpu"] - server_cpu, 0.0) / wall if wall else 0.0,
        )

    async def _do(self, work: Work, count: int) -> dict[str, Any]:
        answer = await self._client.ask(work=work.name, count=count)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


async def run(
    peers: Sequence[str],
    works: Sequence[Work],
    repetitions: int,
    factor: float,
    progress: Callable[[str], None],
) -> Outcome:
    """Let every peer do every work ``repetitions`` times, ``factor`` times the full count each.

    New processes are started for each repetition, so that what differs from process to process is
    part of the spread. Within a repetition every work goes round the peers, beginning with another
    one each time, so that a disturbance meets them all alike. A peer that fails sits out the rest
    of the repetition.
    """
    outcome = Outcome([], [], {})
    for repetition in range(repetitions):
        async with AsyncExitStack() as stack:
            pairs: dict[str, Pair] = {}
            for peer in peers:
                if peer in outcome.unavailable:
                    continue
                progress(f"repetition {repetition + 1} of {repetitions}: starting {peer}")
                try:
                    pairs[peer] = await stack.enter_async_context(Pair(peer))
                    await pairs[peer].warm_up(works)
                except PeerUnavailable as error:
                    outcome.unavailable[peer] = str(error)
                except PeerError as error:
                    if peer in pairs:
                        await pairs.pop(peer).aclose()
                    outcome.failures.append(Failure(repetition, None, peer, str(error)))
            order = [peer for peer in peers if peer in pairs]
            for work in works:
                order = order[1:] + order[:1]
                for peer in [peer for peer in order if peer in pairs]:
                    progress(f"repetition {repetition + 1} of {repetitions}: {work.name}, {peer}")
                    try:
                        sample = await pairs[peer].sample(work, work.scaled(factor), repetition)
                        outcome.samples.append(sample)
                    except PeerError as error:
                        await pairs.pop(peer).aclose()
                        outcome.failures.append(Failure(repetition, work.name, peer, str(error)))
    return outcome


def _machine() -> tuple[float, float]:
    """CPU seconds of the machine since it started: those that were used, and all."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    every = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return every - idle, every
