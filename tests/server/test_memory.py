"""What one peer makes a server hold, measured at the process."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import pytest

import wsrpc
from tests.hostile.raw import RawLink, raw_link
from tests.support import Codec, error_of, served, until, wire_of

from .holder import Holder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 2**20
PIECE = 32 * 1024

Attack = Callable[[RawLink], Awaitable[None]]


class Nested:
    @wsrpc.method
    async def there_and_back(self, value: str, callback: Callable[[str], Awaitable[str]]) -> str:
        return await callback(value)

    @wsrpc.method
    async def deeper(self, value: str, levels: int) -> str:
        if levels == 0:
            return value
        other = wsrpc.current().session.clientize(Nested)
        return await other.deeper(value, levels - 1)


class Process:
    """A server in a process of its own."""

    def __init__(self, url: str, process: anyio.abc.Process) -> None:
        self.url = url
        self._process = process
        self._said = b""

    async def now(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        await self._process.stdin.send(b"\n")
        said: dict[str, Any] = json.loads(await self.line())
        return said

    async def order(self, what: str) -> None:
        """End the sessions of all but the friend: "revoke" or "close"."""
        assert self._process.stdin is not None
        await self._process.stdin.send(what.encode() + b"\n")
        await self.line()

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            self._said += await self._process.stdout.receive()
        line, _, self._said = self._said.partition(b"\n")
        return line


@asynccontextmanager
async def process(backend: str, *options: str, **limits: Any) -> AsyncIterator[Process]:
    """A server with these limits; a friend is served whatever happens to the server."""
    command = [sys.executable, "-m", "tests.server.holder", backend, json.dumps(limits), *options]
    with anyio.fail_after(150):
        async with await anyio.open_process(command, stderr=None) as running:
            target = Process("", running)
            target.url = (await target.line()).decode().strip()
            try:
                async with wsrpc.connect(target.url, auth="friend") as friend:
                    proxy = friend.clientize(Holder)
                    assert await proxy.greet("Ann") == "Hello, Ann!"
                    known = friend.id
                    async with anyio.create_task_group() as group:

                        async def greet() -> None:
                            while True:
                                assert await proxy.greet("Ann") == "Hello, Ann!"
                                await anyio.sleep(0.05)

                        group.start_soon(greet)
                        yield target
                        group.cancel_scope.cancel()
                    # On a busy machine its connection may have to come back; its session lives on.
                    assert await proxy.greet("Ann") == "Hello, Ann!"
                    assert (friend.state, friend.id) == ("connected", known)
            finally:
                running.kill()


async def hello(link: RawLink) -> None:
    await link.hello(limits={"max_value": 16 * MIB, "max_held": 32 * MIB})


async def in_chunks(link: RawLink, frame: list[Any], value: Any, *, last: bool = True) -> None:
    """Send a frame whose value travels in chunks.

    Args:
        frame: The frame, with null in the place of the value; the size goes after it.
        value: What the pieces make up.
        last: Whether all of it goes, or all but the last piece.
    """
    data = link.codec.dump(value)
    await link.send([*frame, len(data)])
    for offset in range(0, len(data), PIECE):
        end = offset + PIECE >= len(data)
        if end and not last:
            return
        piece: Any = data[offset : offset + PIECE]
        await link.send(["chunk", frame[1], end, piece.decode() if link.codec.text else piece])


async def attack(url: str, codec: Codec, what: Attack) -> None:
    """Do this to a server, which may close the link or read no more."""
    try:
        async with raw_link(url, codec) as link:
            await what(link)
            await anyio.sleep_forever()
    except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
        return


async def read_a_little(link: RawLink) -> None:
    names = ("message", "result", "chunk", "error", "end", "ack", "ping")
    while isinstance(await link.verdict(*names), list):
        await anyio.sleep(0.05)


# ------------------------------------------------------------------------------------ attacks


async def echoes(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    text = "x" * size
    async with anyio.create_task_group() as group:
        group.start_soon(read_a_little, link)
        for n in range(calls):
            frame = ["call", 2 * n + 1, "Holder.echo", None, None]
            await in_chunks(link, frame, {"value": text})


async def waiting_arguments(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    for n in range(calls):
        frame = ["call", 2 * n + 1, "Holder.wait", None, None]
        await in_chunks(link, frame, {"value": "x" * size})


async def small_arguments(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    for n in range(calls):
        await link.send(["call", 2 * n + 1, "Holder.wait", {"value": "x" * size}])


async def answers_unread(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    await link.send(*(["call", 2 * n + 1, "Holder.text", {"size": size}] for n in range(calls)))


async def answers_read_slowly(
    link: RawLink, *, calls: int, size: int, name: str = "", acks: bool = True
) -> None:
    await link.hello(limits={"max_value": 16 * MIB, "max_held": 32 * MIB}, auth=name or None)
    for n in range(calls):
        await link.send(["call", 2 * n + 1, "Holder.text", {"size": size}])
    taken = 0
    while True:
        frame = await link.verdict("result", "chunk", "error")
        if not isinstance(frame, list):
            return
        taken += 1
        if acks and taken % 4 == 0:
            await link.send(["ack", taken])
            await anyio.sleep(0.05)


async def errors_unread(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    await link.send(*(["call", 2 * n + 1, "Holder.fail", {"size": size}] for n in range(calls)))


async def finals_unread(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    await link.send(*(["call", 2 * n + 1, "Holder.last", {"size": size}] for n in range(calls)))


async def streams_unread(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    options = {"credit": 1_000_000}
    await link.send(
        *(["call", 2 * n + 1, "Holder.texts", {"size": size}, options] for n in range(calls))
    )


async def items_never_taken(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    for n in range(calls):
        options = {"uploads": {"items": 4 * n + 3}}
        await link.send(["call", 4 * n + 1, "Holder.upload", {}, options])
        for _ in range(30):
            await link.send(["message", 4 * n + 3, ["x" * size]])


async def uploads_in_chunks(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    for n in range(calls):
        options = {"uploads": {"items": 4 * n + 3}}
        await link.send(["call", 4 * n + 1, "Holder.upload", {}, options])
        await in_chunks(link, ["message", 4 * n + 3, [None]], "x" * size)


async def callbacks(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    for n in range(calls):
        options = {"callbacks": {"callback": 4 * n + 3}}
        await link.send(["call", 4 * n + 1, "Holder.call_back", {"size": size}, options])


async def metadata(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    options = {"metadata": {"a": "x" * size}}
    for n in range(calls):
        await link.send(["call", 2 * n + 1, "Holder.wait", {}, options])


async def waiting_and_gone(link: RawLink, *, calls: int, size: int) -> None:
    await waiting_arguments(link, calls=calls, size=size)
    # So that the server takes all of it before the link is gone.
    await anyio.sleep(1.0)
    raise anyio.EndOfStream


async def unfinished(link: RawLink, *, calls: int, size: int) -> None:
    await hello(link)
    for n in range(calls):
        frame = ["call", 2 * n + 1, "Holder.wait", None, None]
        await in_chunks(link, frame, {"value": "x" * size}, last=False)


# ------------------------------------------------------------------------------------ tests

SMALL = {
    "max_session_bytes": 8 * MIB,
    "max_principal_bytes": 24 * MIB,
    "max_total_bytes": 48 * MIB,
    "stall_timeout": 1.0,
}

ATTACKS = {
    "echoes": partial(echoes, calls=40, size=MIB),
    "waiting arguments": partial(waiting_arguments, calls=60, size=MIB),
    "small arguments": partial(small_arguments, calls=250, size=50_000 * 4),
    "answers": partial(answers_unread, calls=100, size=MIB),
    "errors": partial(errors_unread, calls=200, size=3 * MIB),
    "final values": partial(finals_unread, calls=200, size=3 * MIB),
    "streams": partial(streams_unread, calls=60, size=MIB),
    "items": partial(items_never_taken, calls=60, size=50_000),
    "uploads in chunks": partial(uploads_in_chunks, calls=60, size=MIB),
    "callbacks": partial(callbacks, calls=60, size=MIB),
}


async def settled(target: Process, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while not condition(now := await target.now()):
        await anyio.sleep(0.05)
    return now


@pytest.mark.rule("OUT-4")
@pytest.mark.slow
@pytest.mark.parametrize("what", ATTACKS)
async def test_what_one_peer_makes_a_server_hold_has_one_bound_whatever_it_is_held_as(
    anyio_backend_name: str, codec: Codec, what: str
) -> None:
    async with process(anyio_backend_name, **SMALL) as target:
        before = await target.now()
        async with anyio.create_task_group() as group:
            group.start_soon(attack, target.url, codec, ATTACKS[what])
            after = await settled(target, lambda now: now["closes"].get("4001", 0) > 0)
            print(what, codec, before, after)
            assert after["most"] <= 8 + 20
            assert after["peak"] - before["memory"] <= 3 * 8 + 24
            after = await settled(target, lambda now: now["sessions"] == 1)
            assert after["held"] < 1
            group.cancel_scope.cancel()


@pytest.mark.rule("OUT-4", "RESUME-2")
async def test_a_peer_that_stays_over_its_bound_is_closed_with_4001_and_its_session_ends(
    codec: Codec,
) -> None:
    limits = wsrpc.Limits(max_session_bytes=2 * MIB, stall_timeout=1.0)
    async with served([Holder()], limits=limits) as listener:
        async with raw_link(listener.url, codec) as link:
            body = await link.hello(limits={"max_value": 16 * MIB, "max_held": 32 * MIB})
            for n in range(3):
                frame = ["call", 2 * n + 1, "Holder.wait", None, None]
                await in_chunks(link, frame, {"value": "x" * MIB})
            assert await link.closed() == 4001
        await until(lambda: not listener.server.sessions)
        assert listener.server.snapshot().held_bytes == 0
        async with raw_link(listener.url, codec) as link:
            resume = {"token": body["token"], "received": 0, "link": 2}
            await link.send(["hello", {"version": 1, "window": 32, **resume}])
            assert await link.closed() == 4010


@pytest.mark.slow
async def test_a_peer_that_reads_large_values_slowly_is_not_closed(codec: Codec) -> None:
    # Without resume, no acks of small frames look like progress.
    limits = wsrpc.Limits(max_session_bytes=2 * MIB, stall_timeout=3.0, resume_window=0)
    async with served([Holder()], limits=limits) as listener:
        async with raw_link(listener.url, codec, receive_buffer=256 * 1024) as link:
            await hello(link)
            # Two of them go at a time, so that the first is not through before the time is up.
            for n in range(4):
                await link.send(["call", 2 * n + 1, "Holder.text", {"size": 15 * MIB}])
            taken = 0
            begun = anyio.current_time()
            while anyio.current_time() < begun + 7.0:
                frame = await link.verdict("result", "chunk", "error")
                assert isinstance(frame, list), f"closed with {frame}"
                taken += 1
                if taken % 2 == 0:
                    await anyio.sleep(0.03)
            assert listener.server.snapshot().held_bytes > 2 * MIB


async def test_one_value_always_gets_through_however_small_the_bound_is(codec: Codec) -> None:
    limits = wsrpc.Limits(max_session_bytes=64 * 1024, max_principal_bytes=64 * 1024)
    async with served([Holder()], limits=limits) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as client:
            proxy = client.clientize(Holder)
            text = "x" * 3 * MIB
            assert await proxy.echo(text) == text
            assert await proxy.text(3 * MIB) == text
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(proxy.echo, text)
            assert listener.server.snapshot().closes.get(4001, 0) == 0


async def test_an_honest_peer_gets_all_of_what_is_far_more_than_its_bound(codec: Codec) -> None:
    limits = wsrpc.Limits(max_session_bytes=2 * MIB)
    most = got = 0
    async with served([Holder()], limits=limits) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as client:
            proxy = client.clientize(Holder, timeout=None)
            text = "x" * (MIB // 2)

            async def echo() -> None:
                nonlocal most, got
                assert await proxy.echo(text) == text
                got += 1
                most = max(most, listener.server.snapshot().held_bytes)

            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(echo)
        assert got == 40
        assert most < limits.max_session_bytes + limits.max_held + 3 * MIB


class AllAtOnce:
    """Its calls hold nothing until all of them answer."""

    def __init__(self, calls: int) -> None:
        self.begun = 0
        self.all = anyio.Event()
        self.calls = calls

    @wsrpc.method
    async def text(self, size: int) -> str:
        self.begun += 1
        if self.begun == self.calls:
            self.all.set()
        await self.all.wait()
        return "x" * size


@pytest.mark.rule("OUT-4")
@pytest.mark.parametrize("side", ["server", "client"])
async def test_answers_that_are_ready_at_once_all_get_through_however_far_above_the_bound(
    codec: Codec, side: str
) -> None:
    calls, size = 24, MIB // 2
    limits = wsrpc.Limits(max_value=MIB, max_session_bytes=MIB, stall_timeout=2.0)
    found = []
    async with served([AllAtOnce(calls)], limits=limits) as listener:
        answering: dict[str, Any] = {"controllers": [AllAtOnce(calls)], "limits": limits}
        async with wsrpc.connect(listener.url, codec=codec, **answering) as client:
            caller = client if side == "server" else listener.server.sessions[client.id]
            proxy = caller.clientize(AllAtOnce, timeout=None)

            async def one() -> None:
                found.append(len(await proxy.text(size)))

            async with anyio.create_task_group() as group:
                for _ in range(calls):
                    group.start_soon(one)
    assert found == [size] * calls


# Four values of half the bound.
PRESSED = wsrpc.Limits(max_session_bytes=MIB, stall_timeout=3)
HALF = "x" * (MIB // 2)


@pytest.mark.parametrize("bound", ["both", "server", "client"])
async def test_calls_nested_both_ways_go_on_under_pressure(codec: Codec, bound: str) -> None:
    async def callback(value: str) -> str:
        return value

    usual = wsrpc.Limits()
    async with served([Nested()], limits=usual if bound == "client" else PRESSED) as listener:
        limits = usual if bound == "server" else PRESSED
        async with wsrpc.connect(listener.url, codec=codec, limits=limits) as client:
            proxy = client.clientize(Nested)
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(proxy.there_and_back, HALF, callback)
            assert listener.server.snapshot().closes.get(4001, 0) == 0


@pytest.mark.parametrize("levels", [2, 3])
async def test_calls_nested_several_levels_deep_go_on_under_pressure(
    codec: Codec, levels: int
) -> None:
    async with served([Nested()], limits=PRESSED) as listener:
        async with wsrpc.connect(
            listener.url, codec=codec, limits=PRESSED, controllers=[Nested()]
        ) as client:
            proxy = client.clientize(Nested)
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(proxy.deeper, HALF, levels)
            assert listener.server.snapshot().closes.get(4001, 0) == 0


async def test_a_session_above_its_bound_that_gives_bytes_back_goes_on(codec: Codec) -> None:
    limits = wsrpc.Limits(max_session_bytes=MIB, stall_timeout=1)
    async with served([Holder()], limits=limits) as listener:
        async with raw_link(listener.url, codec) as link:
            await hello(link)
            size = 400 * 1024
            ids = {2 * n + 1 for n in range(5)}
            await link.send(*(["call", id, "Holder.text", {"size": size}] for id in ids))
            taken = 0
            while ids:
                frame = await link.verdict("result", "chunk", "error")
                assert isinstance(frame, list), f"{frame} with {len(ids)} answers to come"
                taken += 1
                if frame[0] == "chunk" and frame[2]:
                    ids.remove(frame[1])
                await link.send(["ack", taken])
                await anyio.sleep(0.02)


# One principal may hold little, and nobody is closed for it here.
SHARED = wsrpc.Limits(max_principal_bytes=2 * MIB, stall_timeout=1000)


class Ordered:
    def __init__(self) -> None:
        self.begun: list[str] = []

    @wsrpc.method
    async def unknown(self) -> None:
        self.begun.append("unknown")

    @wsrpc.method
    async def light(self) -> None:
        self.begun.append("light")


@asynccontextmanager
async def above_its_bound() -> AsyncIterator[tuple[wsrpc.Listener, wsrpc.Session, Any, Ordered]]:
    """A server, a session, and a way to end the other session, which holds more than both may."""
    service = Ordered()
    async with served([Holder(), service], limits=SHARED) as listener:
        async with wsrpc.connect(listener.url) as session, raw_link(listener.url, "json") as link:
            assert await session.clientize(Holder).greet("Ann")
            await session.clientize(Ordered).light()
            body = await link.hello(limits={"max_value": 16 * MIB, "max_held": 32 * MIB})
            for n in range(3):
                frame = ["call", 2 * n + 1, "Holder.wait", None, None]
                await in_chunks(link, frame, {"value": "x" * MIB})
            await until(lambda: listener.server.snapshot().held_bytes > 2 * MIB)
            yield listener, session, listener.server.sessions[body["session"]].aclose, service


async def test_a_call_whose_answers_are_small_does_not_wait_for_other_sessions() -> None:
    async with above_its_bound() as (_, session, _, _):
        proxy = session.clientize(Holder)
        assert await proxy.greet("Ben") == "Hello, Ben!"
        # Nobody knows yet how much this one answers.
        with anyio.move_on_after(0.2) as scope:
            await proxy.text(10)
        assert scope.cancelled_caught


async def test_calls_that_wait_for_memory_begin_in_their_order() -> None:
    async with above_its_bound() as (listener, session, end, service):
        proxy = session.clientize(Ordered)
        server_side = listener.server.sessions[session.id]
        async with anyio.create_task_group() as group:
            group.start_soon(proxy.unknown)
            await until(lambda: len(wire_of(server_side).hub.waiting_calls) == 1)
            group.start_soon(proxy.light)
            await until(lambda: len(wire_of(server_side).hub.waiting_calls) == 2)
            await end()
    assert service.begun == ["light", "unknown", "light"]


async def test_a_call_that_waits_for_memory_ends_with_its_session_and_holds_up_nobody() -> None:
    async with above_its_bound() as (listener, session, _, service):
        server_side = listener.server.sessions[session.id]

        async def call() -> None:
            with error_of("unavailable"):
                await session.clientize(Ordered).unknown()

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: len(wire_of(server_side).hub.waiting_calls) == 1)
            await server_side.aclose()
        async with wsrpc.connect(listener.url) as other:
            assert await other.clientize(Holder).greet("Ben") == "Hello, Ben!"
        assert service.begun == ["light"]


async def test_what_a_session_held_in_small_parts_is_given_back_once_its_handlers_are_through() -> (
    None
):
    server = wsrpc.Server([Holder()])
    async with server.listen() as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:

            async def call() -> None:
                with error_of("unavailable"):
                    await session.clientize(Holder, timeout=None).wait("x" * 10_000)

            account = wire_of(server.sessions[session.id]).hub.account
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(call)
                # These bytes count for the principal, which may have other sessions.
                await until(lambda: account.held > 64 * 1024)
                await server.sessions[session.id].aclose()
        await until(lambda: account.held == 0)


async def test_the_bound_of_a_principal_holds_when_many_of_its_sessions_were_waiting() -> None:
    most = 0
    async with above_its_bound() as (listener, _, end, _):
        async with anyio.create_task_group() as group:
            what = partial(answers_unread, calls=1, size=MIB)
            for _ in range(20):
                group.start_soon(attack, listener.url, "json", what)
            sessions = listener.server.sessions
            # Those, and calls of the session that is above the bound.
            await until(
                lambda: sum(bool(wire_of(one).hub.waiting_calls) for one in sessions.values()) == 21
            )
            await end()
            await until(lambda: listener.server.snapshot().held_bytes > MIB)
            # As long as all that wait take to look again, and longer.
            for _ in range(60):
                await anyio.sleep(0.005)
                most = max(most, listener.server.snapshot().held_bytes)
            group.cancel_scope.cancel()
    assert most < 4 * MIB


@pytest.mark.slow
async def test_sixty_echo_calls_of_15_mib_by_one_peer_that_reads_a_little_stay_within_the_bound(
    anyio_backend_name: str, codec: Codec
) -> None:
    what = partial(echoes, calls=60, size=15 * MIB)
    async with process(anyio_backend_name) as target:
        before = await target.now()
        async with anyio.create_task_group() as group:
            group.start_soon(attack, target.url, codec, what)
            after = await settled(target, lambda now: now["closes"].get("4001", 0) > 0)
            print(codec, before, after)
            assert after["most"] <= 64 + 38
            assert after["peak"] - before["memory"] <= 200
            group.cancel_scope.cancel()


# Sessions, principals, the bounds in MiB: of a session, of a principal, of the process; and whether
# the peers ack the frames that they take.
CROWDS = {
    "session": (1, 1, 64, 256, 1024, True),
    "session that never acks": (1, 1, 64, 256, 1024, False),
    "principal": (12, 1, 64, 128, 1024, True),
    "process": (12, 6, 64, 128, 256, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("bound", CROWDS)
async def test_256_answers_of_15_mib_to_peers_that_read_slowly_stay_within_the_bounds(
    anyio_backend_name: str, codec: Codec, bound: str
) -> None:
    sessions, principals, session, principal, total, acks = CROWDS[bound]
    limits = {
        "max_session_bytes": session * MIB,
        "max_principal_bytes": principal * MIB,
        "max_total_bytes": total * MIB,
        "stall_timeout": 2.0,
    }
    most = min(total, principals * principal, sessions * session)
    # Each session may hold one value, so that one always gets through.
    slack = 1.25 * sessions * 16 + 16
    async with process(anyio_backend_name, **limits) as target:
        before = await target.now()
        async with anyio.create_task_group() as group:
            for n in range(sessions):
                name = f"principal {n % principals}"
                what = partial(answers_read_slowly, calls=256, size=15 * MIB, name=name, acks=acks)
                group.start_soon(attack, target.url, codec, what)
            await settled(target, lambda now: now["held"] > most / 2)
            if acks:
                # As long as a peer that gives nothing back is borne with, and longer.
                await anyio.sleep(6.0)
                after = await target.now()
            else:
                after = await settled(target, lambda now: now["closes"].get("4001", 0) > 0)
            print(bound, codec, before, after)
            assert after["most"] <= most + slack
            assert after["peak"] - before["memory"] <= 1.25 * (most + slack) + 32
            group.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["streams", "detached", "unfinished values", "metadata"])
async def test_many_sessions_of_one_principal_have_one_bound(
    anyio_backend_name: str, codec: Codec, what: str
) -> None:
    attacks: dict[str, Attack] = {
        "streams": partial(streams_unread, calls=5, size=MIB),
        "detached": partial(waiting_and_gone, calls=4, size=MIB),
        "unfinished values": partial(unfinished, calls=4, size=MIB),
        "metadata": partial(metadata, calls=250, size=16_000),
    }
    async with process(anyio_backend_name, **SMALL) as target:
        before = await target.now()
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(attack, target.url, codec, attacks[what])
            after = await settled(
                target, lambda now: now["sessions"] < 45 and now["most"] > 20 and now["held"] < 24
            )
            print(what, codec, before, after)
            # Each of the fifty may have begun one value by then.
            assert after["most"] <= 24 + 50 * 1.75
            assert after["peak"] - before["memory"] <= 24 + 50 * 4
            group.cancel_scope.cancel()


@pytest.mark.slow
async def test_three_hundred_sessions_that_do_not_read_stay_within_the_bound_of_a_principal(
    anyio_backend_name: str, codec: Codec
) -> None:
    async with process(anyio_backend_name) as target:
        before = await target.now()
        async with anyio.create_task_group() as group:
            for _ in range(300):
                what = partial(streams_unread, calls=10, size=MIB)
                group.start_soon(attack, target.url, codec, what)
            # As sessions end, calls of others begin, and the bound holds for them together.
            after = await settled(target, lambda now: now["closes"].get("4001", 0) > 6)
            print(codec, before, after)
            assert after["most"] <= 256 * 1.25 + 64
            assert after["peak"] - before["memory"] <= 640
            group.cancel_scope.cancel()
