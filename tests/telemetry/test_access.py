"""The access log: one line a call when it is turned on, and nothing of what callers send."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import wsrpc
from tests.support import served, until
from wsrpc.telemetry.access import AccessLog
from wsrpc.telemetry.log_formats import JsonFormatter

from .test_observers import HANDLED, Work, authorize, use_all


def records(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == "wsrpc.access"]


async def name_them(handshake: wsrpc.Handshake, auth: Any) -> str:
    return "ann\nforged"


async def test_wsrpc_access_logs_one_line_per_call_when_it_is_turned_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "wsrpc.access")
    access = AccessLog()
    async with served(
        [Work()], authorize=authorize, authenticate=name_them, observers=[access]
    ) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            await use_all(session)
            await until(lambda: len(records(caplog)) == 13)
            session_id = session.id
    found = records(caplog)
    assert len(found) == 13
    by_method: dict[str, list[str]] = {}
    for record in found:
        by_method.setdefault(record.method, []).append(record.code)
        assert record.getMessage().isprintable()
        assert record.session == session_id
        assert record.peer.startswith("127.0.0.1:")
        assert record.principal == "s:ann\\nforged"
        assert record.duration >= 0
        assert JsonFormatter().format(record).isprintable()
    expected = {
        name: [code.removeprefix("refused ") for code in codes] for name, codes in HANDLED.items()
    }
    # A name that a peer made up is in no log.
    expected["?"] = expected.pop("Work.nothing")
    assert by_method == expected
    (broken,) = [record for record in found if record.method == "Work.broken"]
    assert broken.error_id
    assert f"error_id={broken.error_id}" in broken.getMessage()


async def test_the_access_log_is_off_unless_it_is_turned_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served([Work()]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            assert await session.clientize(Work).add(1, 2) == 3
    assert records(caplog) == []


async def test_an_observer_can_be_added_until_there_are_sessions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "wsrpc.access")
    async with served([Work()]) as listener:
        listener.server.observe(AccessLog())
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            assert await session.clientize(Work).add(1, 2) == 3
            await until(lambda: len(records(caplog)) == 1)
            with pytest.raises(RuntimeError):
                listener.server.observe(AccessLog())
