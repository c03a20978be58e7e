"""Every snippet of the README is run, and does what the README says it does."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.web.node import STATIC, node_with_websocket

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

WAIT = 120.0

# An installation from before it was an entry point lacks that.
PLUGINS = entry_points(group="pytest11", name="wsrpc")
PLUGIN = () if PLUGINS else ("-p", "wsrpc_pytest")


def blocks() -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(README.read_text(encoding="utf-8"))]


def snippets() -> dict[str, tuple[str, str]]:
    """Python snippets by file name, each with the output that follows it, if any."""
    found: dict[str, tuple[str, str]] = {}
    for (kind, text), (next_kind, next_text) in zip(
        blocks(), [*blocks()[1:], ("", "")], strict=True
    ):
        if kind == "python":
            name = text.splitlines()[0].removeprefix("# ")
            found[name] = (text, next_text if next_kind == "text" else "")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def folder(tmp_path: Path, port: int) -> Path:
    for name, (text, _) in snippets().items():
        (tmp_path / name).write_text(text.replace("8765", str(port)), encoding="utf-8")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WAIT)


def when_it_listens(client: Callable[[], subprocess.CompletedProcess[str]]) -> str:
    """What a client of a server that is being started says, and nothing may go wrong for it."""
    until = time.monotonic() + WAIT
    while True:
        done = client()
        # The server may not have bound its port yet; nothing else may go wrong.
        unbound = "cannot connect" in done.stderr or "ECONNREFUSED" in done.stderr
        if not unbound or time.monotonic() > until:
            break
    assert done.stderr == ""
    return done.stdout


def test_the_readme_has_the_snippets_that_these_tests_run() -> None:
    assert list(snippets()) == [
        "server.py",
        "client.py",
        "both.py",
        "main.py",
        "app.py",
        "observe.py",
        "test_hello.py",
        "rooms.py",
    ]
    text = README.read_text(encoding="utf-8")
    for told in ("wsrpc.Observer", "server.asgi()", "metrics=True", "instrument()", "/healthz"):
        assert told in text
    for told in ("wsrpc.testing.server(", "wsrpc_client", "wsrpc schema", "wsrpc diff"):
        assert told in text
    assert {kind for kind, _ in blocks()} == {"console", "python", "text", "js"}


def test_it_is_at_most_250_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize(
    ("name", "most"), [("server.py", 15), ("client.py", 8), ("both.py", 10), ("app.py", 6)]
)
def test_a_snippet_is_as_short_as_it_promises(name: str, most: int) -> None:
    lines = snippets()[name][0].splitlines()[1:]
    assert len([line for line in lines if line.strip()]) <= most


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8")))
def test_a_link_of_the_readme_leads_somewhere(target: str) -> None:
    assert (README.parent / target).exists()


def test_the_client_prints_what_the_server_streams(folder: Path) -> None:
    server = subprocess.Popen([sys.executable, "server.py"], cwd=folder)
    try:
        said = when_it_listens(lambda: run(folder, sys.executable, "client.py"))
        assert said.strip() == snippets()["client.py"][1].strip()
    finally:
        server.terminate()
        assert server.wait(WAIT) == 0


@pytest.mark.web
def test_the_page_logs_what_the_server_streams(folder: Path, port: int) -> None:
    node = node_with_websocket()
    (text,) = [text for kind, text in blocks() if kind == "js"]
    # Node imports from files only; the module is the same one.
    text = text.replace("http://127.0.0.1:8765/wsrpc.js", (STATIC / "wsrpc.js").as_uri())
    # A page ends its session when it is left; a program has to say so.
    text = text.replace("8765", str(port)) + "process.exit();\n"
    (folder / "page.mjs").write_text(text, encoding="utf-8")
    server = subprocess.Popen([sys.executable, "server.py"], cwd=folder)
    try:
        when_it_listens(lambda: run(folder, sys.executable, "client.py"))
        assert when_it_listens(lambda: run(folder, node, "page.mjs")) == "Hello\n, \npage\n!\n"
    finally:
        server.terminate()
        assert server.wait(WAIT) == 0


def test_a_fastapi_application_serves_the_controllers(folder: Path, port: int) -> None:
    host = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "error", "app:app"],
        cwd=folder,
    )
    try:
        client = (folder / "client.py").read_text(encoding="utf-8")
        (folder / "client.py").write_text(client.replace(f"{port}", f"{port}/rpc/"), "utf-8")
        said = when_it_listens(lambda: run(folder, sys.executable, "client.py"))
        assert said == "Hello, world!"
    finally:
        host.terminate()
        host.wait(WAIT)


def test_the_test_of_the_readme_passes(folder: Path) -> None:
    done = run(folder, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


async def test_the_server_of_the_readme_has_metrics_and_traces(folder: Path) -> None:
    program = """
import anyio, sys, urllib.request, wsrpc
from observe import server

async def main():
    async with server.listen() as listener:
        async with wsrpc.connect(listener.url, observers=[wsrpc.Observer()]) as session:
            await session.clientize("HelloController").greet(name="Ada")
        read = lambda: urllib.request.urlopen(listener.http_url + "metrics").read().decode()
        print(await anyio.to_thread.run_sync(read))

anyio.run(main)
"""
    done = await anyio.to_thread.run_sync(run, folder, sys.executable, "-c", program)
    assert done.stderr == ""
    assert re.search(
        r'^wsrpc_server_handled_total\{code="ok",.*method="greet"\} 1\.0$', done.stdout, re.M
    ), done.stdout


@pytest.mark.parametrize("name", ["main.py", "rooms.py"])
def test_a_snippet_prints_what_the_readme_says(folder: Path, name: str) -> None:
    done = run(folder, sys.executable, name)
    assert done.stderr == ""
    assert done.stdout.splitlines() == re.findall(
        r"print\(.*\)  # (.*)$", snippets()[name][0], re.M
    )
