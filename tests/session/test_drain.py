"""Stopping without breaking calls: the server that drains, and the client that goes elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Peer, bare_client, bare_server, error_of, served, soon, until
from wsrpc.interfaces import StateChange
from wsrpc.transport.memory import MemoryLink, memory_link_pair


class Work:
    """Counts what begins and what is cleaned up; waits for a word."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.begun = 0
        self.cleaned = 0
        self.go = anyio.Event()

    @wsrpc.method
    async def wait(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.005)
            self.cleaned += 1
        return self.name

    @wsrpc.method
    async def whose(self) -> str:
        await anyio.sleep(0.002)
        return self.name

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[int]:
        self.begun += 1
        for i in range(n):
            yield i
            if i == n // 2:
                await self.go.wait()

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        self.begun += 1
        return sum([n async for n in numbers])

    @wsrpc.method
    async def ask(self, question: Callable[[str], Awaitable[str]]) -> str:
        self.begun += 1
        await self.go.wait()
        return await question("which?")


# ------------------------------------------------------------------------------------ the server


@pytest.mark.rule("DRAIN-1", "DRAIN-3", "GOAWAY-1")
async def test_what_is_in_flight_is_finished_and_the_session_ends_with_1012() -> None:
    work = Work("w")
    results: list[Any] = []
    more = anyio.Event()

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    async def answer(question: str) -> str:
        return f"{question} this one"

    async with served([work]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            proxy = session.clientize(Work)

            async def keep(call: Awaitable[Any]) -> None:
                results.append(await call)

            async def collect() -> None:
                results.append(sum([n async for n in proxy.items(100)]))

            async with anyio.create_task_group() as group:
                group.start_soon(keep, proxy.wait())
                group.start_soon(keep, proxy.total(numbers()))
                group.start_soon(keep, proxy.ask(answer))
                group.start_soon(collect)
                await until(lambda: work.begun == 4)
                group.start_soon(listener.server.drain)
                await until(lambda: session.state == "draining")
                work.go.set()
                more.set()
            assert sorted(results, key=str) == [3, 4950, "w", "which? this one"]
            assert (await session.wait_closed()).close_code == 1012
        assert not listener.server.sessions


@pytest.mark.rule("DRAIN-3")
async def test_the_servers_own_calls_are_finished_before_it_goes() -> None:
    work = Work("the client's")
    results: list[str] = []
    async with served([]) as listener:
        async with wsrpc.connect(listener.url, controllers=[work], reconnect=False) as session:
            (theirs,) = listener.server.sessions.values()

            async def ask() -> None:
                results.append(await theirs.clientize(Work).wait())

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await until(lambda: work.begun == 1)
                group.start_soon(listener.server.drain)
                await until(lambda: session.state == "draining")
                work.go.set()
            assert results == ["the client's"]
            assert (await session.wait_closed()).close_code == 1012


@pytest.mark.rule("DRAIN-1", "GOAWAY-2")
async def test_new_calls_are_refused_as_not_started() -> None:
    server = wsrpc.Server([Work()])
    async with bare_client(server) as peer:
        async with anyio.create_task_group() as group:
            await peer.send(["call", 1, "Work.wait", {}])
            await until(lambda: server.stats.calls_live == 1)
            group.start_soon(lambda: server.drain(5.0, reconnect_after=0.25))
            [_, said] = await peer.expect("goaway")
            assert said == {"last_id": 1, "grace": 5000, "reconnect_after": 250}
            await peer.send(["call", 3, "Work.wait", {}], ["notify", 5, "Work.wait", {}])
            for id in (3, 5):
                [_, refused, body] = await peer.expect("error")
                assert (refused, body["code"], body["not_started"]) == (id, "unavailable", True)
            await peer.send(["cancel", 1])
            await peer.expect("error")
            assert await peer.closed() == 1012


@pytest.mark.rule("DRAIN-3")
async def test_a_handler_that_does_not_end_is_cancelled_after_the_grace() -> None:
    work = Work()
    server = wsrpc.Server([work])
    async with bare_client(server) as peer:
        await peer.send(["call", 1, "Work.wait", {}])
        await until(lambda: work.begun == 1)
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain, 0.05)
            [_, id, body] = await peer.expect("error")
            assert (id, body["code"], body.get("not_started")) == (1, "unavailable", None)
            assert work.cleaned == 1
            assert await peer.closed() == 1012
    assert not server.sessions


@pytest.mark.rule("DRAIN-3")
async def test_an_idle_client_is_told_and_closed_at_once() -> None:
    server = wsrpc.Server([Work()])
    async with bare_client(server) as peer:
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain)
            await peer.expect("goaway")
            assert await peer.closed() == 1012


@pytest.mark.rule("DRAIN-3")
async def test_sessions_without_a_link_end_when_the_drain_begins() -> None:
    work = Work()
    server = wsrpc.Server([work])
    async with bare_client(server, resume=True) as peer:
        await peer.send(["call", 1, "Work.wait", {}])
        await until(lambda: work.begun == 1)
        peer.link.cut()
        await until(lambda: server.snapshot().detached == 1)
        await server.drain()
        await until(lambda: not server.sessions)
        await until(lambda: work.cleaned == 1)


@pytest.mark.rule("DRAIN-3")
async def test_a_session_that_loses_its_link_during_the_drain_ends() -> None:
    work = Work()
    server = wsrpc.Server([work])
    async with bare_client(server, resume=True) as peer:
        await peer.send(["call", 1, "Work.wait", {}])
        await until(lambda: work.begun == 1)
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain)
            await peer.expect("goaway")
            peer.link.cut()
        await until(lambda: work.cleaned == 1)


@pytest.mark.rule("DRAIN-1")
async def test_nobody_is_let_in_while_it_drains(transport: str) -> None:
    work = Work("w")
    async with served([work]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Work).wait)
                await until(lambda: work.begun == 1)
                group.start_soon(listener.server.drain)
                await until(lambda: session.state == "draining")
                with pytest.raises(wsrpc.ConnectError):
                    async with wsrpc.connect(listener.url, reconnect=False):
                        pytest.fail("let in")
                work.go.set()


@pytest.mark.rule("DRAIN-1")
async def test_who_has_not_said_hello_when_the_drain_begins_is_sent_away() -> None:
    server = wsrpc.Server([Work()], authenticate=_never)
    async with server.listen() as listener:
        with soon():
            async with anyio.create_task_group() as group:
                group.start_soon(_drain_when_linked, server)
                with pytest.raises(wsrpc.ConnectError) as caught:
                    async with wsrpc.connect(listener.url):
                        pytest.fail("let in")
                assert caught.value.close_code == 1013


async def _never(handshake: object, auth: object) -> None:
    await anyio.sleep_forever()


async def _drain_when_linked(server: wsrpc.Server) -> None:
    await until(lambda: server.stats.links == 1)
    await server.drain()


async def test_a_drain_that_is_cancelled_leaves_the_rest_to_the_listener() -> None:
    work = Work()

    async def call(url: str) -> None:
        async with wsrpc.connect(url, reconnect=False) as session:
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await session.clientize(Work).wait()
            assert caught.value.close_code == 1001

    with soon():
        async with anyio.create_task_group() as group:
            async with wsrpc.Server([work]).listen() as listener:
                group.start_soon(call, listener.url)
                await until(lambda: work.begun == 1)
                with anyio.move_on_after(0.02):
                    await listener.server.drain()
                assert work.cleaned == 0
            assert work.cleaned == 1


@pytest.mark.parametrize("arguments", [{"grace": -1}, {"reconnect_after": -0.5}])
async def test_times_below_0_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        await wsrpc.Server([Work()]).drain(**arguments)


# ------------------------------------------------------------------------------------ the client


@pytest.mark.rule("DRAIN-4", "GOAWAY-2", "RETRY-1")
async def test_a_client_goes_on_at_another_server_and_no_call_fails() -> None:
    one, two = Work("one"), Work("two")
    states: list[StateChange] = []
    async with served([one]) as first, served([two]) as second:
        async with wsrpc.connect(
            [first.url, second.url], on_state=lambda _, change: states.append(change)
        ) as session:
            proxy = session.clientize(Work)
            answers: list[str] = []
            over = False

            async def call() -> None:
                while not over:
                    answers.append(await proxy.whose())

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(call)
                group.start_soon(_append, answers, proxy.wait())
                await until(lambda: len(answers) > 100 and one.begun == 1)
                group.start_soon(first.server.drain)
                await until(lambda: answers.count("two") > 100)
                # The old session still has its call.
                assert len(first.server.sessions) == 1
                one.go.set()
                await until(lambda: not first.server.sessions)
                over = True
            assert set(answers) == {"one", "two"}
            assert session.state == "connected"
            assert [change.state for change in states] == ["connected", "draining", "connected"]


async def _append(answers: list[str], call: Awaitable[str]) -> None:
    answers.append(await call)


@pytest.mark.rule("DRAIN-3", "DRAIN-4")
async def test_an_idle_client_moves_on_and_nothing_fails() -> None:
    async with served([Work("one")]) as first, served([Work("two")]) as second:
        async with wsrpc.connect([first.url, second.url]) as session:
            proxy = session.clientize(Work)
            assert await proxy.whose() == "one"
            before = session.id
            await first.server.drain(reconnect_after=60)
            assert await proxy.whose() == "two"
            assert session.id != before
            await second.server.drain(0)
            with error_of("deadline_exceeded"):
                # Both are gone; calls wait for as long as they may.
                await session.clientize(Work, timeout=0.05).whose()


@pytest.mark.rule("GOAWAY-2")
async def test_without_reconnect_calls_are_refused() -> None:
    work = Work("w")
    async with served([work]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            proxy = session.clientize(Work)
            async with anyio.create_task_group() as group:
                group.start_soon(proxy.wait)
                await until(lambda: work.begun == 1)
                group.start_soon(listener.server.drain)
                await until(lambda: session.state == "draining")
                with error_of("unavailable") as caught:
                    await proxy.whose()
                assert caught.value.not_started
                work.go.set()
            await session.wait_closed()


@pytest.mark.rule("DRAIN-3", "CLOSE-4")
async def test_a_1012_after_a_goaway_ends_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    hello = {"token": "t", "resume_window": 60_000}
    async with bare_server(monkeypatch, hello=hello, reconnect=False) as (peer, session):
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with pytest.raises(wsrpc.ConnectionLost) as caught:
                    await session.clientize("Work").wait()
                assert (caught.value.close_code, caught.value.not_started) == (1012, False)

            group.start_soon(call)
            [_, id, *_] = await peer.expect("call")
            await peer.send(["goaway", {"last_id": id, "grace": 1000}])
            await until(lambda: session.state == "draining")
            await peer.link.close(1012)
        assert session.closed


@pytest.mark.rule("DRAIN-3")
async def test_a_session_that_ended_with_1012_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens: list[Any] = []

    async def serve(peer: Peer) -> None:
        hello = await peer.expect("hello")
        tokens.append(hello[1].get("token"))
        body = {"version": 1, "session": "s", "window": 32, "token": "t", "resume_window": 60_000}
        await peer.send(["hello", body])
        if len(tokens) == 1:
            [_, id, *_] = await peer.expect("call")
            await peer.send(["goaway", {"last_id": id, "grace": 1000}])
            await until(lambda: len(tokens) == 2)
            await peer.link.close(1012)
        else:
            await peer.closed()

    @asynccontextmanager
    async def open_link(*args: Any, **kwargs: Any) -> AsyncIterator[MemoryLink]:
        accepting, connecting = memory_link_pair("wsrpc.v1.json")
        async with anyio.create_task_group() as group:
            group.start_soon(serve, Peer(accepting))
            yield connecting
            group.cancel_scope.cancel()

    monkeypatch.setattr("wsrpc.client.open_link", open_link)
    reconnect = wsrpc.Reconnect(max_delay=0.02)
    with soon():
        async with wsrpc.connect("ws://memory", reconnect=reconnect) as session:
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await session.clientize("Work").wait()
            assert caught.value.close_code == 1012
    assert tokens == [None, None]


# ------------------------------------------------------------------------------------ streams


class Endless:
    """Streams without an end."""

    def __init__(self) -> None:
        self.cleaned: list[str] = []

    async def _run(self, name: str) -> AsyncGenerator[int, None]:
        try:
            n = 0
            while True:
                yield n
                n += 1
                await anyio.sleep(0.001)
        finally:
            self.cleaned.append(name)

    @wsrpc.method
    async def tracked(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        # Left to the loop, an inner generator is closed some turns later.
        async with aclosing(self._run("tracked")) as run:
            async for n in run:
                yield wsrpc.Tracked(str(n), n)

    @wsrpc.method(on_drain="end")
    async def ended(self) -> AsyncIterator[int]:
        async with aclosing(self._run("ended")) as run:
            async for n in run:
                yield n

    @wsrpc.method
    async def polite(self) -> AsyncIterator[int]:
        n = 0
        while not wsrpc.current().draining:
            yield n
            n += 1
            await anyio.sleep(0.001)

    @wsrpc.method(on_drain="finish")
    async def finished(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        n = 0
        while not wsrpc.current().draining:
            yield wsrpc.Tracked(str(n), n)
            n += 1
            await anyio.sleep(0.001)


@pytest.mark.rule("DRAIN-1")
async def test_endless_streams_do_not_hold_up_a_drain_for_the_whole_grace() -> None:
    endless = Endless()
    server = wsrpc.Server([endless])
    outcomes: dict[str, Any] = {}
    began: set[str] = set()

    async def consume(client: wsrpc.Session, name: str) -> None:
        proxy = client.clientize("Endless")
        try:
            async for _ in getattr(proxy, name)():
                began.add(name)
            outcomes[name] = "end"
        except wsrpc.RpcError as error:
            outcomes[name] = error.code, error.not_started

    names = ("ended", "polite", "tracked")
    with soon():
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, reconnect=False) as client:
                async with anyio.create_task_group() as group:
                    for name in names:
                        group.start_soon(consume, client, name)
                    await until(lambda: began == set(names))
                    # All the time of the world, of which none is needed.
                    await server.drain(grace=100_000)
    assert outcomes == {
        "polite": "end",
        "ended": ("unavailable", False),
        "tracked": ("unavailable", False),
    }
    assert sorted(set(endless.cleaned)) == ["ended", "tracked"]


async def test_a_drain_awaited_inside_a_handler_does_not_wait_for_that_handler() -> None:
    class Admin:
        @wsrpc.method
        async def stop(self) -> str:
            await server.drain(grace=100_000)
            return "stopped"

        @wsrpc.method
        async def work(self) -> str:
            working.set()
            await go_on.wait()
            return "done"

    working, go_on = anyio.Event(), anyio.Event()
    server = wsrpc.Server([Admin()])
    outcomes: list[str] = []
    with soon():
        async with server.listen() as listener:
            async with (
                wsrpc.connect(listener.url, reconnect=False) as client,
                wsrpc.connect(listener.url, reconnect=False) as other,
                anyio.create_task_group() as group,
            ):

                async def work() -> None:
                    outcomes.append(await other.clientize(Admin).work())

                async def stop() -> None:
                    outcomes.append(await client.clientize(Admin).stop())

                group.start_soon(work)
                await working.wait()
                group.start_soon(stop)
                await until(lambda: other.state == "draining")
                assert outcomes == []
                go_on.set()
                assert (await client.wait_closed()).close_code == 1012
    assert outcomes == ["done", "stopped"]


def test_drain_grace_fits_into_the_30_s_that_orchestrators_give() -> None:
    assert wsrpc.Limits().drain_grace == 25.0


def test_on_drain_is_for_streams() -> None:
    with pytest.raises(wsrpc.RegistrationError, match="on_drain"):

        class Wrong:
            @wsrpc.method(on_drain="end")
            async def value(self) -> int:
                return 1

        wsrpc.Server([Wrong()])
    with pytest.raises(ValueError, match="on_drain"):
        wsrpc.method(on_drain="typo")  # type: ignore[call-overload]
