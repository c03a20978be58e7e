"""The programs of the peers that are not in Python; an error names the missing part."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("node")


def node(least: int = 18) -> str:
    """Node of at least this version: the environment's, or the system's.

    Raises:
        ImportError: There is none.
    """
    for path in (str(Path(sys.executable).parent / "node"), shutil.which("node")):
        if path is not None and os.access(path, os.X_OK):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if said.returncode == 0 and int(said.stdout[1:].split(".")[0]) >= least:
                return path
    raise ImportError(f"there is no Node of version {least} or later")


def script(name: str, *packages: str) -> str:
    """The path of a script of `node/`.

    Raises:
        ImportError: A package that it needs is not installed.
    """
    for package in packages:
        if not (FOLDER / "node_modules" / package).is_dir():
            raise ImportError(
                f"{package} is not installed: npm install in {os.path.relpath(FOLDER)}"
            )
    return str(FOLDER / name)
