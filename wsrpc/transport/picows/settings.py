"""Settings of picows for both sides: limits, timeouts, and sockets that it can use."""

from __future__ import annotations

import logging
import re
import socket
from typing import Any

from ...limits import Limits
from ..listening import Accepted, Listening

__all__ = ["TcpListening", "TcpSocket", "UnixListening", "UnixSocket", "muted", "options"]

OTHER_METHOD = re.compile(rb"(?!GET )([A-Z]{3,10}) (?=/)")

# Every log message of picows concerns one connection, whose end the session reports itself. Broken
# handshakes of strangers do not belong on the application's stderr.
muted = logging.getLogger("wsrpc.picows")
muted.setLevel(logging.CRITICAL)


def options(limits: Limits, tls_timeout: float | None, fast: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "logger_name": muted,
        "enable_auto_pong": False,
        "max_frame_size": limits.max_batch,
        # The least: it grows with what comes. The default is as much as an idle session takes.
        "read_buffer_init_size": 2048,
        # The transports of the event loop itself: measured, aiofastnet's are no faster here, and
        # its server reports every broken TLS handshake of a stranger.
        "use_aiofastnet": fast,
    }
    if tls_timeout is not None:
        # Zero seconds are not allowed here.
        options["ssl_handshake_timeout"] = max(tls_timeout, 0.001)
        options["ssl_shutdown_timeout"] = max(limits.close_timeout, 0.001)
    return options


class TcpSocket(Accepted):
    """A connection with requests other than GET, the only method that picows knows.

    It reads the first bytes itself and shows picows a GET; `method` tells the real method. That
    works without TLS, whose bytes only asyncio can read, and without uvloop, which has sockets of
    its own. There picows answers 400 to other methods.
    """

    method: str | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # For the first bytes only; after them the class's own method is used again.
        vars(self)["recv_into"] = self._receive_first

    def _receive_first(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        received = super().recv_into(buffer, size, flags)
        del vars(self)["recv_into"]
        head = bytes(buffer[:received])
        found = OTHER_METHOD.match(head)
        if found is None:
            return received
        self.method = found.group(1).decode()
        shown = b"GET " + head[found.end() :]
        buffer[: len(shown)] = shown
        return len(shown)


class TcpListening(Listening):
    """A listening socket for such connections."""

    kind = TcpSocket


class _NoTcp(socket.socket):
    """Ignores TCP options, which picows sets on every socket."""

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
