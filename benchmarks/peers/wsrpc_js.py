"""wsrpc.js in Node, against the server of the peer `wsrpc`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).with_name("node") / "wsrpc.mjs"

WITH_WEBSOCKET = 22
"""The first version of Node with a WebSocket of its own."""


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    node = _node()
    if role == "server":
        return [sys.executable, "-m", "benchmarks.peers", "wsrpc", "server"]
    return [node, "--expose-gc", str(_SCRIPT), *address]


def _node() -> str:
    for path in (str(Path(sys.executable).parent / "node"), shutil.which("node")):
        if path is not None and os.access(path, os.X_OK):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if said.returncode == 0 and int(said.stdout[1:].split(".")[0]) >= WITH_WEBSOCKET:
                return path
    raise ImportError(f"there is no Node of version {WITH_WEBSOCKET} or later")
