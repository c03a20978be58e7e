"""When two principals are the same: by a key, where one can be found, else by equality."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import returning, served, turns, until, visited
from wsrpc.admission.principals import Identity, Tally, key_of
from wsrpc.transport.base import LinkClosed


@dataclass
class User:
    id: int
    seen: float = 0.0


@dataclass
class Robot:
    id: int


@dataclass
class Odd:
    name: str


class Work:
    @wsrpc.method
    async def who(self) -> str | None:
        return wsrpc.current().session.principal_key


@pytest.mark.parametrize(
    ("principal", "key"),
    [
        ("ann", "s:ann"),
        (1, "n:1"),
        (None, None),
        (True, None),
        (1.0, None),
        (User(7), "User.id:n:7"),
        (Robot(7), "Robot.id:n:7"),
        ({"sub": "ann", "iat": 1, "id": "x"}, "map.sub:s:ann"),
        (User(uuid.UUID(int=1)), f"User.id:u:{uuid.UUID(int=1)}"),  # type: ignore[arg-type]
        (Odd("x"), None),
        (object(), None),
    ],
)
def test_strings_numbers_and_objects_with_an_id_or_sub_field_have_a_key(
    principal: Any, key: str | None
) -> None:
    assert key_of(principal) == key


def test_principals_are_compared_by_a_key_not_by_equality_of_whatever_authenticate_returned() -> (
    None
):
    def same(one: Identity, other: Identity) -> bool:
        return one.is_same(other.principal, other.key)

    assert same(Identity(User(1, 1.0)), Identity(User(1, 2.0)))
    assert not same(Identity(User(1)), Identity(Robot(1)))
    assert not same(Identity(User(1)), Identity(User(2)))
    assert not same(Identity(1), Identity(True))
    assert not same(Identity(1.0), Identity(True))
    assert not same(Identity(1), Identity("1"))
    assert same(Identity(Odd("x")), Identity(Odd("x")))
    assert not same(Identity(Odd("x")), Identity(Odd("y")))
    assert same(Identity(Odd("x"), key="k"), Identity(Odd("y"), key="k"))
    assert not same(Identity(Odd("x"), key="k"), Identity(Odd("x")))


def test_a_tally_counts_by_key_and_forgets() -> None:
    tally = Tally()
    ones = [Identity(User(1, float(n))) for n in range(3)] + [Identity([1]), Identity([1])]
    for one in ones:
        tally.add(one)
    assert tally[Identity(User(1, 9.0))] == 3
    assert tally[Identity([1])] == 2
    for one in ones:
        tally.remove(one)
    assert tally[Identity(User(1))] == tally[Identity([1])] == 0


def test_a_tally_tells_principals_apart_that_python_takes_for_equal() -> None:
    tally = Tally()
    tally.add(Identity(True))
    tally.add(Identity(1.0))
    assert [tally[Identity(one)] for one in (True, 1.0, 1)] == [1, 1, 0]
    tally.remove(Identity(True))
    assert [tally[Identity(one)] for one in (True, 1.0, 1)] == [0, 1, 0]


def test_a_key_is_a_string_or_a_whole_number() -> None:
    for key in (1.5, True, b"x", ("a",)):
        with pytest.raises(TypeError, match=r"Grant\.key"):
            wsrpc.Grant("ann", key=key)  # type: ignore[arg-type]


async def test_claims_with_the_time_of_issue_are_the_same_principal_by_their_key() -> None:
    issued = 0

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        nonlocal issued
        issued += 1
        return wsrpc.Grant(("ann", issued), key="ann") if auth == "key" else ("ann", issued)

    server = wsrpc.Server([Work()], authenticate=authenticate)
    for auth, code in (("key", None), ("none", 4501)):
        async with visited(server) as visit:
            peer = visit()
            await peer.send(["hello", {"version": 1, "auth": auth}])
            hello = await peer.expect("hello")
            (session,) = server.sessions.values()
            assert session.principal_key == ("s:ann" if code is None else None)
            await peer.send(["ack", 0], ["auth", auth])
            if code is None:
                await turns()
                assert not session.closed
                peer.link.abort()
                again = visit()
                token = hello[1]["token"]
                await again.send(returning(token, 2, auth=auth))
                await again.expect("hello")
                # Either says who is meant.
                assert server.revoke("s:ann") == 1
            else:
                with pytest.raises(LinkClosed) as caught:
                    while True:
                        await peer.link.receive()
                assert caught.value.code == code
                assert "key=" in caught.value.reason


@pytest.mark.rule("RESUME-2")
async def test_a_resume_that_is_refused_says_why_and_names_the_key_of_a_grant() -> None:
    """Claims that are not equal to themselves, and a session that another process has."""
    issued = 0

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        nonlocal issued
        issued += 1
        return ("ann", issued)

    server = wsrpc.Server([Work()], authenticate=authenticate)
    other = wsrpc.Server([Work()], authenticate=authenticate)
    async with visited(server) as visit, visited(other) as elsewhere:
        peer = visit()
        await peer.send(["hello", {"version": 1}])
        token = (await peer.expect("hello"))[1]["token"]
        peer.link.abort()
        for again, said in ((visit(), "return Grant("), (elsewhere(), "another process has it")):
            await again.send(returning(token, 2))
            with pytest.raises(LinkClosed, match="4010") as caught:
                await again.link.receive()
            assert said in caught.value.reason


async def test_revoke_takes_a_principal_or_a_key() -> None:
    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        return User(auth)

    async with served([Work()], authenticate=authenticate) as listener:
        for given in (User(7, 1.0), "User.id:n:7"):
            async with wsrpc.connect(listener.url, auth=7) as session:
                assert await session.clientize(Work).who() == "User.id:n:7"
                assert listener.server.revoke(User(8)) == 0
                assert listener.server.revoke(given) == 1
                assert (await session.wait_closed()).close_code == 4501


async def test_for_session_in_server_sessions_values_await_never_raises_while_sessions_come_and_go() -> (
    None
):
    async with served([Work()]) as listener:
        server = listener.server
        async with wsrpc.connect(listener.url), wsrpc.connect(listener.url):
            seen: list[str] = []
            for session in server.sessions.values():
                seen.append(session.id)
                async with wsrpc.connect(listener.url):
                    await until(lambda: len(server.sessions) == 3)
                await until(lambda: len(server.sessions) == 2)
            assert len(seen) == len(set(seen)) == 2
            for id, session in server.sessions.items():
                assert session.id == id
                await session.aclose(1008, "not welcome")
            ids = list(server.sessions)
            for _ in server.sessions:
                await anyio.sleep(0)
            assert len(ids) <= 2


async def test_a_server_closes_one_session_with_a_code_and_a_reason() -> None:
    async with served([Work()]) as listener:
        async with wsrpc.connect(listener.url) as session:
            (server,) = listener.server.sessions.values()
            await server.aclose(4999, "not welcome")
            lost = await session.wait_closed()
            assert (lost.close_code, lost.close_reason) == (4999, "not welcome")


@pytest.mark.rule("RESUME-8")
async def test_one_principals_detached_sessions_never_evict_anothers() -> None:
    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        return auth

    limits = wsrpc.Limits(max_detached=4)
    server = wsrpc.Server([Work()], authenticate=authenticate, limits=limits)
    async with visited(server) as visit:
        for who in ("ann", "bob", "eve", "eve", "eve", "eve", "eve"):
            peer = visit()
            await peer.say_hello(auth=who)
            peer.link.abort()
            await until(lambda: all(one.state != "connected" for one in server.sessions.values()))
        await until(lambda: server.snapshot().detached == 4)
        left = sorted(str(one.principal) for one in server.sessions.values() if not one.closed)
        assert left == ["ann", "bob", "eve", "eve"]
