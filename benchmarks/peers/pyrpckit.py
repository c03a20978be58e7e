"""pyrpckit with FastAPI, which needs Python 3.12: `pyrpckit_ends` in an environment of its own."""

import subprocess
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).parents[2] / ".venv" / "rivals"
"""Made by `make bench`, where there is a python3.12."""


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    for python in (str(ENVIRONMENT / "bin" / "python"), sys.executable):
        try:
            found = subprocess.run([python, "-c", "import rpckit.codegen"], capture_output=True)
        except OSError:
            continue
        if found.returncode == 0:
            return [python, "-m", "benchmarks.peers", "pyrpckit_ends", role, *address]
    raise ImportError("pyrpckit is not installed: it needs Python 3.12, and make bench installs it")
