"""The two commands, as processes of their own and in this one."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

import wsrpc
from tests.support import soon
from wsrpc.interop import client
from wsrpc.interop.bare_peer import open_bare
from wsrpc.interop.case import Cases, Ground, connect_as, equal, require
from wsrpc.interop.server import limits_from, limits_of, main, parser
from wsrpc.interop.service import Interop, interop_server

from .support import call

SERVER = [sys.executable, "-m", "wsrpc.interop.server"]
CLIENT = [sys.executable, "-m", "wsrpc.interop.client"]

# Seconds. A process takes a while to start, several at a time longer.
LIMIT = 90.0


@pytest.fixture
def backend(anyio_backend: Any) -> str:
    name: str = anyio_backend[0] if isinstance(anyio_backend, tuple) else anyio_backend
    return name


@asynccontextmanager
async def server_process(*arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """A server in a process of its own, and its URL."""
    with anyio.fail_after(LIMIT):
        async with await anyio.open_process([*SERVER, "--port", "0", *arguments]) as process:
            try:
                assert process.stdout is not None
                output = BufferedByteReceiveStream(process.stdout)
                line = (await output.receive_until(b"\n", 1000)).decode().strip()
                assert re.fullmatch(r"listening ws://127\.0\.0\.1:\d+", line)
                yield process, line.removeprefix("listening ")
            finally:
                if process.returncode is None:
                    process.kill()


async def run_client(*arguments: str) -> tuple[int, list[str], str]:
    """Exit code, lines on standard output, and standard error of a client process."""
    with anyio.fail_after(LIMIT):
        done = await anyio.run_process([*CLIENT, *arguments], check=False)
        return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


async def stopped(process: Process, how: signal.Signals) -> tuple[int, str]:
    """Exit code and standard error after a signal."""
    process.send_signal(how)
    assert process.stderr is not None
    said = b"".join([chunk async for chunk in process.stderr])
    return await process.wait(), said.decode()


@pytest.mark.rule("INTEROP-1", "INTEROP-2")
@pytest.mark.slow
async def test_the_two_commands_pass_every_case_together(backend: str) -> None:
    options = ["--backend", backend, "--auth-token", "open sesame"]
    codec = "json" if backend == "asyncio" else "msgpack"
    async with server_process(*options) as (process, url):
        code, lines, said = await run_client(url, *options, "--codec", codec)
        *results, summary = lines
        assert [line for line in results if not line.startswith("ok   ")] == []
        assert summary == f"{len(results)} passed, 0 failed"
        assert (code, said) == (0, "")
        assert (await stopped(process, signal.SIGTERM))[0] == 0


@pytest.mark.rule("CLOSE-5", "DRAIN-3")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_server_cleanly(backend: str, how: signal.Signals) -> None:
    options = ["--backend", backend, "--drain-grace", "0.05"]
    async with server_process(*options) as (process, url):
        async with open_bare(url, "json") as bare:
            await bare.hello()
            await bare.send(call(1, "Interop.slow_cleanup", {"seconds": 0.1}))
            await bare.on(1)
            assert await stopped(process, how) == (0, "")
            assert await bare.closed() == 1012


@pytest.mark.rule("CLOSE-1", "CLOSE-5")
async def test_a_second_signal_does_not_wait_for_the_calls(backend: str) -> None:
    async with server_process("--backend", backend) as (process, url):
        async with open_bare(url, "json") as bare:
            await bare.hello()
            await bare.send(call(1, "Interop.slow_cleanup", {"seconds": 0.1}))
            await bare.on(1)
            process.send_signal(signal.SIGTERM)
            await bare.frame(lambda frame: frame[0] == "goaway")
            assert await stopped(process, signal.SIGTERM) == (0, "")
            assert await bare.closed() == 1001


def test_nobody_there_is_exit_code_3() -> None:
    done = subprocess.run(
        [*CLIENT, "ws://127.0.0.1:1"], capture_output=True, text=True, timeout=LIMIT
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "cannot connect: cannot connect to ws://127.0.0.1:1: Connection refused\n"


def test_a_port_that_is_taken_is_told_in_one_line(backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*SERVER, "--port", str(port), "--backend", backend]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert done.stderr.count("\n") == 1


# ------------------------------------------------------------------------ the server's arguments


def test_limits_come_from_json() -> None:
    assert limits_from('{"max_calls": 16, "hello_timeout": 0.5}') == wsrpc.Limits(
        max_calls=16, hello_timeout=0.5
    )


def test_times_have_options_of_their_own() -> None:
    options = ["--limits", '{"max_calls": 16, "drain_grace": 1}']
    options += ["--resume-window", "5", "--heartbeat", "2,1.5", "--drain-grace", "0.5"]
    assert limits_of(parser().parse_args(options)) == wsrpc.Limits(
        max_calls=16,
        resume_window=5.0,
        heartbeat_interval=2.0,
        heartbeat_timeout=1.5,
        drain_grace=0.5,
    )
    limits = limits_of(parser().parse_args(["--heartbeat", "0"]))
    assert limits == wsrpc.Limits(heartbeat_interval=0)


@pytest.mark.parametrize(
    "options",
    [
        ["--heartbeat", "20"],
        ["--heartbeat", "0.5,10"],
        ["--heartbeat", "a,b"],
        ["--drain-grace", "-1"],
        ["--drain-grace", "inf"],
        ["--resume-window", "soon"],
    ],
)
def test_times_that_are_none_are_wrong_usage(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(options)
    assert caught.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_calls=16", "not JSON"),
        ("[16]", "write an object"),
        ('{"max_cals": 16}', "no such limit: 'max_cals'; there are max_calls, "),
        ('{"max_calls": 7}', "max_calls must be at least 8"),
        ('{"max_calls": "many"}', "max_calls must be a number"),
        ('{"outbox": 0}', "outbox must be at least 1"),
    ],
)
def test_bad_limits_are_told(text: str, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=re.escape(said)):
        limits_from(text)


def test_bad_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--limits", '{"max_cals": 16}'])
    assert caught.value.code == 2
    assert "no such limit: 'max_cals'" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--origin", "app.example"], ["--trusted-proxy", "proxy"]])
def test_an_origin_or_a_proxy_that_is_none_is_wrong_usage(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(option)
    assert caught.value.code == 2
    assert repr(option[1]) in capsys.readouterr().err


@pytest.mark.rule("AUTH-1", "AUTH-3", "AUTHZ-1")
async def test_the_service_can_be_told_whom_to_let_in_and_for_how_long() -> None:
    """As `--auth-user`, `--auth-expires` and `--deny` do."""
    users = {"ann": "a", "bob": "b"}
    server = interop_server(auth_users=users, auth_expires=0.4, deny=["Interop.blob"])
    with soon():
        async with server.listen() as listener:
            async with (
                open_bare(listener.url, "json") as bare,
                open_bare(listener.url, "json") as other,
            ):
                await bare.hello(auth="a")
                await other.hello(auth="b")
                await other.send(call(1, "Interop.blob", {"size": 1}), call(3, "Interop.whoami"))
                assert (await other.terminal(1))[2]["code"] == "permission_denied"
                assert (await other.terminal(3))[2]["principal"] == "bob"
                await other.send(["auth", "a"])
                assert await other.closed() == 4501
                assert await bare.closed() == 4003


# ------------------------------------------------------------------------ the client's report


async def report(chosen: Cases, monkeypatch: pytest.MonkeyPatch) -> int:
    """The client's exit code for these cases, against the service."""
    monkeypatch.setattr(client, "ALL_CASES", chosen)
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    with soon():
        async with interop_server().listen() as listener:
            return await client.run(listener.url, "json", None)


async def test_a_report_has_a_line_a_case_and_a_sum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = Cases()

    @cases("CALL-1")
    async def passes(at: Ground) -> None:
        """what holds"""
        equal(await at.interop.echo(1), 1)

    @cases("CALL-2", "CALL-3")
    async def fails(at: Ground) -> None:
        """what does not"""
        equal(await at.interop.echo(1), True)

    @cases()
    async def raises(at: Ground) -> None:
        """what goes wrong"""
        raise LookupError("somewhere\nelse")

    @cases()
    async def hangs(at: Ground) -> None:
        """what never ends"""
        await anyio.sleep_forever()

    @cases(codec="msgpack")
    async def other(at: Ground) -> None:
        """what is for another codec"""
        require(False, "it ran")

    @cases(auth=True)
    async def secret(at: Ground) -> None:
        """what needs credentials"""
        require(False, "it ran")

    assert await report(cases, monkeypatch) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok   what holds",
        "FAIL what does not: the answer is 1, not True (CALL-2, CALL-3)",
        r"FAIL what goes wrong: LookupError('somewhere\nelse')",
        "FAIL what never ends: not through after 1 s",
        "1 passed, 3 failed",
    ]


@pytest.mark.rule("HELLO-7")
async def test_a_wrong_token_cannot_connect(capsys: pytest.CaptureFixture[str]) -> None:
    with soon():
        async with interop_server(auth_token="right").listen() as listener:
            assert await client.run(listener.url, "json", "wrong") == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("cannot connect: the server refused the credentials")


async def test_all_passed_is_exit_code_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = Cases()

    @cases()
    async def passes(at: Ground) -> None:
        """what holds"""

    assert await report(cases, monkeypatch) == 0
    assert capsys.readouterr().out == "ok   what holds\n1 passed, 0 failed\n"


# ------------------------------------------------------------------------ the service by itself


async def test_the_service_without_a_server_has_no_stats() -> None:
    with pytest.raises(wsrpc.RpcError, match="no server"):
        await Interop().stats()


async def test_a_cleanup_that_is_cut_short_has_begun_and_is_not_done() -> None:
    limits = wsrpc.Limits(cleanup_timeout=0.05)
    with soon():
        async with interop_server(limits=limits).listen() as listener:
            async with connect_as(listener.url, "json", None) as session:
                interop = session.clientize(Interop)
                async with interop.slow_cleanup(60) as stream:
                    await anext(stream)
                ground = Ground(listener.url, "json", None, session)
                await ground.until(lambda now: now["calls_live"] == 1, "the handler has ended")
                stats = await interop.stats()
                assert (stats["cleanups_begun"], stats["cleanups_done"]) == (1, 0)
