"""`GET /metrics`: the metrics of a server, where the extra for them is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..telemetry.events import Events
from ..telemetry.snapshot import Snapshot
from ..transport.base import HttpAnswer
from .http_routes import FRESH, HttpRoutes

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["serve_metrics"]


def serve_metrics(
    registry: CollectorRegistry | None,
    events: Events,
    routes: HttpRoutes,
    snapshot: Callable[[], Snapshot],
) -> None:
    """Count a server's events, and answer `GET /metrics` with the counts.

    Args:
        registry: The registry of the metrics; None: the registry of the process.
        events: The events to count.
        routes: The routes to which `/metrics` is added.
        snapshot: Gives the server's holdings.

    Raises:
        ImportError: prometheus-client is not installed; the message names the extra.
    """
    from ..telemetry.prometheus import REGISTRY, Exposition, server_metrics

    registry = REGISTRY if registry is None else registry
    metrics = server_metrics(registry)
    metrics.watch(snapshot)
    events.add(metrics)
    exposition = Exposition(registry)

    def answer(headers: Mapping[str, str]) -> HttpAnswer:
        kind, body = exposition.render(headers.get("accept", ""))
        return HttpAnswer(200, (("Content-Type", kind), FRESH), body)

    routes.add("metrics", answer, while_draining=True)
