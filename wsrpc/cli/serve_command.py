"""`wsrpc serve`: listen until a signal comes."""

from __future__ import annotations

import os
import signal
import ssl as ssl_module
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..admission.hosts import is_loopback
from ..cluster import Cluster, ClusterConfigError
from ..server.server import Server
from ..transport.registry import Transport
from .failures import ExitCode, Failure, note

__all__ = ["CLUSTER_NAME", "Binding", "node_of_cluster", "serve", "tls_of"]

CLUSTER_NAME = "wsrpc"


def node_of_cluster(server: Server, urls: Sequence[str], name: str, host: str = "") -> Cluster:
    """The `Cluster` that makes a server a node while it is entered.

    On a loopback address all peers are on this machine, and may ask about the cluster.

    Raises:
        Failure: The name is invalid, nats-py is not installed, or the application has made the
            server a node by itself.
    """
    try:
        return Cluster(
            server, urls, name=name, operators=(lambda context: True) if is_loopback(host) else None
        )
    except (ClusterConfigError, ImportError) as error:
        raise Failure(str(error), ExitCode.USAGE) from error
    except RuntimeError as error:
        raise Failure(
            f"--cluster makes a Cluster of the server, and the application has done so: {error}",
            ExitCode.USAGE,
        ) from error


@dataclass(frozen=True, slots=True)
class Binding:
    """The address to listen on, and its settings.

    Attributes:
        host: The address to bind.
        port: The port; 0 for a free one.
        path: A Unix socket in place of both.
        ssl: TLS settings.
        transport: The library that carries the WebSockets.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None
    ssl: ssl_module.SSLContext | None = None
    transport: Transport = "websockets"

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def tls_of(certificate: Path | None, key: Path | None) -> ssl_module.SSLContext | None:
    """TLS settings from the files that `--tls-cert` and `--tls-key` name; None without them.

    Raises:
        Failure: The files cannot be read or do not fit each other, or only the key is given.
    """
    if certificate is None:
        if key is not None:
            raise Failure("--tls-key needs --tls-cert beside it")
        return None
    context = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl_module.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        with_key = "" if key is None else f" and --tls-key {key}"
        hint = ""
        if key is None and isinstance(error, ssl_module.SSLError):
            hint = "; if its key is in a file of its own, add --tls-key"
        raise Failure(f"--tls-cert {certificate}{with_key} cannot be used: {error}{hint}") from None
    return context


async def serve(server: Server, binding: Binding, grace: float | None) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain; a second signal does not wait for the calls.

    Prints `listening ws://…` on stdout once peers can connect.

    Args:
        server: The server.
        binding: The address to listen on.
        grace: Seconds for the calls that run; None: those of the server's limits.

    Returns:
        The exit code.

    Raises:
        Failure: The address cannot be bound, or the transport is not installed.
    """
    seconds = server.limits.drain_grace if grace is None else grace
    caught: list[int] = []

    def ready() -> None:
        print(f"listening {listener.url}", flush=True)
        names = ", ".join(server.contract()["controllers"])
        note(f"serving {names}; Ctrl-C stops")
        shown = server.explorer or (server.explorer is None and is_loopback(binding.host))
        if shown and listener.http_url:
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
        async with server.listen(
            binding.host,
            binding.port,
            path=binding.path,
            ssl=binding.ssl,
            transport=binding.transport,
        ) as listener:
            await server.drained_on_signal(grace, ready=ready, on_signal=on_signal)
    except ImportError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        # asyncio repeats the address in its own words; the system's are shorter.
        system = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno) if system and error.errno else error.strerror or error
        raise Failure(f"cannot listen on {binding}: {reason}", ExitCode.UNREACHABLE) from error
    return ExitCode.INTERRUPTED if signal.SIGINT in caught else ExitCode.OK
