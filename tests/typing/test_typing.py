"""The typed face: what mypy --strict and pyright infer of a clientized controller."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Checker = Callable[[Path], dict[int, str]]


def run_mypy(file: Path) -> dict[int, str]:
    """What mypy --strict says about `file`, by line."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(
        rf"^\S*{re.escape(file.name)}:(\d+): error: (.*)$", done.stdout, re.MULTILINE
    )
    return {int(line): message for line, message in found}


def run_pyright(file: Path) -> dict[int, str]:
    """What pyright says about `file`, by line."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyright",
            "--outputjson",
            "--pythonpath",
            sys.executable,
            str(file),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {
        one["range"]["start"]["line"] + 1: one["message"]
        for one in json.loads(done.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    }


@pytest.fixture(params=[run_mypy, run_pyright], ids=["mypy", "pyright"])
def checker(request: pytest.FixtureRequest) -> Checker:
    run: Checker = request.param
    return run


@pytest.mark.slow
def test_every_call_and_item_is_inferred(checker: Checker) -> None:
    assert checker(HERE / "right.py") == {}


def test_wrong_arguments_results_and_uses_are_flagged_and_nothing_else(
    checker: Checker, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text((HERE / "wrong.py.txt").read_text())
    marked = {
        number
        for number, line in enumerate(wrong.read_text().splitlines(), 1)
        if line.endswith("# E:")
    }
    flagged = checker(wrong)
    assert marked - flagged.keys() == set(), "not flagged"
    assert {line: flagged[line] for line in flagged.keys() - marked} == {}


MIXED = """
from collections.abc import AsyncIterator, Generator
from typing import assert_type

import wsrpc

Item = int | str | wsrpc.Final[float]


class Mixed:
    @wsrpc.method
    async def plain(self) -> AsyncIterator[int | str | wsrpc.Final[float]]:
        yield 1

    @wsrpc.method(idempotent=True)
    async def with_options(self, n: int) -> AsyncIterator[int | None | bytes | wsrpc.Final[str]]:
        yield n

    @wsrpc.method
    def from_a_thread(self) -> Generator[Item, None, None]:
        yield "a"

    @staticmethod
    @wsrpc.method
    async def static() -> AsyncIterator[list[int] | dict[str, int] | wsrpc.Final[float]]:
        yield []

    @wsrpc.method
    async def of_containers(self) -> AsyncIterator[tuple[int | str, ...] | bytes | wsrpc.Final[None]]:
        yield b""

    @wsrpc.method
    async def without_final(self) -> AsyncIterator[int | str]:
        yield 1


async def use(session: wsrpc.Session) -> None:
    mixed = session.clientize(Mixed)
    async for item in mixed.plain():
        assert_type(item, int | str)
    assert_type(mixed.plain(), wsrpc.Stream[int | str, float])
    assert_type(mixed.with_options(1), wsrpc.Stream[int | None | bytes, str])
    assert_type(mixed.from_a_thread(), wsrpc.Stream[int | str, float])
    assert_type(mixed.static(), wsrpc.Stream[list[int] | dict[str, int], float])
    assert_type(mixed.of_containers(), wsrpc.Stream[tuple[int | str, ...] | bytes, None])
    assert_type(mixed.without_final(), wsrpc.Stream[int | str, None])
"""


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("", marks=pytest.mark.slow, id="without"),
        pytest.param("[mypy]\nplugins = wsrpc_mypy\n", marks=pytest.mark.slow, id="with"),
    ],
)
def test_under_mypy_too_items_of_asynciterator_t_u_final_v_are_t_u(
    config: str, tmp_path: Path
) -> None:
    (tmp_path / "mypy.ini").write_text(config or "[mypy]\n")
    mixed = tmp_path / "mixed.py"
    mixed.write_text(MIXED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", str(mixed)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if config else 1), done.stdout + done.stderr
    assert config or "object" in done.stdout
