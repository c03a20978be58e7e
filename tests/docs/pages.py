"""Runs a page of Markdown from top to bottom, as a reader would who types all of it.

- A block `python` begins with `# name.py`, its file. Where a block `text` follows it is run, and
  prints that text. Where none does it is loaded, so that what it says at its top level works.
  One without a name is a fragment: it is parsed, and all that it takes from wsrpc is there.
- A block `console` is run by a shell: each line after `$ `, whose output is the lines below it. A line
  `…` stands for any lines. A command that ends with ` &` is a server: it answers on its port, the
  last that the command names or else 8765, before the page goes on.
- A block `js` is a module for Node, and needs a Node with a WebSocket of its own.

Ports 8765 and 9000 become free ones. Blocks of other kinds are there to be read.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import wsrpc
from tests.web.node import STATIC, node_with_websocket

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```([\w.-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

WAIT = 60.0

# The ports that pages name; the first is the one where servers listen that are told no other.
PORTS = ("8765", "9000")

# Between the outputs of two files.
MARK = "\x00"

# Runs files one after another, each as a program of its own.
DRIVER = f"""
import runpy, sys
for name in sys.argv[1:]:
    runpy.run_path(name, run_name="__main__")
    print({MARK!r}, end="", flush=True)
"""


@dataclass(frozen=True)
class Block:
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(kind, text) for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


def name_of(block: Block) -> str | None:
    first = block.text.splitlines()[0]
    return first.removeprefix("# ") if re.fullmatch(r"# \w+\.py", first) else None


def check_fragment(text: str) -> None:
    """Look whether a fragment is Python, and what it takes from wsrpc is there."""
    code = compile(text, "fragment", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wsrpc"):
            module = importlib.import_module(node.module or "")
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
        match node:
            case ast.Attribute(value=ast.Name(id="wsrpc"), attr=attr) if not hasattr(wsrpc, attr):
                importlib.import_module(f"wsrpc.{attr}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Reader:
    """A reader who follows one page, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {port: str(free_port()) for port in PORTS}
        self._servers: list[subprocess.Popen[bytes]] = []
        self._env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONWARNINGS": "error",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def _here(self, text: str) -> str:
        """A text with the ports of this reader."""
        for port, free in self._ports.items():
            text = text.replace(port, free)
        return text

    def follow(self, page: Path) -> None:
        """Do what a page says.

        Raises:
            AssertionError: Something else came of it than the page says.
        """
        found = blocks(page)
        pending: list[tuple[str, str | None]] = []
        try:
            for block, after in zip(found, [*found, Block("", "")][1:], strict=True):
                name = name_of(block) if block.kind == "python" else None
                if block.kind == "python" and name is None:
                    check_fragment(block.text)
                elif name is not None:
                    text = self._here(block.text)
                    (self._folder / name).write_text(text, encoding="utf-8")
                    pending.append((name, after.text if after.kind == "text" else None))
                elif block.kind in ("console", "js"):
                    self._python(pending)
                    pending = []
                    if block.kind == "js":
                        self._js(block.text)
                    else:
                        self._console(block.text)
            self._python(pending)
        finally:
            self._stop()

    def _python(self, files: list[tuple[str, str | None]]) -> None:
        """Run files that print something; load the others."""
        loaded = [name.removesuffix(".py") for name, expected in files if expected is None]
        if loaded:
            self._run([sys.executable, "-c", f"import {', '.join(loaded)}"])
        run = [(name, expected) for name, expected in files if expected is not None]
        if run:
            names = [name for name, _ in run]
            printed = self._run([sys.executable, "-c", DRIVER, *names]).split(MARK)
            for (name, expected), actual in zip(run, printed, strict=False):
                assert actual == self._here(expected), f"{name}\n{actual}"

    def _js(self, text: str) -> None:
        text = re.sub(r"http://127\.0\.0\.1:8765/(wsrpc[\w-]*\.js)", _module, text)
        module = self._folder / "page.mjs"
        module.write_text(self._here(text) + "process.exit();\n", encoding="utf-8")
        self._run([node_with_websocket(), str(module)])

    def _console(self, text: str) -> None:
        parts = re.split(r"^\$ ", self._here(text), flags=re.MULTILINE)
        assert parts[0] == "", "a console block begins with a command"
        for part in parts[1:]:
            command, _, expected = part.partition("\n")
            if command.endswith(" &"):
                self._begin(command.removesuffix(" &"))
                continue
            printed = self._run(["bash", "-c", f"{command} 2>&1"], may_fail=True)
            pattern = expected.replace("[", "[[]").replace("…", "*")
            # What ends without a line's end looks the same on a page.
            assert fnmatchcase(printed.rstrip("\n"), pattern.rstrip("\n")), f"{command}\n{printed}"

    def _begin(self, command: str) -> None:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self._folder,
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._servers.append(server)
        named = [free for free in self._ports.values() if free in command]
        port = max(named, key=command.rfind, default=self._ports[PORTS[0]])
        until = time.monotonic() + WAIT
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    return
            assert server.poll() is None, f"{command} has ended"
            assert time.monotonic() < until, f"{command} does not listen on the port of the page"
            # Another process is waited for, which tells nobody.
            time.sleep(0.05)

    def _run(self, command: list[str], *, may_fail: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.stderr == "", done.stdout + done.stderr
        assert may_fail or done.returncode == 0, done.stdout
        return done.stdout

    def _stop(self) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
        for server in self._servers:
            server.wait(WAIT)


def _module(found: re.Match[str]) -> str:
    """Node imports from files only; the module is the same one."""
    return (STATIC / found[1]).as_uri()
