"""However a call ends, the session gives back the bytes that it has held for the call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import anyio
import pytest

import wsrpc
from tests.support import pair, until, wire_of

LARGE = "x" * 20_000
HUGE = "x" * 150_000
ITEMS = 20


class Store:
    def __init__(self) -> None:
        self.seen = anyio.Event()
        self.go = anyio.Event()

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[str]:
        for _ in range(n):
            yield LARGE

    @wsrpc.method
    async def grown(self, stubborn: bool) -> AsyncIterator[str]:
        """Small items, then large ones at once, so that some lack credit; then it waits."""
        try:
            for _ in range(100):
                yield ""
            for _ in range(ITEMS):
                yield HUGE
            await self.go.wait()
        except anyio.get_cancelled_exc_class():
            if not stubborn:
                raise

    @wsrpc.method
    async def one_wrong(self) -> AsyncIterator[object]:
        for i in range(ITEMS):
            yield 7 if i == 3 else LARGE

    @wsrpc.method
    async def grows(self) -> AsyncIterator[str]:
        for text in ("x", "x", "x" * 70_000, "x", "x"):
            yield text

    @wsrpc.method
    async def one_by_one(self, last: object) -> AsyncIterator[object]:
        """Small items that come by themselves, since it waits before each."""
        for item in ("a", "b", last):
            yield item
            await self.go.wait()

    @wsrpc.method
    async def then_fails(self) -> AsyncIterator[str]:
        for _ in range(ITEMS):
            yield LARGE
        raise wsrpc.RpcError("aborted", "enough")

    @wsrpc.method
    async def upload(self, texts: AsyncIterator[str], how: str) -> None:
        if how == "read":
            assert [text async for text in texts] == [LARGE] * ITEMS
            return
        assert await anext(texts) == LARGE
        self.seen.set()
        if how == "fail":
            raise wsrpc.RpcError("aborted", "enough")
        if how == "wait":
            await anyio.sleep_forever()

    @wsrpc.method
    async def take(self, text: str, fail: bool) -> None:
        if fail:
            raise wsrpc.RpcError("aborted", "no")

    @wsrpc.method
    async def hold(self, text: str) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def ask(self, answer: Callable[[str], Awaitable[str]]) -> str:
        return await answer(LARGE)


class Typed(Store):
    controller_name = "Store"

    @wsrpc.method
    async def one_wrong(self) -> AsyncIterator[str]:
        yield ""

    @wsrpc.method
    async def one_by_one(self, last: object) -> AsyncIterator[str]:
        yield ""


def taken(session: wsrpc.Session) -> int:
    """Bytes of values that a session has handed over and still holds."""
    return wire_of(session).hub.taken


async def some_items(stream: wsrpc.Stream[str], session: wsrpc.Session) -> None:
    """Take one item, and wait until others are held."""
    assert await anext(stream) == LARGE
    await until(lambda: taken(session) > 2 * len(LARGE))


@pytest.mark.parametrize(
    "ending", ["read", "left", "cancelled", "dropped", "timeout", "fails", "wrong"]
)
async def test_the_items_of_a_stream_are_held_until_it_ends_in_one_way_or_another(
    ending: str,
) -> None:
    async with pair([Store()]) as (_, client):
        store = client.clientize(Typed)
        if ending == "read":
            assert await store.items(ITEMS).collect() == [LARGE] * ITEMS
        elif ending == "left":
            async with store.items(ITEMS) as stream:
                await some_items(stream, client)
        elif ending == "cancelled":
            stream = store.items(ITEMS)
            await some_items(stream, client)
            stream.cancel()
        elif ending == "dropped":
            stream = store.items(ITEMS)
            await some_items(stream, client)
            del stream
        elif ending == "timeout":
            stream = client.clientize(Typed, timeout=0.3).items(1000)
            await some_items(stream, client)
            with pytest.raises(wsrpc.DeadlineExceeded):
                while True:
                    await anyio.sleep(0.4)
                    await anext(stream)
        elif ending == "fails":
            with pytest.raises(wsrpc.RpcError, match="enough"):
                await store.then_fails().collect()
        else:
            stream = store.one_wrong()
            for _ in range(3):
                await some_items(stream, client)
            with pytest.raises(wsrpc.RpcError):
                await anext(stream)
        await until(lambda: taken(client) == 0)


@pytest.mark.parametrize("overflow", ["latest", "drop_oldest", "fail"])
@pytest.mark.parametrize("ending", ["read", "cancelled"])
async def test_items_that_may_be_dropped_count_as_held_until_they_are_taken_or_dropped(
    overflow: wsrpc.Overflow, ending: str
) -> None:
    async with pair([Store()]) as (_, client):
        store = client.clientize(Typed, overflow=overflow)
        # More than there is room for, unless the stream would fail.
        stream = store.items(10 if overflow == "fail" else ITEMS)
        assert await anext(stream) == LARGE
        if overflow != "latest":
            # Of it, at most the last item waits.
            await until(lambda: taken(client) >= len(LARGE))
        if ending == "cancelled":
            stream.cancel()
        else:
            async for _ in stream:
                assert taken(client) >= 0
        await until(lambda: taken(client) == 0)


@pytest.mark.parametrize("ending", ["read", "dropped", "wrong"])
async def test_an_item_that_comes_by_itself_is_held_until_it_is_taken(ending: str) -> None:
    service = Store()
    async with pair([service]) as (_, client):
        with anyio.fail_after(10):
            stream = client.clientize(Typed).one_by_one(7 if ending == "wrong" else "c")
            assert await anext(stream) == "a"
            assert taken(client) == 0
            service.go.set()
            await until(lambda: taken(client) > 0)
            if ending == "dropped":
                stream.cancel()
            elif ending == "read":
                assert [item async for item in stream] == ["b", "c"]
            else:
                assert await anext(stream) == "b"
                with pytest.raises(wsrpc.RpcError, match="string"):
                    await anext(stream)
            await until(lambda: taken(client) == 0)


async def test_an_item_that_lacks_credit_is_held_at_its_producer_until_the_stream_ends() -> None:
    """It was gathered with a large item before it, which has cost the credit for it."""
    async with pair([Store()]) as (server, client):
        async with client.clientize(Store, window=4).grows() as stream:
            assert await anext(stream) == "x"
            await until(lambda: taken(server) > 0)
        await until(lambda: taken(server) == 0)


@pytest.mark.parametrize("ending", ["read", "left", "left, but its source goes on", "lost"])
async def test_items_that_have_to_wait_for_credit_are_held_until_they_go_or_their_stream_ends(
    ending: str,
) -> None:
    store = Store()
    # Seconds. A stream that is stopped waits for none of its items: nothing here takes so long.
    limits = wsrpc.Limits(cleanup_timeout=30)
    # A window that does not grow, so that half of the large items wait until others are taken.
    steady = wsrpc.Limits(window_bytes=64)
    async with pair([store], limits=limits, client_limits=steady) as (server, client):
        async with client.clientize(Store).grown(ending.endswith("on")) as stream:
            for _ in range(100):
                assert await anext(stream) == ""
            await until(lambda: taken(server) >= len(HUGE))
            if ending == "read":
                store.go.set()
                assert await stream.collect() == [HUGE] * ITEMS
            elif ending == "lost":
                await client.aclose()
        await until(lambda: taken(server) == 0)


@pytest.mark.parametrize("how", ["read", "leave", "fail", "wait"])
async def test_the_items_of_an_upload_are_held_until_its_call_ends(how: str) -> None:
    store = Store()

    async def texts() -> AsyncIterator[str]:
        for _ in range(ITEMS):
            yield LARGE

    async with pair([store]) as (server, client):
        call = client.clientize(Store).upload(texts(), how)
        if how == "wait":
            async with anyio.create_task_group() as group:

                async def wait() -> None:
                    await call

                group.start_soon(wait)
                await store.seen.wait()
                await until(lambda: taken(server) > 2 * len(LARGE))
                group.cancel_scope.cancel()
        else:
            with suppress(wsrpc.RpcError):
                await call
        await until(lambda: taken(server) == 0)


@pytest.mark.parametrize("ending", ["result", "error", "cancelled"])
async def test_arguments_are_held_until_their_call_ends(ending: str) -> None:
    async with pair([Store()]) as (server, client):
        store = client.clientize(Store)
        if ending == "cancelled":
            with anyio.move_on_after(5):
                async with anyio.create_task_group() as group:

                    async def hold() -> None:
                        await store.hold(LARGE)

                    group.start_soon(hold)
                    await until(lambda: taken(server) >= len(LARGE))
                    group.cancel_scope.cancel()
        else:
            with suppress(wsrpc.RpcError):
                await store.take(LARGE, ending == "error")
        await until(lambda: taken(server) == 0)


async def test_arguments_of_a_callback_are_held_until_it_ends() -> None:
    held: list[int] = []
    async with pair([Store()]) as (_, client):

        async def answer(text: str) -> str:
            held.append(taken(client))
            return text

        assert await client.clientize(Store).ask(answer) == LARGE
        assert held[0] >= len(LARGE)
        await until(lambda: taken(client) == 0)
