"""capnweb on Node, both ends: `node/capnweb.mjs`, which `npm install` in that folder completes."""

import os
import shutil
from pathlib import Path

_FOLDER = Path(__file__).with_name("node")


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    node = shutil.which("node")
    if node is None:
        raise ImportError("node is not installed")
    if not (_FOLDER / "node_modules" / "capnweb").is_dir():
        raise ImportError(f"capnweb is not installed: npm install in {os.path.relpath(_FOLDER)}")
    return [node, "--expose-gc", str(_FOLDER / "capnweb.mjs"), role, *address]
