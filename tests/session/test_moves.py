"""Two servers that know nothing of each other: clients that move, and servers that go meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.hostile.raw import raw_link
from tests.proxy import resetting_proxy
from tests.support import Codec, served, soon, until
from wsrpc.backoff import Backoff
from wsrpc.transport.registry import Transport


class Place:
    def __init__(self, name: str) -> None:
        self.name = name
        self.ran: list[str] = []

    @wsrpc.method
    async def where(self) -> str:
        self.ran.append("where")
        return self.name

    @wsrpc.method
    async def wait(self) -> None:
        self.ran.append("wait")
        await anyio.sleep_forever()

    @wsrpc.method(idempotent=True)
    async def look(self) -> str:
        self.ran.append("look")
        if self.name == "first":
            await anyio.sleep_forever()
        return self.name

    @wsrpc.method
    async def count(self) -> AsyncIterator[int]:
        n = 0
        while True:
            yield n
            n += 1

    @wsrpc.method
    async def take(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting sides come back at once."""
    monkeypatch.setattr(Backoff, "next", lambda self, floor=None: 0.0)


@pytest.mark.rule("RESUME-2", "CLOSE-1")
@pytest.mark.usefixtures("quick")
async def test_a_client_that_comes_back_to_another_server_begins_a_session_there_and_is_told_why(
    codec: Codec, transport: Transport
) -> None:
    first, second = Place("first"), Place("second")
    changes: list[wsrpc.StateChange] = []
    errors: dict[str, wsrpc.RpcError[Any]] = {}
    async with served([first]) as one, served([second]) as two:
        async with resetting_proxy(one.url) as proxy:
            async with wsrpc.connect(
                proxy.url, codec=codec, on_state=lambda session, change: changes.append(change)
            ) as session:
                place = session.clientize(Place, timeout=None)
                assert await place.where() == "first"
                before = session.id
                stream = place.count()
                assert await anext(stream) == 0

                async def items() -> AsyncIterator[int]:
                    yield 1
                    await anyio.sleep_forever()

                async def fails(name: str, call: Any) -> None:
                    with pytest.raises(wsrpc.RpcError) as caught:
                        await call
                    errors[name] = caught.value

                async def looks() -> None:
                    # It may be made again, since it is idempotent.
                    assert await place.look() == "second"

                async with anyio.create_task_group() as group:
                    group.start_soon(fails, "wait", place.wait())
                    group.start_soon(fails, "take", place.take(items()))
                    group.start_soon(looks)
                    await until(lambda: {"wait", "look"} <= set(first.ran))
                    proxy.target = two.url
                    proxy.reset()
                    await until(lambda: session.id != before)

                    async def drains() -> None:
                        async for _ in stream:
                            pass

                    await fails("count", drains())
                assert await place.where() == "second"
            for name, error in errors.items():
                assert error.code == "unavailable", name
                assert not error.not_started, name
                assert "4010" in str(error), str(error)
            assert sorted(errors) == ["count", "take", "wait"]
            assert second.ran == ["look", "where"]
        # The first server keeps the session until its time is up; nobody comes for it.
        for left in one.server.sessions.values():
            assert left.state == "detached"
            await left.aclose()


@pytest.mark.rule("RESUME-2", "HELLO-1")
@pytest.mark.usefixtures("quick")
async def test_of_two_addresses_the_next_one_takes_the_session_over_after_4010(
    codec: Codec,
) -> None:
    first, second = Place("first"), Place("second")
    async with served([first]) as one, served([second]) as two:
        async with resetting_proxy(one.url) as proxy:
            async with wsrpc.connect([proxy.url, two.url], codec=codec) as session:
                place = session.clientize(Place)
                assert await place.where() == "first"
                before = session.id
                proxy.open = False
                proxy.reset()
                await until(lambda: session.state != "connected")
                # Made while there is no connection: it has not begun anywhere, so it moves.
                assert await place.where() == "second"
                assert session.id != before
                # And back: the first knows neither of the tokens of the second.
                proxy.open = True
                await two.server.drain(grace=0)
                assert await place.where() == "first"
        for left in one.server.sessions.values():
            await left.aclose()


async def test_a_token_of_one_server_is_worth_nothing_at_another(codec: Codec) -> None:
    async with served([Place("first")]) as one, served([Place("second")]) as two:
        async with raw_link(one.url, codec) as link:
            body = await link.hello()
        async with raw_link(two.url, codec) as link:
            resume = {"token": body["token"], "received": 0, "link": 2}
            await link.send(["hello", {"version": 1, "window": 32, **resume}])
            assert await link.closed() == 4010


async def test_a_listener_that_is_cancelled_while_clients_connect_lets_go_of_all_of_them(
    transport: Transport,
) -> None:
    ended = 0

    async def client(url: str) -> None:
        nonlocal ended
        try:
            async with wsrpc.connect(url, reconnect=False) as session:
                while True:
                    await session.clientize(Place).where()
        except (wsrpc.ConnectError, wsrpc.RpcError):
            ended += 1

    for moment in range(12):
        ended = 0
        server = wsrpc.Server([Place("first")])
        with soon():
            async with anyio.create_task_group() as clients:
                async with anyio.create_task_group() as group:
                    async with server.listen() as listener:
                        for _ in range(5):
                            clients.start_soon(client, listener.url)
                        for _ in range(moment * 4):
                            await anyio.sleep(0)
                        group.cancel_scope.cancel()
                        await anyio.sleep(0)
        assert ended == 5
        assert not server.sessions
