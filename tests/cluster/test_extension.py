"""Code around sessions of a server: where joins belong."""

from __future__ import annotations

import anyio
import pytest

import wsrpc
from tests.cluster.support import Worker, node
from tests.support import until


async def test_on_connect_and_on_disconnect_are_called_once_for_each_session() -> None:
    told: list[tuple[str, str]] = []

    async def came(session: wsrpc.Session) -> None:
        told.append(("came", session.id))
        await place.cluster.group("all").join(session)
        assert await session.clientize(Worker).square(3) == 9

    async def went(session: wsrpc.Session) -> None:
        told.append(("went", session.id))

    async with node(on_connect=came, on_disconnect=went) as place:
        session = await place.connect(Worker())
        await until(lambda: place.cluster.presence.count(group="all") == 1)
        await session.aclose()
        await until(lambda: len(told) == 2)
    assert told == [("came", session.id), ("went", session.id)]


async def test_where_on_connect_raises_the_session_ends_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def came(session: wsrpc.Session) -> None:
        await connected.wait()
        raise ValueError("no")

    connected = anyio.Event()
    async with node(on_connect=came) as place:
        session = await place.connect(reconnect=False)
        connected.set()
        lost = await session.wait_closed()
        assert lost.close_code == 1011
        await until(lambda: not place.server.sessions)
    assert "on_connect raised" in caplog.text


async def test_on_disconnect_waits_for_on_connect_and_has_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    order: list[str] = []

    async def came(session: wsrpc.Session) -> None:
        await anyio.sleep(0.02)
        order.append("came")

    async def went(session: wsrpc.Session) -> None:
        order.append("went")
        raise ValueError("no")

    async with node(on_connect=came, on_disconnect=went) as place:
        session = await place.connect()
        await session.aclose()
        await until(lambda: not place.server.sessions)
        await until(lambda: order == ["came", "went"])
    assert "on_disconnect raised" in caplog.text
