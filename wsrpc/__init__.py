"""Call and stream both ways over one WebSocket, with structured concurrency across the wire."""

from __future__ import annotations

from .admission.authentication import Grant
from .client import connect
from .context import CallContext, current, metadata
from .contract.decorator import method
from .errors import (
    Code,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolError,
    RegistrationError,
    RpcError,
    StreamOverflow,
    WsrpcError,
)
from .interfaces import (
    FetchStream,
    Handshake,
    Interceptor,
    Next,
    Request,
    Session,
    StreamFetcher,
    StreamRequest,
    default_stream_fetcher,
)
from .limits import Limits
from .server.listener import Listener
from .server.server import Server
from .stream import Final, Stream, Tracked, stream_of
from .telemetry.counters import Snapshot, Stats
from .version import __version__

__all__ = [
    "CallContext",
    "Code",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "FetchStream",
    "Final",
    "Grant",
    "Handshake",
    "Interceptor",
    "Limits",
    "Listener",
    "Next",
    "ProtocolError",
    "RegistrationError",
    "Request",
    "RpcError",
    "Server",
    "Session",
    "Snapshot",
    "Stats",
    "Stream",
    "StreamFetcher",
    "StreamOverflow",
    "StreamRequest",
    "Tracked",
    "WsrpcError",
    "__version__",
    "connect",
    "current",
    "default_stream_fetcher",
    "metadata",
    "method",
    "stream_of",
]
