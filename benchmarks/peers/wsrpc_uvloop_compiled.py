"""wsrpc on uvloop at both ends, with its core compiled."""

from benchmarks.peers.wsrpc_compiled import connect, serve
from benchmarks.peers.wsrpc_uvloop import new_event_loop

__all__ = ["connect", "new_event_loop", "serve"]
