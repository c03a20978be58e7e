"""Deadlines travel with calls; who raises what when they pass."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import wsrpc
from tests.support import LIMIT, Codec, Wire, bare_client, error_of, pair, soon, turns, until
from tests.support import virtual_anyio_backend as anyio_backend  # noqa: F401
from wsrpc.testing.pairs import connected_pair


class Clock:
    """Tells what its handlers know of their deadlines; waits for ever where asked to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cleaned: list[str] = []
        self.go = anyio.Event()

    @wsrpc.method
    async def remaining(self) -> float | None:
        deadline = wsrpc.current().deadline
        return None if deadline is None else deadline - anyio.current_time()

    @wsrpc.method
    async def scope(self) -> float | None:
        deadline = anyio.current_effective_deadline()
        return None if math.isinf(deadline) else deadline - anyio.current_time()

    @wsrpc.method
    async def remaining_of_stream(self) -> AsyncIterator[float | None]:
        yield await self.remaining()
        yield await self.scope()

    @wsrpc.method
    async def remaining_back(self) -> list[float | None]:
        """What the caller's `Clock` knows when this handler calls it, plainly and with options."""
        session = wsrpc.current().session
        return [
            await session.clientize(Clock).remaining(),
            await session.clientize(Clock, timeout=1000).remaining(),
            await session.clientize(Clock, timeout=0.5).remaining(),
            *await session.clientize(Clock).remaining_of_stream().collect(),
        ]

    @wsrpc.method
    async def ask(self, fn: Callable[[], Awaitable[float | None]]) -> float | None:
        return await fn()

    @wsrpc.method
    async def wait(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            await anyio.sleep(0)
            await anyio.sleep(0.001)
            self.cleaned.append("wait")
        return "went"

    @wsrpc.method(timeout=0.05)
    async def wait_a_little(self) -> str:
        return await self.wait()

    @wsrpc.method(timeout=0.05)
    async def items_for_a_little(self) -> AsyncIterator[int]:
        yield 0
        yield int(await self.wait())

    @wsrpc.method(timeout=1000)
    async def long(self) -> float | None:
        return await self.remaining()

    @wsrpc.method(timeout=1000)
    async def remaining_of_long_stream(self) -> AsyncIterator[float | None]:
        yield await self.remaining()

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[int]:
        """n items at once, then nothing for ever."""
        self.begun += 1
        try:
            for i in range(n):
                yield i
            await self.go.wait()
        finally:
            await anyio.sleep(0)
            self.cleaned.append("items")

    @wsrpc.method
    async def wait_at_caller(self, timeout: float) -> None:
        await wsrpc.current().session.clientize(Clock, timeout=timeout).wait()

    @wsrpc.method(oneway=True)
    async def note(self) -> None:
        self.begun += 1


# ------------------------------------------------------------------------------------ travelling


@pytest.mark.rule("TIME-1")
async def test_without_other_wishes_a_value_has_thirty_seconds_and_a_stream_none(
    codec: Codec,
) -> None:
    async with connected_pair([Clock()], codec=codec) as (_, client):
        clock = client.clientize(Clock)
        for left in (await clock.remaining(), await clock.scope()):
            assert left is not None
            assert 20 < left <= 30.1
        assert await clock.remaining_of_stream().collect() == [None, None]


async def test_a_timeout_of_none_is_none_at_all() -> None:
    async with connected_pair([Clock()]) as (_, client):
        clock = client.clientize(Clock, timeout=None)
        assert await clock.remaining() is None
        assert await clock.scope() is None


@pytest.mark.rule("TIME-1")
@pytest.mark.parametrize("timeout", [5, 1000.5, 1e300])
async def test_the_timeout_of_a_proxy_holds_for_values_and_streams(timeout: float) -> None:
    async with connected_pair([Clock()]) as (_, client):
        clock = client.clientize(Clock, timeout=timeout)
        for left in [
            await clock.remaining(),
            await clock.scope(),
            *await clock.remaining_of_stream().collect(),
        ]:
            assert left is not None
            assert timeout - 3 < left <= timeout + 0.1 or timeout > 1e12


async def test_a_methods_own_timeout_ends_calls_whatever_their_caller_allows(codec: Codec) -> None:
    clock = Clock()
    async with connected_pair([clock], codec=codec) as (_, client):
        for api in (client.clientize("Clock", timeout=None), client.clientize(Clock, timeout=1000)):
            with anyio.fail_after(5):
                with pytest.raises(wsrpc.DeadlineExceeded):
                    await api.wait_a_little()
                with pytest.raises(wsrpc.DeadlineExceeded):
                    await api.items_for_a_little().collect()
        assert clock.cleaned == ["wait"] * 4
        # A caller that allows less is not given more.
        assert await client.clientize(Clock, timeout=7).long() == pytest.approx(7, abs=3)


async def test_a_caller_that_knows_a_methods_timeout_waits_as_long() -> None:
    async with wsrpc.Server([Clock()]).listen() as listener, wsrpc.connect(listener.url) as client:
        contract = await client.clientize("wsrpc.reflection").describe()
        for which in (Clock, contract["controllers"]["Clock"]):
            clock: Any = client.clientize(which)
            (left,) = await clock.remaining_of_long_stream().collect()
            for one in (await clock.long(), left):
                assert one is not None
                assert 900 < one <= 1000.1


@pytest.mark.rule("TIME-1")
async def test_the_enclosing_scopes_deadline_travels_and_the_nearest_holds() -> None:
    async with connected_pair([Clock()]) as (_, client):
        clock = client.clientize(Clock)
        with anyio.fail_after(12), anyio.fail_after(1000):
            for left in (
                await clock.remaining(),
                await clock.scope(),
                *await clock.remaining_of_stream().collect(),
            ):
                assert left is not None
                assert 9 < left <= 12.1
        with anyio.fail_after(1000):
            left = await client.clientize(Clock, timeout=5).remaining()
            assert left is not None
            assert left <= 5.1


@pytest.mark.rule("TIME-1")
async def test_a_timeout_travels_in_whole_milliseconds(wire: Wire) -> None:
    async with connected_pair([Clock()]) as (_, client):
        await client.clientize(Clock, timeout=7).remaining()
    (call,) = wire.frames("call")
    assert isinstance(call[4]["timeout"], int)
    assert 6000 < call[4]["timeout"] <= 7000


@pytest.mark.rule("TIME-5")
async def test_calls_made_by_a_handler_inherit_what_remains() -> None:
    async with connected_pair([Clock()], [Clock()]) as (_, client):
        plain, longer, shorter, *stream = await client.clientize(Clock, timeout=10).remaining_back()
    for left in (plain, longer, *stream):
        assert left is not None
        assert 7 < left <= 10.1
    assert shorter is not None
    assert shorter <= 0.6


@pytest.mark.rule("TIME-5")
async def test_calls_made_by_a_child_task_of_a_handler_inherit_what_remains(wire: Wire) -> None:

    class Parent:
        @wsrpc.method
        async def ask_from_a_child(self) -> list[float | None]:
            caller = wsrpc.current().session.clientize(Clock, timeout=None)
            found: list[float | None] = []

            async def grandchild() -> None:
                found.append(await caller.remaining())

            async def child() -> None:
                async with anyio.create_task_group() as group:
                    group.start_soon(grandchild)
                found.append(await caller.remaining())

            async with anyio.create_task_group() as group:
                group.start_soon(child)
            return found

    async with pair([Parent()], [Clock()]) as (_, client):
        found = await client.clientize(Parent, timeout=10).ask_from_a_child()
    assert len(found) == 2
    for left in found:
        assert left is not None
        assert 7 < left <= 10.1
    timeouts = [frame[4]["timeout"] for frame in wire.frames("call")]
    assert all(later <= 10_000 for later in timeouts)


@pytest.mark.rule("TIME-5")
async def test_a_task_that_a_handler_starts_elsewhere_inherits_what_remains() -> None:

    class Parent:
        group: anyio.abc.TaskGroup

        @wsrpc.method
        async def ask_from_outside(self) -> float | None:
            caller = wsrpc.current().session.clientize(Clock, timeout=None)
            send, answer = anyio.create_memory_object_stream[float | None](1)

            async def elsewhere() -> None:
                send.send_nowait(await caller.remaining())

            # No cancel scope of the handler's is around it.
            self.group.start_soon(elsewhere)
            with send, answer:
                return await answer.receive()

    parent = Parent()
    async with anyio.create_task_group() as parent.group:
        async with connected_pair([parent], [Clock()]) as (_, client):
            left = await client.clientize(Parent, timeout=10).ask_from_outside()
            assert left is not None
            assert 7 < left <= 10.1


@pytest.mark.rule("TIME-5")
async def test_calls_that_a_handler_makes_to_others_inherit_what_remains() -> None:

    class Gateway:
        @wsrpc.method
        async def remaining(self) -> float | None:
            assert wsrpc.current().metadata == {"token": "secret"}
            return await behind.clientize(Clock, timeout=1000).remaining()

    async with connected_pair([Clock()]) as (_, behind):
        async with connected_pair([Gateway()]) as (_, client):
            gateway = client.clientize(Gateway, timeout=10, metadata={"token": "secret"})
            left = await gateway.remaining()
            assert left is not None
            assert 7 < left <= 10.1


@pytest.mark.rule("TIME-5")
async def test_callbacks_inherit_what_remains() -> None:

    async def remaining() -> float | None:
        deadline = wsrpc.current().deadline
        return None if deadline is None else deadline - anyio.current_time()

    async with connected_pair([Clock()]) as (_, client):
        left = await client.clientize(Clock, timeout=10).ask(remaining)
        assert left is not None
        assert left <= 10.1
        left = await client.clientize(Clock, timeout=None).ask(remaining)
        assert left is not None
        assert 20 < left <= 30.1


async def test_errors_of_nested_calls_in_a_group_are_no_failure_of_a_handler_that_is_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Crowd:
        @wsrpc.method
        async def ask(self, also: bool) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(self._one, wsrpc.DeadlineExceeded("its time is over as well"))
                if also:
                    tasks.start_soon(self._one, ZeroDivisionError())

        async def _one(self, error: Exception) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise error

    async with pair([Crowd()]) as (_, client):
        crowd = client.clientize(Crowd, timeout=5)
        with error_of("deadline_exceeded"):
            await crowd.ask(also=False)
        with error_of("deadline_exceeded"):
            await crowd.ask(also=True)
        await until(lambda: "failed while it was being stopped" in caplog.text)
    assert caplog.text.count("failed while it was being stopped") == 1


@pytest.mark.rule("TIME-1")
async def test_a_handler_does_not_know_the_scopes_around_its_own_ends_connection() -> None:
    with soon():
        async with connected_pair([Clock()], [Clock()]) as (server, _):
            with anyio.CancelScope(shield=True):
                assert await server.clientize(Clock, timeout=None).scope() is None


# ------------------------------------------------------------------------------------ passing


@pytest.mark.rule("TIME-1", "CANCEL-3")
async def test_fail_after_raises_timeout_error_and_cancels_the_handler(wire: Wire) -> None:
    clock = Clock()
    async with connected_pair([clock]) as (_, client):
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(0.05):
                await client.clientize(Clock).wait()
        assert not isinstance(caught.value, wsrpc.RpcError)
        await until(lambda: clock.cleaned == ["wait"])
        await until(lambda: len(wire.frames("error")) == 1)
    wire.assert_one_terminal_each()


@pytest.mark.rule("TIME-1")
async def test_move_on_after_is_silent() -> None:
    clock = Clock()
    async with connected_pair([clock]) as (_, client):
        with anyio.move_on_after(0.05) as scope:
            await client.clientize(Clock).wait()
        assert scope.cancelled_caught
        with anyio.move_on_after(0.05) as scope:
            await client.clientize(Clock).items(1).collect()
        assert scope.cancelled_caught
        await until(lambda: sorted(clock.cleaned) == ["items", "wait"])


@pytest.mark.rule("TIME-1")
async def test_the_callers_scope_fires_even_if_the_far_sides_clock_is_ahead() -> None:

    class Hasty:
        @wsrpc.method
        async def now(self) -> None:
            raise wsrpc.DeadlineExceeded

        @wsrpc.method
        async def items(self) -> AsyncIterator[int]:
            yield 1
            raise wsrpc.DeadlineExceeded

    async with connected_pair([Hasty()]) as (_, client):
        with anyio.move_on_after(0.1) as scope:
            await client.clientize(Hasty).now()
        assert scope.cancelled_caught
        with anyio.move_on_after(0.1) as scope:
            await client.clientize(Hasty).items().collect()
        assert scope.cancelled_caught
        with soon(), error_of("deadline_exceeded"):
            # Far from its own deadline: the handler means something else.
            await client.clientize(Hasty).now()


@pytest.mark.rule("TIME-3")
async def test_a_timeout_raises_deadline_exceeded_which_is_a_timeout_error(wire: Wire) -> None:
    clock = Clock()
    async with connected_pair([clock]) as (_, client):
        with pytest.raises(wsrpc.DeadlineExceeded) as caught:
            await client.clientize(Clock, timeout=0.05).wait()
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, wsrpc.RpcError)
        assert caught.value.code == "deadline_exceeded"
        assert "Clock.wait" in str(caught.value)
        assert not caught.value.not_started
        await until(lambda: clock.cleaned == ["wait"])
        await until(lambda: len(wire.frames("error")) == 1)
    assert [frame[2] for frame in wire.frames("cancel")] in ([], ["deadline_exceeded"])
    assert wire.frames("error")[0][2]["code"] == "deadline_exceeded"


@pytest.mark.rule("TIME-3")
async def test_a_timeout_ends_a_stream_however_many_items_came(wire: Wire) -> None:
    clock = Clock()
    got: list[int] = []
    async with connected_pair([clock]) as (_, client):
        with pytest.raises(wsrpc.DeadlineExceeded):
            async for item in client.clientize(Clock, timeout=0.05).items(3):
                got.append(item)
        await until(lambda: clock.cleaned == ["items"])
        await until(lambda: len(wire.frames("error")) == 1)
    assert got == [0, 1, 2]


@pytest.mark.rule("TIME-3")
async def test_a_timeout_passes_also_while_nobody_waits_for_an_item() -> None:
    clock = Clock()
    async with connected_pair([clock]) as (_, client):
        stream = client.clientize(Clock, timeout=0.05).items(10)
        assert await anext(stream) == 0
        await until(lambda: clock.cleaned == ["items"])
        with pytest.raises(wsrpc.DeadlineExceeded):
            await stream.collect()
        assert [item async for item in stream] == []


@pytest.mark.rule("TIME-1")
async def test_the_far_sides_deadline_raises_deadline_exceeded() -> None:
    clock, caller = Clock(), Clock()
    async with pair([clock], [caller]) as (_, client):
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Clock).wait_at_caller(0.05)
        await until(lambda: caller.cleaned == ["wait"])


@pytest.mark.rule("TIME-1")
async def test_the_callee_keeps_the_deadline_by_itself(codec: Codec) -> None:
    clock = Clock()
    async with bare_client(wsrpc.Server([clock]), codec) as peer:
        await peer.send(["call", 1, "Clock.wait", {}, {"timeout": 30}])
        error = await peer.expect("error")
        assert error[1] == 1
        assert error[2]["code"] == "deadline_exceeded"
        assert clock.cleaned == ["wait"]
        await peer.send(["call", 3, "Clock.items", {"n": 2}, {"timeout": 30}])
        error = await peer.expect("error")
        assert error[1] == 3
        assert error[2]["code"] == "deadline_exceeded"
        assert clock.cleaned == ["wait", "items"]


@pytest.mark.rule("TIME-2")
async def test_a_timeout_of_zero_never_begins(codec: Codec) -> None:
    clock = Clock()
    async with bare_client(wsrpc.Server([clock]), codec) as peer:
        await peer.send(["call", 1, "Clock.wait", {}, {"timeout": 0}])
        error = await peer.expect("error")
        assert error[2]["code"] == "deadline_exceeded"
        assert error[2]["not_started"] is True
        await peer.send(["notify", 3, "Clock.note", {}, {"timeout": 0}])
        error = await peer.expect("error")
        assert error[2]["code"] == "deadline_exceeded"
    assert clock.begun == 0


@pytest.mark.rule("TIME-2", "TIME-3")
@pytest.mark.parametrize("timeout", [0, -1, 0.0001])
async def test_a_timeout_that_has_passed_already_raises_deadline_exceeded(
    timeout: float,
) -> None:
    clock = Clock()
    async with pair([clock]) as (_, client):
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Clock, timeout=timeout).wait()
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Clock, timeout=timeout).items(1).collect()
        await until(lambda: len(clock.cleaned) == clock.begun)


@pytest.mark.rule("CANCEL-3")
async def test_a_deadline_passes_in_cleanup_without_disturbing_it() -> None:

    class Cleans:
        @wsrpc.method
        async def wait(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                await anyio.sleep(0.15)
                done.append("cleaned")

    done: list[str] = []
    async with pair([Cleans()]) as (_, client):
        with anyio.move_on_after(0.1):
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Cleans, timeout=0.1).wait)
                await anyio.sleep(0.02)
                group.cancel_scope.cancel()
        await until(lambda: done == ["cleaned"])


@pytest.mark.rule("TIME-5")
async def test_the_cleanup_of_a_handler_whose_deadline_has_passed_may_call_back() -> None:

    class Cleans:
        @wsrpc.method
        async def wait(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                done.append(await wsrpc.current().session.clientize(Clock).remaining())

    done: list[float | None] = []
    async with pair([Cleans()], [Clock()]) as (_, client):
        with pytest.raises(wsrpc.DeadlineExceeded):
            await client.clientize(Cleans, timeout=0.05).wait()
        await until(lambda: len(done) == 1)
    assert done[0] is not None
    assert done[0] > 1


async def test_many_deadlines_pass_in_their_order() -> None:
    clock = Clock()
    order: list[int] = []
    async with connected_pair([clock]) as (_, client):

        async def one(n: int) -> None:
            with pytest.raises(wsrpc.DeadlineExceeded):
                await client.clientize(Clock, timeout=0.05 + 0.03 * n).wait()
            order.append(n)

        async with anyio.create_task_group() as group:
            for n in (3, 1, 4, 0, 2):
                group.start_soon(one, n)
        assert order == [0, 1, 2, 3, 4]
        await until(lambda: len(clock.cleaned) == 5)


# ------------------------------------------------------------------------------------ idle


@pytest.mark.rule("TIME-6")
async def test_an_idle_timeout_ends_a_stream_whose_next_item_takes_too_long() -> None:
    clock = Clock()
    got: list[int] = []
    async with connected_pair([clock]) as (_, client):
        with pytest.raises(wsrpc.DeadlineExceeded, match="idle_timeout"):
            async for item in client.clientize(Clock, idle_timeout=0.05).items(3):
                got.append(item)
        await until(lambda: clock.cleaned == ["items"])
    assert got == [0, 1, 2]


@pytest.mark.rule("TIME-6")
async def test_an_idle_timeouts_clock_stands_still_while_nobody_waits() -> None:
    clock = Clock()
    async with connected_pair([clock]) as (_, client):
        async with client.clientize(Clock, idle_timeout=0.05).items(3) as stream:
            assert await anext(stream) == 0
            # Longer than the timeout, and the items are there.
            await anyio.sleep(0.15)
            assert await anext(stream) == 1
            assert await anext(stream) == 2


@pytest.mark.rule("TIME-6")
async def test_an_idle_timeout_inside_a_scope_raises_at_once() -> None:
    clock = Clock()
    async with connected_pair([clock]) as (_, client):
        with anyio.fail_after(LIMIT) as scope:
            with pytest.raises(wsrpc.DeadlineExceeded, match="idle_timeout"):
                await client.clientize(Clock, idle_timeout=0.05).items(1).collect()
        assert not scope.cancel_called


# ------------------------------------------------------------------------------------ notifications


@pytest.mark.rule("TIME-1")
async def test_a_notification_carries_a_timeout_too(wire: Wire) -> None:
    async with connected_pair([Clock()]) as (_, client):
        await client.clientize(Clock, timeout=5).note()
        await until(lambda: len(wire.frames("end")) == 1)
    (notify,) = wire.frames("notify")
    assert 4000 < notify[4]["timeout"] <= 5000


async def test_a_notification_in_a_scope_that_was_cancelled_before_harms_nobody() -> None:
    async with pair([Clock()]) as (_, client):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.clientize(Clock).note()
        await turns()
        assert await client.clientize(Clock).remaining() is not None


_: Any = anyio.lowlevel
