"""The bus over NATS: the way of a message from the socket to its handler."""

from __future__ import annotations

import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
import trustme

import wsrpc
from tests.support import until
from wsrpc.cluster import Cluster, ClusterEvent
from wsrpc.cluster.bus.base import Handler
from wsrpc.cluster.bus.embedded import NatsServer
from wsrpc.cluster.bus.nats import NatsBus

pytestmark = [
    pytest.mark.nats,
    pytest.mark.slow,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]


@asynccontextmanager
async def two() -> AsyncIterator[tuple[NatsBus, NatsBus]]:
    with NatsServer(jetstream=False) as nats, anyio.fail_after(20):
        buses = NatsBus(nats.url), NatsBus(nats.url, pending=100_000)
        for bus in buses:
            await bus.open(lambda: None, lambda: None)
        try:
            yield buses
        finally:
            for bus in buses:
                await bus.close()


def into(got: list[bytes]) -> Handler:
    return lambda subject, data, reply: got.append(data)


def has(got: list[bytes], n: int) -> bool:
    return len(got) >= n


async def test_messages_keep_their_order_from_the_first_one_on() -> None:
    async with two() as (far, near):
        # The first ones of a subscription are queued, and many come before the queue is empty.
        for turn in range(5):
            got: list[bytes] = []
            off = await near.subscribe(f"n.{turn}", into(got))
            for i in range(2000):
                await far.publish(f"n.{turn}", str(i).encode())
                if i % 97 == 0:
                    await anyio.sleep(0)
            await until(partial(has, got, 2000))
            assert got == [b"%d" % i for i in range(2000)]
            await off()
        assert near.dropped == 0


async def test_a_subscription_that_is_off_delivers_nothing_more() -> None:
    async with two() as (far, near):
        got: list[bytes] = []
        other: list[bytes] = []
        off = await near.subscribe("a", into(got))
        await near.subscribe("b", into(other))
        for _ in range(3):
            await far.publish("a", b"1")
            await until(lambda: got == [b"1"])
            got.clear()
        await off()
        await far.publish("a", b"2")
        await far.publish("b", b"3")
        await until(lambda: other == [b"3"])
        assert got == []


async def test_a_handler_that_raises_does_not_make_the_bus_deaf(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two() as (far, near):
        got: list[bytes] = []

        def take(subject: str, data: bytes, reply: str) -> None:
            got.append(data)
            raise ValueError(data)

        await near.subscribe("a", take)
        for i in range(4):
            await far.publish("a", b"%d" % i)
            await until(partial(has, got, i + 1))
        assert got == [b"0", b"1", b"2", b"3"]
    assert [record.getMessage() for record in caplog.records] == [
        "a message on a could not be handled: ValueError"
    ] * 4


async def test_messages_that_come_while_the_loop_is_busy_wait_and_none_is_dropped() -> None:
    async with two() as (far, near):
        got: list[bytes] = []
        await near.subscribe("a", into(got))
        await far.publish("a", b"")
        await until(lambda: got == [b""])
        for _ in range(2000):
            await far.publish("a", b"x" * 1000)
            await anyio.sleep(0)
        # Each message is handled as soon as it is read; the others wait in the socket, and in NATS.
        time.sleep(0.2)  # noqa: ASYNC251
        await until(lambda: len(got) == 2001)
        assert near.dropped == 0


async def test_messages_pass_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    extra = ("--tls", "--tlscert", str(tmp_path / "chain"), "--tlskey", str(tmp_path / "key"))
    with NatsServer(jetstream=False, extra=extra) as nats, anyio.fail_after(20):
        buses = [NatsBus(nats.url, tls=context) for _ in range(2)]
        for bus in buses:
            await bus.open(lambda: None, lambda: None)
        got: list[bytes] = []
        await buses[0].subscribe("a", into(got))
        for i in range(20):
            await buses[1].publish("a", b"%d" % i)
            await until(partial(has, got, i + 1))
        assert buses[1].publish_nowait("a", b"x" * 500_000)
        await until(partial(has, got, 21))
        assert got == [*(b"%d" % i for i in range(20)), b"x" * 500_000]
        for bus in buses:
            await bus.close()


async def test_messages_sent_without_a_wait_keep_their_place_among_the_others() -> None:
    async with two() as (far, near):
        got: list[bytes] = []
        await near.subscribe("a", into(got))
        for i in range(3000):
            if i % 3:
                assert far.publish_nowait("a", b"%d" % i)
            else:
                await far.publish("a", b"%d" % i)
        await until(partial(has, got, 3000))
        assert got == [b"%d" % i for i in range(3000)]


async def test_a_server_that_reads_nothing_makes_messages_wait_and_loses_none() -> None:
    with NatsServer(jetstream=False) as nats, anyio.fail_after(20):
        bus = NatsBus(nats.url)
        other = NatsBus(nats.url)
        for one in (bus, other):
            await one.open(lambda: None, lambda: None)
        got: list[bytes] = []
        await other.subscribe("a", into(got))
        nats.signal(signal.SIGSTOP)
        sent = 0
        try:
            while bus.publish_nowait("a", b"%d" % sent + b" " * 100_000):
                sent += 1
                assert sent < 1000
        finally:
            nats.signal(signal.SIGCONT)
        await until(partial(has, got, sent))
        assert bus.publish_nowait("a", b"%d" % sent)
        await until(partial(has, got, sent + 1))
        assert [int(data) for data in got] == list(range(sent + 1))
        for one in (bus, other):
            await one.close()


async def test_a_cluster_that_ends_tells_of_no_connection_that_is_lost() -> None:
    told: list[ClusterEvent] = []
    with NatsServer(jetstream=False) as nats, anyio.fail_after(20):
        async with Cluster(wsrpc.Server([]), nats.url, on_event=told.append):
            pass
    assert told == []
