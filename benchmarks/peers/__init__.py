"""The peers that are compared. A new one is a module beside these and a line in `PEERS`."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """The description of a peer for the report, and its share of the work.

    Attributes:
        about: Its make-up.
        distributions: The distributions whose versions are reported.
        share: The part of each work's count that it does, below 1 where it would take long.
        compiled: Whether it runs this project's compiled core; all others run pure Python.
    """

    about: str
    distributions: tuple[str, ...]
    share: float = 1.0
    compiled: bool = False


BASELINE = "raw"

PEERS = {
    "raw": Entry("hand-written protocol on websockets", ("websockets", "msgspec")),
    "wsrpc": Entry("this project, pure Python", ("wsrpc-anyio", "websockets", "pydantic")),
    "wsrpc_compiled": Entry("this project, its core compiled", ("wsrpc-anyio",), compiled=True),
    "wsrpc_js": Entry("this project, its client in JavaScript on Node", ("wsrpc-anyio",), 0.5),
    "wsrpc_page": Entry("the same client in a page of Chromium", ("wsrpc-anyio",), 0.2),
    "raw_uvloop": Entry("the baseline on uvloop", ("uvloop",)),
    "wsrpc_uvloop": Entry("this project on uvloop", ("wsrpc-anyio", "uvloop")),
    "wsrpc_uvloop_compiled": Entry(
        "this project on uvloop, its core compiled", ("wsrpc-anyio", "uvloop"), compiled=True
    ),
    "wsrpc_picows": Entry("this project on picows", ("wsrpc-anyio", "picows", "pydantic")),
    "grpc": Entry("grpc.aio, generic handlers", ("grpcio",), 0.2),
    "connectrpc": Entry(
        "Connect over HTTP/2 on hypercorn", ("connectrpc", "pyqwest", "hypercorn"), 0.2
    ),
    "jsonlines": Entry(
        "FastAPI JSON lines, aiohttp client", ("fastapi", "uvicorn", "aiohttp"), 0.2
    ),
    "wsrpc_aiohttp": Entry("wsrpc-aiohttp, both ends", ("wsrpc-aiohttp", "aiohttp"), 0.2),
    "pyrpckit": Entry("pyrpckit in FastAPI on uvicorn, its generated client, Python 3.12", (), 0.2),
    "meshcall": Entry("meshcall without its router, both ends", ("meshcall",), 0.2),
    "socketio": Entry("python-socketio on aiohttp", ("python-socketio", "aiohttp"), 0.2),
    "fastapi_ws": Entry(
        "fastapi_websocket_rpc on uvicorn", ("fastapi-websocket-rpc", "uvicorn"), 0.2
    ),
    "rpyc": Entry("rpyc, a threaded server", ("rpyc",), 0.2),
    "socketio_js": Entry("socket.io on Node, both ends", (), 0.2),
    "signalr": Entry("SignalR's client on Node, its hub on ASP.NET Core", (), 0.2),
    "capnweb": Entry("capnweb on Node, both ends", (), 0.2),
}


def load(name: str) -> Any:
    """Import the peer's module, a `base.Peer` or a `base.Program`; ImportError if it cannot run."""
    return importlib.import_module(f"{__name__}.{name}")
