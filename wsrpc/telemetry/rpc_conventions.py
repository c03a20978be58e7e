"""The names and values of OpenTelemetry's conventions for RPC, as of version 1.45; all in one place.

See https://opentelemetry.io/docs/specs/semconv/rpc/. Nothing here needs OpenTelemetry.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, TypeAlias

from ..interfaces import CallEnd, ObservedCall

__all__ = [
    "BUCKETS",
    "CLIENT_DURATION",
    "ERROR_ID",
    "METHOD",
    "SECONDS",
    "SERVER_DURATION",
    "SYSTEM",
    "UNKNOWN_METHOD",
    "WSRPC",
    "Attributes",
    "at_the_end",
    "at_the_start",
    "failed",
    "of_server",
    "span_name",
]

Attributes: TypeAlias = dict[str, str | int]

SYSTEM: Final = "rpc.system.name"
METHOD: Final = "rpc.method"
METHOD_ORIGINAL: Final = "rpc.method_original"
STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
PEER_ADDRESS: Final = "network.peer.address"
PEER_PORT: Final = "network.peer.port"

# An attribute for which the conventions have no name.
SESSION: Final = "wsrpc.session.id"
KIND: Final = "wsrpc.kind"
ERROR_ID: Final = "wsrpc.error_id"

WSRPC: Final = "wsrpc"
UNKNOWN_METHOD: Final = "_OTHER"

CLIENT_DURATION: Final = "rpc.client.call.duration"
SERVER_DURATION: Final = "rpc.server.call.duration"
SECONDS: Final = "s"

# Seconds.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# The codes for which the handling side is, or may be, to blame; for the others the caller is.
FAULTS_OF_A_SERVER: Final = frozenset(
    {"unknown", "deadline_exceeded", "unimplemented", "internal", "unavailable", "data_loss"}
)


def span_name(call: ObservedCall) -> str:
    """The name of its span: the method, where there is such a method."""
    return call.name if call.known else WSRPC


def at_the_start(call: ObservedCall) -> Attributes:
    """The attributes of a span that are known when it starts."""
    found = {**_of_method(call), KIND: call.kind, SESSION: call.session_id}
    if not call.known:
        found[METHOD_ORIGINAL] = call.name
    address, port = _split(call.peer)
    if address and (call.direction == "inbound" or _is_of_a_socket(address)):
        found[PEER_ADDRESS] = address
        if port:
            found[PEER_PORT] = port
    if call.direction == "inbound":
        if client := call.session.handshake.address or address:
            found[CLIENT_ADDRESS] = client
    else:
        found.update(of_server(call.peer))
    return found


def of_server(peer: str) -> Attributes:
    """The attributes that name the end to which a call goes.

    Args:
        peer: Its address, as in `Handshake.remote`.
    """
    address, port = _split(peer)
    if not address:
        return {}
    return {SERVER_ADDRESS: address, **({SERVER_PORT: port} if port else {})}


def at_the_end(call: ObservedCall, end: CallEnd) -> Attributes:
    """The attributes that a span gets when it ends, which a duration has too."""
    found = {**_of_method(call), STATUS_CODE: end.code}
    if failed(call, end):
        found[ERROR_TYPE] = end.code
    return found


def failed(call: ObservedCall, end: CallEnd) -> bool:
    """Whether the call counts as failed at this end."""
    if call.direction == "outbound":
        return end.code != "ok"
    return end.code in FAULTS_OF_A_SERVER


def _of_method(call: ObservedCall) -> Attributes:
    return {SYSTEM: WSRPC, METHOD: call.name if call.known else UNKNOWN_METHOD}


def _is_of_a_socket(address: str) -> bool:
    """Whether an address is a number or a path; a caller may know its server by a name."""
    try:
        ip_address(address)
    except ValueError:
        return address.startswith("/")
    return True


def _split(peer: str) -> tuple[str, int | None]:
    """Address and port of "127.0.0.1:50312" or "[::1]:50312"."""
    host, colon, port = peer.rpartition(":")
    if not colon or not port.isdigit():
        return peer, None
    return host.removeprefix("[").removesuffix("]"), int(port)
