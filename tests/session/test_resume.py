"""Sessions outlive their links: what a program sees of it, and what the server keeps meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

import wsrpc
from tests.proxy import Proxy, resetting_proxy
from tests.support import Codec, error_of, returning, served, soon, turns, until, visited, wire_of
from wsrpc.backoff import Backoff
from wsrpc.interfaces import StateChange
from wsrpc.testing.pairs import connected_pair
from wsrpc.transport.base import Link


class Work:
    """Handlers that count how they end."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.cleaned: list[str] = []
        self.go_on = anyio.Event()

    @wsrpc.method
    async def echo(self, text: str) -> str:
        self.ran.append(text)
        return text

    @wsrpc.method
    async def wait(self) -> str:
        self.ran.append("wait")
        try:
            await self.go_on.wait()
        finally:
            self.cleaned.append("wait")
        return "waited"

    @wsrpc.method(on_disconnect="cancel")
    async def attached(self) -> str:
        self.ran.append("attached")
        try:
            await self.go_on.wait()
        finally:
            self.cleaned.append("attached")
        return "waited"

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        try:
            for i in range(n):
                yield i
        finally:
            self.cleaned.append("count")

    @wsrpc.method
    async def bulk(self, n: int, size: int) -> AsyncIterator[str]:
        self.ran.append("bulk")
        try:
            await self.go_on.wait()
            for _ in range(n):
                yield "x" * size
        finally:
            self.cleaned.append("bulk")

    @wsrpc.method
    async def blob(self, size: int) -> bytes:
        return bytes(size)


class Gated(connected_pair):
    """A pair whose connecting side gets a link only while the gate is open."""

    def __init__(self, *controllers: Any, **options: Any) -> None:
        super().__init__(controllers, reconnect=True, **options)
        self.gate = anyio.Event()
        self.gate.set()

    @asynccontextmanager
    async def open(self, address: int) -> AsyncIterator[Link]:
        await self.gate.wait()
        async with super().open(address) as link:
            yield link

    async def lose(self, *sessions: wsrpc.Session) -> None:
        """Cut the link, and let none come about until the gate is set."""
        # Before its token is confirmed a session ends with its link.
        await until(lambda: self.frames("connecting") >= 2)
        self.gate = anyio.Event()
        self.cut()
        await until(lambda: all(session.state == "detached" for session in sessions))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting sides come back at once."""
    monkeypatch.setattr(Backoff, "next", lambda self, floor=None: 0.0)


@asynccontextmanager
async def proxied(*controllers: Any, **options: Any) -> AsyncIterator[tuple[Proxy, wsrpc.Server]]:
    """A server behind a proxy that resets connections."""
    async with served(controllers, **options) as listener:
        async with resetting_proxy(listener.url) as proxy:
            yield proxy, listener.server


async def confirmed(server: wsrpc.Server) -> None:
    """Wait until the peers have the tokens: before that a session ends with its link (RESUME-5)."""
    await until(
        lambda: all(
            one.state == "connected" and wire_of(one).endpoint.resumable
            for one in server.sessions.values()
        )
    )


# ------------------------------------------------------------------------------- real sockets


@pytest.mark.rule("RESUME-1", "RESUME-4")
@pytest.mark.usefixtures("quick")
async def test_connections_are_reset_and_nothing_is_lost(codec: Codec, transport: str) -> None:
    items: list[int] = []
    async with proxied(Work()) as (proxy, server):
        async with wsrpc.connect(proxy.url, codec=codec) as session:
            begun = session.id
            await confirmed(server)
            async with session.clientize(Work).count(400) as stream:
                async for item in stream:
                    items.append(item)
                    if item % 100 == 99:
                        proxy.reset()
                        await until(lambda: session.state != "connected")
                        await until(lambda: session.state == "connected")
            assert (session.id, proxy.resets) == (begun, 4)
        await until(lambda: not server.sessions)
    assert items == [*range(400)]


@pytest.mark.rule("RETRY-2")
@pytest.mark.usefixtures("quick")
async def test_a_connection_that_is_lost_in_the_handshake_is_tried_again() -> None:
    async with proxied(Work()) as (proxy, server):
        async with wsrpc.connect(proxy.url) as session:
            await confirmed(server)
            proxy.open = False
            proxy.reset()
            await until(lambda: proxy.resets > 5)
            assert session.state == "detached"
            proxy.open = True
            assert await session.clientize(Work).echo("back") == "back"


@pytest.mark.rule("RESUME-2", "CLOSE-1", "CLOSE-4")
@pytest.mark.usefixtures("quick")
async def test_a_server_that_was_restarted_knows_no_sessions(codec: Codec) -> None:
    """What was pending fails at once, and the session goes on as new."""
    first, second = Work(), Work()
    changes: list[StateChange] = []
    async with served([second]) as replacement:
        async with proxied(first) as (proxy, _):
            async with wsrpc.connect(
                proxy.url, codec=codec, on_state=lambda _, change: changes.append(change)
            ) as session:
                before = session.id
                work = session.clientize(Work)
                async with anyio.create_task_group() as group:
                    group.start_soon(fails, work)
                    await until(lambda: first.ran == ["wait"])
                    proxy.target = replacement.url
                    proxy.reset()
                assert await work.echo("again") == "again"
                assert session.id != before
        assert (first.ran, second.ran) == (["wait"], ["again"])
    states = [change.state for change in changes]
    assert states == ["connected", "detached", "connecting", "connected", "closed"]
    assert changes[2].error is not None
    assert "no such session" in changes[2].cause


async def fails(work: Work) -> None:
    with pytest.raises(wsrpc.ConnectionLost) as caught:
        await work.wait()
    assert (caught.value.code, caught.value.not_started) == ("unavailable", False)


# ------------------------------------------------------------------------------------- states


async def test_states_come_with_their_causes() -> None:
    pair = Gated(Work())
    changes: list[StateChange] = []

    async def watch(session: wsrpc.Session) -> None:
        async for change in session.states():
            changes.append(change)

    with soon():
        async with anyio.create_task_group() as group:
            async with pair as (server, client):
                group.start_soon(watch, client)
                await until(lambda: len(changes) == 1)
                await pair.lose(server, client)
                assert (server.closed, client.closed) == (False, False)
                pair.gate.set()
                await until(lambda: (client.state, server.state) == ("connected", "connected"))
    assert [change.state for change in changes] == ["connected", "detached", "connected", "closed"]
    assert "lost" in changes[1].cause
    assert isinstance(changes[1].error, wsrpc.ConnectionLost)
    assert changes[2].cause == "the session goes on"


async def test_after_a_wait_for_a_state_was_cancelled_iterating_again_raises_an_error() -> None:
    with soon():
        async with connected_pair() as (_, client):
            states = client.states()
            assert (await anext(states)).state == "connected"
            with pytest.raises(TimeoutError):
                await states.next(timeout=0.01)
            with anyio.move_on_after(0.01):
                await anext(states)
            with pytest.raises(wsrpc.RpcError, match=r"session\.states\(\) was cancelled"):
                await anext(states)


# ------------------------------------------------------------------------- while there is no link


async def test_calls_made_without_a_link_wait_for_the_next(codec: Codec) -> None:
    work = Work()
    pair = Gated(work, codec=codec)
    answers: list[str] = []

    async def call(session: wsrpc.Session, text: str) -> None:
        answers.append(await session.clientize(Work).echo(text))

    with soon():
        async with pair as (server, client):
            await pair.lose(server, client)
            async with anyio.create_task_group() as group:
                for text in "abc":
                    group.start_soon(call, client, text)
                await turns()
                assert (work.ran, answers) == ([], [])
                pair.gate.set()
    assert (sorted(work.ran), sorted(answers)) == ([*"abc"], [*"abc"])


@pytest.mark.rule("TIME-1", "RESUME-8")
async def test_a_deadline_passes_without_a_link(codec: Codec) -> None:
    """At both ends; the call that never went out never goes out."""
    work = Work()
    pair = Gated(work, codec=codec)
    with soon():
        async with pair as (server, client):
            short = client.clientize(Work, timeout=0.2)
            async with anyio.create_task_group() as group:
                group.start_soon(late, short.wait)
                await until(lambda: work.ran == ["wait"])
                await pair.lose(server, client)
                group.start_soon(late, short.wait)
            await until(lambda: work.cleaned == ["wait"])
            pair.gate.set()
            assert await client.clientize(Work).echo("a") == "a"
    assert work.ran == ["wait", "a"]


async def late(call: Any) -> None:
    with pytest.raises(wsrpc.DeadlineExceeded):
        await call()


@pytest.mark.rule("CANCEL-3", "RESUME-4")
async def test_a_cancel_made_without_a_link_arrives_with_the_next(codec: Codec) -> None:
    work = Work()
    pair = Gated(work, codec=codec)
    with soon():
        async with pair as (server, client):
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Work).wait)
                await until(lambda: work.ran == ["wait"])
                await pair.lose(server, client)
                group.cancel_scope.cancel()
            await turns()
            assert work.cleaned == []
            pair.gate.set()
            await until(lambda: work.cleaned == ["wait"])
            await until(lambda: wire_of(client).endpoint.quiescent)


@pytest.mark.rule("RESUME-8")
async def test_a_handler_that_is_not_to_outlive_the_link_is_cancelled_at_once(codec: Codec) -> None:
    """Its terminal is replayed; the others run on."""
    work = Work()
    pair = Gated(work, codec=codec)
    outcomes: list[str] = []

    async def call(name: str) -> None:
        try:
            outcomes.append(await getattr(client.clientize(Work), name)())
        except wsrpc.RpcError as error:
            outcomes.append(error.code)

    with soon():
        async with pair as (server, client):
            async with anyio.create_task_group() as group:
                group.start_soon(call, "attached")
                group.start_soon(call, "wait")
                await until(lambda: sorted(work.ran) == ["attached", "wait"])
                await pair.lose(server, client)
                await until(lambda: work.cleaned == ["attached"])
                assert outcomes == []
                pair.gate.set()
                await until(lambda: outcomes == ["cancelled"])
                work.go_on.set()
    assert outcomes == ["cancelled", "waited"]
    assert work.cleaned == ["attached", "wait"]


@pytest.mark.rule("RESUME-8", "RESUME-9", "CLOSE-4", "CLOSE-5")
async def test_when_the_window_is_over_the_session_has_ended(codec: Codec) -> None:
    work = Work()
    pair = Gated(work, codec=codec, limits=wsrpc.Limits(resume_window=0.1))
    with soon():
        async with pair as (server, client):
            before = client.id
            async with anyio.create_task_group() as group:
                group.start_soon(fails, client.clientize(Work))
                await until(lambda: work.ran == ["wait"])
                await pair.lose(server, client)
            await until(lambda: work.cleaned == ["wait"])
            await until(lambda: server.closed)
            assert client.state == "connecting"
            assert not pair._server.sessions
            pair.gate.set()
            assert await client.clientize(Work).echo("new") == "new"
            assert client.id != before


@pytest.mark.rule("CLOSE-4", "RETRY-1")
async def test_a_call_that_never_went_out_is_made_in_the_next_session() -> None:
    pair = Gated(Work(), limits=wsrpc.Limits(resume_window=0.1))
    with soon():
        async with pair as (server, client):
            answers: list[Any] = []

            async def call() -> None:
                answers.append(await client.clientize(Work).echo("never"))

            await pair.lose(server, client)
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await until(lambda: client.state == "connecting")
                assert not answers
                pair.gate.set()
            assert answers == ["never"]


# -------------------------------------------------------------------------- tokens and their links


@pytest.mark.rule("RESUME-6", "RESUME-7")
async def test_what_the_peer_has_is_not_kept(codec: Codec) -> None:
    with soon():
        async with connected_pair([Work()], codec=codec, reconnect=True) as (server, client):
            work = client.clientize(Work)
            for _ in range(40):
                assert len(await work.blob(60_000)) == 60_000
                assert server.replay_bytes < 4 * 65_536 + 100_000
            await until(lambda: server.replay_bytes == client.replay_bytes == 0)


async def anybody(handshake: wsrpc.Handshake, auth: Any) -> Any:
    return auth


@pytest.mark.rule("RESUME-1", "RESUME-3")
async def test_a_newer_link_takes_over_and_the_older_is_told(codec: Codec) -> None:
    async with visited(wsrpc.Server([Work()])) as visit:
        older, newer, late = visit(codec), visit(codec), visit(codec)
        said = (await older.say_hello())[1]
        await newer.send(returning(said["token"], 3))
        answer = (await newer.expect("hello"))[1]
        assert (answer["resumed"], answer["session"]) == (True, said["session"])
        assert answer["token"] != said["token"]
        assert await older.closed() == 4506
        # One that was on its way for longer loses, and harms nobody.
        await late.send(returning(said["token"], 2))
        assert await late.closed() == 4506
        await newer.send(["ack", 0], ["call", 1, "Work.echo", {"text": "a"}])
        assert await newer.expect("result") == ["result", 1, "a"]


@pytest.mark.rule("RESUME-3", "RESUME-5")
async def test_of_two_that_race_with_one_token_one_lives() -> None:
    async with visited(wsrpc.Server([Work()])) as visit:
        token = (await visit().say_hello())[1]["token"]
        racers = visit(), visit()
        for peer in racers:
            await peer.send(returning(token, 2))
        await until(lambda: any(peer.link._closed or peer.link._queue for peer in racers))
        await turns()
        # A hello waits for the one that lives, and a close for the other.
        first = racers[0].link._queue[0][1]
        one, other = racers if isinstance(first, bytes) else reversed(racers)
        await one.expect("hello")
        assert await other.closed() == 4506
        await one.send(["ack", 0], ["call", 1, "Work.echo", {"text": "a"}])
        assert await one.expect("result") == ["result", 1, "a"]


@pytest.mark.rule("RESUME-3")
async def test_a_link_that_is_turned_away_leaves_no_trace() -> None:
    server = wsrpc.Server([Work()])
    async with visited(server) as visit:
        [_, hello] = await visit(address="1.1.1.1").say_hello()
        session = server.sessions[hello["session"]]
        late = visit(address="1.1.1.2")
        await late.send(returning(hello["token"], 1))
        assert await late.closed() == 4506
        assert session.handshake.address == "1.1.1.1"
        again = visit(address="1.1.1.3")
        await again.send(returning(hello["token"], 2))
        await again.expect("hello")
        assert session.handshake.address == "1.1.1.3"


@pytest.mark.rule("RESUME-2", "RESUME-5")
async def test_a_token_is_void_once_its_successor_is_confirmed() -> None:
    async with visited(wsrpc.Server([Work()])) as visit:
        token = (await visit().say_hello())[1]["token"]
        second = visit()
        await second.send(returning(token, 2))
        await second.expect("hello")
        # Not confirmed: the older one is still good.
        third = visit()
        await third.send(returning(token, 3))
        newest = (await third.expect("hello"))[1]["token"]
        await third.send(["ack", 0], ["call", 1, "Work.echo", {"text": "a"}])
        await third.expect("result")
        fourth = visit()
        await fourth.send(returning(token, 4))
        assert await fourth.closed() == 4010
        # That was no concern of the session's.
        await third.send(["call", 3, "Work.echo", {"text": "b"}])
        assert await third.expect("result") == ["result", 3, "b"]
        fifth = visit()
        await fifth.send(returning(newest, 4))
        assert (await fifth.expect("hello"))[1]["resumed"]


@pytest.mark.rule("RESUME-2", "RESUME-5")
async def test_somebody_elses_token_is_worth_nothing() -> None:
    """And the session whose it is goes on."""
    async with visited(wsrpc.Server([Work()], authenticate=anybody)) as visit:
        owner = visit()
        token = (await owner.say_hello(auth="ann"))[1]["token"]
        for stranger in ("bob", None, ["ann"]):
            thief = visit()
            await thief.send(returning(token, 2, auth=stranger))
            assert await thief.closed() == 4010
        await owner.send(["call", 1, "Work.echo", {"text": "a"}])
        assert await owner.expect("result") == ["result", 1, "a"]


@pytest.mark.rule("RESUME-2")
async def test_counts_that_do_not_fit_end_the_session() -> None:
    server = wsrpc.Server([Work()])
    async with visited(server) as visit:
        first, second = visit(), visit()
        token = (await first.say_hello())[1]["token"]
        await second.send(returning(token, 2, received=7))
        assert await second.closed() == 4010
        assert await first.closed() == 4010
        await until(lambda: not server.sessions)


# ------------------------------------------------------------------- what a server keeps meanwhile


@pytest.mark.rule("RESUME-8")
async def test_sessions_without_a_link_are_counted_and_bounded() -> None:
    """One of the same principal goes first."""
    limits = wsrpc.Limits(max_detached=2)
    server = wsrpc.Server([Work()], authenticate=anybody, limits=limits)
    async with visited(server) as visit:

        async def come_and_go(principal: str) -> str:
            peer = visit()
            id: str = (await peer.say_hello(auth=principal))[1]["session"]
            session = server.sessions[id]
            await until(lambda: wire_of(session).endpoint.resumable)
            peer.link.abort()
            await until(lambda: session.state != "connected")
            return id

        bob, older, newer = [await come_and_go(who) for who in ("bob", "ann", "ann")]
        await until(lambda: set(server.sessions) == {bob, newer})
        snapshot = server.snapshot()
        assert (snapshot.sessions, snapshot.detached, snapshot.links) == (2, 2, 0)
        # Where there is none of the same, the one goes that was lost first.
        eve = await come_and_go("eve")
        await until(lambda: set(server.sessions) == {newer, eve})
        assert older not in server.sessions


@pytest.mark.rule("RESUME-8")
async def test_bytes_of_sessions_without_a_link_are_bounded() -> None:
    pair = Gated(Work(), limits=wsrpc.Limits(max_detached_bytes=100_000))
    with soon():
        async with pair as (server, client):
            async with anyio.create_task_group() as group:
                pair.stall(sender="accepting")
                group.start_soon(lost, client)
                await until(lambda: server.replay_bytes > 100_000)
                await pair.lose()
                await until(lambda: server.closed)
                pair.mend()
                pair.gate.set()
            assert (await server.wait_closed()).close_code == 1013
            assert await client.clientize(Work).echo("a") == "a"


@pytest.mark.rule("RESUME-8")
async def test_bytes_count_also_where_they_come_after_the_link_was_lost() -> None:
    """Handlers run on, but not until memory is full."""
    work = Work()
    pair = Gated(work, limits=wsrpc.Limits(max_detached_bytes=100_000, window=32))
    with soon():
        async with pair as (server, client):

            async def read() -> None:
                with error_of("unavailable"):
                    await client.clientize(Work).bulk(32, 10_000).collect()

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await until(lambda: work.ran == ["bulk"])
                await pair.lose(server, client)
                assert server.outbox_bytes + server.replay_bytes < 100_000
                work.go_on.set()
                assert (await server.wait_closed()).close_code == 1013
                await until(lambda: work.cleaned == ["bulk"])
                pair.gate.set()


async def lost(session: wsrpc.Session) -> None:
    with error_of("unavailable"):
        await session.clientize(Work).blob(200_000)


# ------------------------------------------------------------------------------ where to come back


def came(seen: list[Any], n: int) -> bool:
    return len(seen) == n


@pytest.mark.rule("RESUME-1")
@pytest.mark.usefixtures("quick")
async def test_urls_and_credentials_are_asked_anew_each_time() -> None:
    seen: list[Any] = []
    asked: list[str] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        seen.append(auth)
        return "ann"

    async with proxied(Work(), authenticate=authenticate) as (proxy, server):

        async def url() -> str:
            asked.append("url")
            return proxy.url

        async def auth() -> int:
            asked.append("auth")
            return asked.count("auth")

        async with wsrpc.connect(url, auth=auth) as session:
            before = session.id
            for n in range(2, 4):
                await confirmed(server)
                proxy.reset()
                await until(partial(came, seen, n))
                await until(lambda: session.state == "connected")
            assert session.id == before
    assert seen == [1, 2, 3]
    assert asked.count("url") >= 3


@pytest.mark.usefixtures("quick")
async def test_another_url_is_taken_where_one_stays_away() -> None:
    first, second = Work(), Work()
    async with served([second]) as other, proxied(first) as (proxy, _):
        async with wsrpc.connect([proxy.url, other.url]) as session:
            work = session.clientize(Work)
            assert await work.echo("a") == "a"
            before = session.id
            proxy.open = False
            proxy.reset()
            await until(lambda: session.id != before)
            assert await work.echo("b") == "b"
    assert (first.ran, second.ran) == (["a"], ["b"])
