"""With trio's MockClock an hour of waiting takes no time, and exactly an hour on the clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

import wsrpc
from tests.support import until, wire_of
from wsrpc.backoff import Backoff
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import Event
from wsrpc.testing.pairs import connected_pair

HOUR = 3600.0

# With one, an answer that takes an hour is none.
NO_HEARTBEAT = wsrpc.Limits(heartbeat_interval=0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Slow:
    def __init__(self) -> None:
        self.stopped_at: list[float] = []

    @wsrpc.method
    async def nap(self, seconds: float) -> float:
        try:
            await anyio.sleep(seconds)
        finally:
            self.stopped_at.append(anyio.current_time())
        return seconds

    @wsrpc.method
    async def ticks(self, every: float) -> AsyncIterator[float]:
        while True:
            await anyio.sleep(every)
            every *= 2
            yield anyio.current_time()

    @wsrpc.method
    async def stubborn(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            try:
                await anyio.sleep(HOUR)
            finally:
                self.stopped_at.append(anyio.current_time())

    @wsrpc.method
    async def uploaded(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])


async def test_a_call_may_take_hours() -> None:
    async with connected_pair([Slow()]) as (_, client):
        begin = anyio.current_time()
        assert await client.clientize(Slow, timeout=None).nap(5 * HOUR) == 5 * HOUR
        assert anyio.current_time() - begin == pytest.approx(5 * HOUR)


@pytest.mark.rule("TIME-1")
async def test_deadlines_fire_on_the_second() -> None:
    slow = Slow()
    async with connected_pair([slow]) as (_, client):
        begin = anyio.current_time()
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Slow, timeout=60).nap(HOUR)
        assert anyio.current_time() - begin == pytest.approx(60, abs=0.1)
        await until(lambda: bool(slow.stopped_at))
        assert slow.stopped_at[0] - begin == pytest.approx(60, abs=0.1)


async def test_the_default_deadline_too() -> None:
    async with connected_pair([Slow()]) as (_, client):
        begin = anyio.current_time()
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Slow).nap(HOUR)
        assert anyio.current_time() - begin == pytest.approx(30, abs=0.1)


@pytest.mark.rule("TIME-1")
async def test_a_scope_around_the_call() -> None:
    slow = Slow()
    async with connected_pair([slow]) as (_, client):
        begin = anyio.current_time()
        with anyio.move_on_after(HOUR) as scope:
            await client.clientize(Slow, timeout=None).nap(2 * HOUR)
        assert scope.cancelled_caught
        assert anyio.current_time() - begin == pytest.approx(HOUR, abs=0.1)
        await until(lambda: bool(slow.stopped_at))
        assert slow.stopped_at[0] - begin == pytest.approx(HOUR, abs=0.1)


async def test_the_idle_timeout_of_a_stream() -> None:
    async with connected_pair([Slow()]) as (_, client):
        begin = anyio.current_time()
        seen: list[float] = []
        with pytest.raises(wsrpc.DeadlineExceeded):
            async with client.clientize(Slow, idle_timeout=HOUR).ticks(600) as stream:
                async for tick in stream:
                    seen.append(tick - begin)
        # After 10, 20 and 40 minutes; the next one would take 80.
        assert seen == pytest.approx([600, 1800, 4200], abs=1)
        assert anyio.current_time() - begin == pytest.approx(4200 + HOUR, abs=1)


@pytest.mark.rule("CANCEL-3")
async def test_a_cleanup_that_takes_too_long() -> None:
    slow = Slow()
    limits = wsrpc.Limits(cleanup_timeout=1800)
    async with connected_pair([slow], limits=limits) as (_, client):
        begin = anyio.current_time()
        with anyio.move_on_after(60):
            await client.clientize(Slow, timeout=None).stubborn()
        assert anyio.current_time() - begin == pytest.approx(60, abs=0.1)
    assert [at - begin for at in slow.stopped_at] == pytest.approx([60 + 1800], abs=0.1)


async def test_a_slow_connection() -> None:
    pair = connected_pair([Slow()], limits=NO_HEARTBEAT)
    async with pair as (_, client):
        pair.delay(HOUR)
        begin = anyio.current_time()
        await client.clientize(Slow, timeout=None).nap(HOUR)
        assert anyio.current_time() - begin == pytest.approx(3 * HOUR)


async def test_a_slow_connection_carries_more_than_one_message_at_a_time() -> None:
    pair = connected_pair([Slow()], limits=NO_HEARTBEAT)

    async def ticking() -> AsyncIterator[int]:
        for _ in range(10):
            await anyio.sleep(60)
            yield 1

    async with pair as (_, client):
        pair.delay(HOUR)
        begin = anyio.current_time()
        assert await client.clientize(Slow, timeout=None).uploaded(ticking()) == 10
        # There and back, and the items; not an hour for each of them.
        assert anyio.current_time() - begin == pytest.approx(2 * HOUR + 600)


@pytest.mark.rule("TIME-1")
async def test_on_a_half_open_connection_the_deadline_is_what_is_left() -> None:
    slow = Slow()
    pair = connected_pair([slow], limits=NO_HEARTBEAT)
    pair.stall(before="result")
    async with pair as (server, client):
        begin = anyio.current_time()
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Slow, timeout=HOUR).nap(60)
        assert anyio.current_time() - begin == pytest.approx(HOUR, abs=0.1)
        assert [at - begin for at in slow.stopped_at] == [60]
        assert (server.closed, client.closed) == (False, False)


@pytest.mark.rule("HEART-2")
@pytest.mark.parametrize("silent", ["accepting", "connecting"])
async def test_a_side_that_falls_silent_is_given_up_by_the_other(silent: Any) -> None:
    pair = connected_pair(
        [Slow()], limits=wsrpc.Limits(heartbeat_interval=20, heartbeat_timeout=10)
    )
    async with pair as (server, client):
        await client.clientize(Slow).nap(0)
        pair.stall(sender=silent)
        hearing = client if silent == "accepting" else server
        await anyio.sleep(29)
        assert not hearing.closed
        await anyio.sleep(2)
        assert hearing.closed


@pytest.mark.rule("HELLO-9")
@pytest.mark.parametrize("sender", ["accepting", "connecting"])
async def test_the_hellos_have_their_time(sender: Any) -> None:
    pair = connected_pair(limits=wsrpc.Limits(connect_timeout=HOUR, hello_timeout=HOUR))
    pair.stall(before=0, sender=sender)
    begin = anyio.current_time()
    with pytest.raises(wsrpc.ConnectError, match="4008"):
        async with pair:
            raise AssertionError("entered")
    assert anyio.current_time() - begin == pytest.approx(HOUR, abs=0.1)


async def test_a_pair_comes_back_when_it_is_told_to() -> None:
    pair = connected_pair([Slow()], reconnect=True, reconnect_delay=20)
    async with pair as (_, client):
        begin = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(client.clientize(Slow, timeout=None).nap, 10)
            await until(lambda: pair.frames("connecting") == 3)
            pair.cut()
        # The handler ran on, and its result had to wait.
        assert anyio.current_time() - begin == pytest.approx(20, abs=0.1)
        assert client.state == "connected"


@pytest.mark.rule("RETRY-2")
async def test_a_link_that_lasted_was_of_use_though_it_carried_nothing() -> None:
    """Who loses a connection once a day comes back as soon as after the first time."""
    pair = connected_pair(reconnect=True)
    pair._backoff = partial(Backoff, lambda: 1.0)
    delays: list[float] = []
    async with pair as (_, client):
        for lasted in (HOUR, HOUR, 14, 16, HOUR):
            await anyio.sleep(lasted)
            pair.cut()
            begin = anyio.current_time()
            await until(lambda: client.state == "detached")
            await until(lambda: client.state == "connected")
            delays.append(anyio.current_time() - begin)
    assert delays == pytest.approx([0.9, 0.9, 1.8, 0.9, 0.9], abs=0.1)


# ------------------------------------------------------------------------------------ heartbeats

# Those of a session that was told nothing else.
BEAT = (20, 10)


class Alarms:
    """Counts the alarms of all endpoints, and does not let them become many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.rung = 0
        alarm = Endpoint.alarm

        def counted(endpoint: Endpoint, now: float, lag: float = 0.0) -> list[Event]:
            self.rung += 1
            assert self.rung <= most, "alarms without end"
            return alarm(endpoint, now, lag)

        monkeypatch.setattr(Endpoint, "alarm", counted)


@pytest.mark.rule("HEART-1")
async def test_an_idle_session_hardly_ever_wakes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = 24
    beats = hours * HOUR / sum(BEAT[:1])
    # Each of the two asks, and looks whether it was answered.
    alarms = Alarms(monkeypatch, most=int(2 * 2 * beats) + 10)
    pair = connected_pair([Slow()], reconnect=True)
    async with pair as (server, client):
        before = pair.frames()
        await anyio.sleep(hours * HOUR)
        assert alarms.rung >= 0.9 * 2 * beats
        # A ping, and a pong.
        assert pair.frames() - before <= 2 * 2 * beats
        assert (server.state, client.state, pair.cuts) == ("connected", "connected", 0)


@pytest.mark.rule("HEART-1", "HEART-2")
@pytest.mark.parametrize("sender", ["accepting", "connecting", None])
async def test_a_half_open_connection_is_found_in_time_on_both_ends(
    sender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Alarms(monkeypatch, most=500)
    pair = connected_pair([Slow()], reconnect=True)
    found: dict[wsrpc.Session, float] = {}

    async def watch(session: wsrpc.Session) -> None:
        async with aclosing(session.states()) as changes:
            async for change in changes:
                if change.state == "detached":
                    found[session] = anyio.current_time()
                    return

    async with pair as (server, client):
        await until(lambda: wire_of(server).endpoint.resumable)
        await anyio.sleep(1234.5)
        silence = anyio.current_time()
        async with anyio.create_task_group() as group:
            for session in (server, client):
                group.start_soon(watch, session)
            pair.stall(sender=sender)
        assert set(found) == {server, client}
        for at in found.values():
            assert BEAT[1] <= at - silence <= sum(BEAT) + 1
        pair.mend()
        before = client.id
        assert await client.clientize(Slow, timeout=None).nap(1) == 1
        assert client.id == before


@pytest.mark.rule("HEART-2", "RESUME-4")
async def test_calls_on_a_half_open_connection_are_answered_over_the_next() -> None:
    pair = connected_pair([Slow()], reconnect=True)
    pair.stall(before="result")
    async with pair as (_, client):
        begin = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(client.clientize(Slow, timeout=None).nap, 5)
            await anyio.sleep(5 + sum(BEAT) + 0.5)
            assert client.state != "connected"
            pair.mend()
        assert anyio.current_time() - begin <= 5 + sum(BEAT) + 1


@pytest.mark.rule("HEART-2")
@pytest.mark.parametrize("asked", [False, True])
async def test_who_was_held_up_does_not_take_the_other_for_dead(
    asked: bool, anyio_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: MockClock = anyio_backend[1]["clock"]
    Alarms(monkeypatch, most=100)
    pair = connected_pair([Slow()])
    async with pair as (server, client):
        if asked:
            await anyio.sleep(1)
            pair.delay(3.0)
            await anyio.sleep(BEAT[0] + 0.5)
            assert wire_of(client).endpoint._pings == wire_of(server).endpoint._pings == 1
        # The loop of both ends stands still: nobody reads, nobody rings.
        clock.jump(500)
        await anyio.sleep(5)
        pair.delay(0)
        assert await client.clientize(Slow).nap(0) == 0
        assert (server.state, client.state) == ("connected", "connected")


@pytest.mark.rule("AUTH-1", "AUTH-3")
async def test_a_link_lasts_for_as_long_as_its_credentials_are_refreshed() -> None:
    changes: list[str] = []
    pair = connected_pair([Slow()], principal=wsrpc.Grant("ann", expires_in=60), reconnect=True)
    async with pair as (server, client):

        async def watch() -> None:
            async for change in server.states():
                changes.append(change.state)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            for _ in range(60):
                await anyio.sleep(59)
                await client.refresh_auth()
            assert changes == ["connected"]
            await anyio.sleep(61)
            await until(lambda: len(changes) == 3)
            assert changes == ["connected", "detached", "connected"]
            assert server.principal == "ann"
            group.cancel_scope.cancel()


@pytest.mark.rule("AUTH-2")
async def test_credentials_that_are_refreshed_in_a_rush_go_out_apart() -> None:
    pair = connected_pair([Slow()], principal="ann", reconnect=True)
    async with pair as (server, client):
        begin = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(client.refresh_auth)
        assert anyio.current_time() - begin == pytest.approx(8.0)
        assert (server.state, client.state) == ("connected", "connected")
