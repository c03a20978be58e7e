"""Plants a fault in a copy of the tree and runs the tests that ought to see it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault

ROOT = Path(__file__).parents[2]
COPIED = ("wsrpc", "tests", "examples", "pyproject.toml", "protocol.md", "README.md")
# Nothing that is compiled: no fault would be in it.
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so", "*.pyd", "node_modules")

# Seconds. A fault that makes the tests hang is seen as well.
PATIENCE = 600


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    Attributes:
        seen: Whether a test failed.
        by: The first test that did, or what else ended the run.
    """

    seen: bool
    by: str


def copy_to(folder: Path) -> None:
    """Put what tests need into an empty folder."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=IGNORED)
        elif source.exists():
            shutil.copy(source, folder / name)


def place_of(fault: Fault, package: Path) -> Path:
    """The file in which the fault belongs.

    Raises:
        LookupError: What the fault replaces does not stand there exactly once.
    """
    place = package / fault.file
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    counts = {file: file.read_text(encoding="utf-8").count(fault.old) for file in files}
    found = [file for file, n in counts.items() if n]
    if len(found) != 1 or counts[found[0]] != 1:
        times = sum(counts.values())
        raise LookupError(f"{fault.what}: its place in {fault.file} is there {times} times")
    return found[0]


def planted(fault: Fault, text: str) -> str:
    """A file's text with the fault in."""
    return text.replace(fault.old, fault.new)


def try_fault(fault: Fault, folder: Path) -> Outcome:
    """Run the fault's tests in a copy of the tree with the fault in."""
    file = place_of(fault, folder / "wsrpc")
    good = file.read_text(encoding="utf-8")
    file.write_text(planted(fault, good), encoding="utf-8")
    try:
        return run_tests(fault.tests, folder)
    finally:
        file.write_text(good, encoding="utf-8")


def run_tests(tests: tuple[str, ...], folder: Path) -> Outcome:
    """Run tests until one fails."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "--tb=no", *tests]
    # No bytecode: a fault may leave a file's size and second as they were.
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return Outcome(seen=True, by=f"not through after {PATIENCE} s")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1) and not failed:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return Outcome(seen=done.returncode != 0, by=failed[0] if failed else "")
