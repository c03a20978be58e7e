"""capnweb on Node, both ends: `node/capnweb.mjs`, which `npm install` in that folder completes."""

from benchmarks.peers.programs import node, script


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    return [node(), "--expose-gc", script("capnweb.mjs", "capnweb", "ws"), role, *address]
