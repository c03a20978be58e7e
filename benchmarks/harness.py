"""Runs the peers' processes and takes the samples, the peers interleaved within each repetition."""

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.peers import PEERS
from benchmarks.works import Work

START_TIMEOUT = 30.0
"""Seconds that a process may take to be ready."""
WORK_TIMEOUT = 120.0
"""Seconds that one work may take."""
END_TIMEOUT = 5.0
"""Seconds that a process may take to end, before it is killed."""

_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")
"""How the line of a traceback begins that says what happened, in Python and in JavaScript."""

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
    extras: dict[str, float]
    """Further figures of the work (see `works`), and `memory`: bytes by which the server's resident
    memory grew, for each operation; only of a work that had its processes to itself."""
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
    """The results of a run."""

    samples: list[Sample]
    failures: list[Failure]
    unavailable: dict[str, str]


class Child:
    """One process of `benchmarks.peers`, asked and answered in JSON lines."""

    def __init__(self, peer: str, *arguments: str) -> None:
        self._arguments = (peer, *arguments)
        pure = "0" if PEERS[peer].compiled else "1"
        self._environment = {**os.environ, "WSRPC_PURE": pure}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in __aexit__
        self.address = ""
        self.offers: list[str] = []

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
            env=self._environment,
        )
        try:
            first = await self._answer(START_TIMEOUT)
            if "unavailable" in first:
                raise PeerUnavailable(first["unavailable"])
        except BaseException:
            await self.__aexit__()
            raise
        self.address = first["ready"]
        self.offers = first.get("offers", [])
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
        named = [line for line in lines if _ERROR.match(line)]
        return (named or lines or ["it printed nothing"])[-1]


class Pair:
    """A peer's server process and its client process, connected."""

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

    @property
    def offers(self) -> list[str]:
        """The names of the works that the peer can do at all."""
        return self._client.offers

    async def verify(self) -> None:
        """Let the client check the answer to every kind of call."""
        await self._ask_client(verify=True)

    async def warm_up(self, works: Sequence[Work]) -> None:
        """Do a little of each work."""
        for work in works:
            if work.warm_up and work.name in self.offers:
                await self._do(work, work.warm_up)

    async def sample(self, work: Work, count: int, repetition: int) -> Sample:
        """Do ``count`` operations of the work and measure them."""
        before = await self._server.ask(tidy=True)
        busy, wall = _machine()
        done = await self._do(work, count)
        busy, wall = (
            after - before for after, before in zip(_machine(), (busy, wall), strict=True)
        )
        server_cpu = (await self._server.ask(tidy=False))["cpu"] - before["cpu"]
        extras = dict(done["extras"])
        if work.alone:
            after = await self._server.ask(tidy=True)
            extras["memory"] = (after["rss"] - before["rss"]) / count
        return Sample(
            repetition=repetition,
            work=work.name,
            peer=self.peer,
            operations=count,
            seconds=done["seconds"],
            client_cpu=done["cpu"],
            server_cpu=server_cpu,
            extras=extras,
            foreign=max(busy - done["cpu"] - server_cpu, 0.0) / wall if wall else 0.0,
        )

    async def _do(self, work: Work, count: int) -> dict[str, Any]:
        return await self._ask_client(work=work.name, count=count)

    async def _ask_client(self, **request: Any) -> dict[str, Any]:
        answer = await self._client.ask(**request)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


class Run:
    """A run of several repetitions, and its results so far."""

    def __init__(
        self,
        peers: Sequence[str],
        works: Sequence[Work],
        repetitions: int,
        factor: float,
        progress: Callable[[str], None],
    ) -> None:
        """Prepare a run.

        Args:
            peers: Names of the peers; ratios need the baseline among them.
            works: The works, which each peer does if it offers them.
            repetitions: The number of repetitions.
            factor: The part of the full count that is done each time.
            progress: Called with lines about the progress.
        """
        self.outcome = Outcome([], [], {})
        self._peers = list(peers)
        self._together = [work for work in works if not work.alone]
        self._alone = [work for work in works if work.alone]
        self._repetitions = repetitions
        self._factor = factor
        self._progress = progress
        self._repetition = 0
        self._offers: dict[str, list[str]] = {}

    async def all(self) -> Outcome:
        """Let every peer do every work in every repetition.

        New processes are started for each repetition, so that differences between processes are
        part of the spread. Within a repetition every work goes round the peers, beginning with
        another one each time, so that a disturbance meets them all alike. A peer that fails sits
        out the rest of the repetition.
        """
        for repetition in range(self._repetitions):
            self._repetition = repetition
            if self._together:
                await self._repeat_together()
            for work in self._alone:
                await self._repeat_alone(work)
        return self.outcome

    async def _repeat_together(self) -> None:
        """All works but those that want processes of their own."""
        async with AsyncExitStack() as stack:
            pairs: dict[str, Pair] = {}
            for peer in self._available():
                self._say(f"starting {peer}")
                pair = Pair(peer)
                with self._noting(None, peer):
                    await stack.enter_async_context(pair)
                    try:
                        await pair.verify()
                        await pair.warm_up(self._together)
                    except PeerError:
                        await pair.aclose()
                        raise
                    pairs[peer] = pair
                    self._offers[peer] = pair.offers
            order = list(pairs)
            for work in self._together:
                order = order[1:] + order[:1]
                for peer in [
                    peer for peer in order if peer in pairs and work.name in pairs[peer].offers
                ]:
                    try:
                        await self._sample(pairs[peer], work)
                    except PeerError as error:
                        await pairs.pop(peer).aclose()
                        self._note(work, peer, error)

    async def _repeat_alone(self, work: Work) -> None:
        """One work, by each peer in new processes, one peer after another."""
        for peer in self._available():
            if work.name not in self._offers.get(peer, [work.name]):
                continue
            with self._noting(work, peer):
                async with Pair(peer) as pair:
                    self._offers[peer] = pair.offers
                    if work.name in pair.offers:
                        await pair.warm_up([work])
                        await self._sample(pair, work)

    async def _sample(self, pair: Pair, work: Work) -> None:
        self._say(f"{work.name}, {pair.peer}")
        share = 1.0 if work.whole else PEERS[pair.peer].share
        count = work.scaled(self._factor * share)
        self.outcome.samples.append(await pair.sample(work, count, self._repetition))

    def _available(self) -> list[str]:
        return [peer for peer in self._peers if peer not in self.outcome.unavailable]

    def _say(self, what: str) -> None:
        self._progress(f"repetition {self._repetition + 1} of {self._repetitions}: {what}")

    @contextmanager
    def _noting(self, work: Work | None, peer: str) -> Iterator[None]:
        """Write down the reason why the peer does not do the work, and go on."""
        try:
            yield
        except PeerUnavailable as error:
            self.outcome.unavailable[peer] = str(error)
        except PeerError as error:
            self._note(work, peer, error)

    def _note(self, work: Work | None, peer: str, error: PeerError) -> None:
        name = work.name if work else None
        self.outcome.failures.append(Failure(self._repetition, name, peer, str(error)))


def _machine() -> tuple[float, float]:
    """CPU seconds of the machine since it started: those that were used, and all."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    every = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return every - idle, every
