"""The example of a FastAPI application: shared users, a page, health, metrics and traces."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import wsrpc
import wsrpc.testing
from examples import fastapi_app
from examples.fastapi_app import PAGE, Stock, create_app, create_server, fetch, visit
from tests.support import error_of, soon
from tests.transport.asgi_hosts import on_hypercorn, on_uvicorn
from tests.web.browser import chromium, require_chromium
from wsrpc.telemetry import otel

Host = Callable[[Any], AbstractAsyncContextManager[str]]

SEEN = [
    "GET /me: ann",
    "whoami: ann",
    "bob sees 3 apples",
    "bob sees 5 apples",
    "bob restocks: permission_denied",
    "health: ok",
]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def wsrpc_server(spans: InMemorySpanExporter) -> wsrpc.Server:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = otel.instrument(tracer_provider=provider)
    return create_server(metrics=CollectorRegistry(), tracing=tracing)


@pytest.fixture
def wsrpc_client_options() -> dict[str, Any]:
    return {"auth": "ann's token"}


def test_its_picture_is_of_what_it_prints() -> None:
    assert fastapi_app.__doc__ is not None
    shown = [line.strip() for line in fastapi_app.__doc__.splitlines()]
    begin = shown.index(SEEN[0])
    assert shown[begin : begin + len(SEEN)] == SEEN


# ------------------------------------------------------------------------------------- on a host


async def visited(host: Host, server: wsrpc.Server) -> dict[tuple[str, str], float]:
    """A whole visit, and what Prometheus reads after it."""
    with soon():
        async with host(create_app(server)) as address:
            assert (await visit(address))[: len(SEEN)] == SEEN
            assert await fetch(f"http://{address}/rpc/readyz") == "ok"
            assert await fetch(f"http://{address}/") == PAGE
            assert "connect" in await fetch(f"http://{address}/rpc/wsrpc.js")
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                await fetch(f"http://{address}/me", "eve's token")
            refused.value.close()
            with pytest.raises(wsrpc.ConnectError, match="no such token"):
                async with wsrpc.connect(f"ws://{address}/rpc", auth="eve's token"):
                    pass
            header = {"Authorization": "Bearer bob's token"}
            async with wsrpc.connect(f"ws://{address}/rpc", headers=header) as bob:
                assert await bob.clientize(Stock).whoami() == "bob"
            text = await fetch(f"http://{address}/rpc/metrics")
    return {
        (sample.labels["method"], sample.labels["code"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "wsrpc_server_handled_total"
    }


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_runs_on_uvicorn(wsrpc_server: wsrpc.Server, spans: InMemorySpanExporter) -> None:
    handled = await visited(on_uvicorn, wsrpc_server)
    assert handled["restock", "ok"] == 1
    assert handled["restock", "permission_denied"] == 1
    assert handled["whoami", "ok"] == 2
    served = {span.name for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER}
    assert {"Stock.whoami", "Stock.restock", "Stock.watch"} <= served


async def test_it_runs_on_hypercorn(wsrpc_server: wsrpc.Server) -> None:
    handled = await visited(on_hypercorn, wsrpc_server)
    assert handled["whoami", "ok"] == 2


# ------------------------------------------------------------------------- as its users test it


async def test_everybody_sees_what_ann_adds(
    wsrpc_client: wsrpc.Session, wsrpc_host: wsrpc.testing.Host
) -> None:
    with soon():
        async with wsrpc_host.connect(auth="bob's token") as bob:
            async with bob.clientize(Stock).watch() as apples:
                assert await anext(apples) == 3
                assert await wsrpc_client.clientize(Stock).restock(apples=4) == 7
                assert await anext(apples) == 7
            with error_of("permission_denied"):
                await bob.clientize(Stock).restock(apples=1)
        await wsrpc_host.settled()
        assert wsrpc_host.calls.codes("Stock.watch") == ["cancelled"]


async def test_a_lost_answer_adds_no_apples_twice(wsrpc_host: wsrpc.testing.Host) -> None:
    faults = wsrpc.testing.Faults()
    with soon():
        async with wsrpc_host.connect(auth="ann's token", faults=faults) as ann:
            faults.cut(before="result")
            assert await ann.clientize(Stock).restock(apples=1) == 4
            assert faults.cuts == 1


async def test_on_a_port_of_its_own_a_drain_ends_the_watchers(
    wsrpc_url: str, wsrpc_server: wsrpc.Server
) -> None:
    with soon():
        async with wsrpc.connect(wsrpc_url, auth="ann's token", reconnect=False) as session:
            async with anyio.create_task_group() as group:
                async with session.clientize(Stock).watch() as apples:
                    assert await anext(apples) == 3
                    group.start_soon(wsrpc_server.drain)
                    with error_of("unavailable"):
                        await anext(apples)


@pytest.mark.web
@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_its_page_shows_the_apples(wsrpc_server: wsrpc.Server) -> None:
    require_chromium()
    with anyio.fail_after(60):
        async with on_uvicorn(create_app(wsrpc_server)) as address, chromium() as browser:
            page = await browser.page(f"http://{address}/")
            await page.until_says("#apples", "3")
            async with wsrpc.connect(f"ws://{address}/rpc", auth="ann's token") as ann:
                await ann.clientize(Stock).restock(apples=2)
            await page.until_says("#apples", "5")
            assert page.messages == []
