"""`wsrpc serve`: listen until a signal comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from ..admission.hosts import is_loopback
from ..cluster import Cluster, ClusterConfigError
from ..server.server import Server
from .failures import ExitCode, Failure, note

__all__ = ["node_of_cluster", "serve"]


def node_of_cluster(server: Server, urls: Sequence[str], name: str, host: str = "") -> Cluster:
    """What makes a server a node of a cluster while it is entered.

    On a loopback address everybody is on this machine, and may ask about the cluster.

    Raises:
        Failure: The name is none, or nats-py is not installed.
    """
    try:
        return Cluster(
            server, urls, name=name, operators=(lambda context: True) if is_loopback(host) else None
        )
    except (ClusterConfigError, ImportError) as error:
        raise Failure(str(error), ExitCode.USAGE) from error


async def serve(server: Server, host: str, port: int, grace: float | None) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain; a second signal does not wait for the calls.

    Prints `listening ws://…` on stdout once peers can connect.

    Args:
        server: What to serve.
        host: What to bind.
        port: 0 for a free one.
        grace: Seconds for the calls that run; None: as the server's limits say.

    Returns:
        The exit code.

    Raises:
        Failure: The address cannot be bound.
    """
    seconds = server.limits.drain_grace if grace is None else grace
    caught: list[int] = []

    def ready() -> None:
        print(f"listening {listener.url}", flush=True)
        names = ", ".join(server.contract()["controllers"])
        note(f"serving {names}; Ctrl-C stops")
        if server.explorer or (server.explorer is None and is_loopback(host)):
            note(f"explorer {listener.http_url}")

    def on_signal(number: int) -> None:
        caught.append(number)
        if len(caught) > 1:
            note("stopping at once")
        else:
            calls = server.stats.calls_live
            running = f"up to {seconds:g} s for {calls} running calls" if calls else "no call runs"
            note(f"stopping: {running}; Ctrl-C again does not wait")

    try:
        async with server.listen(host, port) as listener:
            await server.drained_on_signal(grace, ready=ready, on_signal=on_signal)
    except OSError as error:
        # asyncio repeats the address in its own words; the system's are shorter.
        system = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno) if system and error.errno else error.strerror or error
        raise Failure(f"cannot listen on {host}:{port}: {reason}", ExitCode.UNREACHABLE) from error
    return ExitCode.INTERRUPTED if signal.SIGINT in caught else ExitCode.OK
