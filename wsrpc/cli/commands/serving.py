"""`wsrpc serve`, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ...admission.hosts import is_loopback
from ...telemetry.access import AccessLog
from ...transport.registry import Transport
from ..failures import ExitCode, Failure, note
from ..loading import load_server
from ..logs import LogFormat, LogLevel, log_to_stderr
from ..options import What
from ..project import named_app
from ..running import run
from ..serve_command import CLUSTER_NAME, Binding, node_of_cluster, tls_of
from ..serve_command import serve as serve_until_stopped

__all__ = ["serve"]


def serve(
    what: What = "",
    host: Annotated[str, typer.Option(help="The address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, to callers too; not for strangers.")
    ] = False,
    origin: Annotated[
        list[str],
        typer.Option(
            metavar="ORIGIN",
            help="A web page's origin that may connect, such as https://app.example, or * for all; "
            "pages of the server's own host may in any case.",
        ),
    ] = [],  # noqa: B006  (typer reads it)
    trusted_proxy: Annotated[
        list[str],
        typer.Option(
            metavar="NETWORK",
            help="A proxy whose X-Forwarded-For and Forwarded are believed, such as 10.0.0.0/8.",
        ),
    ] = [],  # noqa: B006
    drain_grace: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="For how long calls may finish when it stops; 25 if the server does not say.",
            show_default=False,
        ),
    ] = None,
    explorer: Annotated[
        bool,
        typer.Option(
            "--explorer/--no-explorer",
            help="A page on which a person can call every method, for browsers on this machine.",
        ),
    ] = True,
    cluster: Annotated[
        list[str],
        typer.Option(
            metavar="URL",
            help="Be a node of a cluster on NATS, such as nats://10.0.0.5:4222; needs "
            "'wsrpc-anyio[nats]'.",
        ),
    ] = [],  # noqa: B006
    cluster_name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="The cluster's name on that NATS.", show_default=CLUSTER_NAME
        ),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Log a line for each call, at its end.")
    ] = False,
    log_format: Annotated[
        Optional[LogFormat],  # noqa: UP045
        typer.Option(help="How log lines are written to stderr.", show_default="text"),
    ] = None,
    log_level: Annotated[
        Optional[LogLevel],  # noqa: UP045
        typer.Option(help="The least level that is logged.", show_default="warning"),
    ] = None,
    tls_cert: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Serve wss:// with this certificate (PEM)."),
    ] = None,
    tls_key: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Its key, where that is in a file of its own."),
    ] = None,
    unix: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="PATH", help="Listen on a Unix socket, in place of host and port."),
    ] = None,
    transport: Annotated[
        Transport, typer.Option(help="The library for WebSockets; picows is the quicker one.")
    ] = "websockets",
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="Answer /metrics for Prometheus; needs the extra for it."),
    ] = False,
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Show its counts to every peer that may connect (wsrpc top)."),
    ] = False,
) -> None:
    """Serve controllers until Ctrl-C or SIGTERM; prints `listening ws://…` when it can be called.

    When it stops, it takes no new calls, and finishes those that run. A second signal cancels them.
    """

    async def body() -> int:
        wanted = True if explorer and is_loopback(host) else None if explorer else False
        binding = Binding(
            host, port, None if unix is None else str(unix), tls_of(tls_cert, tls_key), transport
        )
        server = load_server(
            named_app(what),
            debug=debug,
            origins=origin,
            trusted_proxies=trusted_proxy,
            explorer=wanted,
            metrics=metrics,
            stats=stats,
        )
        log_to_stderr(format=log_format, level=log_level, access=access_log, debug=debug)
        if access_log:
            server.observe(AccessLog())
        if not cluster:
            if cluster_name is not None:
                raise Failure("--cluster-name needs --cluster nats://… beside it", ExitCode.USAGE)
            return await serve_until_stopped(server, binding, drain_grace)
        name = CLUSTER_NAME if cluster_name is None else cluster_name
        async with node_of_cluster(server, cluster, name, host) as node:
            note(f"node {node.id} of the cluster {name!r}")
            return await serve_until_stopped(server, binding, drain_grace)

    run(body, debug=debug, cancelled="stopping")
