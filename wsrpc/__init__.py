"""Call and stream both ways over one WebSocket, with structured concurrency across the wire.

These public modules are imported by their own names:

- `wsrpc.cluster`: groups, presence, pools and topics, in one process or over NATS
- `wsrpc.testing`: servers and clients in memory, faults to order, virtual time, recordings played again
- `wsrpc.telemetry.access`: one line of the log a call
- `wsrpc.telemetry.log_formats`: lines of the log as text or JSON
- `wsrpc.telemetry.otel`: traces and durations for OpenTelemetry
- `wsrpc.telemetry.prometheus`: metrics

For annotations: `OnState` is the type of `on_state=`, which gets the session and a `StateChange`;
`Authenticate` and `Authorize` are those of the arguments of their names, and `Next` that of an
interceptor's second argument. `State` has the words for a session's state, `Validate` and `Overflow`
those for the options `validate=` and `overflow=`.
"""

from __future__ import annotations

# First of all, since it decides which build of the core is imported.
from .version import __version__

# isort: split
from .admission.authentication import Authenticate, Grant
from .client import connect
from .context import Authorize, CallContext, current, metadata
from .contract.decorator import method
from .engine.failures import WrongKindError
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
    CallEnd,
    FetchStream,
    Handshake,
    Interceptor,
    Next,
    ObservedCall,
    Observer,
    OnState,
    Overflow,
    Request,
    Session,
    State,
    StateChange,
    StreamFetcher,
    StreamRequest,
    Validate,
    default_stream_fetcher,
)
from .limits import Limits
from .server.listener import Listener
from .server.server import Server
from .session.reconnect import Reconnect
from .stream import Final, NotFinished, Stream, Tracked, stream_of
from .telemetry.counters import Stats
from .telemetry.recording import Recording
from .telemetry.snapshot import Snapshot

__all__ = [
    "Authenticate",
    "Authorize",
    "CallContext",
    "CallEnd",
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
    "NotFinished",
    "ObservedCall",
    "Observer",
    "OnState",
    "Overflow",
    "ProtocolError",
    "Reconnect",
    "Recording",
    "RegistrationError",
    "Request",
    "RpcError",
    "Server",
    "Session",
    "Snapshot",
    "State",
    "StateChange",
    "Stats",
    "Stream",
    "StreamFetcher",
    "StreamOverflow",
    "StreamRequest",
    "Tracked",
    "Validate",
    "WrongKindError",
    "WsrpcError",
    "__version__",
    "connect",
    "current",
    "default_stream_fetcher",
    "metadata",
    "method",
    "stream_of",
]
