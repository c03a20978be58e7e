"""The typed face: what mypy --strict and pyright infer of a clientized controller."""

from __future__ import annotations

import json
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
