"""`wsrpc bench`: what it measures, for people and for programs, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from wsrpc.cli.bench.histogram import Histogram
from wsrpc.cli.bench.report import page
from wsrpc.cli.bench.works import WORKS, Meter

from .conftest import COMMAND, PATIENCE, ROOT, Run, read_line, serving, start, until

QUICK = ("--warmup", "0", "--concurrency", "4")
WIDTH = 80


@pytest.fixture(scope="module")
def interop_url() -> Iterator[str]:
    """An interop server, which lets in clients that know the token."""
    words = ["-m", "wsrpc.interop.server", "--port", "0", "--auth-token", "sesame"]
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            yield read_line(server).split()[1]
        finally:
            server.terminate()
            server.wait(PATIENCE)


@pytest.fixture
def bench(interop_url: str, run: Run) -> Run:
    """Measures the interop server."""
    return lambda *words: run("bench", interop_url, "--auth", "sesame", *QUICK, *words)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_every_work_is_measured(bench: Run, codec: str) -> None:
    result = bench("--work", "all", "--calls", "6", "--codec", codec, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["complete"] is True
    assert (document["codec"], document["concurrency"]) == (codec, 4)
    assert document["server"].startswith("wsrpc-python/")
    assert [one["work"] for one in document["works"]] == list(WORKS)
    counts = {one["work"]: (one["count"], one["latency"]["count"]) for one in document["works"]}
    assert counts == {
        "calls": (6, 6),
        "stream": (6000, 6),
        "upload": (6000, 6),
        "duplex": (600, 600),
        "callbacks": (600, 600),
        "bytes": (6, 6),
        "connect": (6, 6),
    }


def test_figures_agree_with_each_other(bench: Run) -> None:
    (work,) = json.loads(bench("-w", "calls", "-n", "200", "--json").stdout)["works"]
    latency = work["latency"]
    names = ["min", "p50", "p90", "p99", "p99.9", "max"]
    assert [latency[name] for name in names] == sorted(latency[name] for name in names)
    assert latency["min"] > 0
    assert latency["min"] <= latency["mean"] <= latency["max"] < work["seconds"]
    assert work["rate"] == pytest.approx(200 / work["seconds"])
    assert sum(row["count"] for row in work["histogram"]) == 200
    assert work["histogram"][0]["from"] <= latency["min"]
    assert latency["max"] <= work["histogram"][-1]["to"] * 1.008


def test_for_people_there_is_a_page_for_each_work(bench: Run) -> None:
    result = bench("--work", "calls,stream", "--duration", "0.2")
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout
    assert re.search(r"^ws://127.0.0.1:\d+ \(wsrpc-python/.*\), json, 4 at a time$", text, re.M)
    assert re.search(r"^calls: .*\n  [\d,]+ calls/s \([\d,]+ in ", text, re.M)
    assert re.search(r"^  call: p50 .* p90 .* p99 .* p99\.9 .* max [\d.]+ .s$", text, re.M)
    assert re.search(r"^stream: .*\n  [\d,]+ items/s", text, re.M)
    assert text.count("█") > 50
    assert "\x1b" not in text


def test_a_page_fits_80_columns() -> None:
    for work in WORKS.values():
        for spread in (1, 2, 1000, 10**6):
            meter = Meter(units=123_456_789, seconds=0.12345)
            meter.latency = Histogram()
            for n in range(1000):
                meter.latency.record(round(123_456 * spread ** (n / 999)))
            page_lines = [line.plain for line in page(work, meter)]
            assert max(map(cell_len, page_lines)) <= WIDTH, page_lines
            assert len(page_lines) <= 4 + 16


def test_the_self_test_needs_no_server(run: Run) -> None:
    result = run("bench", "--self", *QUICK, "--work", "calls", "--calls", "5", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["works"][0]["count"] == 5


# ------------------------------------------------------------------------------------ trouble


def test_a_server_without_the_service(url: str, silent_url: str, run: Run) -> None:
    for where in (url, silent_url):
        result = run("bench", where, *QUICK, "--calls", "1")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"{where} does not expose the controller 'Interop'" in result.stderr
        assert "python -m wsrpc.interop.server" in result.stderr
        assert result.stderr.count("\n") == 1
    assert "there is Desk" in run("bench", url, "--calls", "1").stderr


def test_connecting_can_be_measured_at_any_server(url: str, run: Run) -> None:
    result = run("bench", url, *QUICK, "--work", "connect", "--calls", "3", "--json")
    assert json.loads(result.stdout)["works"][0]["count"] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "write its URL, or --self"),
        (("ws://h", "--self"), "write its URL, or --self"),
        (("--self", "--calls", "1", "--duration", "1"), "exclude each other"),
        (("--self", "--work", "stram"), "did you mean stream?"),
        (("--self", "--work", ""), "no work ''; there is calls"),
        (("--self", "--calls", "0"), "'--calls'"),
        (("--self", "--concurrency", "0"), "'--concurrency'"),
        (("h:1",), "no URL; write ws://h:1"),
        (("ws://h", "--header", "x"), "has no ':'"),
    ],
)
def test_wrong_usage(run: Run, words: tuple[str, ...], says: str) -> None:
    result = run("bench", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_nobody_there_and_nobody_let_in(run: Run, interop_url: str) -> None:
    for words in (("ws://127.0.0.1:1",), (interop_url, "--auth", "open")):
        result = run("bench", *words)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def broken_url() -> Iterator[str]:
    """A server whose interop service does not do what it should."""
    with serving("tests.cli.service:broken") as (_, url):
        yield url


def test_a_service_that_lacks_a_method(broken_url: str, run: Run) -> None:
    result = run("bench", broken_url, "--work", "calls,bytes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no method 'blob', which the work 'bytes' calls" in result.stderr


def test_a_service_that_answers_wrong(broken_url: str, run: Run) -> None:
    result = run("bench", broken_url, *QUICK, "--work", "upload", "--calls", "1")
    assert result.exit_code == 1
    assert f"{broken_url} answers wrong: 499500 was expected, 0 came" in result.stderr


def test_a_call_that_fails_ends_it_with_what_was_measured(broken_url: str, run: Run) -> None:
    words = ("--warmup", "0", "--concurrency", "1", "--work", "calls", "--calls", "100", "--json")
    result = run("bench", broken_url, *words)
    assert result.exit_code == 1
    assert result.stderr == "wsrpc: resource_exhausted: that was one too many\n"
    document = json.loads(result.stdout)
    assert document["complete"] is False
    assert document["works"][0]["count"] == 9


def under_way(run: Run, url: str) -> bool:
    """Whether so many calls were made that most are through: callers wait for their last one."""
    return int(run("call", url, "Interop.echoes").stdout) > 500


def test_a_server_that_goes_away_ends_it_with_what_was_measured(run: Run) -> None:
    with serving("tests.cli.service:counted") as (server, url):
        with start("bench", url, "-w", "calls", "-d", "60", "--warmup", "0") as process:
            assert until(lambda: under_way(run, url))
            server.kill()
            stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert re.search(r"calls/s \([\d,]+ in", stdout)
    assert stderr.startswith("wsrpc: unavailable: ")
    assert stderr.count("\n") == 1


# ------------------------------------------------------------------------------------ Ctrl-C


def test_interrupting_it_shows_what_was_measured_so_far(run: Run) -> None:
    with serving("tests.cli.service:counted") as (_, url):
        words = ("--work", "calls,stream", "--duration", "60", "--warmup", "0", "--json")
        with start("bench", url, *words) as process:
            assert until(lambda: under_way(run, url))
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stderr == "interrupted; these are the results so far\n"
    document = json.loads(stdout)
    assert document["complete"] is False
    (work,) = document["works"]
    assert work["count"] > 400
    assert 0 < work["seconds"] < 60


@pytest.mark.slow
def test_interrupting_its_whole_process_group_leaves_no_process_behind() -> None:
    words = ["bench", "--self", "--work", "calls,stream,upload", "--duration", "1"]
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert read_line(process).startswith("ws://")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        # Not `communicate`, which knows nothing of what was read ahead.
        assert process.stdout is not None
        assert process.stderr is not None
        stdout, stderr = process.stdout.read(), process.stderr.read()
    assert "calls/s" in stdout
    assert "upload" not in stdout
    assert stderr == "interrupted; these are the results so far\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# ------------------------------------------------------------------------------------ terminals


@pytest.mark.slow
def test_on_a_terminal_there_is_a_bar(interop_url: str) -> None:
    leader, follower = pty.openpty()
    words = ["bench", interop_url, "--auth", "sesame", "--work", "calls", "-d", "1"]
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
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
                break
    too_long.cancel()
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "━" in shown.decode()
    assert re.search(r"[\d,]+ calls/s", shown.decode())
    # It shows the cursor again, and results are kept apart.
    assert shown.decode().rindex("\x1b[?25h") > shown.decode().rindex("\x1b[?25l")
    assert "\x1b" not in stdout.decode()
    assert "█" in stdout.decode()
