"""wsrpc as in the `wsrpc` peer, with its core compiled at both ends."""

from benchmarks.peers.wsrpc import connect, serve
from wsrpc.version import BUILD

__all__ = ["connect", "serve"]

if BUILD != "compiled core":
    raise ImportError("the core is not compiled: make compiled")
