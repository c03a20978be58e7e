"""The cost of observers: ``python -m benchmarks.observing`` from the root of the repository.

Sequential calls, and a stream, with both ends in one process: CPU time, so that other programs
disturb little. The server is watched. Each way is measured in a process of its own, in turns, and
the least of the rounds counts. "nothing at all" is without the counting that is always there, by
taking its methods away: every program pays the cost of "no observers" beyond that. The core is pure
Python here: a compiled one would not notice that its methods are gone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from statistics import median

import wsrpc
from wsrpc.interfaces import Observer
from wsrpc.telemetry.events import Events

CALLS = 4_000
ITEMS = 40_000
ROUNDS = 7

Ways = dict[str, Callable[[], Sequence[Observer]]]


class Work:
    """The controller that is called."""

    @wsrpc.method
    async def add(self, a: int, b: int) -> int:
        return a + b

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number


def nothing_at_all() -> Sequence[Observer]:
    """Take away the counting, too."""
    for name, member in list(vars(Events).items()):
        if callable(member) and not name.startswith("_"):
            setattr(Events, name, lambda *args, **named: None)
    return ()


def prometheus() -> Sequence[Observer]:
    """Metrics in a registry of their own."""
    from prometheus_client import CollectorRegistry

    from wsrpc.telemetry.prometheus import server_metrics

    return [server_metrics(CollectorRegistry())]


def access_log() -> Sequence[Observer]:
    """The access log, with a handler that throws the lines away."""
    import logging

    from wsrpc.telemetry.access import AccessLog

    logger = logging.getLogger("wsrpc.access")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return [AccessLog()]


def otel() -> Sequence[Observer]:
    """Spans of the real SDK, all sampled and then dropped."""
    from opentelemetry.sdk.trace import TracerProvider

    from wsrpc.telemetry.otel import instrument

    return [instrument(tracer_provider=TracerProvider()).observer]


WAYS: Ways = {
    "nothing at all": nothing_at_all,
    "no observers": lambda: (),
    "an observer that does nothing": lambda: [Observer()],
    "access log": access_log,
    "prometheus": prometheus,
    "opentelemetry": otel,
}


async def _measure(observers: Sequence[Observer]) -> tuple[float, float]:
    """Microseconds of CPU time a call, and an item."""
    async with (
        wsrpc.Server([Work()], observers=observers).listen() as listener,
        wsrpc.connect(listener.url, reconnect=False) as session,
    ):
        work = session.clientize(Work)
        for _ in range(CALLS // 10):
            await work.add(1, 2)
        began = time.process_time()
        for _ in range(CALLS):
            await work.add(1, 2)
        calls = time.process_time() - began
        began = time.process_time()
        async for _ in work.count(ITEMS):
            pass
        items = time.process_time() - began
    return calls / CALLS * 1e6, items / ITEMS * 1e6


def main() -> None:
    """Measure all ways in turns, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        call, item = asyncio.run(_measure(WAYS[options.one]()))
        print(call, item)
        return
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.observing", "--one", way]
            pure = {**os.environ, "WSRPC_PURE": "1"}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=pure)
            call, item = map(float, done.stdout.split())
            found[way].append((call, item))
    least = {way: tuple(map(min, zip(*samples, strict=True))) for way, samples in found.items()}
    base = least["nothing at all"]
    print("| watched by | µs of CPU a call | ratio | µs of CPU an item | ratio |")
    print("|---|---:|---:|---:|---:|")
    for way, (call, item) in least.items():
        print(f"| {way} | {call:.1f} | {call / base[0]:.3f} | {item:.2f} | {item / base[1]:.3f} |")
    print(
        verdict(
            [one[0] for one in found["nothing at all"]], [one[0] for one in found["no observers"]]
        )
    )


def verdict(without: Sequence[float], unwatched: Sequence[float]) -> str:
    """Whether having no observers costs more than the noise of the measurement."""
    cost = min(unwatched) / min(without) - 1
    noise = max(median(found) / min(found) - 1 for found in (without, unwatched))
    what = "not measurable" if abs(cost) <= noise else "measurable"
    return (
        f"Without observers the cost is {what}: {100 * cost:+.1f} % of a call, where rounds of one "
        f"way differ by {100 * noise:.1f} %."
    )


if __name__ == "__main__":
    main()
