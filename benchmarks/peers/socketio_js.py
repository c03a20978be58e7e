"""socket.io on Node, both ends: `node/socketio.mjs`, which `npm install` in that folder completes."""

from benchmarks.peers.programs import node, script


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    needs = ("socket.io", "socket.io-client")
    return [node(), "--expose-gc", script("socketio.mjs", *needs), role, *address]
