"""Checks `resume.pml` exhaustively with Spin, as it stands and with an error planted."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("resume.pml")
TOOLS = ("spin", "gcc")

# The errors that the model can be given, and what each is against.
PLANTED = {
    "ACK": "an ack that is one too high (ACK-2)",
    "TOKEN": "the old token void before C has confirmed the new one (RESUME-5)",
    "REPLAY": "a replay that begins one frame too early (RESUME-4)",
    "OLD_LINK": "frames of an older link taken after the hello of a newer one (RESUME-3)",
    "NO_ACK": "a side that acks nothing (RESUME-7)",
}

# Bounds: small enough for a test, and as large as `make model` has time for.
SMALL = {"C_FRAMES": 3, "S_FRAMES": 2, "LINKS": 3, "BUFFER": 2, "BATCH": 2, "ROOM": 2}
LARGE = [
    {"C_FRAMES": 4, "S_FRAMES": 4, "LINKS": 4, "BUFFER": 3, "BATCH": 2, "ROOM": 3},
    {"C_FRAMES": 4, "S_FRAMES": 3, "LINKS": 5, "BUFFER": 2, "BATCH": 2, "ROOM": 2},
    {"C_FRAMES": 5, "S_FRAMES": 2, "LINKS": 4, "BUFFER": 1, "BATCH": 1, "ROOM": 3},
]


@dataclass(frozen=True)
class Verdict:
    """What the checker found.

    Attributes:
        complete: Whether every state within the bounds was looked at.
        error: What went wrong, or "".
        states: How many states there are.
        seconds: Seconds that the search took.
    """

    complete: bool
    error: str
    states: int
    seconds: float


def missing() -> list[str]:
    """The tools that are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def check(bounds: dict[str, int], planted: str = "") -> Verdict:
    """Search all states within the bounds.

    Args:
        bounds: The model's macros.
        planted: The name of an error to plant.
    """
    defines = [f"-D{name}={value}" for name, value in bounds.items()]
    if planted:
        defines.append(f"-DPLANT_{planted}")
    with tempfile.TemporaryDirectory() as folder:
        run(["spin", "-a", *defines, str(MODEL)], folder)
        run(["gcc", "-O2", "-DSAFETY", "-DCOLLAPSE", "-w", "-o", "pan", "pan.c"], folder)
        said = run(["./pan", "-m100000"], folder)
    return verdict(said)


def verdict(said: str) -> Verdict:
    """What Spin's report says."""
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    seconds = re.search(r"elapsed time ([\d.]+)", said)
    found = re.search(r"^pan:\d+: (.*)$", said, re.MULTILINE)
    cut_short = re.search(r"max search depth|out of memory|Search not completed", said)
    if errors is None or states is None:
        raise RuntimeError(f"Spin's report is not understood:\n{said}")
    return Verdict(
        complete=cut_short is None and errors.group(1) == "0",
        error="" if errors.group(1) == "0" else (found.group(1) if found else "an error"),
        states=int(states.group(1)),
        seconds=float(seconds.group(1)) if seconds else 0.0,
    )


def run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0 and command[0] != "./pan":
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout
