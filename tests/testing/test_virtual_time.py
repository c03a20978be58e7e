"""Virtual time on both event loops, for a whole server in memory."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import wsrpc
import wsrpc.testing
from tests.support import error_of

HOUR = 3600.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return wsrpc.testing.virtual_time(request.param)


class Slow:
    def __init__(self) -> None:
        self.cleaned: list[float] = []

    @wsrpc.method
    async def nap(self, seconds: float) -> float:
        try:
            await anyio.sleep(seconds)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            self.cleaned.append(seconds)
        return seconds


async def test_an_hour_takes_no_time_and_is_an_hour_on_the_clock() -> None:
    async with wsrpc.testing.server(wsrpc.Server([Slow()])) as host, host.connect() as session:
        begin = anyio.current_time()
        await session.clientize(Slow, timeout=None).nap(HOUR)
        assert anyio.current_time() - begin == pytest.approx(HOUR + 1, abs=0.1)


async def test_deadlines_fire_on_the_second_and_the_cleanup_can_be_waited_for() -> None:
    slow = Slow()
    async with wsrpc.testing.server(wsrpc.Server([slow])) as host, host.connect() as session:
        begin = anyio.current_time()
        with error_of("deadline_exceeded"):
            await session.clientize(Slow, timeout=60).nap(HOUR)
        assert anyio.current_time() - begin == pytest.approx(60, abs=0.1)
        assert not slow.cleaned
        await host.settled()
        assert slow.cleaned == [HOUR]
        assert anyio.current_time() - begin == pytest.approx(61, abs=0.2)


async def test_a_session_that_nobody_resumes_ends_after_its_window() -> None:
    server = wsrpc.Server([Slow()], limits=wsrpc.Limits(resume_window=HOUR))
    faults = wsrpc.testing.Faults()
    async with wsrpc.testing.server(server) as host:
        async with host.connect(faults=faults, reconnect=False) as session:
            faults.cut()
            await session.wait_closed()
            assert list(host.sessions)
            await anyio.sleep(HOUR - 60)
            assert list(host.sessions)
            await anyio.sleep(120)
            assert not list(host.sessions)


async def test_a_stalled_connection_is_given_up_and_another_one_takes_its_place() -> None:
    faults = wsrpc.testing.Faults()
    async with wsrpc.testing.server(wsrpc.Server([Slow()])) as host:
        async with host.connect(faults=faults) as session:
            await session.clientize(Slow).nap(0)
            faults.stall()
            begin = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Slow, timeout=None).nap, 0)
                await anyio.sleep(10)
                faults.mend()
            assert anyio.current_time() - begin < 100


class Absent:
    """Credentials that cannot be had, which makes each attempt to connect fail."""

    def __init__(self) -> None:
        self.present = False
        self.asked: list[float] = []

    async def __call__(self) -> str:
        self.asked.append(anyio.current_time())
        if not self.present:
            raise OSError("not yet")
        return "ann"


@pytest.mark.parametrize("wait", [0.01, 5, 100])
async def test_the_last_attempt_to_connect_comes_when_the_wait_is_over_not_before(
    wait: float, caplog: pytest.LogCaptureFixture
) -> None:
    auth = Absent()
    async with wsrpc.testing.server(wsrpc.Server([Slow()])) as host:
        began = anyio.current_time()
        with pytest.raises(OSError, match="not yet"):
            async with host.connect(auth=auth, wait=wait):
                pytest.fail("connected")
    assert auth.asked[-1] - began == pytest.approx(wait)
    caplog.clear()


@pytest.mark.parametrize("seconds", [0.5, 5, 100])
async def test_the_last_attempt_to_come_back_comes_when_its_time_is_up_not_before(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    auth, faults = Absent(), wsrpc.testing.Faults()
    auth.present = True
    reconnect = wsrpc.Reconnect(give_up_after=seconds)
    async with wsrpc.testing.server(wsrpc.Server([Slow()])) as host:
        async with host.connect(
            auth=auth, faults=faults, reconnect=reconnect, reconnect_delay=0.3
        ) as session:
            auth.present = False
            began = anyio.current_time()
            faults.cut()
            await session.wait_closed()
    assert auth.asked[-1] - began == pytest.approx(seconds)
    caplog.clear()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_what_no_timer_waits_for_is_waited_for_in_real_time() -> None:
    go = threading.Event()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, wsrpc.testing.VirtualTimeLoop)
    before = loop.time()
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            await anyio.to_thread.run_sync(go.wait)

        group.start_soon(wait)
        await asyncio.sleep(0)
        go.set()
    assert loop.time() == before


def test_a_clock_goes_on_however_late_it_is() -> None:
    async def main() -> float:
        await anyio.sleep(1e9)  # noqa: ASYNC116  (that is the point)
        await anyio.sleep(1e-9)
        return anyio.current_time()

    backend, options = wsrpc.testing.virtual_time("asyncio")
    assert anyio.run(main, backend=backend, backend_options=dict(options)) >= 1e9


def test_there_are_two_event_loops() -> None:
    wrong: Any = "uvloop"
    with pytest.raises(ValueError, match="'asyncio' or 'trio', not 'uvloop'"):
        wsrpc.testing.virtual_time(wrong)
