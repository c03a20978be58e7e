"""`wsrpc health`: an exit code for probes."""

from __future__ import annotations

import socket

import pytest

from .conftest import PATIENCE, Run, read_line, start


def test_wsrpc_health_exits_0_where_a_server_takes_calls(run: Run, url: str) -> None:
    result = run("health", url)
    assert (result.exit_code, result.stdout) == (0, "SERVING\n")
    assert run("health", url, "--service", "Desk").exit_code == 0


def test_wsrpc_health_exits_1_where_it_does_not(run: Run, url: str) -> None:
    result = run("health", url, "--service", "Nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not_found" in result.stderr


def test_wsrpc_health_exits_1_where_nobody_is(run: Run) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        result = run("health", f"ws://127.0.0.1:{nobody.getsockname()[1]}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_wsrpc_health_exits_1_where_nobody_answers(run: Run) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        result = run("health", f"ws://127.0.0.1:{port}", "--timeout", "0.2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["localhost:1", "http://localhost:1"])
def test_a_url_that_is_none_is_wrong_usage(run: Run, url: str) -> None:
    assert run("health", url).exit_code == 2


def test_wsrpc_health_exits_1_from_the_first_moment_of_a_drain(run: Run) -> None:
    with start("serve", "tests.cli.service:desk", "--port", "0") as process:
        url = read_line(process).split()[1]
        with start("call", url, "Desk.nap", "name=a") as napping:
            while run("call", url, "Desk.fate", "name=a").stdout != '"running"\n':
                pass
            process.terminate()
            while (result := run("health", url)).exit_code == 0:
                pass
            assert result.exit_code == 1
            napping.terminate()
            napping.communicate(timeout=PATIENCE)
        process.terminate()
        process.communicate(timeout=PATIENCE)
