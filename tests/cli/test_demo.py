"""`wsrpc demo`: it holds, and it says so when it does not."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from wsrpc.cli.demo.board import Board
from wsrpc.cli.demo.reports import Report
from wsrpc.cli.demo.steps import STEPS
from wsrpc.cli.demo.text import read, tokens_of
from wsrpc.cluster.bus.embedded import nats_server_path

from .conftest import COMMAND, PATIENCE, ROOT, command, read_line, start


def test_every_step_holds_between_two_processes(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    done = command("demo", "--svg", str(picture))
    first, *rows, last = done.stdout.splitlines()
    assert (done.returncode, len(rows)) == (0, len(STEPS)), done.stdout + done.stderr
    assert all(row.startswith("ok ") for row in rows)
    assert last.startswith(f"{len(STEPS)} of {len(STEPS)} hold, ")
    pids = re.findall(r"process (\d+)", first)
    assert len(set(pids)) == 2
    assert "protocol.md" in rows[1]
    assert picture.read_text().startswith("<svg")
    # It loads nothing from elsewhere.
    assert "url(" not in re.sub(r"url\(#", "", picture.read_text())
    assert "\x1b" not in done.stdout


def test_on_a_terminal_it_is_a_table() -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "130", "LINES": "40"},
    )
    os.close(follower)
    shown = b""
    too_long = threading.Timer(PATIENCE, process.kill)
    too_long.start()
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:
                # The last process that had the terminal is gone.
                break
    too_long.cancel()
    assert process.wait(PATIENCE) == 0
    text = shown.decode()
    assert "╭" in text
    assert f"{len(STEPS)} of {len(STEPS)} hold" in text


def test_interrupting_it_leaves_no_process_behind() -> None:
    with start("demo") as process:
        pids = re.findall(r"process (\d+)", read_line(process))
        assert len(pids) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_server_that_cannot_start_fails_every_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = command("demo", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stdout.count("FAILED") == len(STEPS)
    assert "Address already in use" in done.stderr


def test_one_step_that_fails_is_one_too_many(tmp_path: Path) -> None:
    board = Board()
    for step in STEPS[1:]:
        board.take(Report(key=step.key, state="holds"))
    assert not board.all_hold
    failed = board.give_up("it never came")
    assert [report.key for report in failed] == [STEPS[0].key]
    assert Board.line(failed[0]).startswith("FAILED")
    board.picture(tmp_path / "failed.svg")
    assert "it&#160;never&#160;came" in (tmp_path / "failed.svg").read_text()


def test_the_tokens_of_a_text_are_the_text() -> None:
    for text in (read(), "", " ", "a", "\n\n a  b\r\n\r\n"):
        assert "".join(tokens_of(text)) == text


def test_the_demo_of_a_cluster_names_the_extra_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nats.py").write_text("raise ImportError('there is no nats')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    done = command("demo", "--cluster")
    assert done.returncode == 2
    assert "wsrpc-anyio[nats]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.nats
@pytest.mark.skipif(nats_server_path() is None, reason="there is no nats-server here")
def test_a_node_of_the_demos_cluster_is_killed_and_nothing_is_lost() -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--cluster"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9" in done.stdout
    assert " 0 lost, 0 twice" in done.stdout
    assert "FAIL" not in done.stdout
