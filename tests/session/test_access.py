"""Who may come in, for how long, and who has to go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import (
    Codec,
    Peer,
    error_of,
    patched_link,
    returning,
    served,
    soon,
    turns,
    until,
    visited,
    wire_of,
)
from wsrpc.backoff import Backoff

from .test_resume import confirmed, proxied


class Work:
    """Handlers that tell how they end."""

    def __init__(self) -> None:
        self.cleaned: list[str] = []

    @wsrpc.method
    async def echo(self, text: str) -> str:
        return text

    @wsrpc.method
    async def who(self) -> str:
        return str(wsrpc.current().principal)

    @wsrpc.method
    async def hang(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.cleaned.append("hang")

    @wsrpc.method
    async def ticks(self) -> AsyncIterator[int]:
        try:
            for n in range(1_000_000):
                yield n
        finally:
            self.cleaned.append("ticks")


async def anybody(handshake: wsrpc.Handshake, auth: Any) -> Any:
    """The principal that the client names."""
    if auth is None:
        raise wsrpc.RpcError("unauthenticated", "who are you?")
    return auth


def granting(seconds: float | None) -> Any:
    """The same, for a while."""

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
        return wsrpc.Grant(await anybody(handshake, auth), seconds)

    return authenticate


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting sides come back at once."""
    monkeypatch.setattr(Backoff, "next", lambda self, floor=None: 0.0)


def has_links(server: wsrpc.Server, n: int) -> bool:
    return server.snapshot().links == n


async def answers(peer: Peer, id: int) -> None:
    """This one is served as ever."""
    await peer.send(["call", id, "Work.echo", {"text": "a"}])
    assert await peer.expect("result") == ["result", id, "a"]


# ------------------------------------------------------------------------------------ for how long


@pytest.mark.rule("AUTH-3", "RESUME-1")
async def test_credentials_that_run_out_close_the_link_and_the_session_waits(codec: Codec) -> None:
    """And others are not affected."""
    server = wsrpc.Server([Work()], authenticate=anybody)
    async with visited(server) as visit:
        other = visit(codec)
        await other.say_hello(auth="bob")
        server._service.authentication._authenticate = granting(0.05)
        peer = visit(codec)
        token = (await peer.say_hello(auth="ann"))[1]["token"]
        assert await peer.closed() == 4003
        server._service.authentication._authenticate = granting(None)
        again = visit(codec)
        await again.send(returning(token, 2, auth="ann"))
        assert (await again.expect("hello"))[1]["resumed"]
        await again.send(["ack", 0])
        await answers(again, 1)
        await answers(other, 1)


@pytest.mark.rule("AUTH-3")
@pytest.mark.usefixtures("quick")
async def test_a_client_comes_back_with_fresh_credentials_and_nothing_is_lost() -> None:
    asked: list[int] = []
    seen: list[Any] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
        seen.append(auth)
        return wsrpc.Grant("ann", 0.1 if len(seen) < 3 else 3600)

    async def auth() -> int:
        asked.append(0)
        return len(asked)

    async with served([Work()], authenticate=authenticate) as listener:
        async with wsrpc.connect(listener.url, auth=auth) as session:
            before = session.id
            async with session.clientize(Work).ticks() as stream:
                async for _ in stream:
                    if len(seen) == 3:
                        break
            assert session.id == before
            closes = listener.server.stats.closes
            assert closes[4003] == 2
    assert seen == [1, 2, 3]


@pytest.mark.rule("AUTH-3")
async def test_without_reconnect_the_session_ends_with_its_credentials() -> None:
    async with served([Work()], authenticate=granting(0.05)) as listener:
        async with wsrpc.connect(listener.url, auth="ann", reconnect=False) as session:
            assert (await session.wait_closed()).close_code == 4003


@pytest.mark.rule("HELLO-7")
@pytest.mark.parametrize("seconds", [0, -5.0, float("nan")])
async def test_credentials_that_have_run_out_already_are_refused(seconds: float) -> None:
    async with served([Work()], authenticate=granting(seconds)) as listener:
        with pytest.raises(wsrpc.ConnectError, match="expired") as caught:
            async with wsrpc.connect(listener.url, auth="ann"):
                pytest.fail("let in")
        assert caught.value.close_code == 4501


@pytest.mark.parametrize("seconds", ["60", True, [1]])
def test_a_grant_holds_for_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(TypeError, match="number of seconds"):
        wsrpc.Grant("ann", seconds)


@pytest.mark.rule("HELLO-7")
@pytest.mark.parametrize("how", ["says so", "takes too long"])
async def test_a_server_that_cannot_tell_now_asks_to_try_again_later(how: str) -> None:

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> None:
        if how == "says so":
            raise wsrpc.RpcError("unavailable", "the directory does not answer")
        await anyio.sleep_forever()

    limits = wsrpc.Limits(auth_timeout=0.05)
    async with served([Work()], authenticate=authenticate, limits=limits) as listener:
        with pytest.raises(wsrpc.ConnectError, match="try again later") as caught:
            async with wsrpc.connect(listener.url):
                pytest.fail("let in")
        assert caught.value.close_code == 1013


# ------------------------------------------------------------------------------------ refreshed


@pytest.mark.rule("AUTH-1")
async def test_fresh_credentials_of_the_same_principal_take_the_place_of_the_old(
    codec: Codec,
) -> None:
    """Without an answer."""
    seen: list[Any] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
        seen.append(auth)
        return wsrpc.Grant(auth["name"], None if len(seen) == 2 else 0.3)

    server = wsrpc.Server([Work()], authenticate=authenticate)
    async with visited(server) as visit:
        peer = visit(codec)
        await peer.say_hello(auth={"name": "ann", "n": 1})
        await peer.send(["auth", {"name": "ann", "n": 2}])
        await until(lambda: len(seen) == 2)
        await anyio.sleep(0.4)
        await answers(peer, 1)


@pytest.mark.rule("AUTH-1")
@pytest.mark.parametrize("auth", ["bob", None, ["ann"], {"name": "ann"}])
async def test_fresh_credentials_that_are_wrong_or_anothers_end_the_session(
    auth: Any, codec: Codec
) -> None:
    """And nobody else's."""
    work = Work()
    server = wsrpc.Server([work], authenticate=anybody)
    async with visited(server) as visit:
        other, peer = visit(codec), visit(codec)
        await other.say_hello(auth="ann")
        token = (await peer.say_hello(auth="ann"))[1]["token"]
        await peer.send(["call", 1, "Work.hang", {}])
        await peer.send(["auth", auth])
        assert await peer.closed() == 4501
        await until(lambda: work.cleaned == ["hang"])
        thief = visit(codec)
        await thief.send(returning(token, 2, auth="ann"))
        assert await thief.closed() == 4010
        await answers(other, 1)


@pytest.mark.rule("AUTH-1", "VALUE-1")
async def test_fresh_credentials_that_are_no_value_are_wrong() -> None:
    server = wsrpc.Server([Work()], authenticate=anybody)
    async with visited(server) as visit:
        peer = visit()
        await peer.say_hello(auth="ann")
        await peer.send_bytes(b'[["auth",1e999]]')
        assert await peer.closed() == 4501


@pytest.mark.rule("AUTH-2")
async def test_fresh_credentials_come_once_a_second_at_most(codec: Codec) -> None:
    server = wsrpc.Server([Work()], authenticate=anybody)
    async with visited(server) as visit:
        other, peer = visit(codec), visit(codec)
        await other.say_hello(auth="ann")
        await peer.say_hello(auth="ann")
        await peer.send(["auth", "ann"])
        await peer.send(["auth", "ann"])
        assert await peer.closed() == 4004
        await answers(other, 1)


@pytest.mark.rule("AUTH-1")
@pytest.mark.parametrize("how", ["unavailable", "slow"])
async def test_what_cannot_be_checked_now_changes_nothing(how: str) -> None:
    entered: list[Any] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        entered.append(auth)
        if len(entered) == 2:
            if how == "unavailable":
                raise wsrpc.RpcError("unavailable")
            await anyio.sleep_forever()
        return "ann"

    server = wsrpc.Server(
        [Work()], authenticate=authenticate, limits=wsrpc.Limits(auth_timeout=0.05)
    )
    async with visited(server) as visit:
        peer = visit()
        await peer.say_hello()
        await peer.send(["auth", "x"])
        await until(lambda: len(entered) == 2)
        await anyio.sleep(0.1)
        await answers(peer, 1)


@pytest.mark.rule("AUTH-1")
async def test_the_newest_of_several_credentials_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """While some are looked at, one more waits."""
    monkeypatch.setattr("wsrpc.protocol.traffic.AUTH_INTERVAL", 0.0)
    seen: list[Any] = []
    go_on = anyio.Event()

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        seen.append(auth)
        if auth == 1:
            await go_on.wait()
        return "ann"

    server = wsrpc.Server([Work()], authenticate=authenticate)
    async with visited(server) as visit:
        peer = visit()
        await peer.say_hello(auth=0)
        for n in (1, 2, 3):
            await peer.send(["auth", n])
            await turns()
        go_on.set()
        await until(lambda: seen[-1] == 3)
        await answers(peer, 1)
    assert seen == [0, 1, 3]


@pytest.mark.rule("AUTH-1")
async def test_a_principal_is_renewed_with_its_credentials() -> None:
    """What else it holds may have changed."""

    class User:
        def __init__(self, role: str) -> None:
            self.role = role

        def __eq__(self, other: object) -> bool:
            return isinstance(other, User)

        def __hash__(self) -> int:
            return 0

    async def authenticate(handshake: wsrpc.Handshake, auth: str) -> User:
        return User(auth)

    class Roles:
        @wsrpc.method
        async def mine(self) -> str:
            return str(wsrpc.current().principal.role)

    async with served([Roles()], authenticate=authenticate) as listener:
        async with wsrpc.connect(listener.url, auth="reader") as session:
            roles = session.clientize(Roles)
            assert await roles.mine() == "reader"
            await session.refresh_auth("admin")
            with soon():
                while await roles.mine() != "admin":
                    await anyio.sleep(0.005)


@pytest.mark.usefixtures("quick")
async def test_refreshed_credentials_are_shown_on_later_connections_too() -> None:
    seen: list[Any] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        seen.append(auth)
        return "ann"

    async with proxied(Work(), authenticate=authenticate) as (proxy, server):
        async with wsrpc.connect(proxy.url, auth="old") as session:
            await session.refresh_auth("new")
            await until(lambda: seen == ["old", "new"])
            await confirmed(server)
            proxy.reset()
            await until(lambda: seen == ["old", "new", "new"])
            await until(lambda: session.state == "connected")


async def test_without_a_value_the_function_is_asked_anew() -> None:
    seen: list[Any] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        seen.append(auth)
        return "ann"

    async def auth() -> int:
        return len(seen)

    async with served([Work()], authenticate=authenticate) as listener:
        async with wsrpc.connect(listener.url, auth=auth) as session:
            await session.refresh_auth()
            await until(lambda: seen == [0, 1])


async def test_only_a_live_connecting_side_refreshes() -> None:
    async with served([Work()]) as listener:
        async with wsrpc.connect(listener.url) as session:
            with pytest.raises(RuntimeError, match="connecting side"):
                await listener.server.sessions[session.id].refresh_auth("x")
            with pytest.raises(ValueError):
                await session.refresh_auth(object())
        with pytest.raises(wsrpc.ConnectionLost):
            await session.refresh_auth("x")


async def test_without_a_connection_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = patched_link(monkeypatch)
    with soon():
        async with anyio.create_task_group() as group:

            async def greet() -> None:
                await peer.expect("hello")
                hello = {"version": 1, "token": "t", "resume_window": 30_000}
                await peer.send(["hello", hello])

            group.start_soon(greet)
            async with wsrpc.connect("ws://memory") as session:
                peer.link.abort()
                await until(lambda: session.state == "detached")
                await session.refresh_auth("new")
                assert not wire_of(session).endpoint.has_output


# ------------------------------------------------------------------------------------ revoked


@pytest.mark.rule("AUTH-4")
async def test_revoking_ends_links_sessions_and_handlers(codec: Codec) -> None:
    """Those of this principal, and no others."""
    work = Work()
    server = wsrpc.Server([work], authenticate=anybody)
    async with visited(server) as visit:
        peers = [visit(codec) for _ in range(3)]
        for peer, name in zip(peers, ["ann", "ann", "bob"], strict=True):
            await peer.say_hello(auth=name)
            await peer.send(["call", 1, "Work.hang", {}])
        await until(lambda: server.stats.calls_live == 3)
        assert server.revoke("ann") == 2
        # At once, without waiting for the peers.
        assert [one.principal for one in server.sessions.values()] == ["bob"]
        assert [await peer.closed() for peer in peers[:2]] == [4501, 4501]
        await until(lambda: work.cleaned == ["hang", "hang"])
        await answers(peers[2], 3)
        assert server.revoke("ann") == 0


@pytest.mark.rule("AUTH-4", "RESUME-2")
async def test_revoking_forgets_sessions_without_a_link() -> None:
    work = Work()
    server = wsrpc.Server([work], authenticate=anybody)
    async with visited(server) as visit:
        peer = visit()
        token = (await peer.say_hello(auth="ann"))[1]["token"]
        await peer.send(["call", 1, "Work.hang", {}])
        await until(lambda: server.stats.calls_live == 1)
        peer.link.abort()
        await until(lambda: server.snapshot().detached == 1)
        assert server.revoke("ann") == 1
        assert server.snapshot().detached == 0
        await until(lambda: work.cleaned == ["hang"])
        again = visit()
        await again.send(returning(token, 2, auth="ann"))
        assert await again.closed() == 4010


@pytest.mark.rule("AUTH-4")
@pytest.mark.parametrize("resumes", [False, True])
async def test_revoking_counts_for_those_who_are_just_being_let_in(resumes: bool) -> None:
    entered, go_on = anyio.Event(), anyio.Event()
    slow: list[bool] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        if slow:
            entered.set()
            await go_on.wait()
        return auth

    server = wsrpc.Server([Work()], authenticate=authenticate)
    async with visited(server) as visit:
        first = visit()
        token = (await first.say_hello(auth="ann"))[1]["token"]
        slow.append(True)
        peer = visit()
        hello = {"version": 1, "auth": "ann"}
        await peer.send(returning(token, 2, auth="ann") if resumes else ["hello", hello])
        await entered.wait()
        assert server.revoke("ann") == 1
        go_on.set()
        assert await peer.closed() == 4501
        assert not server.sessions


@pytest.mark.rule("AUTH-4", "CLOSE-2")
async def test_a_revoked_client_does_not_come_back() -> None:
    async with served([Work()], authenticate=anybody) as listener:
        async with wsrpc.connect(listener.url, auth="ann") as session:
            async with wsrpc.connect(listener.url, auth="bob") as other:
                assert await session.clientize(Work).who() == "ann"
                listener.server.revoke("ann")
                lost = await session.wait_closed()
                assert (lost.close_code, "revoked" in lost.close_reason) == (4501, True)
                with error_of("unauthenticated"):
                    await session.clientize(Work).who()
                assert await other.clientize(Work).who() == "bob"


@pytest.mark.rule("AUTH-4")
async def test_a_revoked_client_is_told_so_in_the_midst_of_a_stream(transport: str) -> None:
    """The close frame does not end up inside of a message."""
    for _ in range(5):
        async with served([Work()], authenticate=anybody) as listener:
            async with wsrpc.connect(listener.url, auth="ann") as session:
                with error_of("unauthenticated"):
                    async for n in session.clientize(Work).ticks():
                        if n == 2000:
                            listener.server.revoke("ann")
                assert (await session.wait_closed()).close_code == 4501


async def test_principals_of_different_types_are_different() -> None:
    async with served([Work()], authenticate=anybody) as listener:
        async with wsrpc.connect(listener.url, auth=1) as session:
            assert listener.server.revoke(True) == 0
            assert listener.server.revoke(1.0) == 0
            assert await session.clientize(Work).who() == "1"
            assert listener.server.revoke(1) == 1
            await session.wait_closed()


async def test_a_handler_may_revoke_its_own_principal() -> None:
    class Desk:
        @wsrpc.method
        async def sign_out_everywhere(self) -> None:
            server.revoke(wsrpc.current().principal)

    server = wsrpc.Server([Desk()], authenticate=anybody)
    with soon():
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, auth="ann") as session:
                with error_of("unauthenticated"):
                    await session.clientize(Desk).sign_out_everywhere()
                assert session.closed


# ------------------------------------------------------------------------------------ how many


@pytest.mark.rule("LIMIT-2")
async def test_a_principal_has_so_many_links_and_one_more_is_refused_for_good(
    codec: Codec,
) -> None:
    limits = wsrpc.Limits(max_links_per_principal=2)
    server = wsrpc.Server([Work()], authenticate=anybody, limits=limits)
    async with visited(server) as visit:
        first, second, third, other = (visit(codec) for _ in range(4))
        await first.say_hello(auth="ann")
        token = (await second.say_hello(auth="ann"))[1]["token"]
        await third.send(["hello", {"version": 1, "auth": "ann"}])
        assert await third.closed() == 4504
        await other.say_hello(auth="bob")
        # A link that takes the place of another needs no room.
        again = visit(codec)
        await again.send(returning(token, 2, auth="ann"))
        assert (await again.expect("hello"))[1]["resumed"]
        await again.send(["ack", 0])
        assert await second.closed() == 4506
        await answers(first, 1)
        first.link.abort()
        await until(lambda: server.snapshot().links == 2)
        await visit(codec).say_hello(auth="ann")
        await answers(other, 1)


@pytest.mark.rule("LIMIT-2")
async def test_principals_that_cannot_be_hashed_are_counted_too() -> None:
    limits = wsrpc.Limits(max_links_per_principal=1)
    server = wsrpc.Server([Work()], authenticate=anybody, limits=limits)
    async with visited(server) as visit:
        for principal in (["ann"], ["bob"], {"name": "ann"}):
            await visit().say_hello(auth=principal)
        for principal in (["ann"], {"name": "ann"}):
            peer = visit()
            await peer.send(["hello", {"version": 1, "auth": principal}])
            assert await peer.closed() == 4504


@pytest.mark.rule("LIMIT-2")
async def test_an_address_has_so_many_links(codec: Codec) -> None:
    """An IPv6 network counts as one."""
    server = wsrpc.Server([Work()], limits=wsrpc.Limits(max_links_per_address=1))
    async with visited(server) as visit:
        for address in ("1.1.1.1", "1.1.1.2", "2001:db8::1", "", ""):
            await visit(codec, address).say_hello()
        for address in ("1.1.1.1", "2001:db8::2"):
            peer = visit(codec, address)
            await peer.send(["hello", {"version": 1}])
            assert await peer.closed() == 4504


@pytest.mark.rule("LIMIT-2")
async def test_a_link_that_is_gone_counts_no_more_for_its_address(codec: Codec) -> None:
    server = wsrpc.Server([Work()], limits=wsrpc.Limits(max_links_per_address=1))
    async with visited(server) as visit:
        for _ in range(3):
            peer = visit(codec, "1.1.1.1")
            await peer.say_hello()
            peer.link.abort()
            await until(lambda: server.snapshot().links == 0)


@pytest.mark.rule("LIMIT-1")
async def test_a_server_that_is_full_asks_to_try_again_later(codec: Codec) -> None:
    server = wsrpc.Server([Work()], limits=wsrpc.Limits(max_links=1))
    async with visited(server) as visit:
        first, second = visit(codec), visit(codec)
        await first.say_hello()
        await second.send(["hello", {"version": 1}])
        assert await second.closed() == 1013
        first.link.abort()
        await until(lambda: server.snapshot().links == 0)
        await visit(codec).say_hello()


@pytest.mark.rule("LIMIT-2")
async def test_a_session_that_exists_may_try_again_when_it_finds_no_room() -> None:
    """It need not be given up."""
    limits = wsrpc.Limits(max_links_per_principal=1)
    server = wsrpc.Server([Work()], authenticate=anybody, limits=limits)
    async with visited(server) as visit:
        peer = visit()
        token = (await peer.say_hello(auth="ann"))[1]["token"]
        await answers(peer, 1)
        peer.link.abort()
        await until(lambda: server.snapshot().detached == 1)
        other = visit()
        await other.say_hello(auth="ann")
        again = visit()
        await again.send(returning(token, 2, auth="ann", received=1))
        assert await again.closed() == 1013
        other.link.abort()
        await until(lambda: server.snapshot().links == 0)
        again = visit()
        await again.send(returning(token, 3, auth="ann", received=1))
        assert (await again.expect("hello"))[1]["resumed"]


@pytest.mark.rule("LIMIT-3")
async def test_those_who_say_nothing_are_bounded_and_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = wsrpc.Server([Work()], limits=wsrpc.Limits(max_unauthenticated=3))
    async with visited(server) as visit:
        silent: list[Peer] = []
        for n in range(1, 4):
            silent.append(visit())
            await until(partial(has_links, server, n))
        # Nobody has kept the server waiting for long: the newcomer waits.
        guest = visit()
        await until(partial(has_links, server, 4))
        await turns()
        assert len(server._service.pending) == 3
        monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 0.0)
        assert await silent[0].closed() == 1013
        await guest.say_hello()
        await answers(guest, 1)
        for peer in silent[1:]:
            await peer.say_hello()


@pytest.mark.rule("LIMIT-3")
async def test_those_whose_credentials_are_looked_at_keep_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 0.0)
    entered: list[Any] = []
    go_on = anyio.Event()

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        entered.append(auth)
        await go_on.wait()
        return auth

    server = wsrpc.Server(
        [Work()], authenticate=authenticate, limits=wsrpc.Limits(max_unauthenticated=2)
    )
    async with visited(server) as visit:
        checked = [visit(), visit()]
        for peer in checked:
            await peer.send(["hello", {"version": 1, "auth": "ann"}])
        await until(lambda: len(entered) == 2)
        third = visit()
        await third.send(["hello", {"version": 1, "auth": "bob"}])
        await turns()
        assert len(entered) == 2
        go_on.set()
        for peer in (*checked, third):
            await peer.expect("hello")


@pytest.mark.rule("LIMIT-3")
async def test_those_who_say_nothing_are_bounded_by_address() -> None:
    limits = wsrpc.Limits(max_unauthenticated_per_address=1)
    server = wsrpc.Server([Work()], limits=limits)
    async with visited(server) as visit:
        silent = visit(address="1.1.1.1")
        await until(lambda: server.snapshot().links == 1)
        second = visit(address="1.1.1.1")
        await second.send(["hello", {"version": 1}])
        await visit(address="1.1.1.2").say_hello()
        assert server.snapshot().sessions == 1
        await silent.say_hello()
        await second.expect("hello")


@pytest.mark.rule("HELLO-9")
async def test_the_time_for_a_hello_begins_with_the_connection() -> None:
    server = wsrpc.Server([Work()], limits=wsrpc.Limits(hello_timeout=1000))
    async with visited(server) as visit:
        pending = server._service.pending.add("", anyio.current_time() - 1000, dismiss=turns)
        assert await visit(pending=pending).closed() == 4008
