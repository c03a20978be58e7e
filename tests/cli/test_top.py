"""`wsrpc top`: figures for people and for programs, and the keys of its terminal."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import anyio
import pytest

import wsrpc
from wsrpc.cli.top.figures import METHODS, SESSIONS, figures, sorted_by
from wsrpc.cli.top.keys import polled
from wsrpc.cli.top.screen import Screen, bytes_text, seconds_text

from .conftest import COMMAND, PATIENCE, ROOT, Run, lines, serving
from .top_service import Prices

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals like these")

ONCE = ("--once", "--interval", "0.2", "--auth", "ops")


@pytest.fixture(scope="module")
def watched() -> Iterator[str]:
    """A server that tells, with a stream that nobody reads."""
    with serving("tests.cli.top_service:server") as (_, url):
        with reader_that_stops(url):
            yield url


@contextmanager
def reader_that_stops(url: str) -> Iterator[None]:
    """A client in a thread of its own, which reads one price and no other."""
    begun, over = threading.Event(), threading.Event()

    async def read() -> None:
        async with wsrpc.connect(url, auth="reader") as session:
            async with session.clientize(Prices).watch() as prices:
                await anext(prices)
                async with wsrpc.connect(url, auth="ops") as asking:
                    stats = asking.clientize("wsrpc.stats")
                    # A reader is called slow only after a while.
                    while not (await stats.snapshot(sort="paused_for"))["sessions"][0]["slow"]:
                        await anyio.sleep(0.05)
                begun.set()
                await anyio.to_thread.run_sync(over.wait)

    thread = threading.Thread(target=anyio.run, args=(read,))
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join(PATIENCE)


def test_wsrpc_top_shows_sessions_calls_streams_missing_credit_and_slow_peers(
    run: Run, watched: str
) -> None:
    result = run("top", watched, *ONCE)
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    assert "sessions 2 (0 without a connection), connections 2" in text
    assert "streams 1 live, 1 wait" in text
    assert "slow peers 1" in text
    (reader,) = [line for line in lines(result) if " s:reader " in line]
    assert re.search(r" 1 · \d+\.\d s .* credit$", reader), reader
    (ops,) = [line for line in lines(result) if " s:ops " in line]
    assert "credit" not in ops


def test_wsrpc_top_writes_one_document_for_programs(run: Run, watched: str) -> None:
    told = json.loads(run("top", watched, *ONCE, "--json").stdout)
    assert told.keys() == {"seconds", "server", "total", "sessions", "methods"}
    assert told["server"]["sessions"] == 2
    assert told["total"]["streams_live"] == 1
    by_principal = {row["principal"]: row for row in told["sessions"]}
    assert by_principal["s:reader"]["slow"] == ["credit"]
    assert by_principal["s:reader"]["paused_streams"] == 1
    assert by_principal["s:ops"]["calls_ended_per_second"] > 0
    methods = {row["method"]: row for row in told["methods"]}
    assert methods["Prices.watch"]["live"] == 1


def test_wsrpc_top_sorts_by_a_column_and_by_methods(run: Run, watched: str) -> None:
    told = json.loads(run("top", watched, *ONCE, "--json", "--sort", "calls/s").stdout)
    assert [row["principal"] for row in told["sessions"]] == ["s:ops", "s:reader"]
    shown = lines(run("top", watched, *ONCE, "--by", "methods", "--sort", "ended"))
    heads = [line for line in shown if line.startswith("METHOD")]
    assert "ENDED▼" in heads[0]
    assert shown[shown.index(heads[0]) + 1].startswith("wsrpc.stats.snapshot")
    wrong = run("top", watched, *ONCE, "--sort", "leg")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "did you mean lag?" in wrong.stderr


def test_wsrpc_top_says_what_to_do_where_it_is_refused(run: Run, watched: str, url: str) -> None:
    refused = run("top", watched, "--once", "--auth", "ann")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "stats_for" in refused.stderr
    off = run("top", url, "--once")
    assert (off.exit_code, off.stdout) == (1, "")
    assert "stats_for" in off.stderr
    assert "--stats" in off.stderr


def test_wsrpc_serve_stats_lets_everybody_look(run: Run) -> None:
    with serving("tests.cli.top_service:prices", "--stats") as (_, url):
        assert "sessions 1 " in run("top", url, "--once", "--interval", "0.1").stdout
    result = run("serve", "tests.cli.top_service:server", "--stats", "--port", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "stats_for" in result.stderr


class Terminal:
    """A pseudo-terminal with `wsrpc top` on it."""

    def __init__(self, *words: str) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "top", *words],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "30"},
        )
        os.close(theirs)
        self._text = ""

    def press(self, keys: str) -> None:
        self._text = ""
        os.write(self._ours, keys.encode())

    def until(self, text: str) -> str:
        """The screen since the last key, once it contains `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._text:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert ready, self._text
            self._text += os.read(self._ours, 65_536).decode(errors="replace")
        return self._text

    def ended(self) -> int:
        """The exit code; output is read meanwhile, as terminals do."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([self._ours], [], [], 0.05)[0]:
                try:
                    os.read(self._ours, 65_536)
                except OSError:
                    break
        os.close(self._ours)
        return self.process.wait(PATIENCE)


def test_the_keys_of_wsrpc_top_sort_switch_stand_still_and_quit(watched: str) -> None:
    terminal = Terminal(watched, "--auth", "ops", "--interval", "0.2")
    try:
        terminal.until("HELD▼")
        terminal.press("l")
        terminal.until("LAG▼")
        terminal.press("\x1b[D")
        terminal.until("NO CREDIT▼")
        terminal.press("r")
        terminal.until("NO CREDIT▲")
        terminal.press("m")
        terminal.until("CALLS/S▲")
        terminal.press(" ")
        terminal.until("standing still")
        terminal.press("?")
        terminal.until("the other way round")
        terminal.press("q")
        assert terminal.ended() == 0
    finally:
        terminal.process.kill()


def test_wsrpc_top_goes_on_when_its_server_comes_back(watched: str) -> None:
    with serving("tests.cli.top_service:prices", "--stats") as (server, url):
        port = url.rpartition(":")[2]
        terminal = Terminal(url, "--interval", "0.2", "--timeout", "1")
        try:
            terminal.until("sessions 1 ")
            server.kill()
            server.wait(PATIENCE)
            terminal.until("no connection")
            again = [*COMMAND, "serve", "tests.cli.top_service:prices", "--stats", "--port", port]
            with subprocess.Popen(
                again, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as other:
                try:
                    terminal.press("m")
                    terminal.press("m")
                    terminal.until("sessions 1 (0 without a connection), connections 1")
                    terminal.press("q")
                    assert terminal.ended() == 0
                finally:
                    other.terminate()
        finally:
            terminal.process.kill()


# ---------------------------------------------------------------------------------- figures


def row(id: str, **more: Any) -> dict[str, Any]:
    counts = {
        "calls_ended": 0,
        "calls_failed": 0,
        "calls_refused": 0,
        "made_ended": 0,
        "messages_sent": 0,
        "messages_received": 0,
        "bytes_sent": 0,
        "bytes_received": 0,
        "paused_seconds": 0.0,
        "backpressure_seconds": 0.0,
    }
    rest: dict[str, Any] = {
        "id": id,
        "principal": None,
        "peer": "",
        "calls_live": 0,
        "streams_live": 0,
        "paused_streams": 0,
        "paused_for": 0.0,
        "lag": 0.0,
        "held_bytes": 0,
        "slow": [],
    }
    return {**counts, **rest, **more}


def snapshot(time: float, *rows: dict[str, Any], methods: Any = None) -> dict[str, Any]:
    server = {
        "sessions": len(rows),
        "detached": 0,
        "links": len(rows),
        "calls_peak": 1,
        "paused_streams": 0,
        "held_bytes": 0,
        "outbox_bytes": 0,
        "replay_bytes": 0,
    }
    return {
        "time": time,
        "server": server,
        "total": {**row(""), "made_live": 0},
        "sessions": list(rows),
        "methods": methods or {},
    }


def test_rates_are_what_was_added_by_the_seconds_between() -> None:
    before = snapshot(10.0, row("a", calls_ended=5, bytes_sent=100))
    now = snapshot(12.0, row("a", calls_ended=11, bytes_sent=100), row("new", calls_ended=9))
    first, second = figures(before, now)["sessions"]
    assert first["calls_ended_per_second"] == 3.0
    assert first["bytes_sent_per_second"] == 0.0
    assert second["calls_ended_per_second"] is None


def test_the_mean_of_a_method_is_that_of_its_calls_of_late() -> None:
    def counts(ended: int, seconds: float) -> dict[str, Any]:
        return {"live": 0, "ended": ended, "failed": 0, "refused": 0, "seconds": seconds}

    before = snapshot(0.0, methods={"A.a": counts(10, 100.0), "A.b": counts(2, 4.0)})
    now = snapshot(1.0, methods={"A.a": counts(12, 101.0), "A.b": counts(2, 4.0)})
    late, old = figures(before, now)["methods"]
    assert (late["mean_seconds"], old["mean_seconds"]) == (0.5, 2.0)
    assert late["ended_per_second"] == 2.0


def test_figures_are_sorted_from_the_largest_and_text_from_a_to_z() -> None:
    told = figures(snapshot(0.0), snapshot(1.0, row("b", lag=2.0), row("c", lag=1.0), row("a")))
    by = {column.name: column for column in SESSIONS}

    def order(name: str, *, reverse: bool = False) -> str:
        rows = sorted_by(told["sessions"], by[name], reverse=reverse)
        return "".join(one["id"] for one in rows)

    assert order("lag") == "bca"
    assert order("lag", reverse=True) == "acb"
    assert order("id") == "abc"
    assert order("id", reverse=True) == "cba"
    # Rates that are not known come last.
    assert len(order("calls_ended_per_second")) == 3


def test_every_key_of_a_column_is_its_own() -> None:
    for columns in (SESSIONS, METHODS):
        taken = [column.key for column in columns if column.key]
        assert len(set(taken)) == len(taken)
        assert not {*taken} & {*"qmrjkh? <>,."}


def test_rows_that_find_no_room_are_counted_and_scrolled_to() -> None:
    from rich.console import Console

    rows = [row(f"session{n:02}", held_bytes=n) for n in range(20)]
    screen = Screen("ws://here", figures(snapshot(0.0), snapshot(1.0, *rows)))
    console = Console(width=150, color_system=None)

    def shown() -> str:
        with console.capture() as captured:
            console.print(screen.render(12))
        return captured.get()

    assert "session19" in shown()
    assert "session14" not in shown()
    assert "and 15 more" in shown()
    assert len(shown().splitlines()) <= 12
    for _ in range(100):
        assert screen.press("j")
        shown()
    assert "session00" in shown()
    assert "more" not in shown()
    assert screen.press("k")
    assert not screen.press("q")


def test_what_a_peer_calls_itself_steers_no_terminal() -> None:
    from rich.console import Console

    told = snapshot(1.0, row("a", principal="s:\x1b[2J\n[red]x"))
    screen = Screen("ws://here", figures(snapshot(0.0), told))
    console = Console(width=150, color_system=None)
    with console.capture() as captured:
        console.print(screen.render())
    assert "\x1b" not in captured.get()
    assert "[red]x" in captured.get()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (200 * 1024, "200 KiB"),
        (3 << 30, "3.0 GiB"),
    ],
)
def test_bytes_are_written_in_the_unit_that_fits(size: float, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00005, "50 µs"), (0.5, "500 ms"), (2.0, "2.0 s"), (180.0, "3 min")]
)
def test_durations_are_written_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


class Console:
    """The keyboard of Windows, on which somebody types."""

    def __init__(self, typed: str) -> None:
        self.typed = list(typed)

    def kbhit(self) -> bool:
        return bool(self.typed)

    def getwch(self) -> str:
        return self.typed.pop(0)


async def test_the_keys_of_a_console_of_windows_are_those_of_other_terminals() -> None:
    console = Console("m\xe0H\x00K\xe0S\xe0Pq")
    read: list[str] = []

    async def type_more() -> None:
        while len(read) < 5:
            await anyio.sleep(0)
        console.typed += "jq"

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group, aclosing(polled(console)) as keys:
            group.start_soon(type_more)
            while read.count("q") < 2:
                read.append(await anext(keys))
    assert read == ["m", "\x1b[A", "\x1b[D", "\x1b[B", "q", "j", "q"]
