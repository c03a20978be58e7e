"""wsrpc as in the `wsrpc` peer, on uvloop at both ends."""

from uvloop import new_event_loop

from benchmarks.peers.wsrpc import connect, serve

__all__ = ["connect", "new_event_loop", "serve"]
