"""How sessions end: what pending calls get, what handlers get, and what is left."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import (
    Codec,
    Wire,
    bare_client,
    bare_server,
    error_of,
    pair,
    patched_link,
    served,
    soon,
    turns,
    until,
    wire_of,
)
from wsrpc.testing.pairs import connected_pair
from wsrpc.transport.memory import MemoryLink


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.cleaned = 0
        self.notes: list[str] = []
        self.go = anyio.Event()
        self.kept: list[AsyncIterator[int]] = []

    @wsrpc.method
    async def wait(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            await anyio.sleep(0)
            await anyio.sleep(0.005)
            self.cleaned += 1
        return "went"

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        self.begun += 1
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            await anyio.sleep(0)
            await anyio.sleep(0.005)
            self.cleaned += 1

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        self.begun += 1
        try:
            return sum([n async for n in numbers])
        finally:
            await anyio.sleep(0)
            self.cleaned += 1

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        self.notes.append(text)

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"

    @wsrpc.method
    async def close_session(self) -> None:
        self.begun += 1
        try:
            await wsrpc.current().session.aclose(1000, "closed by a handler")
        finally:
            self.cleaned += 1

    @wsrpc.method
    async def calls_in_cleanup(self) -> None:
        self.begun += 1
        try:
            await anyio.sleep_forever()
        finally:
            try:
                await wsrpc.current().session.clientize(Work).ping()
            except wsrpc.ConnectionLost as error:
                self.notes.append(f"{error.code}, {error.not_started}")


class Take:
    @wsrpc.method
    async def text(self, text: str) -> int:
        return len(text)

    @wsrpc.method
    async def texts(self, text: str) -> AsyncIterator[int]:
        yield len(text)

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None: ...


async def pending(session: wsrpc.Session, method: str, errors: list[Any], *args: Any) -> None:
    """One call that is there when the session ends."""
    proxy: Any = session.clientize(Take if method == "text" else Work)
    outcome = getattr(proxy, method)(*args)
    try:
        await (outcome.collect() if isinstance(outcome, wsrpc.Stream) else outcome)
    except wsrpc.ConnectionLost as error:
        errors.append(error)


async def end_by_peer(server: wsrpc.Session, client: wsrpc.Session) -> int:
    await server.aclose(1001, "going home")
    return 1001


async def end_by_oneself(server: wsrpc.Session, client: wsrpc.Session) -> int:
    await client.aclose()
    return 1000


async def end_by_cutting(server: wsrpc.Session, client: wsrpc.Session) -> int:
    link = wire_of(client).link
    assert isinstance(link, MemoryLink)
    link.cut()
    return 1006


@pytest.mark.rule("CLOSE-4", "CLOSE-5", "HELLO-10")
@pytest.mark.parametrize("end", [end_by_peer, end_by_oneself, end_by_cutting])
async def test_pending_calls_fail_with_unavailable_and_handlers_clean_up(
    codec: Codec, end: Any
) -> None:
    work = Work()
    errors: list[wsrpc.ConnectionLost] = []

    async def forever() -> AsyncIterator[int]:
        while True:
            yield 1

    async with pair([work], codec=codec) as (server, client):
        async with anyio.create_task_group() as group:
            group.start_soon(pending, client, "wait", errors)
            group.start_soon(pending, client, "items", errors)
            group.start_soon(pending, client, "total", errors, forever())
            await until(lambda: work.begun == 3)
            codes = [await end(server, client)] * 3
            await until(lambda: len(errors) == 3)
            assert [error.close_code for error in errors] == codes
        for error in errors:
            assert error.code == "unavailable"
            assert isinstance(error, ConnectionError)
            assert not error.not_started
        await until(lambda: work.cleaned == 3)
        await until(lambda: server.closed and client.closed)


@pytest.mark.rule("CLOSE-4")
async def test_calls_on_a_session_that_has_ended_fail_at_once() -> None:
    async with pair([Work()], [Work()]) as (server, client):
        stream = client.clientize(Work).items()
        await server.aclose()
        await until(lambda: client.closed)
        for session in (server, client):
            work = session.clientize(Work)
            for call in (work.ping, work.items().collect, lambda w=work: w.note("late")):
                with pytest.raises(wsrpc.ConnectionLost) as caught:
                    await call()
                assert caught.value.not_started
        with pytest.raises(wsrpc.ConnectionLost):
            await anext(stream)
        with pytest.raises(wsrpc.ConnectionLost):
            await client.clientize(Work).total(wsrpc.stream_of([1]))


@pytest.mark.rule("CLOSE-4")
async def test_calls_that_were_never_sent_are_told_apart() -> None:
    work = Work()
    errors: list[wsrpc.ConnectionLost] = []
    async with pair([work], limits=wsrpc.Limits(max_calls=8)) as (server, client):
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(pending, client, "wait", errors)
            await until(lambda: work.begun == 8)
            await turns(10)
            await server.aclose()
    assert sorted(error.not_started for error in errors) == [False] * 8 + [True] * 4


@pytest.mark.rule("CLOSE-4")
async def test_a_stream_never_ends_cleanly_when_the_session_does() -> None:
    async with pair([Work()]) as (server, client):
        stream = client.clientize(Work, window=4).items()
        assert await anext(stream) == 0
        await turns(30)
        await server.aclose()
        got: list[int] = []
        with pytest.raises(wsrpc.ConnectionLost):
            async for item in stream:
                got.append(item)
        assert got[:3] == [1, 2, 3]


async def test_closing_sends_notifications_and_lets_them_be_handled_first(codec: Codec) -> None:
    work = Work()
    async with pair([work], codec=codec) as (_, client):
        proxy = client.clientize(Work)
        for n in range(200):
            await proxy.note(str(n))
        await client.aclose()
    assert sorted(work.notes, key=int) == [str(n) for n in range(200)]


async def test_leaving_a_connection_lets_notifications_be_handled_first(codec: Codec) -> None:
    work = Work()
    async with served([work]) as listener:
        async with wsrpc.connect(listener.url, codec=codec) as session:
            for n in range(200):
                await session.clientize(Work).note(str(n))
        await until(lambda: len(work.notes) == 200)


@pytest.mark.rule("CLOSE-5")
async def test_leaving_a_connection_waits_for_this_sides_handlers() -> None:
    mine = Work()
    errors: list[Any] = []
    with soon():
        server = wsrpc.Server([Work()])
        async with server.listen() as listener:
            async with anyio.create_task_group() as group:
                async with wsrpc.connect(listener.url, controllers=[mine]) as session:
                    group.start_soon(pending, server.sessions[session.id], "wait", errors)
                    await until(lambda: mine.begun == 1)
                assert mine.cleaned == 1
            assert len(errors) == 1


@pytest.mark.rule("CLOSE-5")
async def test_a_server_that_stops_waits_for_its_handlers() -> None:
    work = Work()
    errors: list[wsrpc.ConnectionLost] = []
    with soon():
        async with anyio.create_task_group() as group:
            async with wsrpc.Server([work]).listen() as listener:

                async def client() -> None:
                    async with wsrpc.connect(listener.url, reconnect=False) as session:
                        await pending(session, "wait", errors)

                group.start_soon(client)
                await until(lambda: work.begun == 1)
            assert work.cleaned == 1
            assert not listener.server.sessions
    assert [error.close_code for error in errors] == [1001]


async def test_wait_closed_tells_why() -> None:
    async with pair([Work()]) as (server, client):
        found: list[wsrpc.ConnectionLost] = []

        async def wait(session: wsrpc.Session) -> None:
            found.append(await session.wait_closed())

        async with anyio.create_task_group() as group:
            group.start_soon(wait, server)
            group.start_soon(wait, client)
            await turns()
            assert not client.closed
            await server.aclose(4000, "a reason")
        assert [(error.close_code, error.close_reason) for error in found] == [
            (4000, "a reason")
        ] * 2
        assert (await client.wait_closed()).close_code == 4000
        assert "a reason" in str(await client.wait_closed())


@pytest.mark.rule("CLOSE-3")
async def test_closing_twice_or_from_both_ends_at_once_is_fine() -> None:
    work = Work()
    async with pair([work]) as (server, client):
        async with anyio.create_task_group() as group:
            group.start_soon(pending, client, "wait", [])
            await until(lambda: work.begun == 1)
            for session in (server, client):
                for code in (1000, 1001):
                    group.start_soon(session.aclose, code)
        await server.aclose()
        await client.aclose()


@pytest.mark.rule("CLOSE-4")
async def test_closing_while_the_peer_does_not_read_is_bounded() -> None:
    limits = wsrpc.Limits(close_timeout=0.05)
    errors: list[wsrpc.ConnectionLost] = []
    with soon():
        pair = connected_pair([Take()], limits=limits)
        async with pair as (_, client):
            pair.stall(sender="connecting")
            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(pending, client, "text", errors, "x" * 100_000)
                await turns(100)
                assert client.outbox_bytes > 0
                group.start_soon(client.aclose)
                await client.aclose()
            assert client.closed
    assert len(errors) == 40


async def test_closing_waits_for_a_notification_only_so_long() -> None:
    class Stuck:
        @wsrpc.method(oneway=True)
        async def note(self) -> None:
            begun.set()
            await anyio.sleep_forever()

    begun = anyio.Event()
    async with pair([Stuck()], limits=wsrpc.Limits(close_timeout=0.05)) as (_, client):
        await client.clientize(Stuck).note()
        await begun.wait()


@pytest.mark.rule("TIME-3", "TIME-4")
async def test_a_call_to_a_peer_that_does_not_read_keeps_its_deadline() -> None:
    limits = wsrpc.Limits(close_timeout=0.05, outbox=1000)

    with soon():
        pair = connected_pair([Take()], limits=limits)
        async with pair as (_, client):
            pair.stall(sender="connecting")
            take = client.clientize(Take, timeout=0.1)
            outcomes: list[bool] = []

            async def one(n: int) -> None:
                call: Any = [take.text, lambda t: take.texts(t).collect(), take.note][n % 3]
                try:
                    for _ in range(100):
                        await call("x" * 2000)
                except wsrpc.DeadlineExceeded as error:
                    outcomes.append(error.not_started)

            async with anyio.create_task_group() as group:
                for n in range(90):
                    group.start_soon(one, n)
            assert len(outcomes) == 90
            assert True in outcomes
            with anyio.move_on_after(0.05) as scope:
                await client.clientize(Take).text("x")
            assert scope.cancelled_caught


@pytest.mark.rule("CLOSE-5")
async def test_a_handler_may_close_its_own_session() -> None:
    work = Work()
    errors: list[wsrpc.ConnectionLost] = []
    async with pair([work]) as (server, client):
        await pending(client, "close_session", errors)
        await until(lambda: work.cleaned == 1)
        assert server.closed
    assert [error.close_reason for error in errors] == ["closed by a handler"]


@pytest.mark.rule("CLOSE-4")
async def test_a_handler_that_calls_back_in_its_cleanup_gets_an_error_and_no_hang() -> None:
    work = Work()
    errors: list[wsrpc.ConnectionLost] = []
    async with pair([work], [Work()]) as (_, client):
        async with anyio.create_task_group() as group:
            group.start_soon(pending, client, "calls_in_cleanup", errors)
            await until(lambda: work.begun == 1)
            await client.aclose()
        await until(lambda: work.notes == ["unavailable, True"])


@pytest.mark.rule("CLOSE-5")
async def test_calls_that_arrive_when_the_session_has_ended_do_not_begin() -> None:
    work = Work()
    async with pair([work]) as (server, client):
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(pending, client, "wait", [])
            await server.aclose()
    assert work.begun == work.cleaned


async def test_a_session_that_is_over_is_forgotten() -> None:
    async with pair([Work()]) as (server, client):
        await client.clientize(Work).ping()
        async with client.clientize(Work).items() as stream:
            await anext(stream)
        gone = [weakref.ref(server), weakref.ref(client)]
    del server, client, stream
    await turns()
    gc.collect()
    assert [one() for one in gone] == [None, None]


# ------------------------------------------------------------------------------------ the body's own


@pytest.mark.parametrize("where", ["connect", "listen", "pair"])
async def test_the_bodys_own_exception_leaves_as_itself(where: str) -> None:
    with soon(), pytest.raises(KeyError) as caught:
        async with wsrpc.Server([Work()]).listen() as listener:
            if where == "listen":
                raise KeyError("mine")
            if where == "pair":
                async with connected_pair([Work()]) as (_, client):
                    await client.clientize(Work).ping()
                    raise KeyError("mine")
            async with wsrpc.connect(listener.url) as session:
                await session.clientize(Work).ping()
                raise KeyError("mine")
    assert type(caught.value) is KeyError


async def test_an_rpc_error_leaves_the_body_as_itself() -> None:
    with soon(), error_of("unimplemented"):
        async with served([Work()]) as listener:
            async with wsrpc.connect(listener.url) as session:
                await session.clientize("Nobody").home()


@pytest.mark.rule("CLOSE-4")
async def test_the_loss_of_the_connection_leaves_the_body_as_itself() -> None:
    server = wsrpc.Server([Work()])
    with soon(), pytest.raises(wsrpc.ConnectionLost):
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, reconnect=False) as session:
                await server.sessions[session.id].aclose(4000)
                await session.clientize(Work).wait()


async def test_the_body_can_be_cancelled_and_the_connection_is_left_in_order() -> None:
    work = Work()
    async with served([work]) as listener:
        with soon(), anyio.CancelScope() as scope:
            async with wsrpc.connect(listener.url) as session, anyio.create_task_group() as group:
                group.start_soon(session.clientize(Work).wait)
                await until(lambda: work.begun == 1)
                scope.cancel()
        assert scope.cancelled_caught
        await until(lambda: work.cleaned == 1)
        await until(lambda: listener.server.stats.closes == {1000: 1})


async def test_a_listening_body_can_be_cancelled() -> None:
    work = Work()
    with soon(), anyio.CancelScope() as scope:
        async with wsrpc.Server([work]).listen() as listener:
            async with wsrpc.connect(listener.url) as session, anyio.create_task_group() as group:
                group.start_soon(session.clientize(Work).wait)
                await until(lambda: work.begun == 1)
                scope.cancel()
    assert scope.cancelled_caught
    assert work.cleaned == 1


# ------------------------------------------------------------------------------------ codes


@pytest.mark.rule("CLOSE-1", "CLOSE-2", "HELLO-10")
@pytest.mark.parametrize("code", [1000, 1001, 1012, 3000, 4000, 4499, 4500, 4999])
async def test_any_close_code_ends_the_session_and_is_told(code: int) -> None:
    server = wsrpc.Server([Work()])
    with soon():
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, reconnect=False) as session:
                await server.sessions[session.id].aclose(code, "why")
                lost = await session.wait_closed()
                assert (lost.close_code, lost.close_reason) == (code, "why")


@pytest.mark.rule("HELLO-8")
async def test_a_close_before_the_hello_means_that_nothing_was_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for code in (1000, 1011, 4501, 4503, 4507):
        peer = patched_link(monkeypatch)
        peer.link.abort(code, "no")
        with soon(), pytest.raises(wsrpc.ConnectError) as caught:
            async with wsrpc.connect("ws://memory"):
                pytest.fail("connected")
        assert caught.value.close_code == code
        assert "no" in str(caught.value)


@pytest.mark.rule("HELLO-9")
async def test_no_hello_in_time_is_closed_with_4008() -> None:
    server = wsrpc.Server([Work()], limits=wsrpc.Limits(hello_timeout=0.05))
    async with bare_client(server, hello=False) as peer:
        assert await peer.closed() == 4008


@pytest.mark.rule("HELLO-6")
async def test_more_than_64_kib_before_the_peer_is_known_is_closed_with_1009() -> None:
    async with bare_client(wsrpc.Server([Work()]), hello=False) as peer:
        await peer.send(["hello", {"version": 1, "agent": "x" * 70_000}])
        assert await peer.closed() == 1009


async def test_of_a_peers_name_a_session_keeps_200_characters() -> None:
    server = wsrpc.Server([Work()])
    async with bare_client(server, hello=False) as peer:
        await peer.send(["hello", {"version": 1, "agent": "x" * 60_000}])
        await peer.expect("hello")
        (session,) = server.sessions.values()
        assert session.peer == "x" * 200


@pytest.mark.rule("ID-5", "CLOSE-4")
async def test_a_violation_of_the_server_ends_the_clients_session(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare_server(monkeypatch, codec) as (peer, session):
        errors: list[wsrpc.ConnectionLost] = []
        async with anyio.create_task_group() as group:
            group.start_soon(pending, session, "wait", errors)
            call = await peer.expect("call")
            await peer.send(["message", call[1] + 2, [1]])
            assert await peer.closed() == 4505
    assert [error.close_code for error in errors] == [4505]


@pytest.mark.rule("CALL-5", "ID-6")
async def test_one_terminal_each_over_a_session_of_everything(codec: Codec, wire: Wire) -> None:
    work = Work()

    async with pair([work], [Work()], codec=codec) as (server, client):
        proxy = client.clientize(Work)
        for _ in range(3):
            assert await proxy.ping() == "pong"
            async with proxy.items() as stream:
                await anext(stream)
            with pytest.raises(wsrpc.DeadlineExceeded):
                await client.clientize(Work, timeout=0.01).wait()
            with error_of("unimplemented"):
                await client.clientize("Work").nothing()
            await proxy.note("x")
            assert await proxy.total(wsrpc.stream_of(range(50))) == 1225
        await until(
            lambda: wire_of(server).endpoint.quiescent and wire_of(client).endpoint.quiescent
        )
    wire.assert_one_terminal_each()


async def test_a_session_that_is_not_to_come_back_ends_with_its_connection() -> None:
    work = Work()
    errors: list[wsrpc.ConnectionLost] = []
    with soon():
        async with wsrpc.Server([work]).listen() as listener:
            async with wsrpc.connect(listener.url, reconnect=False) as session:
                async with anyio.create_task_group() as group:
                    group.start_soon(pending, session, "wait", errors)
                    await until(lambda: work.begun == 1)
                    link = wire_of(session).link
                    assert link is not None
                    await link.close(1001, "lost")
                assert session.state == "closed"
    assert len(errors) == 1
