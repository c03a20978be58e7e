"""How many calls run at a time, who waits, and who may not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import wsrpc
from tests.support import Codec, Wire, bare_client, error_of, pair, turns, until
from tests.support import virtual_anyio_backend as anyio_backend  # noqa: F401

FEW = wsrpc.Limits(max_calls=8)


class Busy:
    def __init__(self) -> None:
        self.running = 0
        self.peak = 0
        self.notes: list[int] = []
        self.go = anyio.Event()
        self.cleanup = anyio.Event()
        self.cleanup.set()

    @wsrpc.method
    async def wait(self) -> str:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.go.wait()
        finally:
            await self.cleanup.wait()
            self.running -= 1
        return "went"

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        self.running += 1
        try:
            yield 0
            await self.go.wait()
            yield 1
        finally:
            self.running -= 1

    @wsrpc.method(oneway=True)
    async def note(self, n: int) -> None:
        self.notes.append(n)
        await self.go.wait()

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"

    @wsrpc.method
    async def ask_caller(self) -> str:
        """Calls the caller back, and ignores the result."""
        self.running += 1
        try:
            await self.go.wait()
            return await wsrpc.current().session.clientize(Busy).ping()
        finally:
            self.running -= 1

    @wsrpc.method
    async def note_caller(self) -> None:
        await wsrpc.current().session.clientize(Busy).note(1)

    @wsrpc.method
    async def stream_caller(self) -> list[int]:
        return await wsrpc.current().session.clientize(Busy).items().collect()

    @wsrpc.method
    async def wait_after_handler(self) -> None:
        """Leaves a task that calls the caller when this handler has ended."""


@pytest.mark.rule("SLOT-1")
async def test_more_calls_than_the_callee_takes_wait_on_the_callers_side(
    codec: Codec, wire: Wire
) -> None:
    busy = Busy()
    answers: list[str] = []
    async with pair([busy], codec=codec, limits=FEW) as (_, client):

        async def one() -> None:
            answers.append(await client.clientize(Busy).wait())

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(one)
            await until(lambda: busy.running == 8)
            await turns(50)
            assert busy.running == 8
            assert len(wire.frames("call")) == 8
            busy.go.set()
    assert answers == ["went"] * 30
    assert busy.peak == 8
    wire.assert_one_terminal_each()


@pytest.mark.rule("SLOT-1", "NOTIFY-1")
async def test_streams_and_notifications_take_slots_too() -> None:
    busy = Busy()
    async with pair([busy], limits=FEW) as (_, client):
        proxy = client.clientize(Busy)
        streams = [proxy.items() for _ in range(4)]
        for stream in streams:
            assert await anext(stream) == 0
        for n in range(4):
            await proxy.note(n)
        await until(lambda: len(busy.notes) == 4)
        waited: list[str] = []

        async def one() -> None:
            waited.append(await proxy.ping())

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await turns(50)
            assert waited == []
            await streams[0].aclose()
            await until(lambda: waited == ["pong"])
        busy.go.set()
        for stream in streams[1:]:
            assert await stream.collect() == [1]


@pytest.mark.rule("SLOT-1")
async def test_a_notification_waits_for_a_slot_and_returns_as_soon_as_it_has_one() -> None:
    busy = Busy()
    async with pair([busy], limits=FEW) as (_, client):
        proxy = client.clientize(Busy)
        returned: list[int] = []

        async def note(n: int) -> None:
            await proxy.note(n)
            returned.append(n)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(proxy.wait)
            await until(lambda: busy.running == 8)
            for n in range(3):
                group.start_soon(note, n)
            await turns(50)
            assert returned == []
            busy.go.set()
            await until(lambda: sorted(returned) == [0, 1, 2])
        await until(lambda: sorted(busy.notes) == [0, 1, 2])


@pytest.mark.rule("SLOT-1")
async def test_waiting_is_first_come_first_served() -> None:
    order: list[int] = []

    class Gate:
        def __init__(self) -> None:
            self.go = [anyio.Event() for _ in range(8)]

        @wsrpc.method
        async def hold(self, n: int) -> None:
            await self.go[n].wait()

        @wsrpc.method
        async def note(self, n: int) -> None:
            order.append(n)

    gate = Gate()
    async with pair([gate], limits=FEW) as (_, client):
        proxy = client.clientize(Gate)
        async with anyio.create_task_group() as group:
            for n in range(8):
                group.start_soon(proxy.hold, n)
            await turns(20)
            for n in range(10):
                group.start_soon(proxy.note, n)
                await turns(2)
            gate.go[0].set()
            await until(lambda: len(order) == 10)
            for event in gate.go:
                event.set()
    assert order == list(range(10))


@pytest.mark.rule("SLOT-2")
async def test_a_cancelled_call_keeps_its_slot_until_its_handler_has_cleaned_up() -> None:
    busy = Busy()
    busy.cleanup = anyio.Event()
    async with pair([busy], limits=FEW) as (_, client):
        proxy = client.clientize(Busy)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(proxy.wait)
                await until(lambda: busy.running == 8)
                scope.cancel()
        pinged: list[str] = []

        async def ping() -> None:
            pinged.append(await proxy.ping())

        async with anyio.create_task_group() as group:
            group.start_soon(ping)
            await turns(50)
            assert pinged == []
            busy.cleanup.set()
    assert pinged == ["pong"]


@pytest.mark.rule("CANCEL-1")
async def test_a_call_cancelled_while_it_waits_for_a_slot_is_never_sent(wire: Wire) -> None:
    busy = Busy()
    async with pair([busy], limits=FEW) as (_, client):
        proxy = client.clientize(Busy)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(proxy.wait)
            await until(lambda: busy.running == 8)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as waiting:
                    for _ in range(3):
                        waiting.start_soon(proxy.wait)
                    waiting.start_soon(proxy.items().collect)
                    waiting.start_soon(proxy.note, 1)
                    await turns(20)
                    scope.cancel()
            busy.go.set()
        assert await proxy.ping() == "pong"
        assert busy.notes == []
    assert len(wire.frames("call")) == 9
    assert not wire.frames("cancel", "notify")


@pytest.mark.rule("TIME-4")
async def test_waiting_counts_against_the_deadline(wire: Wire) -> None:
    busy = Busy()
    async with pair([busy], limits=FEW) as (_, client):
        proxy = client.clientize(Busy)
        hasty = client.clientize(Busy, timeout=0.05)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(proxy.wait)
            await until(lambda: busy.running == 8)
            for call in (hasty.ping, hasty.items().collect, lambda: hasty.note(1)):
                with pytest.raises(wsrpc.DeadlineExceeded) as caught:
                    await call()
                assert caught.value.not_started
            with anyio.move_on_after(0.05) as scope:
                await proxy.ping()
            assert scope.cancelled_caught
            busy.go.set()
    assert len(wire.frames("call", "notify")) == 8


@pytest.mark.rule("CLOSE-4")
async def test_calls_that_wait_fail_when_the_session_ends() -> None:
    busy = Busy()
    errors: list[wsrpc.RpcError] = []
    async with pair([busy], limits=FEW) as (server, client):
        proxy = client.clientize(Busy)

        async def one() -> None:
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await proxy.wait()
            errors.append(caught.value)

        async def note() -> None:
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await proxy.note(1)
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one)
            await until(lambda: busy.running == 8)
            group.start_soon(note)
            await turns(20)
            await server.aclose()
    assert sorted(error.not_started for error in errors) == [False] * 8 + [True] * 3


@pytest.mark.rule("TIME-3")
async def test_a_stream_whose_time_is_up_while_it_waits_for_a_slot_has_not_begun() -> None:
    busy = Busy()
    async with pair([busy], limits=FEW) as (_, client):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(client.clientize(Busy).wait)
            await until(lambda: busy.running == 8)
            with pytest.raises(wsrpc.DeadlineExceeded) as caught:
                await client.clientize(Busy, timeout=0.05).items().collect()
            assert caught.value.not_started
            busy.go.set()
        with pytest.raises(wsrpc.DeadlineExceeded) as caught:
            busy.go = anyio.Event()
            await client.clientize(Busy, timeout=0.05).items().collect()
        assert not caught.value.not_started


async def test_only_so_many_calls_may_wait() -> None:
    busy = Busy()
    limits = wsrpc.Limits(max_calls=8, max_waiting=2)
    async with pair([busy], limits=limits) as (_, client):
        proxy = client.clientize(Busy)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(proxy.wait)
            await until(lambda: busy.running == 8)
            await turns(20)
            with error_of("resource_exhausted") as caught:
                await proxy.ping()
            assert caught.value.not_started
            busy.go.set()


# ------------------------------------------------------------------------------------ nested


async def fill(session: wsrpc.Session, busy: Busy, group: anyio.abc.TaskGroup) -> None:
    for _ in range(8):
        group.start_soon(session.clientize(Busy).wait)
    await until(lambda: busy.running == 8)


@pytest.mark.rule("SLOT-3")
async def test_a_call_made_while_handling_one_never_waits_but_fails_at_once(wire: Wire) -> None:
    server_side, client_side = Busy(), Busy()
    async with pair([server_side], [client_side], limits=FEW) as (server, client):
        async with anyio.create_task_group() as group:
            await fill(server, client_side, group)
            proxy = client.clientize(Busy)
            server_side.go.set()
            with error_of("resource_exhausted") as caught:
                await proxy.ask_caller()
            assert "8 slots" in caught.value.message
            with error_of("resource_exhausted"):
                await proxy.note_caller()
            with error_of("resource_exhausted"):
                await proxy.stream_caller()
            client_side.go.set()
    assert len(wire.frames("call")) == 8 + 3


@pytest.mark.rule("SLOT-3")
async def test_a_call_made_while_handling_one_carries_its_parent(wire: Wire) -> None:
    busy = Busy()
    busy.go.set()
    async with pair([busy], [Busy()]) as (_, client):
        await client.clientize(Busy).ask_caller()
    (_, inner) = wire.frames("call")
    assert inner[1] == 2
    assert inner[4]["parent"] == 1


@pytest.mark.rule("SLOT-3")
async def test_a_call_made_by_a_task_that_outlives_its_handler_waits_like_any_other(
    wire: Wire,
) -> None:
    client_side = Busy()
    waited: list[str] = []

    class Leaves:
        @wsrpc.method
        async def work_behind(self) -> None:
            session = wsrpc.current().session

            async def later() -> None:
                await go.wait()
                waited.append(await session.clientize(Busy).ping())

            background.start_soon(later)

    go = anyio.Event()
    async with anyio.create_task_group() as background:
        async with pair([Leaves()], [client_side], limits=FEW) as (server, client):
            async with anyio.create_task_group() as group:
                await client.clientize(Leaves).work_behind()
                await fill(server, client_side, group)
                go.set()
                await turns(50)
                assert waited == []
                client_side.go.set()
            await until(lambda: waited == ["pong"])
    assert "parent" not in (wire.frames("call")[-1] + [{}])[4]


@pytest.mark.rule("SLOT-3")
async def test_calls_that_nest_in_a_ring_fail_instead_of_waiting_for_themselves() -> None:

    class Ring:
        @wsrpc.method
        async def around(self, depth: int) -> int:
            if depth == 0:
                return 0
            session = wsrpc.current().session
            return 1 + await session.clientize(Ring).around(depth - 1)

    async with pair([Ring()], [Ring()], limits=FEW) as (_, client):
        assert await client.clientize(Ring).around(15) == 15
        with error_of("resource_exhausted"):
            await client.clientize(Ring).around(17)
        assert await client.clientize(Ring).around(15) == 15


# ------------------------------------------------------------------------------------ the callee's side


@pytest.mark.rule("SLOT-4")
async def test_a_peer_that_ignores_the_bound_is_refused_and_the_link_lives(codec: Codec) -> None:
    busy = Busy()
    async with bare_client(wsrpc.Server([busy], limits=FEW), codec) as peer:
        await peer.send(*(["call", 1 + 2 * n, "Busy.wait", {}] for n in range(8)))
        await peer.send(["call", 17, "Busy.ping", {}], ["notify", 19, "Busy.note", {"n": 1}])
        for id in (17, 19):
            error = await peer.expect("error")
            assert error[1] == id
            assert error[2]["code"] == "resource_exhausted"
            assert error[2]["not_started"] is True
        busy.go.set()
        for _ in range(8):
            assert (await peer.expect("result", "error"))[2] == "went"
        await peer.send(["call", 21, "Busy.ping", {}])
        assert await peer.expect("result", "error") == ["result", 21, "pong"]
    assert busy.notes == []


@pytest.mark.rule("SLOT-1")
async def test_each_hello_announces_its_own_sides_bound() -> None:
    async with bare_client(wsrpc.Server([Busy()], limits=FEW), hello=False) as peer:
        hello = await peer.say_hello()
    assert hello[1]["limits"]["max_calls"] == 8
    busy = Busy()
    async with pair(
        [busy], [], limits=wsrpc.Limits(max_calls=20), client_limits=wsrpc.Limits(max_calls=8)
    ) as (_, client):
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(client.clientize(Busy).wait)
            await until(lambda: busy.running == 20)
            await turns(20)
            assert busy.running == 20
            busy.go.set()
