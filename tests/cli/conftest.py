"""A server process with reflection and one without; ways to run the commands against them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wsrpc.cli.app import app

ROOT = Path(__file__).parent.parent.parent
# Seconds until a command counts as stuck, also on a machine that is busy otherwise.
PATIENCE = 60.0
COMMAND = [sys.executable, "-m", "wsrpc"]

Run = Callable[..., Result]


def start(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """A command as a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command run to its end as a process of its own."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line of a process's stdout; kills a process that stays silent."""
    assert process.stdout is not None
    silence = threading.Timer(PATIENCE, process.kill)
    silence.start()
    try:
        return process.stdout.readline()
    finally:
        silence.cancel()


@contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its URL."""
    with start("serve", *words, "--port", "0") as process:
        try:
            line = read_line(process)
            assert line.startswith("listening ws://"), line
            yield process, line.split()[1]
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """A server that tells what it exposes."""
    with serving("tests.cli.service:server") as (_, url):
        yield url


@pytest.fixture(scope="session")
def silent_url() -> Iterator[str]:
    """A server whose reflection is off."""
    with serving("tests.cli.service:silent") as (_, url):
        yield url


@pytest.fixture
def run() -> Run:
    """Runs a command in this process, which is quicker than in one of its own."""

    def run(*words: str, stdin: str | bytes = "") -> Result:
        result = CliRunner().invoke(app, list(words), input=stdin, prog_name="wsrpc")
        assert "Traceback" not in result.stderr
        return result

    return run


def until(probe: Callable[[], bool]) -> bool:
    """Whether `probe` comes true in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if probe():
            return True
        time.sleep(0.02)
    return False


def lines(result: Result) -> Sequence[str]:
    """The lines that a command wrote to stdout."""
    return result.stdout.splitlines()
