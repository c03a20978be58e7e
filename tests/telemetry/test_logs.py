"""Logs: one line an event, nothing of a stranger's in it, and not too many lines."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, bare_client, bare_server, error_of, pair, served, soon, until
from wsrpc.interfaces import Handshake
from wsrpc.protocol.rates import Bucket
from wsrpc.telemetry.log_formats import JsonFormatter, LineFormatter, TerminalFormatter
from wsrpc.telemetry.logs import (
    DEBUG_TIMES,
    FIELDS,
    LONGEST,
    OF_A_SESSION,
    OF_THE_PROCESS,
    Log,
    _Tap,
    one_line,
)

EVIL = "x\r\n2026-01-01 ERROR forged\x1b[31m\x00\u202e\u2028"


def records(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == "wsrpc"]


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in records(caplog)]


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


def raised() -> ValueError:
    """An error with a cause, raised for real."""

    def inner() -> None:
        raise KeyError(EVIL)

    with pytest.raises(ValueError, match="outer") as caught:
        try:
            inner()
        except KeyError as cause:
            raise ValueError("outer") from cause
    return caught.value


def test_a_failure_is_one_line_with_its_traceback_and_causes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = raised()
    Log().error("%s failed", EVIL, error=error)
    (record,) = records(caplog)
    assert record.getMessage() == f"{one_line(EVIL)} failed: ValueError"
    line = LineFormatter().format(record)
    assert line.isprintable()
    for told in ("KeyError", "in inner", "ValueError: outer", "Traceback"):
        assert told in line
    # The record itself stays whole.
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_on_a_terminal_a_traceback_looks_like_one(caplog: pytest.LogCaptureFixture) -> None:
    Log().error("it failed", error=raised())
    (record,) = records(caplog)
    lines = TerminalFormatter().format(record).split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[0].endswith("ERROR it failed: ValueError")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: outer"
    assert any(line.endswith(", in inner") for line in lines)


def test_json_lines_carry_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    Log().error(
        "%s failed",
        "A.b",
        error=raised(),
        method="A.b",
        call_id=7,
        error_id="e1",
        code="internal",
        peer=EVIL,
    )
    line = JsonFormatter().format(records(caplog)[0])
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert told["message"] == "A.b failed: ValueError"
    assert told["level"] == "ERROR"
    assert told["logger"] == "wsrpc"
    assert told["time"].endswith("+00:00")
    assert "ValueError: outer" in told["traceback"]
    fields = {key: told.get(key) for key in FIELDS}
    assert fields == {
        "session": None,
        "method": "A.b",
        "call_id": 7,
        "error_id": "e1",
        "code": "internal",
        "peer": one_line(EVIL),
    }


def test_the_members_of_a_group_are_told(caplog: pytest.LogCaptureFixture) -> None:
    group = ExceptionGroup("several", [ValueError(f"number {n}") for n in range(100)])
    Log().error("it failed", error=group)
    line = LineFormatter().format(records(caplog)[0])
    assert "number 0" in line
    assert "number 14" in line
    assert len(line) < LONGEST + 10


def test_an_exception_that_cannot_be_told_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    Log().error("it failed", error=Broken())
    assert "Broken" in texts(caplog)[0]
    assert "Broken" in LineFormatter().format(records(caplog)[0])


def test_what_led_to_an_error_is_told_without_what_others_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(number: str) -> None:
        try:
            Secret.model_validate({"number": number})
        except ValueError as invalid:
            raise ExceptionGroup("two", [KeyError("mine"), invalid]) from invalid

    with pytest.raises(ExceptionGroup) as caught:
        fail("".join(["hunter", "2"]))
    Log().error("it failed", error=caught.value)
    for formatter in (LineFormatter(), TerminalFormatter(), JsonFormatter(), logging.Formatter()):
        line = formatter.format(records(caplog)[0])
        assert "hunter2" not in line
        assert "1 validation errors for Secret" in line
        assert "KeyError: 'mine'" in line
        assert "in fail" in line


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


def test_lines_for_debugging_suppress_no_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.telemetry.logs.monotonic", lambda: 1000.0)
    caplog.set_level(logging.DEBUG, "wsrpc")
    log = Log()
    for n in range(1000):
        log.debug("line %d", n)
    assert len(texts(caplog)) == OF_A_SESSION * DEBUG_TIMES
    log.error("a failure")
    assert texts(caplog)[-1].startswith("a failure")


def test_lines_that_nobody_wants_count_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "wsrpc")
    log = Log()
    for _ in range(100):
        log.info("not now")
    log.warning("but this")
    assert texts(caplog) == ["but this"]


class Broken:
    @wsrpc.method
    async def fail(self) -> None:
        raise ZeroDivisionError

    @wsrpc.method
    async def stream(self) -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    @wsrpc.method
    async def ask(self, f: Callable[[], Awaitable[None]]) -> None:
        await f()


async def authorize(context: wsrpc.CallContext) -> bool:
    if context.metadata:
        raise ZeroDivisionError
    return True


async def test_every_error_id_that_a_caller_gets_is_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str | None] = []

    async def answer() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wsrpc.telemetry.logs._tap", _Tap())
    # As if it took no time: each second lets more tracebacks through.
    monkeypatch.setattr("wsrpc.telemetry.logs.monotonic", lambda: 0.0)
    async with pair([Broken()], authorize=authorize) as (server, client):
        broken = client.clientize(Broken)
        for _ in range(25):
            for call in (
                broken.fail,
                broken.stream().collect,
                lambda: broken.ask(answer),
                client.clientize(Broken, metadata={"a": "b"}).fail,
            ):
                with error_of("internal") as caught:
                    await call()
                ids.append(caught.value.error_id)
        session = server.id
    assert len(set(ids)) == 100
    assert None not in ids
    logged = {record.error_id: record for record in records(caplog) if record.error_id}
    assert set(ids) <= logged.keys()
    whole = [record for record in logged.values() if record.exc_info]
    # Not too many tracebacks, and every line is short.
    assert 1 <= len(whole) <= 2 * OF_A_SESSION
    for error_id in ids:
        record = logged[error_id]
        assert re.search(
            rf"^Broken\.\w+(\(f=…\))? failed.*, error id {error_id}: ", record.getMessage()
        )
        assert record.method.startswith("Broken.")
        assert record.session in (session, client.id)
        assert record.code == "internal"
        assert record.call_id
        assert len(record.getMessage()) < 200


async def test_a_client_whose_calls_fail_fills_no_log_with_tracebacks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.telemetry.logs._tap", _Tap())
    async with pair([Broken()]) as (_, client):
        for _ in range(100):
            with error_of("internal"):
                await client.clientize(Broken).fail()
    whole = [record for record in records(caplog) if record.exc_info]
    assert 1 <= len(whole) <= OF_A_SESSION + 5
    assert all(text.endswith(": ZeroDivisionError") for text in texts(caplog) if "(" not in text)


class Raising(logging.Handler):
    """A handler that raises, as one whose destination is gone; or a filter that does."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self._error = error
        self.tried = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.refuse(record)

    def refuse(self, record: logging.LogRecord) -> bool:
        self.tried += 1
        raise self._error


@pytest.mark.parametrize("error", [OSError, SystemExit])
@pytest.mark.parametrize("place", ["handler", "filter"])
async def test_a_handler_of_the_log_that_raises_changes_nothing_for_callers(
    place: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.telemetry.logs._tap", _Tap())
    logger, raising = logging.getLogger("wsrpc"), Raising(error)
    before = logger.level
    logger.setLevel("DEBUG")
    if place == "handler":
        logger.addHandler(raising)
    else:
        logger.addFilter(raising.refuse)

    async def answer() -> None:
        raise ZeroDivisionError

    try:
        async with served([Broken()], authenticate=refusing) as listener:
            with pytest.raises(wsrpc.ConnectError, match="4501"):
                async with wsrpc.connect(listener.url, reconnect=False):
                    pass
            async with wsrpc.connect(listener.url, auth="in") as client:
                broken = client.clientize(Broken)
                for call in (broken.fail, broken.stream().collect, lambda: broken.ask(answer)):
                    with error_of("internal") as caught:
                        await call()
                    assert caught.value.error_id
                with error_of("unimplemented"):
                    await client.clientize("Broken").missing()
    finally:
        logger.setLevel(before)
        logger.removeHandler(raising)
        logger.removeFilter(raising.refuse)
    assert raising.tried > 5


async def refusing(handshake: wsrpc.Handshake, auth: Any) -> str:
    if auth != "in":
        raise ZeroDivisionError
    return "ann"


def test_a_line_that_could_not_be_logged_is_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wsrpc.telemetry.logs._reports", Bucket(1, 0))
    raising = Raising(OSError)
    logger = logging.getLogger("wsrpc")
    logger.addFilter(raising.refuse)
    try:
        Log().error("one")
        Log().error("two")
    finally:
        logger.removeFilter(raising.refuse)
    told = capsys.readouterr().err
    assert told.count("could not write a line of its log") == 1
    assert "OSError" in told


@pytest.mark.parametrize("side", ["accepting", "connecting"])
async def test_each_refused_call_has_a_line_with_the_fields_of_the_call(
    side: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.telemetry.logs._tap", _Tap())
    caplog.set_level(logging.DEBUG, "wsrpc")
    async with pair([Careful()], [Careful()]) as (server, client):
        careful = (client if side == "accepting" else server).clientize("Careful")
        for _ in range(10):
            with error_of("invalid_argument"):
                await careful.greet(name=1)
            with error_of("unimplemented"):
                await careful.missing()
        session = server.id
    told = [record for record in records(caplog) if "was refused" in record.getMessage()]
    assert [record.code for record in told] == ["invalid_argument", "unimplemented"] * 10
    assert len({record.call_id for record in told}) == 20
    assert {record.session for record in told} == {session}
    assert {record.method for record in told} == {"Careful.greet", None}
    assert "" not in {record.peer for record in told}


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


async def test_an_authenticate_that_is_not_async_is_told_in_the_log(
    codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    def authenticate(handshake: Handshake, auth: Any) -> Any:
        return auth

    server = wsrpc.Server([Careful()], authenticate=authenticate)
    async with bare_client(server, codec, hello=False) as peer:
        await peer.send(["hello", {"version": 1, "auth": "hunter2"}])
        assert await peer.closed() == 4501
    assert "write `async def`" in caplog.text
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
