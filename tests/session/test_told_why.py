"""Anyone who waits is told why: attempts to come back, refusals, credentials, other threads."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
import pytest
import trustme

import wsrpc
from tests.support import Peer, error_of, live, served, soon, until, wire_of
from wsrpc.backoff import Backoff
from wsrpc.transport.memory import MemoryLink, memory_link_pair
from wsrpc.transport.registry import Transport

pytestmark = pytest.mark.usefixtures("transport")


class Work:
    @wsrpc.method
    async def echo(self, value: str) -> str:
        return value

    @wsrpc.method
    async def count(self) -> AsyncIterator[int]:
        for n in range(1_000_000):
            yield n
            await anyio.sleep(0.01)

    @wsrpc.method(oneway=True)
    async def note(self, value: str) -> None: ...


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].partition("/")[0])


@asynccontextmanager
async def answering(*answers: str) -> AsyncIterator[str]:
    """A server that answers each handshake with the next of these over HTTP, the last for ever."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    left = list(answers)

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            said = left.pop(0) if len(left) > 1 else left[0]
            await stream.send(f"HTTP/1.1 {said}\r\nContent-Length: 0\r\n\r\n".encode())

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield f"ws://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


class Host:
    """A server that can be stopped while its clients stay."""

    def __init__(self) -> None:
        self.listener: wsrpc.Listener
        self._stop = anyio.Event()
        self._stopped = anyio.Event()

    @property
    def url(self) -> str:
        return self.listener.url

    async def run(self, port: int, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with wsrpc.Server([Work()]).listen(port=port) as self.listener:
            task_status.started()
            await self._stop.wait()
        self._stopped.set()

    async def stop(self) -> None:
        self._stop.set()
        await self._stopped.wait()

    async def cut(self) -> None:
        """Close the only connection so that its client comes back."""
        (server,) = self.listener.server.sessions.values()
        await server.aclose(1001)


@asynccontextmanager
async def hosting(port: int = 0) -> AsyncIterator[Host]:
    host = Host()
    with soon():
        async with anyio.create_task_group() as group:
            await group.start(host.run, port)
            try:
                yield host
            finally:
                await host.stop()


class Watched:
    """What `on_state` was told."""

    def __init__(self) -> None:
        self.changes: list[wsrpc.interfaces.StateChange] = []

    def __call__(self, session: wsrpc.Session, change: Any) -> None:
        self.changes.append(change)

    def failed(self) -> list[Any]:
        return [one for one in self.changes if one.attempt]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "no connection" in record.getMessage()
    ]


async def test_each_failed_attempt_to_come_back_is_visible(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.backoff.FIRST", 0.01)
    watched = Watched()
    reconnect = wsrpc.Reconnect(max_delay=0.01)
    async with hosting() as host:
        async with wsrpc.connect(host.url, reconnect=reconnect, on_state=watched) as session:
            await host.stop()
            await until(lambda: sum("refused" in one.cause for one in watched.failed()) >= 3)
    failed = watched.failed()
    assert [one.attempt for one in failed] == list(range(1, len(failed) + 1))
    for change in failed:
        assert change.state in ("detached", "connecting")
        assert isinstance(change.error, wsrpc.ConnectError)
        assert change.next_attempt_in is not None
    # The first attempt may still meet the port, which closes last. Nobody is let in there.
    at_the_port = 0 if "refused" in failed[0].cause else 1
    assert all("refused" in change.cause for change in failed[at_the_port:])
    assert session.closed
    lines = warnings_of(caplog)
    assert len(lines) == 1 + at_the_port, lines
    assert "refused" in lines[-1]
    caplog.clear()


async def test_a_call_that_fails_while_there_is_no_connection_says_so_with_the_last_cause_as_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    reconnect = wsrpc.Reconnect(max_delay=0.05)
    async with hosting() as host:
        async with wsrpc.connect(host.url, on_state=watched, reconnect=reconnect) as session:
            await host.stop()
            await until(lambda: len(watched.failed()) >= 1)
            work = session.clientize(Work, timeout=0.05)
            with pytest.raises(
                wsrpc.DeadlineExceeded, match=r"was not sent.*there is no connection"
            ) as caught:
                await work.echo("x")
            assert caught.value.not_started
            assert isinstance(caught.value.__cause__, wsrpc.ConnectError)
            with pytest.raises(
                wsrpc.DeadlineExceeded, match=r"was not sent.*there is no connection"
            ) as caught:
                async for _ in work.count():
                    pytest.fail("an item without a connection")
            assert isinstance(caught.value.__cause__, wsrpc.ConnectError)
    caplog.clear()


@pytest.mark.parametrize("name", ["url", "auth", "headers"])
@pytest.mark.parametrize("fault", ["raises", "nothing", "late"])
async def test_a_url_function_that_raises_or_returns_nothing_is_treated_as_auth_is(
    name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    if fault == "nothing" and name != "url":
        pytest.skip("nothing is a value of auth=, and no headers")
    watched = Watched()
    faults: list[str] = []

    async with served([Work()]) as listener:
        values: dict[str, Any] = {"url": listener.url, "auth": "ann", "headers": {"X-Who": "ann"}}

        async def give() -> Any:
            if not faults:
                return values[name]
            kind = faults.pop()
            if kind == "raises":
                raise LookupError("no such thing")
            if kind == "late":
                await anyio.sleep_forever()
            return None

        given = {**values, name: give}
        async with wsrpc.connect(
            **given,
            on_state=watched,
            reconnect=wsrpc.Reconnect(max_delay=0.05),
            limits=wsrpc.Limits(connect_timeout=0.5 if fault == "late" else 10),
        ) as session:
            faults += [fault, fault]
            (server,) = listener.server.sessions.values()
            await server.aclose(1001)
            await until(lambda: len(watched.failed()) >= 2)
            await until(lambda: session.state == "connected")
            assert await session.clientize(Work).echo("x") == "x"
        failed = watched.failed()
        kinds = {"raises": LookupError, "nothing": TypeError, "late": wsrpc.ConnectError}
        assert [type(one.error) for one in failed[:2]] == [kinds[fault]] * 2
        assert all(one.cause.startswith(f"{name}= raised") for one in failed[:2])
        (line,) = warnings_of(caplog)
        assert f"{name}= raised" in line
        assert "no such thing" not in line
        caplog.clear()
        # Who enters is told by the error itself.
        faults.append(fault)
        with pytest.raises(kinds[fault]):
            async with wsrpc.connect(**given, limits=wsrpc.Limits(connect_timeout=0.2)):
                pytest.fail("connected")


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
@pytest.mark.parametrize(("renews", "attempts"), [(False, 1), (True, 3)])
async def test_http_401_and_403_while_coming_back_are_refusals(
    status: str,
    renews: bool,
    attempts: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched()

    async def auth() -> str:
        return "ann"

    async with hosting() as host, answering(status) as refusing:
        reconnect = wsrpc.Reconnect(max_delay=0.01)
        client = wsrpc.connect(
            [host.url],
            auth=auth if renews else "ann",
            on_state=watched,
            reconnect=reconnect,
        )
        async with client as session:
            monkeypatch.setattr(client._dial, "_url", [refusing])
            await host.cut()
            await until(lambda: session.state != "connected")
            with error_of("unauthenticated") as caught:
                await session.clientize(Work).echo("x")
            assert caught.value.not_started
            assert f"HTTP {status[:3]}" in str(caught.value)
            assert isinstance(caught.value.__cause__, wsrpc.ConnectError)
            assert session.closed
    assert len(watched.failed()) == attempts
    caplog.clear()


@pytest.mark.rule("CLOSE-4")
async def test_refused_credentials_end_calls_with_unauthenticated_and_the_reason_of_authenticate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = ["ann"]

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        if auth not in good:
            raise wsrpc.RpcError("unauthenticated", "the token expired on Monday")
        return auth

    async with served([Work()], authenticate=authenticate) as listener:
        with pytest.raises(wsrpc.ConnectError, match="the token expired on Monday"):
            async with wsrpc.connect(listener.url, auth="bob"):
                pytest.fail("let in")
        async with wsrpc.connect(listener.url, auth="ann") as session:
            work = session.clientize(Work)
            good.clear()
            (server,) = listener.server.sessions.values()
            await server.aclose(1001)
            with error_of("unauthenticated") as caught:
                async for _ in work.count():
                    pass
            assert "the token expired on Monday" in str(caught.value)
            assert session.closed
    caplog.clear()


async def test_fresh_credentials_are_asked_for_a_limited_number_of_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[int] = []

    async def auth() -> str:
        asked.append(1)
        return "ann" if len(asked) in (1, 3) else "old"

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        if auth != "ann":
            raise wsrpc.RpcError("unauthenticated", "an old token")
        return auth

    reconnect = wsrpc.Reconnect(max_delay=0.01)
    async with served([Work()], authenticate=authenticate) as listener:
        async with wsrpc.connect(listener.url, auth=auth, reconnect=reconnect) as session:
            work = session.clientize(Work)
            (server,) = listener.server.sessions.values()
            await server.aclose(1001)
            # Refused once, then let in.
            assert await work.echo("x") == "x"
            assert len(asked) == 3
            (server,) = listener.server.sessions.values()
            await server.aclose(1001)
            with error_of("unauthenticated"):
                await work.echo("x")
            assert len(asked) == 6, caplog.messages
            assert session.closed
    caplog.clear()


async def test_refusals_of_credentials_count_only_while_they_follow_one_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[int] = []

    async def auth() -> str:
        asked.append(1)
        return "new each time"

    refused, other = "401 Unauthorized", "503 Service Unavailable"
    answers = [refused, refused, other, refused, refused, refused]
    with soon():
        async with answering(*answers) as url:
            with pytest.raises(wsrpc.ConnectError, match="401"):
                reconnect = wsrpc.Reconnect(max_delay=0.01)
                async with wsrpc.connect(url, auth=auth, wait=1000, reconnect=reconnect):
                    pytest.fail("connected")
    assert len(asked) == len(answers)
    caplog.clear()


async def test_connect_with_wait_keeps_trying_to_make_the_first_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()
    url = f"ws://127.0.0.1:{port}"
    with soon():
        with pytest.raises(wsrpc.ConnectError):
            async with wsrpc.connect(url):
                pytest.fail("nobody is there")
        with pytest.raises(wsrpc.ConnectError, match="refused"):
            async with wsrpc.connect(url, wait=0.05, reconnect=wsrpc.Reconnect(max_delay=0.02)):
                pytest.fail("nobody is there")
        async with anyio.create_task_group() as group:
            done = anyio.Event()

            async def serve() -> None:
                await until(lambda: len(watched.failed()) >= 2)
                async with wsrpc.Server([Work()]).listen(port=port):
                    await done.wait()

            group.start_soon(serve)
            reconnect = wsrpc.Reconnect(max_delay=0.05)
            async with wsrpc.connect(
                url, wait=1000, reconnect=reconnect, on_state=watched
            ) as session:
                assert await session.clientize(Work).echo("x") == "x"
            done.set()
    assert watched.failed()[0].state == "connecting"
    caplog.clear()


async def test_a_first_connection_that_does_not_come_about_ends_the_session_with_that_reason() -> (
    None
):
    changes: list[wsrpc.StateChange] = []
    async with answering("403 Forbidden") as url:
        with soon(), pytest.raises(wsrpc.ConnectError) as raised:
            async with wsrpc.connect(url, on_state=lambda session, change: changes.append(change)):
                pass
    last = changes[-1]
    assert last.state == "closed"
    assert str(raised.value) in last.cause
    assert "403" in str(last.error)
    assert last.error is not None
    assert isinstance(last.error.__cause__, wsrpc.ConnectError)


@pytest.mark.parametrize("policy", [{"attempts": 2}, {"give_up_after": 0.05}])
async def test_reconnect_says_when_to_give_up(
    policy: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched()
    reconnect = wsrpc.Reconnect(max_delay=0.02, **policy)
    async with hosting() as host:
        async with wsrpc.connect(host.url, reconnect=reconnect, on_state=watched) as session:
            await host.stop()
            with error_of("unavailable") as caught:
                await session.clientize(Work).echo("x")
            assert "gave up after" in str(caught.value)
            assert isinstance(caught.value.__cause__, wsrpc.ConnectError)
            assert session.closed
    if "attempts" in policy:
        assert [one.attempt for one in watched.failed()] == [1, 2]
    assert watched.failed()[-1].next_attempt_in is None
    caplog.clear()


@pytest.mark.parametrize("value", [0, -1, True, "two"])
def test_reconnect_refuses_what_is_no_number_above_0(value: Any) -> None:
    for name in ("attempts", "max_delay", "give_up_after"):
        with pytest.raises(ValueError, match=name):
            wsrpc.Reconnect(**{name: value})


HINTS: Sequence[tuple[str, str]] = [
    ("401 Unauthorized", "credentials"),
    ("403 Forbidden", "the origin is not allowed, or nothing is served at this path"),
    ("404 Not Found", "nothing is served at this path"),
    ("429 Too Many Requests", "too many requests"),
    ("502 Bad Gateway", "a proxy does not reach the server"),
    ("503 Service Unavailable", "starting, stopping or overloaded"),
    ("302 Found\r\nLocation: https://login.example/in?next=secret", "https://login.example/in"),
    ("308 Permanent Redirect\r\nLocation: /rpc/", "/rpc/"),
]


@pytest.mark.parametrize(("answer", "hint"), HINTS, ids=[one[0][:3] for one in HINTS])
async def test_messages_about_a_refused_handshake_name_the_likely_causes(
    answer: str, hint: str
) -> None:
    with soon():
        async with answering(answer) as url:
            with pytest.raises(wsrpc.ConnectError) as caught:
                async with wsrpc.connect(url):
                    pytest.fail("connected")
    assert hint in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.status == int(answer[:3])


async def test_wss_to_a_plain_port_and_ws_to_a_tls_port_never_produce_an_empty_reason() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with served([Work()]) as listener:
        with pytest.raises(wsrpc.ConnectError, match="write ws://") as caught:
            url = listener.url.replace("ws:", "wss:")
            async with wsrpc.connect(url, limits=wsrpc.Limits(connect_timeout=0.5)):
                pytest.fail("connected")
        assert not str(caught.value).rstrip().endswith(":")
    async with served([Work()], listen={"ssl": context}) as listener:
        with pytest.raises(wsrpc.ConnectError) as caught:
            async with wsrpc.connect(listener.url.replace("wss:", "ws:")):
                pytest.fail("connected")
        assert not str(caught.value).rstrip().endswith(":")
        assert "write wss://" in str(caught.value) or "broke" in str(caught.value)


async def test_retry_after_is_a_floor_for_the_delay(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched()
    with soon():
        async with answering("503 Service Unavailable\r\nRetry-After: 1000") as url:
            with anyio.move_on_after(0.5):
                async with wsrpc.connect(url, wait=5000, on_state=watched):
                    pytest.fail("connected")
    (failed,) = watched.failed()
    assert failed.next_attempt_in >= 1000 - 1
    caplog.clear()


@pytest.mark.rule("RETRY-2")
async def test_a_refused_dial_goes_to_the_next_address_without_delay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    async with hosting() as second, hosting() as first:
        urls = [first.url, "ws://127.0.0.1:1", second.url]
        async with wsrpc.connect(urls, on_state=watched) as session:
            await first.stop()
            assert await session.clientize(Work).echo("x") == "x"
        delays = [one.next_attempt_in for one in watched.failed()]
        assert len(delays) >= 2
        assert all(one is not None and one < 0.01 for one in delays), delays
    caplog.clear()


@pytest.mark.rule("RETRY-2")
async def test_only_a_link_that_was_of_use_begins_the_delays_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a server that lets clients in and drops them at once would be dialled in a loop."""
    resets: list[Backoff] = []
    monkeypatch.setattr(Backoff, "reset", lambda one: resets.append(one))
    watched = Watched()
    reconnect = wsrpc.Reconnect(max_delay=0.02)

    async with (
        hosting() as host,
        wsrpc.connect(host.url, reconnect=reconnect, on_state=watched) as session,
    ):

        async def lose() -> None:
            """Lose the connection, and wait for the next."""
            n = len(watched.changes)
            link = wire_of(session).link
            assert link is not None
            link.abort()
            await until(lambda: "connected" in [one.state for one in watched.changes[n:]])

        await lose()
        await lose()
        assert resets == []
        assert await session.clientize(Work).echo("x") == "x"
        await lose()
        assert len(resets) == 1


async def test_using_a_session_from_another_thread_or_loop_raises_at_the_first_call() -> None:
    async with served([Work()]) as listener, wsrpc.connect(listener.url) as session:
        work = session.clientize(Work)

        async def call() -> None:
            await work.echo("x")

        async def stream() -> None:
            async for _ in work.count():
                pass

        async def notify() -> None:
            await work.note("x")

        def elsewhere(backend: str, fn: Any) -> None:
            anyio.run(fn, backend=backend)

        for fn in (call, stream, notify):
            for backend in ("asyncio", "trio"):
                with pytest.raises(RuntimeError, match=r"anyio\.from_thread"):
                    await anyio.to_thread.run_sync(elsewhere, backend, fn)
        await anyio.to_thread.run_sync(anyio.from_thread.run, call)


async def test_a_blocked_event_loop_that_makes_the_heartbeat_miss_is_logged_with_its_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.session.blockages.blockages._told", -math.inf)
    async with served([Work()]) as listener:
        async with wsrpc.connect(listener.url) as one, wsrpc.connect(listener.url) as two:
            for session in (one, two):
                await session.clientize(Work).echo("x")
                wire = wire_of(session)
                # Its alarm comes later than it was due, as those of all sessions of this loop do.
                wire._alarm_at = live(session).runtime.now() - 30
                wire._on_alarm()
                await session.clientize(Work).echo("x")
        (line,) = blocked(caplog)
    assert "blocked for 30.0 s" in line
    caplog.clear()


def blocked(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "event loop was blocked" in line]


async def test_a_server_that_cannot_resume_what_was_never_asked_for_is_not_dialled_in_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4010 to a hello without a token is a failed attempt like any other."""
    dials: list[MemoryLink] = []

    @asynccontextmanager
    async def open_link(*args: Any, **kwargs: Any) -> AsyncIterator[MemoryLink]:
        accepting, connecting = memory_link_pair("wsrpc.v1.json")
        dials.append(accepting)
        async with anyio.create_task_group() as group:
            group.start_soon(serve, Peer(accepting), len(dials) == 1)
            yield connecting
            group.cancel_scope.cancel()

    async def serve(peer: Peer, first: bool) -> None:
        hello = await peer.expect("hello")
        assert first or not hello[1].get("token")
        if first:
            await peer.send(["hello", {"version": 1, "session": "s", "window": 32}])
            await peer.expect("ack")
            await peer.link.close(1012)
        else:
            await peer.link.close(4010)

    monkeypatch.setattr("wsrpc.client.open_link", open_link)
    watched = Watched()
    with soon():
        async with wsrpc.connect("ws://memory", on_state=watched):
            await until(lambda: len(watched.failed()) >= 2)
    assert len(dials) <= 4


async def test_a_session_that_cannot_be_resumed_tells_what_ended_its_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsrpc.backoff.FIRST", 0.01)

    met = anyio.Event()

    async def on_connect(session: wsrpc.Session) -> None:
        await met.wait()
        raise KeyError("no database")

    async with served([], on_connect=on_connect) as listener:
        async with wsrpc.connect(listener.url) as session:
            met.set()
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await session.clientize("Shop").price()
            lost = caught.value
            assert lost.close_code == 4010
            assert isinstance(lost.__cause__, wsrpc.ConnectionLost)
            assert lost.__cause__.close_code == 1011
            assert "on_connect failed" in str(lost.__cause__)
    caplog.clear()
