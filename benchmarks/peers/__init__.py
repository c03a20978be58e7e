"""The peers that are compared. A new one is a module beside these and a line in `PEERS`."""

import importlib
from dataclasses import dataclass
from typing import cast

from benchmarks.peers.base import Peer


@dataclass(frozen=True)
class Entry:
    """What the report says of a peer: its make-up, and the distributions whose versions count."""

    about: str
    distributions: tuple[str, ...]


BASELINE = "raw"

PEERS = {
    "raw": Entry("hand-written protocol on websockets", ("websockets", "msgspec")),
    "wsrpc": Entry("this project", ("wsrpc-anyio", "websockets", "pydantic")),
    "grpc": Entry("grpc.aio, generic handlers", ("grpcio",)),
    "socketio": Entry("python-socketio on aiohttp", ("python-socketio", "aiohttp")),
}


def load(name: str) -> Peer:
    """Import the peer's module; ImportError says what is missing."""
    return cast(Peer, importlib.import_module(f"{__name__}.{name}"))
