"""wsrpc.js in Node, against the server of the peer `wsrpc`."""

import sys

from benchmarks.peers.programs import node, script

WITH_WEBSOCKET = 22
"""The first version of Node with a WebSocket of its own."""


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    path = node(WITH_WEBSOCKET)
    if role == "server":
        return [sys.executable, "-m", "benchmarks.peers", "wsrpc", "server"]
    return [path, "--expose-gc", script("wsrpc.mjs"), *address]
