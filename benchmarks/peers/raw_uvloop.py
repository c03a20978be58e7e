"""The baseline on uvloop at both ends, with which wsrpc on uvloop is compared."""

from uvloop import new_event_loop

from benchmarks.peers.raw import connect, serve

__all__ = ["connect", "new_event_loop", "serve"]
