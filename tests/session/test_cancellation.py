"""The caller's cancel scope is the callee's cancel scope."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import wsrpc
from tests.support import Codec, Wire, bare_client, error_of, pair, soon, turns, until, wire_of


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.events: list[str] = []
        self.go = anyio.Event()
        self.thread_go = threading.Event()

    @wsrpc.method
    async def wait(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        except anyio.get_cancelled_exc_class():
            self.events.append("cancelled")
            raise
        finally:
            await anyio.sleep(0)
            await anyio.sleep(0.001)
            self.events.append("cleaned")
        return "went"

    @wsrpc.method
    async def in_a_group(self) -> None:
        self.begun += 1

        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
                self.events.append("child")

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(child)
        finally:
            self.events.append("cleaned")

    @wsrpc.method
    async def child_fails_in_cleanup(self) -> None:
        self.begun += 1

        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("in the child's cleanup")

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(anyio.sleep_forever)

    @wsrpc.method
    async def shielded(self) -> str:
        self.begun += 1
        with anyio.CancelScope(shield=True):
            await self.go.wait()
            self.events.append("section done")
        try:
            await anyio.sleep_forever()
        finally:
            self.events.append("cleaned")
        return "never"

    @wsrpc.method
    async def thread_inside(self) -> None:
        self.begun += 1
        try:
            await anyio.to_thread.run_sync(self.thread_go.wait, 10)
            self.events.append("thread done")
            await anyio.sleep_forever()
        finally:
            self.events.append("cleaned")

    @wsrpc.method
    def sync(self) -> str:
        self.begun += 1
        self.thread_go.wait(10)
        self.events.append("thread done")
        return "done"

    @wsrpc.method
    def sync_items(self) -> Iterator[int]:
        try:
            yield 0
            self.begun += 1
            self.thread_go.wait(10)
            self.events.append("thread done")
            while True:
                yield 1
        finally:
            self.events.append("cleaned")

    @wsrpc.method
    async def swallows(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        except anyio.get_cancelled_exc_class():
            self.events.append("swallowed")
        return "as if nothing had happened"

    @wsrpc.method
    async def raises_in_cleanup(self) -> None:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            raise ValueError("in cleanup")

    @wsrpc.method
    async def raises_on_purpose_in_cleanup(self) -> None:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            raise wsrpc.RpcError("aborted", "on purpose")

    @wsrpc.method
    async def hangs_in_cleanup(self) -> None:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            try:
                await anyio.sleep_forever()
            finally:
                self.events.append("killed")

    @wsrpc.method
    async def cancels_itself(self) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        self.events.append("went on")

    @wsrpc.method
    async def calls_back(self) -> str:
        self.begun += 1
        return await wsrpc.current().session.clientize(Work).wait()

    @wsrpc.method
    async def worse(self) -> None:
        raise Worse("no Exception")

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        self.events.append(text)


class Worse(BaseException):
    pass


async def cancelled_while_it_runs(client: wsrpc.Session, work: Work, method: str) -> None:
    """Call a method and cancel the call once its handler runs."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(getattr(client.clientize(Work), method))
            await until(lambda: work.begun == 1)
            # Let the handler get as far as it gets.
            await turns(5)
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.rule("CANCEL-3")
async def test_cancelling_a_call_cancels_its_handler_which_may_await_in_its_cleanup(
    codec: Codec, wire: Wire
) -> None:
    work = Work()
    async with pair([work], codec=codec) as (_, client):
        await cancelled_while_it_runs(client, work, "wait")
        await until(lambda: work.events == ["cancelled", "cleaned"])
        await until(lambda: len(wire.frames("error")) == 1)
    assert [frame[1] for frame in wire.frames("cancel")] == [1]
    assert wire.frames("error")[0][2]["code"] == "cancelled"
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-5")
async def test_the_caller_does_not_wait_for_the_handlers_cleanup(wire: Wire) -> None:
    work = Work()
    async with pair([work], limits=wsrpc.Limits(cleanup_timeout=0.1)) as (_, client):
        await cancelled_while_it_runs(client, work, "hangs_in_cleanup")
        assert not wire.frames("error")
        assert await client.clientize(Work).ping() == "pong"
        await until(lambda: work.events == ["killed"])
        await until(lambda: len(wire.frames("error")) == 1)
    wire.assert_one_terminal_each()


class Stubborn:
    def __init__(self) -> None:
        self.cancelled = 0
        self.ended = False

    @wsrpc.method
    async def wait(self) -> None:
        for _ in range(4):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                self.cancelled += 1
        self.ended = True


async def test_a_handler_that_swallows_its_cancellation_is_cancelled_again_and_again(
    wire: Wire,
) -> None:
    service = Stubborn()
    async with pair([service], limits=wsrpc.Limits(cleanup_timeout=0.05)) as (_, client):
        with anyio.move_on_after(0.05):
            await client.clientize(Stubborn).wait()
        await until(lambda: service.ended)
        await until(lambda: len(wire.frames("error")) == 1)
    assert service.cancelled == 4
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-3")
async def test_a_handlers_task_group_is_cancelled_with_it(wire: Wire) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await cancelled_while_it_runs(client, work, "in_a_group")
        await until(lambda: work.events == ["child", "child", "cleaned"])
        await until(lambda: len(wire.frames("error")) == 1)
    assert wire.frames("error")[0][2]["code"] == "cancelled"


@pytest.mark.rule("CANCEL-3", "CALL-5")
async def test_a_child_that_fails_while_it_is_cancelled_harms_nobody(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await cancelled_while_it_runs(client, work, "child_fails_in_cleanup")
        await until(lambda: len(wire.frames("error")) == 1)
        assert wire.frames("error")[0][2]["code"] == "cancelled"
        assert await client.clientize(Work).ping() == "pong"
    assert "in the child's cleanup" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_trio_nursery_in_a_handler_is_cancelled_with_it(wire: Wire) -> None:
    import trio

    class Nursery:
        @wsrpc.method
        async def open(self) -> None:
            work.begun += 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)

    work = Work()
    async with pair([Nursery()]) as (_, client):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Nursery).open)
                await until(lambda: work.begun == 1)
                await turns(5)
                scope.cancel()
        await until(lambda: len(wire.frames("error")) == 1)
    assert wire.frames("error")[0][2]["code"] == "cancelled"


@pytest.mark.rule("CANCEL-3")
async def test_a_shielded_section_of_a_handler_is_not_cancelled_but_what_follows_is(
    wire: Wire,
) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await cancelled_while_it_runs(client, work, "shielded")
        await turns(50)
        assert work.events == []
        work.go.set()
        await until(lambda: work.events == ["section done", "cleaned"])
        await until(lambda: len(wire.frames("error")) == 1)


@pytest.mark.rule("CANCEL-3")
async def test_a_thread_that_a_handler_waits_for_is_waited_for_before_it_is_cancelled(
    wire: Wire,
) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await cancelled_while_it_runs(client, work, "thread_inside")
        await turns(50)
        assert work.events == []
        work.thread_go.set()
        await until(lambda: work.events == ["thread done", "cleaned"])
        await until(lambda: len(wire.frames("error")) == 1)


@pytest.mark.rule("CANCEL-3", "CALL-5")
async def test_a_sync_method_that_is_cancelled_runs_to_its_end_and_its_result_is_dropped(
    wire: Wire,
) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await cancelled_while_it_runs(client, work, "sync")
        assert not wire.frames("error", "result")
        # Frames are acted on in their order, so the cancel has arrived by this answer.
        assert await client.clientize(Work).ping() == "pong"
        work.thread_go.set()
        await until(lambda: len(wire.frames("error")) == 1)
        assert work.events == ["thread done"]
    assert wire.frames("error")[0][2]["code"] == "cancelled"
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-3", "CANCEL-5")
async def test_a_sync_stream_that_is_cancelled_is_closed_when_its_step_is_through(
    wire: Wire,
) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        async with client.clientize(Work).sync_items() as stream:
            assert await anext(stream) == 0
            await until(lambda: work.begun == 1)
        await turns(50)
        assert work.events == []
        work.thread_go.set()
        await until(lambda: work.events == ["thread done", "cleaned"])
        await until(lambda: len(wire.frames("error")) == 1)
    wire.assert_one_terminal_each()


@pytest.mark.rule("CLOSE-5")
async def test_closing_the_session_waits_for_a_method_that_runs_in_its_thread() -> None:
    work = Work()
    with soon():
        async with pair([work]) as (_, client):
            await cancelled_while_it_runs(client, work, "sync")
            asyncio_or_trio_timer = threading.Timer(0.05, work.thread_go.set)
            asyncio_or_trio_timer.start()
        assert work.events == ["thread done"]
        asyncio_or_trio_timer.join()


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize(
    "method", ["swallows", "raises_in_cleanup", "raises_on_purpose_in_cleanup"]
)
async def test_whatever_a_cancelled_handler_returns_or_raises_the_answer_is_cancelled(
    method: str, wire: Wire
) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await cancelled_while_it_runs(client, work, method)
        await until(lambda: len(wire.frames("error")) == 1)
        assert await client.clientize(Work).ping() == "pong"
    assert wire.frames("error")[0][2]["code"] == "cancelled"
    wire.assert_one_terminal_each()


async def test_a_handler_that_cancels_a_scope_of_its_own_goes_on() -> None:
    work = Work()
    async with pair([work]) as (_, client):
        await client.clientize(Work).cancels_itself()
    assert work.events == ["went on"]


@pytest.mark.rule("CALL-5", "ERROR-3")
async def test_a_handler_that_raises_no_exception_but_worse_still_answers(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair([Work()]) as (_, client):
        with error_of("internal"):
            await client.clientize(Work).worse()
        assert await client.clientize(Work).ping() == "pong"
    assert "Worse" in caplog.text
    wire.assert_one_terminal_each()


@pytest.mark.rule("CALL-5")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_awaits_something_cancelled_has_failed() -> None:

    class Awaits:
        @wsrpc.method
        async def cancelled_future(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    async with pair([Awaits()]) as (_, client):
        # Nobody has cancelled the call.
        with error_of("internal"):
            await client.clientize(Awaits).cancelled_future()


@pytest.mark.rule("CANCEL-3")
async def test_cancelling_travels_through_nested_calls(wire: Wire) -> None:
    work, inner = Work(), Work()
    async with pair([work], [inner]) as (_, client):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Work).calls_back)
                await until(lambda: inner.begun == 1)
                scope.cancel()
        await until(lambda: inner.events == ["cancelled", "cleaned"])
        await until(lambda: len(wire.frames("error")) == 2)
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-2")
async def test_a_call_and_its_cancel_in_one_batch_never_begin(codec: Codec) -> None:
    work = Work()
    async with bare_client(wsrpc.Server([work]), codec) as peer:
        await peer.send(["call", 1, "Work.wait", {}], ["cancel", 1])
        error = await peer.expect("error")
        assert error[1] == 1
        assert error[2]["code"] == "cancelled"
        assert error[2]["not_started"] is True
        await peer.send(["call", 3, "Work.wait", {}], ["cancel", 3, "deadline_exceeded"])
        error = await peer.expect("error")
        assert error[2]["code"] == "deadline_exceeded"
        assert error[2]["not_started"] is True
        await peer.send(["notify", 5, "Work.note", {"text": "x"}], ["cancel", 5])
        error = await peer.expect("error")
        assert (error[1], error[2]["code"]) == (5, "cancelled")
        await turns()
    assert work.begun == 0
    assert work.events == []


@pytest.mark.rule("CANCEL-2", "CANCEL-3")
async def test_a_cancel_right_after_its_call_is_not_lost(wire: Wire) -> None:
    work = Work()
    async with bare_client(wsrpc.Server([work])) as peer:
        for n in range(30):
            await peer.send(["call", 1 + 2 * n, "Work.wait", {}])
            await peer.send(["cancel", 1 + 2 * n])
        for _ in range(30):
            error = await peer.expect("error")
            assert error[2]["code"] == "cancelled"
    assert work.events.count("cancelled") == work.events.count("cleaned") == work.begun


@pytest.mark.rule("CANCEL-4", "ID-6")
async def test_cancels_that_come_late_or_twice_are_ignored(codec: Codec) -> None:
    async with bare_client(wsrpc.Server([Work()]), codec) as peer:
        await peer.send(["call", 1, "Work.ping", {}])
        assert await peer.expect("result") == ["result", 1, "pong"]
        await peer.send(["cancel", 1], ["cancel", 1])
        await peer.send(["call", 3, "Work.wait", {}])
        await turns()
        await peer.send(["cancel", 3], ["cancel", 3, "deadline_exceeded"])
        error = await peer.expect("error")
        assert (error[1], error[2]["code"]) == (3, "cancelled")
        await peer.send(["cancel", 3])
        await peer.send(["call", 5, "Work.ping", {}])
        assert await peer.expect("result", "error") == ["result", 5, "pong"]


@pytest.mark.rule("CANCEL-1", "CANCEL-2", "CANCEL-3")
async def test_calls_cancelled_at_every_stage_leave_nothing_behind(wire: Wire) -> None:
    work = Work()
    async with pair([work]) as (server, client):
        proxy = client.clientize(Work)
        for delay in range(30):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(proxy.wait)
                    await turns(delay)
                    scope.cancel()
        assert await proxy.ping() == "pong"
        await until(lambda: work.events.count("cleaned") == work.begun)
        await until(
            lambda: wire_of(server).endpoint.quiescent and wire_of(client).endpoint.quiescent
        )
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-3", "CANCEL-5")
@pytest.mark.parametrize("kind", ["count", "dawdle"])
async def test_many_cancels_in_one_message_find_handlers_that_are_about_to_end(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The session acts on such a message in slices, and handlers run meanwhile."""

    begun, cleaned = 0, 0

    class Numbers:
        @wsrpc.method
        async def count(self, turns: int) -> AsyncIterator[int]:
            nonlocal begun, cleaned
            begun += 1
            try:
                while True:
                    yield turns
            finally:
                await anyio.sleep(0.01)
                cleaned += 1

        @wsrpc.method
        async def dawdle(self, turns: int) -> int:
            nonlocal begun
            begun += 1
            for _ in range(turns):
                await anyio.sleep(0)
            return turns

    ids = range(1, 401, 2)
    async with bare_client(wsrpc.Server([Numbers()])) as peer:
        calls = [
            ["call", id, f"Numbers.{kind}", {"turns": id % 20}, {"credit": 100_000}] for id in ids
        ]
        await peer.send(*calls)
        await until(lambda: begun == len(ids))
        await peer.send(*(["cancel", id] for id in ids))
        codes = set()
        for _ in ids:
            terminal = await peer.expect("result", "end", "error")
            codes.add(terminal[2]["code"] if terminal[0] == "error" else terminal[0])
    assert codes == ({"cancelled"} if kind == "count" else {"cancelled", "result"})
    assert cleaned == (len(ids) if kind == "count" else 0)
    assert not [
        record for record in caplog.records if record.name == "wsrpc" and record.levelno > 20
    ]


@pytest.mark.rule("CANCEL-3", "CREDIT-3")
async def test_streams_cancelled_at_every_stage_leave_nothing_behind(wire: Wire) -> None:
    opened, closed = 0, 0

    class Numbers:
        @wsrpc.method
        async def count(self) -> AsyncIterator[int]:
            nonlocal opened, closed
            opened += 1
            n = 0
            try:
                while True:
                    yield n
                    n += 1
            finally:
                await anyio.sleep(0)
                closed += 1

    async with pair([Numbers()]) as (server, client):
        proxy = client.clientize(Numbers)
        for delay in range(40):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(proxy.count().collect)
                    await turns(delay)
                    scope.cancel()
        await until(
            lambda: wire_of(server).endpoint.quiescent and wire_of(client).endpoint.quiescent
        )
        assert opened == closed
        assert opened > 0
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-3")
async def test_a_cancelled_notification_is_cancelled_like_a_call() -> None:

    class Slow:
        @wsrpc.method(oneway=True)
        async def slow(self) -> None:
            work.begun += 1
            try:
                await work.go.wait()
            finally:
                work.events.append("cleaned")

    work = Work()
    async with bare_client(wsrpc.Server([Slow()])) as peer:
        await peer.send(["notify", 1, "Slow.slow", {}])
        await until(lambda: work.begun == 1)
        await peer.send(["cancel", 1])
        error = await peer.expect("error", "end")
        assert error[:2] == ["error", 1]
        assert work.events == ["cleaned"]


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancellation_cancels_a_call(wire: Wire) -> None:
    work = Work()
    async with pair([work]) as (_, client):
        task = asyncio.create_task(client.clientize(Work).wait())
        await until(lambda: work.begun == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: work.events == ["cancelled", "cleaned"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.clientize(Work).wait(), 0.01)
        await until(lambda: work.events == ["cancelled", "cleaned"] * 2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancellation_of_a_connection_leaves_nothing_behind() -> None:
    work = Work()

    async def connected() -> None:
        async with pair([work]) as (_, client):
            stream: Any = client.clientize(Work).sync_items()
            await anext(stream)
            await client.clientize(Work).wait()

    task = asyncio.create_task(connected())
    await until(lambda: "cleaned" not in work.events and work.begun == 2)
    task.cancel()
    await turns(3)
    task.cancel()
    await turns(3)
    work.thread_go.set()
    task.cancel()
    with soon(), pytest.raises(asyncio.CancelledError):
        await task
    assert work.events.count("cleaned") == 2


async def test_leaving_a_connection_in_a_cancelled_scope_cleans_up() -> None:
    work = Work()
    with anyio.CancelScope() as scope:
        async with pair([work]) as (_, client), anyio.create_task_group() as group:
            group.start_soon(client.clientize(Work).wait)
            await until(lambda: work.begun == 1)
            scope.cancel()
    assert scope.cancelled_caught
    assert work.events == ["cancelled", "cleaned"]


_: Any = anyio.abc
