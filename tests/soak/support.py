"""What the soak programs share: processes with their stderr, and verdicts."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

__all__ = ["Child", "Verdict", "child"]


class Child:
    """A process of this repository.

    Attributes:
        process: The process.
        url: The first line of what it prints.
        lines: The others so far.
    """

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.url = ""
        self.lines: list[str] = []

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

    Attributes:
        failed: The names of those that were not.
        tracebacks: On the stderr of all processes, this one's log included.
    """

    def __init__(self, title: str) -> None:
        super().__init__(logging.WARNING)
        self.failed: list[str] = []
        self.tracebacks = 0
        logging.getLogger().addHandler(self)
        print(title, flush=True)

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

    def end(self) -> bool:
        """Whether everything was as it should be."""
        logging.getLogger().removeHandler(self)
        self.zero("tracebacks", self.tracebacks)
        print("  passed" if not self.failed else f"  FAILED: {', '.join(self.failed)}", flush=True)
        return not self.failed
