"""What a handler knows of its call, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, Wire, bare_client, error_of, pair, served, until
from wsrpc.testing import connected_pair

user: ContextVar[str] = ContextVar("user", default="nobody")


class Who:
    def __init__(self) -> None:
        self.contexts: list[wsrpc.CallContext] = []

    @wsrpc.method
    async def am_i(self) -> dict[str, object]:
        context = wsrpc.current()
        self.contexts.append(context)
        return {
            "session": context.session.id,
            "controller": context.controller,
            "method": context.method,
            "call_id": context.call_id,
            "metadata": dict(context.metadata),
            "principal": context.principal,
            "key": context.key,
            "last_id": context.last_id,
        }

    @wsrpc.method
    async def stream(self) -> AsyncIterator[dict[str, object]]:
        yield await self.am_i()
        await anyio.sleep(0)
        yield await self.am_i()

    @wsrpc.method
    async def user(self) -> str:
        seen = user.get()
        user.set("changed by a handler")
        return seen

    @wsrpc.method
    async def users(self, n: int) -> AsyncIterator[str]:
        for _ in range(n):
            yield user.get()

    @wsrpc.method
    async def metadata_of_callback(self, asked: bool) -> list[object]:
        """What the caller's `Who` gets as metadata, without and with being asked for it."""
        who = wsrpc.current().session.clientize(Who)
        found: list[object] = [(await who.am_i())["metadata"]]
        if asked:
            with wsrpc.metadata(wsrpc.current().metadata):
                found.append((await who.am_i())["metadata"])
        return found

    @wsrpc.method
    async def upload(self, items: AsyncIterator[str]) -> list[str]:
        return [item async for item in items]

    @wsrpc.method(oneway=True)
    async def note(self) -> None:
        self.contexts.append(wsrpc.current())

    @wsrpc.method
    async def background(self) -> None:
        """Leaves its context to code that runs later."""
        self.contexts.append(wsrpc.current())

    @wsrpc.method
    async def change(self) -> None:
        metadata: Any = wsrpc.current().metadata
        metadata["more"] = "x"


async def test_a_handler_knows_its_session_controller_method_id_and_principal(
    codec: Codec,
) -> None:
    async with pair([Who()], codec=codec, principal={"name": "Ann"}) as (server, client):
        found = await client.clientize(Who).am_i()
        assert found == {
            "session": server.id,
            "controller": "Who",
            "method": "am_i",
            "call_id": 1,
            "metadata": {},
            "principal": {"name": "Ann"},
            "key": None,
            "last_id": None,
        }
        assert [one["call_id"] for one in await client.clientize(Who).stream().collect()] == [3, 3]


@pytest.mark.rule("CALL-7")
async def test_key_and_last_id_reach_the_handler_as_they_were_sent() -> None:
    async with bare_client(wsrpc.Server([Who()])) as peer:
        options = {"key": "abc", "last_id": "42", "metadata": {"a": "1", "": "\u2028"}}
        await peer.send(["call", 1, "Who.am_i", {}, options])
        _, _, found = await peer.expect("result")
    assert found["key"] == "abc"
    assert found["last_id"] == "42"
    assert found["metadata"] == {"a": "1", "": "\u2028"}


def test_outside_of_a_handler_there_is_no_current_call() -> None:
    with pytest.raises(RuntimeError, match="no call is being handled"):
        wsrpc.current()


async def test_outside_of_a_handler_there_is_no_current_call_on_a_loop_either() -> None:
    async with pair([Who()]) as (_, client):
        await client.clientize(Who).am_i()
        with pytest.raises(RuntimeError, match="no call is being handled"):
            wsrpc.current()


# ------------------------------------------------------------------------------------ metadata


async def test_metadata_comes_from_the_proxy_and_from_the_block_around_the_call(
    codec: Codec,
) -> None:
    async with pair([Who()], codec=codec) as (_, client):

        async def sent(proxy: Who) -> object:
            return (await proxy.am_i())["metadata"]

        plain, tagged = client.clientize(Who), client.clientize(Who, metadata={"a": "1", "b": "1"})
        assert await sent(plain) == {}
        assert await sent(tagged) == {"a": "1", "b": "1"}
        with wsrpc.metadata({"c": "2"}, d="2"):
            assert await sent(plain) == {"c": "2", "d": "2"}
            with wsrpc.metadata(c="3"):
                assert await sent(plain) == {"c": "3", "d": "2"}
                assert await sent(tagged) == {"a": "1", "b": "1", "c": "3", "d": "2"}
            assert await sent(plain) == {"c": "2", "d": "2"}
        assert await sent(plain) == {}


async def test_metadata_travels_with_streams_notifications_and_uploads() -> None:
    who = Who()
    async with pair([who]) as (_, client):
        proxy = client.clientize(Who, metadata={"a": "1"})
        assert [one["metadata"] for one in await proxy.stream().collect()] == [{"a": "1"}] * 2
        with wsrpc.metadata(b="2"):
            await proxy.note()
        await until(lambda: len(who.contexts) == 3)
        assert dict(who.contexts[2].metadata) == {"a": "1", "b": "2"}


async def test_metadata_of_the_connection_travels_with_every_call() -> None:
    async with served([Who()]) as listener:
        async with wsrpc.connect(listener.url, metadata={"a": "1"}) as session:
            assert (await session.clientize(Who).am_i())["metadata"] == {"a": "1"}
            tagged = session.clientize(Who, metadata={"b": "2"})
            assert (await tagged.am_i())["metadata"] == {"a": "1", "b": "2"}


@pytest.mark.rule("CALL-7")
async def test_metadata_is_inherited_by_nothing_unless_asked() -> None:
    async with pair([Who()], [Who()]) as (_, client):
        with wsrpc.metadata(token="secret"):
            found = await client.clientize(Who).metadata_of_callback(True)
    assert found == [{}, {"token": "secret"}]


async def test_metadata_is_read_only() -> None:
    async with pair([Who()]) as (_, client):
        for metadata in ({}, {"a": "1"}):
            with error_of("internal"):
                await client.clientize(Who, metadata=metadata).change()


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": None}])
async def test_metadata_that_is_no_map_of_strings_is_a_type_error(metadata: Any) -> None:
    async with pair([Who()]) as (_, client):
        with pytest.raises(TypeError, match="strings"):
            client.clientize(Who, metadata=metadata)
        with pytest.raises(TypeError, match="strings"):
            with wsrpc.metadata(metadata):
                pass
    with pytest.raises(TypeError, match="strings"):
        wsrpc.connect("ws://localhost", metadata=metadata)


async def test_metadata_that_is_no_unicode_is_refused_where_it_is_set() -> None:
    async with pair([Who()]) as (_, client):
        with pytest.raises(ValueError, match="surrogate"):
            client.clientize(Who, metadata={"a": "\ud800"})
        with pytest.raises(ValueError, match="surrogate"):
            with wsrpc.metadata(a="\ud800"):
                pass
        assert (await client.clientize(Who).am_i())["metadata"] == {}


async def test_too_much_metadata_fails_the_call_alone(wire: Wire) -> None:
    async with pair([Who()], limits=wsrpc.Limits(max_metadata=100)) as (_, client):
        with error_of("resource_exhausted"):
            await client.clientize(Who, metadata={"a": "x" * 100}).am_i()
        assert (await client.clientize(Who).am_i())["metadata"] == {}
    assert len(wire.frames("call")) == 1


# ------------------------------------------------------------------------------------ context variables


async def test_handlers_do_not_see_the_callers_context_variables_nor_each_others() -> None:
    async with pair([Who()]) as (_, client):
        token = user.set("Ann")
        try:
            who = client.clientize(Who)
            assert await who.user() == "nobody"
            assert await who.user() == "nobody"
            assert await who.users(2).collect() == ["nobody"] * 2
        finally:
            user.reset(token)


async def test_uploads_run_with_the_context_variables_of_their_caller() -> None:
    async def names() -> AsyncIterator[str]:
        for _ in range(2):
            yield user.get()
            user.set("changed by the upload")
            with pytest.raises(RuntimeError):
                wsrpc.current()

    async with pair([Who()]) as (_, client):
        token = user.set("Ann")
        try:
            proxy = client.clientize(Who)
            assert await proxy.upload(names()) == ["Ann", "changed by the upload"]
            assert user.get() == "Ann"
        finally:
            user.reset(token)


@pytest.mark.rule("SLOT-3")
async def test_a_call_made_by_an_upload_or_from_a_callback_is_no_ones_child() -> None:

    async def names() -> AsyncIterator[str]:
        yield str((await who.am_i())["call_id"])

    async with pair([Who()]) as (_, client):
        who = client.clientize(Who)
        assert await who.upload(names()) == ["5"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handlers_task_on_asyncio_has_the_name_of_its_method() -> None:
    class Named:
        @wsrpc.method
        async def task(self) -> str | None:
            current = asyncio.current_task()
            return None if current is None else current.get_name()

    async with connected_pair([Named()]) as (_, client):
        assert await client.clientize(Named).task() == "Named.task"


async def test_the_context_of_a_call_outlives_it() -> None:
    who = Who()
    async with pair([who], [Who()]) as (_, client):
        await client.clientize(Who, metadata={"a": "1"}).background()
        context = who.contexts[0]
        assert (await context.session.clientize(Who).am_i())["controller"] == "Who"
        assert dict(context.metadata) == {"a": "1"}
        assert "Who.background" in repr(context)


class User:
    name = "ann"


class Judged:
    tags = {"shop"}

    def __init__(self) -> None:
        self.seen: list[frozenset[str]] = []

    @wsrpc.method(tags={"admin"})
    async def close(self) -> str:
        self.seen.append(wsrpc.current().tags)
        return wsrpc.current(User).principal.name

    @wsrpc.method
    async def wrong(self) -> str:
        return wsrpc.current(int).principal.__class__.__name__


async def test_tags_are_visible_in_callcontext_and_request(codec: Codec) -> None:
    seen: dict[str, frozenset[str]] = {}

    async def note(request: wsrpc.Request, call_next: wsrpc.Next, /) -> Any:
        seen[request.direction] = request.tags
        return await call_next(request)

    async def authorize(call: wsrpc.CallContext) -> bool:
        seen["authorize"] = call.tags
        return True

    judged = Judged()
    async with connected_pair(
        [judged],
        codec=codec,
        authorize=authorize,
        interceptors=[note],
        client_interceptors=[note],
        principal=User(),
    ) as (_, client):
        assert await client.clientize(Judged).close() == "ann"
        contract = {"name": "Judged", "methods": {"close": {"kind": "unary", "tags": ["x"]}}}
        assert {key: {"shop", "admin"} for key in ("authorize", "inbound", "outbound")} == seen
        assert judged.seen == [{"shop", "admin"}]
        await client.clientize(contract).close()
        assert seen["outbound"] == {"x"}
        await client.clientize("Judged").close()
        assert seen["outbound"] == frozenset()


async def test_the_principal_is_of_the_class_that_the_handler_names(codec: Codec) -> None:
    async with connected_pair([Judged()], codec=codec, principal=User(), debug=True) as (_, client):
        with pytest.raises(wsrpc.RpcError, match="is User, not int"):
            await client.clientize(Judged).wrong()


PRIVATE_PARTS = {
    "wire_opened",
    "wire_detached",
    "give_up",
    "ready",
    "drain",
    "route",
    "wire",
    "parent_in",
    "end",
    "begin_call",
    "finish",
    "idle",
}


async def test_private_parts_do_not_appear_after_session_in_an_editor() -> None:
    seen: list[set[str]] = []

    class Shown:
        @wsrpc.method
        async def look(self) -> None:
            seen.append({name for name in dir(wsrpc.current()) if not name.startswith("_")})

    async with pair([Shown()]) as (server, client):
        await client.clientize(Shown).look()
        for session in (server, client):
            shown = {name for name in dir(session) if not name.startswith("_")}
            assert not shown & PRIVATE_PARTS
            assert {"clientize", "principal", "aclose", "states"} <= shown
        assert not seen[0] & PRIVATE_PARTS
        assert not set(dir(wsrpc.Stats())) & PRIVATE_PARTS
        # What type checkers and editors see is the interface.
        assert not set(dir(wsrpc.Session)) & PRIVATE_PARTS
