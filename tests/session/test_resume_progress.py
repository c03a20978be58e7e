"""A session makes progress however its connections are cut, and however soon."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import wsrpc
from tests.proxy import resetting_proxy
from tests.support import Codec, served, soon, until
from wsrpc.backoff import Backoff
from wsrpc.testing.pairs import connected_pair


class Work:
    """Handlers that count how often they run."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    @wsrpc.method
    async def once(self, n: int) -> int:
        self.ran.append(n)
        return n

    @wsrpc.method
    async def lines(self, n: int, size: int) -> AsyncIterator[str]:
        for i in range(n):
            yield f"{i}:".ljust(size, "x")

    @wsrpc.method
    async def total(self, lines: AsyncIterator[str]) -> int:
        return sum([len(line) async for line in lines])

    @wsrpc.method(oneway=True)
    async def note(self, n: int) -> None:
        self.ran.append(n)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting sides come back at once."""
    monkeypatch.setattr(Backoff, "next", lambda self, floor=None: 0.0)


@pytest.mark.rule("RESUME-4", "RESUME-9")
@pytest.mark.parametrize("budget", [60_000, 25_000])
async def test_after_a_resume_the_hello_is_sent_in_a_message_of_its_own_and_every_link_that_lasts_long_enough_for_a_hello_and_one_frame_makes_progress(
    codec: Codec, budget: int
) -> None:
    """A proxy cuts each connection after so many bytes from the server."""
    async with served([Work()]) as listener, resetting_proxy(listener.url) as proxy:
        async with wsrpc.connect(proxy.url, codec=codec) as session:
            begun = session.id
            await until(lambda: listener.server.sessions[begun].state == "connected")
            proxy.budget = budget
            work = session.clientize(Work)
            got = [len(line) async for line in work.lines(400, 2_000)]
            assert got == [2_000] * 400
            proxy.budget = None
            assert session.id == begun, "the same session to the end"
            assert proxy.resets > 10


@pytest.mark.rule("RESUME-4", "RESUME-9")
async def test_the_same_holds_for_what_the_client_sends(codec: Codec) -> None:
    async with served([Work()]) as listener, resetting_proxy(listener.url) as proxy:
        async with wsrpc.connect(proxy.url, codec=codec) as session:
            begun = session.id
            proxy.upward = 60_000

            async def lines() -> AsyncIterator[str]:
                for _ in range(400):
                    yield "x" * 2_000

            assert await session.clientize(Work).total(lines()) == 800_000
            proxy.upward = None
            assert session.id == begun, "the same session to the end"
            assert proxy.resets > 10


@pytest.mark.rule("RESUME-9")
@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("budget", [2_000, 6_000])
async def test_items_are_gathered_in_frames_that_a_short_link_lets_through(
    codec: Codec, budget: int, upward: bool
) -> None:
    """From the first connection on: a frame goes again as it was."""
    async with served([Work()]) as listener, resetting_proxy(listener.url) as proxy:
        if upward:
            proxy.upward = budget
        else:
            proxy.budget = budget

        async def lines() -> AsyncIterator[str]:
            for _ in range(200):
                yield "x" * 100

        async with wsrpc.connect(proxy.url, codec=codec) as session:
            begun = session.id
            work = session.clientize(Work)
            if upward:
                assert await work.total(lines()) == 20_000
            else:
                assert [len(line) async for line in work.lines(200, 100)] == [100] * 200
            proxy.budget = proxy.upward = None
            assert session.id == begun, "the same session to the end"
            assert proxy.resets > 2


@pytest.mark.rule("RESUME-9")
async def test_a_session_that_ends_since_its_links_carry_nothing_says_so(codec: Codec) -> None:
    async with served([Work()]) as listener, resetting_proxy(listener.url) as proxy:
        async with wsrpc.connect(proxy.url, codec=codec) as session:
            await session.clientize(Work).once(1)
            proxy.upward = 10_000
            proxy.reset()
            with pytest.raises(wsrpc.ConnectionLost, match="each of its last five connections"):
                await session.clientize(Work).total(wsrpc.stream_of(["x" * 30_000]))


@pytest.mark.rule("RESUME-5")
async def test_a_link_lost_before_the_clients_first_ack_arrives_loses_nothing_either(
    codec: Codec,
) -> None:
    work = Work()
    pair = connected_pair([work], codec=codec, reconnect=True)
    pair.cut(before="ack", sender="connecting")
    results: list[int] = []
    with soon():
        async with pair as (_, client):

            async def call(n: int) -> None:
                results.append(await client.clientize(Work).once(n))

            async with anyio.create_task_group() as group:
                for n in range(80):
                    group.start_soon(call, n)
    assert pair.cuts == 1
    assert sorted(results) == sorted(work.ran) == [*range(80)]


@pytest.mark.rule("RESUME-5")
async def test_notifications_streams_and_uploads_survive_it_as_well(codec: Codec) -> None:
    work = Work()
    pair = connected_pair([work], codec=codec, reconnect=True)
    pair.cut(before="ack", sender="connecting")

    async def lines() -> AsyncIterator[str]:
        for _ in range(10):
            yield "abc"

    with soon():
        async with pair as (_, client):
            remote = client.clientize(Work)
            await remote.note(7)
            assert len([line async for line in remote.lines(20, 10)]) == 20
            assert await remote.total(lines()) == 30
    assert (pair.cuts, work.ran) == (1, [7])
