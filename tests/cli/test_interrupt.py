"""Ctrl-C: the first cancels the call at the other end too, the second does not wait."""

from __future__ import annotations

import signal
import subprocess

import pytest

from .conftest import PATIENCE, Run, lines, read_line, serving, start, until


def fate(run: Run, url: str, name: str) -> str:
    return lines(run("call", url, "Desk.fate", f"name={name}"))[0].strip('"')


def test_interrupting_a_stream_runs_the_finally_at_the_other_end(url: str, run: Run) -> None:
    process = start("call", url, "Desk.ticks", "name=interrupted stream")
    assert read_line(process) == "0\n"
    assert fate(run, url, "interrupted stream") == "running"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stderr == "interrupted; the call is cancelled at the other end too\n"
    assert until(lambda: fate(run, url, "interrupted stream") == "finally ran")


def test_interrupting_a_call_for_a_value(url: str, run: Run) -> None:
    process = start("call", url, "Desk.nap", "name=interrupted nap")
    assert until(lambda: fate(run, url, "interrupted nap") == "running")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert until(lambda: fate(run, url, "interrupted nap") == "finally ran")


def test_interrupting_while_nobody_reads_stdout(url: str) -> None:
    with start("call", url, "Desk.flood") as process:
        read_line(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_interrupting_while_it_waits_for_standard_input(url: str) -> None:
    with start("call", url, "Desk.upper", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write('"a"\n')
        process.stdin.flush()
        assert read_line(process) == '"A"\n'
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_the_second_time_does_not_wait() -> None:
    with serving("tests.cli.service:server") as (server, url):
        with start("call", url, "Desk.ticks", "name=frozen") as process:
            try:
                assert read_line(process) == "0\n"
                # A server that says nothing any more holds up the goodbye for 2 s.
                server.send_signal(signal.SIGSTOP)
                process.send_signal(signal.SIGINT)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
                process.send_signal(signal.SIGINT)
                assert process.wait(1) == 130
            finally:
                process.kill()
                server.send_signal(signal.SIGCONT)


@pytest.mark.rule("DRAIN-3")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_server_finishes_its_calls_for_a_while(number: signal.Signals, code: int) -> None:
    options = ("--port", "0", "--drain-grace", "0.2")
    with start("serve", "tests.cli.service:server", *options) as server:
        url = read_line(server).split()[1]
        with start("call", url, "Desk.ticks", "name=drained") as process:
            assert read_line(process) == "0\n"
            server.send_signal(number)
            _, stderr = server.communicate(timeout=PATIENCE)
            assert server.returncode == code
            assert "stopping: up to 0.2 s for 1 running calls; Ctrl-C again does not wait" in stderr
            assert process.wait(PATIENCE) == 1


@pytest.mark.rule("CLOSE-5")
def test_a_second_signal_cancels_the_calls_of_a_server() -> None:
    with start("serve", "tests.cli.service:server", "--port", "0") as server:
        url = read_line(server).split()[1]
        with start("call", url, "Desk.ticks", "name=cancelled") as process:
            assert read_line(process) == "0\n"
            server.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.5)
            server.send_signal(signal.SIGTERM)
            _, stderr = server.communicate(timeout=PATIENCE)
            assert server.returncode == 0
            assert "stopping at once" in stderr
            process.terminate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_server_stops_cleanly(number: signal.Signals, code: int, run: Run) -> None:
    process = start("serve", "tests.cli.service:server", "--port", "0")
    url = read_line(process).split()[1]
    assert lines(run("call", url, "Desk.greet", "name=Ann")) == ['"Hello, Ann!"']
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (code, "")
    assert "Traceback" not in stderr
