"""What both sides tell picows: limits, timeouts, and sockets that it can live with."""

from __future__ import annotations

import logging
import socket
from typing import Any

from ...limits import Limits
from ..listening import Accepted, Listening

__all__ = ["UnixListening", "UnixSocket", "muted", "options"]

# Every message of picows concerns one connection, whose end the session reports itself; what a
# stranger's broken handshake looks like is no business of the application's stderr.
muted = logging.getLogger("wsrpc.picows")
muted.setLevel(logging.CRITICAL)


def options(limits: Limits, tls_timeout: float | None, unix: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "logger_name": muted,
        "enable_auto_pong": False,
        "max_frame_size": limits.max_batch,
        # The transports of the event loop itself: measured, aiofastnet's are no faster here, and
        # its server reports every broken TLS handshake of a stranger, and spins when files run out.
        # On uvloop, though, only its transports have the socket that `UnixSocket` accepted.
        "use_aiofastnet": unix,
    }
    if tls_timeout is not None:
        # Zero seconds are not allowed here.
        options["ssl_handshake_timeout"] = max(tls_timeout, 0.001)
        options["ssl_shutdown_timeout"] = max(limits.close_timeout, 0.001)
    return options


class _NoTcp(socket.socket):
    """Bears with picows, which sets options of TCP on every socket."""

    __slots__ = ()

    def setsockopt(self, level: int, *args: Any) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *args)

    def getsockopt(self, level: int, *args: Any) -> Any:
        return 0 if level == socket.IPPROTO_TCP else super().getsockopt(level, *args)


class UnixSocket(_NoTcp, Accepted):
    """A Unix socket's connection."""

    __slots__ = ()


class UnixListening(_NoTcp, Listening):
    """A Unix socket that listens."""

    kind = UnixSocket
