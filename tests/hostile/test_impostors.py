"""Tokens, credentials and origins of strangers: none of them gets in, and nobody loses a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, soon, wire_of
from wsrpc.interfaces import Handshake

from .raw import RawLink, raw_link, refusal
from .target import Friend, Target

# Seconds for which the credentials of those called "brief" hold.
BRIEF = 0.1


async def authenticate(handshake: Handshake, auth: Any) -> Any:
    if auth == "brief":
        return wsrpc.Grant("brief", expires_in=BRIEF)
    if auth == "expired":
        return wsrpc.Grant("brief", expires_in=0)
    if auth in ("ann", "bob", "friend"):
        return auth
    raise wsrpc.RpcError("unauthenticated")


@asynccontextmanager
async def serving(codec: Codec) -> AsyncIterator[tuple[str, Friend]]:
    """A server whose sessions can be resumed, and a friend of its own."""
    limits = wsrpc.Limits(resume_window=10, close_timeout=0.5)
    server = wsrpc.Server([Target()], limits=limits, authenticate=authenticate)
    with soon():
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, codec=codec, auth="friend") as session:
                yield listener.url, Friend(session)


async def begun(url: str, codec: Codec, auth: str = "ann") -> str:
    """A session with a call that waits, and whose link is lost; its token."""
    async with raw_link(url, codec) as link:
        hello = await link.hello(auth=auth)
        await link.send(["call", 1, "Target.wait", {}], ["ping", 1])
        await link.next("pong")
    token = hello["token"]
    assert isinstance(token, str)
    return token


async def attempt(link: RawLink, token: str, /, **fields: Any) -> dict[str, Any] | int:
    """Try to resume: the body of the server's hello, or the code with which it closes."""
    body = {"version": 1, "window": 32, "auth": "ann", "link": 2, "token": token, **fields}
    await link.send(["hello", body])
    answer = await link.verdict("hello")
    return answer if isinstance(answer, int) else answer[1]


async def tried(url: str, codec: Codec, token: str, /, **fields: Any) -> dict[str, Any] | int:
    async with raw_link(url, codec) as link:
        return await attempt(link, token, **fields)


FORGED: dict[str, Callable[[str], str]] = {
    "one character less": lambda token: token[:-1],
    "one character more": lambda token: token + "A",
    "another first character": lambda token: ("B" if token[0] == "A" else "A") + token[1:],
    "another last character": lambda token: token[:-1] + ("B" if token[-1] == "A" else "A"),
    "the other case": lambda token: token.swapcase(),
    "padding": lambda token: token + "=",
    "a line break": lambda token: token + "\n",
    "a space in front": lambda token: " " + token,
    "a zero byte": lambda token: token + "\x00",
    "twice": lambda token: token * 2,
    "nothing": lambda token: "",
    "a path": lambda token: "../" + token,
    "much": lambda token: token * 1000,
}


@pytest.mark.rule("RESUME-2", "RESUME-5")
async def test_a_forged_token_is_good_for_nothing(codec: Codec) -> None:
    async with serving(codec) as (url, friend):
        token = await begun(url, codec)
        for name, forge in FORGED.items():
            async with anyio.create_task_group() as group:
                group.start_soon(friend.call)
                assert await tried(url, codec, forge(token)) == 4010, name
        resumed = await tried(url, codec, token)
        assert isinstance(resumed, dict)
        assert resumed["resumed"], "the session is still there, for the one who has the token"


@pytest.mark.rule("RESUME-2", "RESUME-5")
async def test_a_stolen_token_is_good_for_nobody_else(codec: Codec) -> None:
    async with serving(codec) as (url, friend):
        token = await begun(url, codec)
        assert await tried(url, codec, token, auth="bob") == 4010
        assert await tried(url, codec, token, auth="somebody") == 4501
        assert await tried(url, codec, token, auth=None) == 4501
        await friend.call()
        resumed = await tried(url, codec, token)
        assert isinstance(resumed, dict)
        assert resumed["resumed"]


@pytest.mark.rule("RESUME-5")
async def test_a_token_that_was_replaced_is_good_no_more(codec: Codec) -> None:
    async with serving(codec) as (url, friend):
        old = await begun(url, codec)
        async with raw_link(url, codec) as link:
            resumed = await attempt(link, old, link=2)
            assert isinstance(resumed, dict)
            await link.send(["ack", 0], ["ping", 1])
            await link.next("pong")
        assert await tried(url, codec, old, link=3) == 4010
        await friend.call()
        resumed = await tried(url, codec, resumed["token"], link=4)
        assert isinstance(resumed, dict)


@pytest.mark.rule("RESUME-3")
async def test_of_two_links_with_one_token_the_newer_one_wins(codec: Codec) -> None:
    async with serving(codec) as (url, friend):
        token = await begun(url, codec)
        async with raw_link(url, codec) as first, raw_link(url, codec) as second:
            answers: dict[str, dict[str, Any] | int] = {}

            async def race(name: str, link: RawLink) -> None:
                answers[name] = await attempt(link, token, link=2)

            async with anyio.create_task_group() as group:
                group.start_soon(race, "first", first)
                group.start_soon(race, "second", second)
                group.start_soon(friend.call)
            assert sorted(map(type, answers.values()), key=repr) == [dict, int]
            assert 4506 in answers.values()
            winner = first if isinstance(answers["first"], dict) else second
            # A newer link takes the session from the older one.
            async with raw_link(url, codec) as third:
                assert isinstance(await attempt(third, token, link=3), dict)
                assert await winner.closed() == 4506
                await third.send(["ack", 0], ["ping", 1])
                await third.next("pong")


@pytest.mark.rule("RESUME-2", "RESUME-3", "HELLO-3")
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"received": 1}, 4010),
        ({"received": 2**53}, 4010),
        ({"link": 1}, 4506),
        ({"link": 0}, 4500),
        ({"version": 2}, 4507),
        ({"auth": "expired"}, 4501),
    ],
    ids=repr,
)
async def test_what_does_not_fit_is_not_resumed(fields: dict[str, Any], code: int) -> None:
    codec: Codec = "msgpack"
    async with serving(codec) as (url, friend):
        token = await begun(url, codec)
        assert await tried(url, codec, token, **fields) == code
        await friend.call()


@pytest.mark.rule("RESUME-2")
async def test_a_token_is_good_in_its_own_subprotocol_only(codec: Codec) -> None:
    other: Codec = "msgpack" if codec == "json" else "json"
    async with serving(codec) as (url, friend):
        token = await begun(url, codec)
        assert await tried(url, other, token) == 4010
        await friend.call()


@pytest.mark.rule("RESUME-4")
async def test_a_resume_with_frames_after_it_is_none(codec: Codec) -> None:
    async with serving(codec) as (url, friend):
        token = await begun(url, codec)
        async with raw_link(url, codec) as link:
            hello = ["hello", {"version": 1, "auth": "ann", "link": 2, "token": token}]
            await link.send(hello, ["call", 3, "Target.greet", {"name": "Ann"}])
            assert await link.closed() == 4505
        await friend.call()


@pytest.mark.rule("AUTH-3", "HELLO-7")
async def test_credentials_that_have_expired_end_the_link_and_do_not_resume(codec: Codec) -> None:
    async with serving(codec) as (url, friend):
        assert await tried(url, codec, "", auth="expired") == 4501
        async with raw_link(url, codec) as link:
            hello = await link.hello(auth="brief")
            assert await link.closed() == 4003
        assert await tried(url, codec, hello["token"], auth="expired") == 4501
        resumed = await tried(url, codec, hello["token"], auth="brief")
        assert isinstance(resumed, dict)
        await friend.call()


@pytest.mark.rule("ORIGIN-1")
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://localhost@evil.example",
        "http://localhost:1",
        "null",
        "file://",
        "localhost",
        "",
        "http://localhost http://evil.example",
        "http://[::1",
        "h\xe4\xdf",
    ],
)
async def test_a_page_of_another_origin_gets_no_websocket(origin: str) -> None:
    async with serving("json") as (url, friend):
        assert await refusal(url, "json", Origin=origin) in (400, 403)
        await friend.call()


# ------------------------------------------------------------------------------ credentials in URLs


@pytest.mark.rule("HELLO-7", "RESUME-1")
async def test_neither_credentials_nor_tokens_go_into_urls_or_headers(codec: Codec) -> None:
    """Both travel in the hello."""
    seen: list[Handshake] = []

    async def look(handshake: Handshake, auth: Any) -> str:
        seen.append(handshake)
        assert auth == "hunter2"
        return "ann"

    server = wsrpc.Server([Target()], limits=wsrpc.Limits(close_timeout=0.5), authenticate=look)
    with soon():
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, codec=codec, auth="hunter2") as session:
                token = wire_of(session).endpoint.token
                assert token
                link = wire_of(session).link
                assert link is not None
                await link.close(1001)
                while len(seen) < 2:
                    await anyio.sleep(0.01)
                await session.clientize(Target).greet("Ann")
    for handshake in seen:
        told = f"{handshake.path} {dict(handshake.headers)}"
        assert "hunter2" not in told
        assert token not in told


@pytest.mark.parametrize(
    "url",
    [
        "ws://ann:hunter2@127.0.0.1:1/path?token=hunter2",
        "ws://hunter2@127.0.0.1:1",
        "ws://127.0.0.1:1/?a=b&token=hunter2#x",
        "http://ann:hunter2@127.0.0.1/",
        "ws://ann:hunter2@[::1",
        "ws://ann:hunter2@127.0.0.1:1/a@b?c=hunter2",
    ],
)
async def test_what_is_secret_in_a_url_is_in_no_message(url: str) -> None:
    with soon(), pytest.raises(wsrpc.ConnectError) as caught:
        async with wsrpc.connect(url, reconnect=False):
            pass
    assert "hunter2" not in str(caught.value)
    assert "://" in str(caught.value)
