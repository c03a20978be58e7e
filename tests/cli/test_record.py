"""`wsrpc record` and `wsrpc replay`: a proxy that writes down what passes, and a view of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from wsrpc.telemetry.recorded_frames import frames, read_records

from .conftest import PATIENCE, ROOT, Run, lines, read_line, serving, start, until


@contextmanager
def recording(url: str, path: Path, *words: str) -> Iterator[tuple[Popen[str], str]]:
    """A recording proxy in front of a server, and the proxy's URL."""
    with start("record", url, "-o", str(path), *words) as process:
        try:
            line = read_line(process)
            assert line.startswith("listening ws://"), line
            yield process, line.split()[1]
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def recorded(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording of a call, a stream and a failure."""
    from typer.testing import CliRunner

    from wsrpc.cli.app import app

    path = tmp_path_factory.mktemp("record") / "session.wsrec"
    with recording(url, path) as (_, proxy):
        for words in (
            ["call", proxy, "Desk.greet", "name=Ann", "--auth=hunter2"],
            ["call", proxy, "Desk.tokens", "hello=Ann", "--codec=msgpack"],
            ["call", proxy, "Desk.fail"],
        ):
            CliRunner().invoke(app, words, prog_name="wsrpc")
    return path


def test_a_proxy_records_what_passes(run: Run, recorded: Path) -> None:
    found = list(frames(read_records(recorded)))
    assert {one.codec for one in found} == {"json", "msgpack"}
    said = [(one.sender, one.frame[:4]) for one in found if one.method == "Desk.greet"]
    assert ("C", ["call", said[0][1][1], "Desk.greet", {"name": "Ann"}]) == said[0]
    assert said[1] == ("S", ["result", said[0][1][1], "Hello, Ann!"])
    assert [one.frame for one in found if one.frame[0] == "close"] == [["close", 1000, ""]] * 3
    assert b"hunter2" not in recorded.read_bytes()
    assert "hunter2" not in repr(found)


def test_a_recording_is_shown_a_frame_a_line(run: Run, recorded: Path) -> None:
    shown = lines(run("replay", str(recorded)))
    assert len(shown) == len(list(frames(read_records(recorded))))
    assert any("C→S call" in line and "Desk.greet" in line for line in shown)
    assert any("S→C result" in line and '"Hello, Ann!"' in line for line in shown)


def test_what_is_shown_can_be_chosen_by_id_method_and_code(run: Run, recorded: Path) -> None:
    def chosen(*words: str) -> list[list[object]]:
        found = lines(run("replay", str(recorded), "--json", *words))
        return [json.loads(line)["frame"] for line in found]

    assert [frame[0] for frame in chosen("--method", "Desk.greet")] == ["call", "result"]
    assert {frame[0] for frame in chosen("-m", "Desk.tok*")} >= {"call", "message", "end"}
    assert {frame[0] for frame in chosen("--code", "1000")} == {"close"}
    assert [frame[0] for frame in chosen("--code", "not_found")] == ["error"]
    assert {frame[1] for frame in chosen("--id", "3")} == {3}
    assert chosen("--id", "3", "--link", "99") == []
    assert {frame[0] for frame in chosen("--frame", "hello")} == {"hello"}


def test_a_recording_can_be_followed_while_it_is_made(run: Run, url: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    with recording(url, path) as (_, proxy):
        with start("replay", str(path), "--follow", "--method", "Desk.greet") as follower:
            run("call", proxy, "Desk.greet", "name=Ann")
            assert "call" in read_line(follower)
            assert "Hello, Ann!" in read_line(follower)
            run("call", proxy, "Desk.greet", "name=Bob")
            assert "call" in read_line(follower)
            assert "Hello, Bob!" in read_line(follower)
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=PATIENCE)
            assert follower.returncode == 130


def test_a_proxy_that_is_killed_leaves_what_passed_a_second_before(
    run: Run, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.wsrec"
    with recording(url, path) as (process, proxy):
        run("call", proxy, "Desk.greet", "name=Ann")
        assert until(lambda: "Hello, Ann!" in run("replay", str(path)).stdout)
        process.kill()
        process.wait()
    assert "Hello, Ann!" in run("replay", str(path)).stdout


@pytest.mark.slow
def test_values_are_masked_or_left_out_by_the_proxy(run: Run, url: str, tmp_path: Path) -> None:
    for words, hidden in ((["--mask", "Desk.*=name"], '"***"'), (["--no-values"], "$left_out")):
        path = tmp_path / f"{len(words)}.wsrec"
        with recording(url, path, *words) as (_, proxy):
            assert lines(run("call", proxy, "Desk.greet", "name=hunter2")) == ['"Hello, hunter2!"']
        shown = run("replay", str(path), "--full", "--method", "Desk.*", "--frame", "call").stdout
        assert hidden in shown
        assert "hunter2" not in shown


def test_a_server_that_is_not_there_is_told_by_the_proxy(run: Run, tmp_path: Path) -> None:
    with recording("ws://127.0.0.1:9", tmp_path / "x.wsrec") as (_, proxy):
        result = run("call", proxy, "Desk.greet", "name=Ann")
        assert result.exit_code == 3
        assert "502" in result.stderr


def test_a_refusal_of_the_server_is_passed_on(run: Run, url: str, tmp_path: Path) -> None:
    with recording(url, tmp_path / "x.wsrec") as (_, proxy):
        result = run("call", proxy, "Desk.greet", "name=A", "--header=Origin: https://b.example")
        assert result.exit_code == 3
        assert "403" in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["record", "ws://127.0.0.1:9", "--listen", "here"], "--listen takes HOST:PORT"),
        (["record", "ws://127.0.0.1:9", "--mask", "password"], "--mask takes METHOD=FIELD"),
        (["record", "127.0.0.1:9"], "is no URL"),
        (["record", "ws://127.0.0.1:9", "-o", "/missing/x.wsrec"], "cannot record to"),
        (["replay", "/missing/x.wsrec"], "cannot be read"),
        (["replay", __file__], "is no recording"),
    ],
)
def test_wrong_usage_is_told_in_a_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_recording_is_played_against_a_server(run: Run, recorded: Path, url: str) -> None:
    result = run("replay", str(recorded), "--against", url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("no difference: 3 sessions, ")


def test_a_recording_in_which_there_is_nothing_to_play_is_no_success(
    run: Run, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "empty.wsrec"
    with recording(url, path):
        pass
    result = run("replay", str(path), "--against", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no session that can be played" in result.stderr


def test_the_first_difference_is_told_and_exits_1(run: Run, recorded: Path) -> None:
    with serving("tests.cli.service:broken") as (_, other):
        result = run("replay", str(recorded), "--against", other)
    assert result.exit_code == 1
    assert "a difference: connection 1, message" in result.stderr


def passed_without_formatting(path: Path) -> bool:
    """Whether a file is as the formatter would have it."""
    words = [sys.executable, "-m", "ruff", "format", "--check", "--isolated", str(path)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


LOCKED = """
import anyio, sys
import wsrpc

async def authenticate(handshake, auth):
    if auth != {"token": "good"}:
        raise wsrpc.RpcError("unauthenticated", "no")
    return "ann"

class Box:
    @wsrpc.method
    async def owner(self) -> str:
        return wsrpc.current().principal

server = wsrpc.Server([Box()], authenticate=authenticate)

async def main():
    async with server.listen() as listener:
        async with wsrpc.connect(listener.url, auth={"token": "good"}, record="box.wsrec") as session:
            await session.clientize(Box).owner()

if __name__ == "__main__":
    anyio.run(main)
"""


@pytest.mark.slow
def test_credentials_are_written_into_a_test_only_where_they_are_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked.py").write_text(LOCKED)
    words = [sys.executable, "locked.py"]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    subprocess.run(words, cwd=tmp_path, env=env, check=True, timeout=60)
    recording, test = tmp_path / "box.wsrec", tmp_path / "test_box.py"
    make = ["replay", str(recording), "--test", "locked:server", "-o", str(test)]
    monkeypatch.setenv("WSRPC_AUTH", '{"token": "good"}')
    made = run(*make)
    assert made.exit_code == 0, made.stderr
    assert "--auth" in made.stderr
    assert "good" not in test.read_text()
    test.unlink()
    made = run(*make, "--auth", '{"token": "good"}')
    assert "--auth" not in made.stderr
    assert 'AUTH: Any = {"token": "good"}' in test.read_text()
    words = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(test)]
    passed = subprocess.run(
        words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert passed.returncode == 0, passed.stdout


def test_a_recording_becomes_a_test_of_the_program(
    run: Run, recorded: Path, tmp_path: Path
) -> None:
    test = tmp_path / "test_made.py"
    made = run("replay", str(recorded), "--test", "tests.cli.service:server", "-o", str(test))
    assert made.exit_code == 0, made.stderr

    words = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(test)]
    passed = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert passed.returncode == 0, passed.stdout
    assert passed_without_formatting(test)
    again = run("replay", str(recorded), "--test", "tests.cli.service:server", "-o", str(test))
    assert again.exit_code == 2
    assert "is there already" in again.stderr
