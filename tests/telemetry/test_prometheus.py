"""Metrics: what happened, read as Prometheus does, and no more labels than there are methods."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

import wsrpc
from tests.proxy import resetting_proxy
from tests.support import bare_client, error_of, returning, served, soon, until, visited
from tests.web.test_ports import UPGRADE, request
from wsrpc.telemetry.prometheus import FRESH_SCRAPES, Exposition, client_metrics

from .test_observers import Work, answer, authorize, use_all

Samples: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """All samples of one text."""

    def __init__(self, text: str) -> None:
        self.samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse(text)
            for sample in family.samples
        }

    def get(self, metric: str, /, **labels: str) -> float | None:
        return self.samples.get((metric, frozenset(labels.items())))

    def of(self, metric: str) -> dict[str, float]:
        """By the last label's value; for metrics with one label."""
        return {
            next(iter(labels))[1]: value
            for (name, labels), value in self.samples.items()
            if name == metric
        }


async def scrape(url: str) -> Scrape:
    got = await request(url, "/metrics")
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/plain")
    assert got.headers["cache-control"] == "no-store"
    return Scrape(got.body.decode())


def add(method: str, kind: str = "unary", **more: str) -> dict[str, str]:
    controller, _, name = method.rpartition(".")
    return {"controller": controller, "method": name, "kind": kind, **more}


async def test_metrics_are_served_under_the_names_of_go_grpc_prometheus(transport: str) -> None:
    registry, own = CollectorRegistry(), CollectorRegistry()
    async with served([Work()], authorize=authorize, metrics=registry) as listener:
        async with wsrpc.connect(
            listener.url, reconnect=False, observers=[client_metrics(own)]
        ) as session:
            await use_all(session)
            stats = listener.server.stats
            await until(lambda: stats.calls_live == 0 and stats.refused.total() == 3)
            found = await scrape(listener.url)
        await until(lambda: listener.server.snapshot().sessions == 0)
        after = await scrape(listener.url)

    def handled(method: str, kind: str, code: str) -> float | None:
        return found.get("wsrpc_server_handled_total", **add(method, kind, code=code))

    assert handled("Work.add", "unary", "ok") == 1
    assert handled("Work.add", "unary", "invalid_argument") == 1
    assert handled("Work.broken", "unary", "internal") == 1
    assert handled("Work.secret", "unary", "permission_denied") == 1
    assert handled("Work.wait", "unary", "deadline_exceeded") == 1
    assert handled("Work.count", "stream", "ok") == 1
    assert handled("Work.count", "stream", "cancelled") == 1
    assert handled("Work.note", "notify", "ok") == 1
    unknown = {"controller": "?", "method": "?", "kind": "?"}
    assert found.get("wsrpc_server_handled_total", **unknown, code="unimplemented") == 1
    assert found.get("wsrpc_server_started_total", **add("Work.add")) == 2
    assert found.get("wsrpc_server_handling_seconds_count", **add("Work.add")) == 1
    bucket = {**add("Work.add"), "le": "+Inf"}
    assert found.get("wsrpc_server_handling_seconds_bucket", **bucket) == 1
    # Its arguments, and the items of its upload.
    assert found.get("wsrpc_server_msg_received_total", **add("Work.total")) == 3
    assert found.get("wsrpc_server_msg_sent_total", **add("Work.total")) == 1
    assert (found.get("wsrpc_server_msg_sent_total", **add("Work.count", "stream")) or 0) >= 6
    assert found.get("wsrpc_server_calls_in_flight") == 0
    assert found.get("wsrpc_server_sessions") == 1
    assert found.get("wsrpc_server_connections") == 1
    assert found.get("wsrpc_server_detached_sessions") == 0
    assert found.get("wsrpc_server_outbox_bytes") == 0
    assert found.get("wsrpc_server_replay_bytes") is not None
    assert (found.get("wsrpc_server_received_bytes_total") or 0) > 100
    assert (found.get("wsrpc_server_sent_bytes_total") or 0) > 100
    # The callback of `ask` is a call that the server made.
    assert found.get("wsrpc_client_handled_total", **add("question", "callback", code="ok")) == 1
    assert after.get("wsrpc_server_connections_closed_total", code="1000") == 1
    assert after.get("wsrpc_server_sessions") == 0

    client = Scrape(Exposition(own).render("")[1].decode())
    assert client.get("wsrpc_client_handled_total", **add("Work.add", code="ok")) == 1
    late = add("Work.wait", code="deadline_exceeded")
    assert client.get("wsrpc_client_handled_total", **late) == 1
    # Its arguments, and the two items of its upload.
    assert client.get("wsrpc_client_msg_sent_total", **add("Work.total")) == 3
    assert client.get("wsrpc_client_handling_seconds_count", **add("Work.add")) == 2
    assert client.get("wsrpc_client_connections_closed_total", code="1000") == 1
    assert client.get("wsrpc_server_handled_total", **add("question", "callback", code="ok")) == 1
    assert client.get("wsrpc_client_calls_in_flight") == 0


async def test_metrics_are_off_by_default(transport: str) -> None:
    for metrics in (None, False):
        async with served([Work()], metrics=metrics) as listener:
            assert (await request(listener.url, "/metrics")).status == 404


async def test_metrics_of_the_process_are_there_with_true(transport: str) -> None:
    # Twice: servers of one process share a registry.
    for _ in range(2):
        async with served([Work()], metrics=True) as listener:
            found = await scrape(listener.url)
            assert any(name == "python_info" for name, _ in found.samples)
            assert found.get("wsrpc_server_sessions") == 0


async def test_metrics_can_be_asked_for_until_there_are_sessions() -> None:
    registry = CollectorRegistry()
    server = wsrpc.Server([Work()])
    server.serve_metrics(registry)
    server.serve_metrics(registry)
    with soon():
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url) as session:
                assert await session.clientize(Work).add(1, 2) == 3
                late = wsrpc.Server([Work()])
                async with late.listen() as other, wsrpc.connect(other.url):
                    with pytest.raises(RuntimeError, match="before the server has sessions"):
                        late.serve_metrics(registry)
            found = await scrape(listener.url)
            assert found.get("wsrpc_server_handled_total", **add("Work.add", code="ok")) == 1


async def test_metrics_are_openmetrics_for_who_asks_for_that(transport: str) -> None:
    async with served([Work()], metrics=CollectorRegistry()) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            assert await session.clientize(Work).add(1, 2) == 3
        accept = "application/openmetrics-text; version=1.0.0"
        got = await request(listener.url, "/metrics", Accept=accept)
        assert got.headers["content-type"].startswith("application/openmetrics-text")
        families: Any = parse_openmetrics
        names = {family.name for family in families(got.body.decode())}
        assert "wsrpc_server_handled" in names
        assert (await request(listener.url, "/metrics", "HEAD")).body == b""
        assert (await request(listener.url, "/metrics", "POST")).status == 405


async def test_names_that_peers_make_up_are_no_labels(transport: str) -> None:
    registry = CollectorRegistry()
    server = wsrpc.Server([Work()], metrics=registry)
    async with bare_client(server) as peer:
        for number in range(60):
            await peer.send(["call", 2 * number + 1, f"Made.up_{number}", {}])
            await peer.expect("error")
            await peer.send(["ack", number + 1])
    text = Exposition(registry).render("")[1].decode()
    assert "up_" not in text
    unknown = {"controller": "?", "method": "?", "kind": "?", "code": "unimplemented"}
    assert Scrape(text).get("wsrpc_server_handled_total", **unknown) == 60


async def test_codes_that_peers_make_up_are_no_labels() -> None:
    registry = CollectorRegistry()
    server = wsrpc.Server([Work()], metrics=registry)
    async with visited(server) as visit:
        for number in range(20):
            peer = visit()
            await peer.say_hello()
            await peer.link.close(4700 + number, "")
        await until(lambda: server.stats.closes.total() == 20)
    closed = Scrape(Exposition(registry).render("")[1].decode()).of(
        "wsrpc_server_connections_closed_total"
    )
    assert closed == {"other": 20}


async def test_methods_beyond_a_thousand_share_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsrpc.telemetry.prometheus.MOST_METHODS", 5)
    registry = CollectorRegistry()
    async with served([Work()]) as listener:
        async with wsrpc.connect(
            listener.url, reconnect=False, observers=[client_metrics(registry)]
        ) as session:
            loose = session.clientize("Work")
            for number in range(10):
                with error_of("unimplemented"):
                    await getattr(loose, f"made_up_{number}")()
    found = Scrape(Exposition(registry).render("")[1].decode())
    unknown = {"controller": "?", "method": "?", "kind": "?"}
    assert found.get("wsrpc_client_handled_total", **unknown, code="unimplemented") == 5


async def test_seconds_paused_for_credit_are_counted() -> None:
    registry = CollectorRegistry()
    async with served([Work()], metrics=registry) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            async with session.clientize(Work, window=1).count(10) as stream:
                async for _ in stream:
                    await anyio.sleep(0.001)
        found = await scrape(listener.url)
    assert (found.get("wsrpc_server_paused_seconds_total", **add("Work.count", "stream")) or 0) > 0


async def test_resumes_and_their_outcomes_are_counted() -> None:
    registry, own = CollectorRegistry(), CollectorRegistry()
    async with served([Work()], metrics=registry) as listener:
        async with resetting_proxy(listener.url) as proxy:
            async with wsrpc.connect(proxy.url, observers=[client_metrics(own)]) as session:
                work = session.clientize(Work)
                assert await work.add(1, 2) == 3
                await until(lambda: session.state == "connected")
                proxy.reset()
                with soon():
                    assert await work.ask(answer) == "WHO"
        found = await scrape(listener.url)
        assert found.of("wsrpc_server_resumes_total")["resumed"] == 1
        client = Scrape(Exposition(own).render("")[1].decode())
        assert client.of("wsrpc_client_resumes_total")["resumed"] == 1
        assert found.get("wsrpc_server_connections_opened_total") == 2

    other = wsrpc.Server([Work()], metrics=registry)
    async with visited(other) as visit:
        peer = visit()
        await peer.send(returning("made up", 2))
        assert await peer.closed() == 4010
    assert Scrape(Exposition(registry).render("")[1].decode()).of("wsrpc_server_resumes_total") == {
        "resumed": 1,
        "refused": 1,
    }


async def test_strangers_who_are_refused_are_counted_by_reason(transport: str) -> None:
    async def nobody(handshake: wsrpc.Handshake, auth: Any) -> None:
        raise wsrpc.RpcError("unauthenticated" if auth else "permission_denied", "no")

    registry = CollectorRegistry()
    async with served([Work()], authenticate=nobody, metrics=registry) as listener:
        for auth in (None, 1):
            with pytest.raises(wsrpc.ConnectError):
                async with wsrpc.connect(listener.url, auth=auth, reconnect=False):
                    pass
        evil = await request(listener.url, Origin="https://evil.example", **UPGRADE)
        assert evil.status == 403
        found = await scrape(listener.url)
        assert found.of("wsrpc_server_refused_strangers_total") == {
            "forbidden": 1,
            "unauthenticated": 1,
            "origin": 1,
        }
        assert listener.server.snapshot().strangers_refused["origin"] == 1


class Slow:
    def __init__(self) -> None:
        self.go = anyio.Event()
        self.begun = 0

    @wsrpc.method
    async def wait(self) -> None:
        self.begun += 1
        await self.go.wait()

    @wsrpc.method
    async def tick(self) -> AsyncIterator[int]:
        yield 1
        await self.go.wait()


async def test_calls_in_flight_are_there_and_so_are_metrics_during_a_drain(transport: str) -> None:
    slow = Slow()
    async with served([slow], metrics=CollectorRegistry()) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Slow).wait)
                group.start_soon(session.clientize(Slow).tick().collect)
                await until(lambda: slow.begun == 1)
                group.start_soon(listener.server.drain)
                await until(lambda: session.state == "draining")
                found = await scrape(listener.url)
                assert found.get("wsrpc_server_calls_in_flight") == 2
                assert found.get("wsrpc_server_open_streams") == 1
                assert found.get("wsrpc_server_drains_total") == 1
                slow.go.set()


async def test_health_and_metrics_are_answered_while_there_is_no_room(transport: str) -> None:
    limits = wsrpc.Limits(max_unauthenticated=2)
    async with served([Work()], limits=limits, metrics=CollectorRegistry()) as listener:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        crowd = [await anyio.connect_tcp(host, int(port)) for _ in range(2)]
        try:
            await until(lambda: listener.server.snapshot().unauthenticated == 2)
            for _ in range(3):
                assert (await request(listener.url, "/readyz")).status == 200
                await scrape(listener.url)
        finally:
            for stream in crowd:
                await stream.aclose()


def test_a_flood_of_scrapes_gets_the_last_text() -> None:
    now = 100.0
    registry = CollectorRegistry()
    collected = 0

    class Counting:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> list[Any]:
            nonlocal collected
            collected += 1
            return []

    registry.register(Counting())
    exposition = Exposition(registry, lambda: now)
    for _ in range(100):
        exposition.render("")
    assert collected == FRESH_SCRAPES
    now += 1
    exposition.render("")
    assert collected == FRESH_SCRAPES + 1


def test_a_server_that_is_gone_is_not_kept_by_its_metrics() -> None:
    registry = CollectorRegistry()
    server = wsrpc.Server([Work()], metrics=registry)
    assert b"wsrpc_server_sessions 0.0" in Exposition(registry).render("")[1]
    del server
    gc.collect()
    assert b"wsrpc_server_sessions" not in Exposition(registry).render("")[1]


async def test_metrics_are_served_by_a_hosting_application() -> None:
    server = wsrpc.Server([Work()], metrics=CollectorRegistry())
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/rpc/metrics",
        "root_path": "/rpc",
        "query_string": b"",
        "headers": [],
    }
    await server.asgi()(scope, receive, send)
    assert sent[0]["status"] == 200
    assert b"wsrpc_server_sessions 0.0" in sent[1]["body"]


DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana" / "dashboard.json"


async def test_the_dashboard_asks_for_metrics_and_labels_that_are_there() -> None:
    registry = CollectorRegistry()
    async with served([Work()], metrics=registry) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            work = session.clientize(Work)
            assert await work.ask(answer) == "WHO"
            found = await scrape(listener.url)
    there = {name for name, _ in found.samples}
    # Counters with labels have no sample before there is something to count.
    for family in registry.collect():
        there |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [one["definition"] for one in dashboard["templating"]["list"] if "definition" in one]
    named = {name for text in asked for name in re.findall(r"wsrpc_\w+", text)}
    assert len(named) > 20
    assert named <= there
    labels = {label for _, labels in found.samples for label, _ in labels}
    used = {label for text in asked for label in re.findall(r"(\w+)(?:=~|!=|=)\"", text)}
    assert used - {"job", "instance"} <= labels | {"code"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
