"""The length of a call's path: ``python -m benchmarks.path``.

Counts that other work on the machine does not change, for both ends in one process: the Python
functions that an operation enters or goes on in, the event loop's and the libraries' included, and
with ``--instructions`` the processor's instructions, as valgrind's cachegrind counts them. That takes
minutes. ``--time`` adds the CPU time of an operation, which other work does change. ``--list`` names the functions. Which build runs is decided as always: `WSRPC_PURE=1`.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import CodeType, FrameType
from typing import Any

import wsrpc
from benchmarks.peers.wsrpc import Bench
from wsrpc.version import BUILD

Work = Callable[[Bench, int], Awaitable[None]]

OUTSTANDING = 64
STREAMS = 100


async def _sequential(bench: Bench, count: int) -> None:
    point = _point()
    for _ in range(count):
        await bench.echo(point)


async def _outstanding(bench: Bench, count: int) -> None:
    await asyncio.gather(*(_sequential(bench, count // OUTSTANDING) for _ in range(OUTSTANDING)))


async def _stream(bench: Bench, count: int) -> None:
    async for _ in bench.items(count):
        pass


async def _upload(bench: Bench, count: int) -> None:
    async def points() -> AsyncIterator[Any]:
        for _ in range(count):
            yield _point()

    await bench.upload(points())


async def _yielding(bench: Bench, count: int) -> None:
    async def read() -> None:
        async for _ in bench.yielding(count // STREAMS):
            pass

    await asyncio.gather(*(read() for _ in range(STREAMS)))


def _point() -> Any:
    from benchmarks.peers.wsrpc import Point

    return Point(x=1, y=2.0, label="abc")


# Each work with the operations to count functions over, and the two lengths for instructions.
WORKS: dict[str, tuple[Work, int, int, int]] = {
    "sequential": (_sequential, 400, 200, 600),
    "outstanding": (_outstanding, 6400, 1280, 3840),
    "stream": (_stream, 20_000, 3000, 9000),
    "upload": (_upload, 20_000, 3000, 9000),
    "yielding": (_yielding, 20_000, 3000, 9000),
}


async def _connected() -> AsyncIterator[Bench]:
    async with wsrpc.Server([Bench()]).listen("127.0.0.1", 0) as listener:
        async with wsrpc.connect(listener.url) as session:
            yield session.clientize(Bench)


async def run(name: str, count: int) -> None:
    """Do exactly `count` operations of a work."""
    async for bench in _connected():
        await WORKS[name][0](bench, count)


async def functions(name: str) -> Counter[CodeType]:
    """The functions that a warm work enters or goes on in."""
    work, count, _, _ = WORKS[name]
    entered: Counter[CodeType] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            entered[frame.f_code] += 1

    async for bench in _connected():
        await work(bench, count)
        sys.setprofile(note)
        await work(bench, count)
        sys.setprofile(None)
    return entered


async def cpu_time(name: str) -> float:
    """Microseconds of CPU time an operation, user and system: the least of five times a warm work."""
    work, count, _, _ = WORKS[name]
    times = []
    async for bench in _connected():
        await work(bench, 8 * count)
        for _ in range(5):
            begun = time.process_time()
            await work(bench, 8 * count)
            times.append(time.process_time() - begun)
    return min(times) / (8 * count) * 1e6


def instructions(name: str) -> float:
    """Instructions an operation, from the difference of two lengths.

    Raises:
        FileNotFoundError: There is no valgrind.
    """
    _, _, short, long = WORKS[name]
    counted = []
    for count in (short, long):
        done = subprocess.run(
            [
                *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
                "--cachegrind-out-file=/dev/null",
                *(sys.executable, "-m", "benchmarks.path", "--run", name, str(count)),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = (line for line in done.stderr.splitlines() if "I " in line and "refs:" in line)
        counted.append(int(line.rpartition(":")[2].replace(",", "")))
    return (counted[1] - counted[0]) / (long - short)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.path", description=__doc__)
    parser.add_argument("--instructions", action="store_true", help="count them too")
    parser.add_argument("--time", action="store_true", help="and the CPU time, in microseconds")
    parser.add_argument("--list", action="store_true", help="name the functions")
    parser.add_argument("--work", choices=list(WORKS), help="this one only")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, count = options.run
        asyncio.run(run(name, int(count)))
        return
    print(f"CPython {sys.version.split()[0]}, wsrpc in {BUILD}, both ends in one process\n")
    heads = ["Python functions", *(["instructions"] if options.instructions else [])]
    heads += ["CPU µs"] if options.time else []
    print(f"| an operation of | {' | '.join(heads)} |\n| :-- |{' --: |' * len(heads)}")
    for name in [options.work] if options.work else WORKS:
        count = WORKS[name][1]
        entered = asyncio.run(functions(name))
        figures = [f"{entered.total() / count:.1f}"]
        if options.instructions:
            figures.append(f"{instructions(name):,.0f}")
        if options.time:
            figures.append(f"{asyncio.run(cpu_time(name)):.1f}")
        print(f"| {name} | {' | '.join(figures)} |", flush=True)
        if options.list:
            for code, times in entered.most_common():
                if times >= count / 50:
                    print(f"    {times / count:6.2f} {code.co_filename}: {code.co_qualname}")


if __name__ == "__main__":
    main()
