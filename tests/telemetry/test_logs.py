"""Logs: one line an event, nothing of a stranger's in it, and not too many lines."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, bare_client, bare_server, error_of, pair, soon, until
from wsrpc.interfaces import Handshake
from wsrpc.telemetry.logs import LONGEST, OF_A_SESSION, OF_THE_PROCESS, Log, one_line

EVIL = "x\r\n2026-01-01 ERROR forged\x1b[31m\x00\u202e\u2028"


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "wsrpc"]


# ------------------------------------------------------------------------------------ one line


@pytest.mark.parametrize("text", [EVIL, "\n", "a\tb", "\x7f", "\ud800", "\u202e", "\x9b31m"])
def test_what_could_forge_a_line_or_paint_the_terminal_is_escaped(text: str) -> None:
    line = one_line(f"before {text} after")
    assert line.isprintable()
    assert line.startswith("before ")
    assert line.endswith(" after")


def test_ordinary_text_is_left_as_it_is() -> None:
    assert one_line("Grüße, 世界 – 'a' \\ \"b\"") == "Grüße, 世界 – 'a' \\ \"b\""


def test_a_line_is_bounded() -> None:
    assert len(one_line("x" * 10**6)) < LONGEST + 10


def test_a_failure_is_one_line_with_its_traceback_and_causes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def inner() -> None:
        raise KeyError(EVIL)

    try:
        try:
            inner()
        except KeyError as cause:
            raise ValueError("outer") from cause
    except ValueError as error:
        Log().error("%s failed", EVIL, error=error)
    (line,) = texts(caplog)
    assert line.isprintable()
    for told in ("KeyError", "in inner", "ValueError: outer", "Traceback"):
        assert told in line


def test_the_members_of_a_group_are_told(caplog: pytest.LogCaptureFixture) -> None:
    group = ExceptionGroup("several", [ValueError(f"number {n}") for n in range(100)])
    Log().error("it failed", error=group)
    (line,) = texts(caplog)
    assert "number 0" in line
    assert "number 14" in line
    assert len(line) < LONGEST


def test_an_exception_that_cannot_be_told_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    Log().error("it failed", error=Broken())
    assert "Broken" in texts(caplog)[0]


# ------------------------------------------------------------------------------------ not too many


def test_a_session_logs_five_lines_a_second_and_says_how_many_were_suppressed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("wsrpc.telemetry.logs.monotonic", lambda: now)
    log, other = Log(), Log()
    for n in range(20):
        log.warning("line %d", n)
    assert texts(caplog) == [f"line {n}" for n in range(OF_A_SESSION)]
    other.warning("another session's")
    assert texts(caplog)[-1] == "another session's (15 lines before this one were suppressed)"
    now += 1
    log.warning("a second later")
    assert texts(caplog)[-1] == "a second later"


def test_a_process_logs_fifty_lines_a_second(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("wsrpc.telemetry.logs.monotonic", lambda: now)
    for _ in range(100):
        Log().error("one of many")
    assert len(texts(caplog)) == OF_THE_PROCESS
    now += 0.5
    Log().error("later")
    assert texts(caplog)[-1] == "later (50 lines before this one were suppressed)"


def test_lines_that_nobody_wants_count_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "wsrpc")
    log = Log()
    for _ in range(100):
        log.info("not now")
    log.warning("but this")
    assert texts(caplog) == ["but this"]


async def test_a_client_whose_calls_fail_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @wsrpc.method
        async def fail(self) -> None:
            raise ZeroDivisionError

    async with pair([Broken()]) as (_, client):
        for _ in range(100):
            with error_of("internal"):
                await client.clientize(Broken).fail()
    assert 1 <= len(texts(caplog)) <= OF_A_SESSION + 5


# ------------------------------------------------------------------------------------ no leaks


class Secret(BaseModel):
    number: int


class Careful:
    @wsrpc.method
    async def greet(self, name: str) -> str:
        return name

    @wsrpc.method
    async def check(self, text: str) -> None:
        Secret.model_validate({"number": text})

    @wsrpc.method
    async def ask(self, f: Callable[[], Awaitable[None]]) -> None:
        try:
            await f()
        except wsrpc.RpcError as error:
            raise RuntimeError("the caller did not answer") from error


@pytest.mark.rule("HELLO-7")
async def test_credentials_are_in_no_log(codec: Codec, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wsrpc")

    async def authenticate(handshake: Handshake, auth: Any) -> None:
        raise ValueError(f"no such token: {auth}")

    server = wsrpc.Server([Careful()], authenticate=authenticate)
    async with bare_client(server, codec, hello=False) as peer:
        await peer.send(["hello", {"version": 1, "auth": "hunter2", "token": "hunter3"}])
        assert await peer.closed() == 4501
    assert "authenticate raised" in caplog.text
    assert "ValueError" in caplog.text
    assert "hunter" not in caplog.text


@pytest.mark.rule("ERROR-3")
async def test_what_callers_send_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wsrpc")

    async def refuse() -> None:
        raise wsrpc.RpcError("aborted", f"hunter2 {EVIL}")

    async with pair([Careful()]) as (_, client):
        careful = client.clientize(Careful)
        with error_of("invalid_argument"):
            await client.clientize("Careful").greet(name={"hunter2": 1})
        with error_of("unimplemented"):
            await client.clientize("Careful").hunter2()
        # A handler that validates by itself, and one that passes a caller's error on.
        for call in (careful.check("hunter2"), careful.ask(refuse)):
            with error_of("internal"):
                await call
    assert "1 validation errors for Secret" in caplog.text
    assert "the caller did not answer" in caplog.text
    assert "hunter" not in caplog.text
    assert all(line.isprintable() for line in texts(caplog))


@pytest.mark.rule("BATCH-2", "BATCH-3")
@pytest.mark.parametrize(
    "frames",
    [
        [["hunter2", 1]],
        [["call", 1, "hunter2", 7]],
        [["cancel", 1, {"hunter2": 1}]],
        [["result", 2, "hunter2"]],
        [["hello", {"version": 1, "agent": "hunter2", "auth": "hunter2"}]],
        [["call", 1, "Careful.greet", {"name": "hunter2"}, {"metadata": {"a": 7}}]],
    ],
    ids=repr,
)
async def test_what_a_stranger_breaks_the_rules_with_is_in_no_log(
    codec: Codec, frames: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wsrpc")
    async with bare_client(wsrpc.Server([Careful()]), codec) as peer:
        await peer.send(*frames)
        assert await peer.closed() in (4500, 4505)
    assert "closing <wsrpc session" in caplog.text
    assert "hunter" not in caplog.text


async def test_what_a_server_says_is_in_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wsrpc")
    async with bare_server(monkeypatch, hello={"session": EVIL, "agent": EVIL}) as (peer, session):
        assert repr(session).isprintable()
        await peer.link.close(4500, f"hunter2 {EVIL}")
        with soon():
            await session.wait_closed()
    lines = texts(caplog)
    assert lines
    assert all(line.isprintable() for line in lines)
    assert "hunter" not in caplog.text


async def test_debug_mode_says_loudly_that_it_is_on(caplog: pytest.LogCaptureFixture) -> None:
    wsrpc.Server([Careful()], debug=True)
    wsrpc.connect("ws://localhost:1", debug=True)
    assert [line.startswith("DEBUG MODE IS ON") for line in texts(caplog)] == [True, True]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_errors_of_the_other_end_say_so() -> None:
    async def refuse() -> None:
        raise wsrpc.RpcError("aborted", "no")

    remote: list[bool] = []

    class Asking:
        @wsrpc.method
        async def ask(self, f: Callable[[], Awaitable[None]]) -> None:
            try:
                await f()
            except wsrpc.RpcError as error:
                remote.append(error.remote)
                raise

    async with pair([Asking()]) as (_, client):
        with error_of("aborted") as caught:
            await client.clientize(Asking).ask(refuse)
        await until(lambda: remote == [True])
    assert caught.value.remote
    assert not wsrpc.RpcError("aborted").remote
