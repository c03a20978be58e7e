"""Sessions that are above their bound on memory, since nobody reads their streams."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec
from tests.support import virtual_anyio_backend as anyio_backend  # noqa: F401
from wsrpc.testing.pairs import connected_pair

MIB = 2**20
ITEM = 60_000
STREAMS = 50

# Their first windows alone, of 32 items each, are 11 times the bound.
LIMITS = wsrpc.Limits(max_session_bytes=8 * MIB, max_principal_bytes=1024 * MIB)


@asynccontextmanager
async def long_pair(**options: Any) -> AsyncIterator[Any]:
    """A pair for a service, and a proxy of it; virtual minutes may pass."""
    with anyio.fail_after(1000):
        async with connected_pair(**options) as (_, client):
            yield client.clientize(Pictures, timeout=900)
            assert client.state == "connected"


class Pictures:
    @wsrpc.method
    async def show(self, items: int) -> AsyncIterator[str]:
        for _ in range(items):
            yield "x" * ITEM

    @wsrpc.method
    async def panorama(self, items: int) -> AsyncIterator[str]:
        for _ in range(items):
            yield "x" * (MIB - 100)

    @wsrpc.method
    async def look(self, pictures: AsyncIterator[str]) -> None:
        """Take one of them."""
        async for _ in pictures:
            await anyio.sleep_forever()

    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"


async def opened(proxy: Any, items: int, take: int = 1) -> list[wsrpc.Stream[str]]:
    """Streams of which a few items were taken."""

    async def begin(stream: wsrpc.Stream[str]) -> None:
        for _ in range(take):
            await anext(stream)

    streams = [proxy.show(items) for _ in range(STREAMS)]
    async with anyio.create_task_group() as group:
        for stream in streams:
            group.start_soon(begin, stream)
    return streams


async def drained(streams: list[wsrpc.Stream[str]], taken: int = 1) -> list[int | str]:
    """The number of items that each stream had, or its error."""
    found: list[int | str] = []
    for stream in streams:
        items = taken
        try:
            async for _ in stream:
                items += 1
            found.append(items)
        except wsrpc.RpcError as error:
            found.append(str(error))
    return found


def assert_some_were_ended(outcomes: list[int | str], items: int, label: str) -> None:
    """As many streams as fit were kept, and have lost nothing."""
    kept = outcomes.count(items)
    assert 0 < kept <= 8 * MIB // ITEM
    errors = {outcome for outcome in outcomes if outcome != items}
    assert len(outcomes) == STREAMS
    for error in errors:
        told = (
            f"resource_exhausted: {label}: its items were not taken for (10|5) s, while the session"
        )
        assert re.match(told, str(error))
        assert "Limits.max_session_bytes" in str(error)


@pytest.mark.rule("OUT-4")
@pytest.mark.parametrize("items", [30, 100], ids=["ended", "open"])
async def test_streams_that_nobody_reads_end_with_an_error_and_the_session_goes_on(
    codec: Codec, items: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with long_pair(controllers=[Pictures()], codec=codec, client_limits=LIMITS) as proxy:
        streams = await opened(proxy, items)
        await anyio.sleep(60)
        assert "streams of its calls that nobody has read meanwhile" in caplog.text
        with anyio.fail_after(5):
            assert await proxy.greet("Ann") == "Hello, Ann!"
        assert_some_were_ended(await drained(streams), items, "Pictures.show")
        assert await proxy.show(items).collect() == ["x" * ITEM] * items


@pytest.mark.rule("OUT-4")
@pytest.mark.parametrize("take", [2, 5])
async def test_streams_that_are_read_no_more_end_before_the_peer_gives_up_the_connection(
    codec: Codec, take: int
) -> None:
    async with long_pair(controllers=[Pictures()], codec=codec, client_limits=LIMITS) as proxy:
        streams = await opened(proxy, 100, take)
        await anyio.sleep(60)
        with anyio.fail_after(5):
            assert await proxy.greet("Ann") == "Hello, Ann!"
        assert_some_were_ended(await drained(streams, take), 100, "Pictures.show")


@pytest.mark.rule("OUT-4")
async def test_streams_whose_items_are_worked_on_for_long_do_not_count_as_unread(
    codec: Codec,
) -> None:
    """Their items come to ten times the bound, and the application has got all of them."""
    limits = wsrpc.Limits(max_session_bytes=MIB, max_principal_bytes=1024 * MIB, max_value=MIB)
    async with long_pair(controllers=[Pictures()], codec=codec, client_limits=limits) as proxy:
        seen: list[int] = []

        async def work(stream: wsrpc.Stream[str]) -> None:
            async for item in stream:
                seen.append(len(item))
                await anyio.sleep(25)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(work, proxy.panorama(1))
        assert seen == [MIB - 100] * 10


@pytest.mark.rule("OUT-4")
async def test_a_stream_that_is_read_slowly_goes_on_beside_streams_that_nobody_reads(
    codec: Codec,
) -> None:
    async with long_pair(controllers=[Pictures()], codec=codec, client_limits=LIMITS) as proxy:
        slow = proxy.show(20)
        streams: list[wsrpc.Stream[str]] = []

        async def read() -> None:
            async for _ in slow:
                await anyio.sleep(4)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            streams = await opened(proxy, 100)
        assert_some_were_ended(await drained(streams), 100, "Pictures.show")


@pytest.mark.rule("OUT-4")
async def test_a_server_that_does_not_read_its_own_streams_from_a_client_keeps_the_session(
    codec: Codec,
) -> None:
    with anyio.fail_after(1000):
        async with connected_pair(client_controllers=[Pictures()], codec=codec, limits=LIMITS) as (
            server,
            client,
        ):
            proxy = server.clientize(Pictures, timeout=900)
            streams = await opened(proxy, 100)
            await anyio.sleep(60)
            assert client.state == "connected"
            assert_some_were_ended(await drained(streams), 100, "Pictures.show")


@pytest.mark.rule("OUT-4")
async def test_a_session_whose_uploads_no_handler_reads_still_ends(codec: Codec) -> None:
    async def items() -> AsyncIterator[str]:
        for _ in range(100):
            yield "x" * ITEM

    with anyio.fail_after(1000):
        async with connected_pair([Pictures()], codec=codec, limits=LIMITS) as (_, client):
            proxy = client.clientize(Pictures, timeout=900)
            with pytest.raises(ExceptionGroup) as caught:
                async with anyio.create_task_group() as group:
                    for _ in range(STREAMS):
                        group.start_soon(proxy.look, items())
            assert caught.group_contains(wsrpc.ConnectionLost)
