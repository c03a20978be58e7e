"""What the soak programs share: their options, processes with their stderr, and verdicts."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

__all__ = ["Child", "Verdict", "child", "main"]

# Seconds between two looks at a process that is to end.
LOOK = 0.05


def main(*shows: Callable[..., Awaitable[bool]]) -> None:
    """Run programs one after the other; each parameter is an option, and a failure exit code 1."""
    parser = argparse.ArgumentParser()
    known: dict[str, type] = {}
    for show in shows:
        for name, parameter in inspect.signature(show).parameters.items():
            if type(parameter.default) in (int, float) and name not in known:
                known[name] = type(parameter.default)
                parser.add_argument(f"--{name.replace('_', '-')}", type=known[name])
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    failed: list[str] = []
    for show in shows:
        mine = {name: given[name] for name in inspect.signature(show).parameters if name in given}
        try:
            passed = anyio.run(partial(show, **mine))
        except Exception:  # noqa: BLE001  (the others are to run all the same)
            traceback.print_exc()
            passed = False
        if not passed:
            failed.append(show.__name__)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


class Child:
    """A process of this repository.

    Attributes:
        process: The process.
        url: The first line of what it prints.
        lines: The others so far.
        code: Its exit code, once it has ended and was waited for.
    """

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.url = ""
        self.lines: list[str] = []
        self.code: int | None = None
        self._news = anyio.Event()

    async def line(self, word: str) -> str:
        """Wait for a line that begins with this word; returns the rest of it.

        Raises:
            TimeoutError: None came within 100 s.
        """
        with anyio.fail_after(100):
            while True:
                for line in self.lines:
                    first, _, rest = line.partition(" ")
                    if first == word:
                        return rest
                self._news = anyio.Event()
                await self._news.wait()

    async def end(self, number: signal.Signals) -> float:
        """Send it a signal, and wait until it has ended; returns the seconds that it took.

        The seconds in which it was ready to run, and other processes had the CPUs, do not count: a busy
        machine makes no process late. A thread watches for the end: this process may be busy with
        its clients just then.
        """
        over = [0.0]
        waited = [self._waited()]

        def watch() -> None:
            while not select.select([ending], [], [], LOOK)[0]:
                waited.append(self._waited())
            over[0] = time.monotonic()

        ending = os.pidfd_open(self.process.pid)
        try:
            began = time.monotonic()
            self.signal(number)
            await anyio.to_thread.run_sync(watch)
        finally:
            os.close(ending)
        await self.ended()
        return over[0] - began - (max(waited) - waited[0])

    def _waited(self) -> float:
        """Seconds in which its main thread waited for a CPU so far; 0 where nobody counts them."""
        try:
            with open(f"/proc/{self.process.pid}/schedstat") as counts:
                return int(counts.read().split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0

    async def ended(self) -> None:
        """Wait until it has ended."""
        self.code = await self.process.wait()

    async def order(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        await self.process.stdin.send(f"{line}\n".encode())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def _read(self, started: anyio.Event) -> None:
        assert self.process.stdout is not None
        rest = ""
        async for text in TextReceiveStream(self.process.stdout):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                if self.url:
                    self.lines.append(line)
                    self._news.set()
                else:
                    self.url = line
                    started.set()


@asynccontextmanager
async def child(verdict: Verdict, module: str, *arguments: object) -> AsyncIterator[Child]:
    """Run `python -m module …` while the block runs; what it says on stderr is looked through."""
    with tempfile.TemporaryFile("w+") as stderr:
        process = await anyio.open_process(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        made = Child(process)
        started = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(made._read, started)
            try:
                with anyio.fail_after(30):
                    await started.wait()
                yield made
            finally:
                with anyio.CancelScope(shield=True):
                    if process.returncode is None:
                        process.kill()
                    await process.wait()
                    group.cancel_scope.cancel()
                    await process.aclose()
        stderr.seek(0)
        said = stderr.read()
        verdict.tracebacks += said.count("Traceback")
        if said.strip():
            print(f"  stderr of {module}: {said.strip()[-2000:]}", file=sys.stderr)


class Verdict(logging.Handler):
    """Prints numbers beside what they should be, and knows whether all were.

    Args:
        title: What is shown.
        seed: What all that is left to chance in this process begins with.
        timed: Whether times count; else they are only told, for a machine that may be busy.

    Attributes:
        failed: The names of those that were not.
        tracebacks: On the stderr of all processes, this one's log included.
    """

    def __init__(self, title: str, seed: int, *, timed: bool = True) -> None:
        super().__init__(logging.WARNING)
        self.failed: list[str] = []
        self.tracebacks = 0
        self._timed = timed
        random.seed(seed)
        logging.getLogger().addHandler(self)
        print(f"{title}, seed {seed}", flush=True)

    def emit(self, record: logging.LogRecord) -> None:
        print(f"  log: {record.getMessage()}", file=sys.stderr)
        if record.exc_info or record.levelno >= logging.ERROR:
            self.tracebacks += 1

    def check(self, name: str, value: object, good: bool, wanted: str = "") -> None:
        """A number, and whether it is as it should be."""
        if not good:
            self.failed.append(name)
        print(f"  {'ok  ' if good else 'FAIL'}  {name}: {value}  {wanted}", flush=True)

    def zero(self, name: str, value: int) -> None:
        """A number that should be 0."""
        self.check(name, value, value == 0)

    def equal(self, name: str, value: object, wanted: object) -> None:
        """A value, and what it should be."""
        self.check(name, value, value == wanted, f"(of {wanted})")

    def within(self, name: str, times: Sequence[float], most: float, least: float = 0.0) -> None:
        """The longest of so many times in seconds, and between what all of them should lie."""
        if not times:
            self.check(name, "none", good=False)
            return
        good = least <= min(times) and max(times) <= most
        wanted = f"({least:g} to {most:g} s)" if least else f"(at most {most:g} s)"
        shown = (
            f"{max(times):.3f} s" if len(times) == 1 else f"{min(times):.3f} to {max(times):.3f} s"
        )
        self.check(name, shown, good or not self._timed, wanted)

    def end(self) -> bool:
        """Whether everything was as it should be."""
        logging.getLogger().removeHandler(self)
        self.zero("tracebacks", self.tracebacks)
        print("  passed" if not self.failed else f"  FAILED: {', '.join(self.failed)}", flush=True)
        return not self.failed
