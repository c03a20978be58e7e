"""Every Python snippet of the README is run, and prints what the README says it prints."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

WAIT = 30.0


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, (text, _) in snippets().items():
        (tmp_path / name).write_text(text.replace("8765", str(port)), encoding="utf-8")
    return tmp_path


def run(folder: Path, name: str) -> str:
    done = subprocess.run(
        [sys.executable, name], cwd=folder, capture_output=True, text=True, timeout=WAIT
    )
    assert done.stderr == ""
    return done.stdout


def test_the_readme_has_the_snippets_that_these_tests_run() -> None:
    assert list(snippets()) == ["server.py", "client.py", "both.py", "main.py", "more.py"]


def test_it_is_at_most_300_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize(("name", "most"), [("server.py", 15), ("client.py", 8), ("both.py", 10)])
def test_a_snippet_is_as_short_as_it_promises(name: str, most: int) -> None:
    lines = snippets()[name][0].splitlines()[1:]
    assert len([line for line in lines if line.strip()]) <= most


def test_the_client_prints_what_the_server_streams(folder: Path) -> None:
    server = subprocess.Popen([sys.executable, "server.py"], cwd=folder)
    try:
        expected = snippets()["client.py"][1].strip()
        until = time.monotonic() + WAIT
        while True:
            client = subprocess.run(
                [sys.executable, "client.py"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=WAIT,
            )
            # The server may not have bound its port yet; nothing else may go wrong.
            if "cannot connect" not in client.stderr or time.monotonic() > until:
                break
        assert client.stderr == ""
        assert client.stdout.strip() == expected
    finally:
        server.terminate()
        assert server.wait(WAIT) == 0


@pytest.mark.parametrize("name", ["main.py", "more.py"])
def test_a_snippet_prints_what_the_readme_says(folder: Path, name: str) -> None:
    assert run(folder, name) == snippets()[name][1]
