"""Settings of picows for both sides: limits, timeouts, and sockets that it can use."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable
from typing import Any

from ...limits import Limits
from ..listening import Accepted, Listening
from ..request_bodies import HeadFilter

__all__ = ["TcpListening", "TcpSocket", "UnixListening", "UnixSocket", "muted", "options"]

FIRST_LINE = re.compile(rb"([A-Z]{3,10}) (/[^ \r\n]*) (HTTP/1\.[01])(?=\r\n)")

# Every log message of picows concerns one connection, whose end the session reports itself. Broken
# handshakes of strangers do not belong on the application's stderr.
muted = logging.getLogger("wsrpc.picows")
muted.setLevel(logging.CRITICAL)


def options(limits: Limits, tls_timeout: float | None, fast: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "logger_name": muted,
        "enable_auto_pong": False,
        "max_frame_size": limits.max_batch,
        # The smallest size: the buffer grows with the input. The default takes as much as an idle
        # session.
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
    """A connection with requests that picows does not know: of other methods, or with a body.

    It reads the request's head itself and shows picows a GET of HTTP/1.1 without a body. That works
    without TLS, whose bytes only asyncio can read, and without uvloop, which has sockets of its
    own. There picows answers 400 to such requests.

    Attributes:
        method: The real method; None if it is GET.
        version: The real version of HTTP; None if it is 1.1.
        head: The part of the head that was not shown.
        before_close: Gets the connection in place of the first call of `close`, and has to call it
            again.
    """

    method: str | None = None
    version: str | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.head = HeadFilter()
        self._first = True
        self.before_close: Callable[[TcpSocket], None] | None = None
        # This holds for the head only; after it the class's own method is used again.
        vars(self)["recv_into"] = self._receive_head

    def _receive_head(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        # The bytes that were held back go in front of the new ones, so there has to be room for them.
        room = memoryview(buffer)[: len(buffer) - self.head.held]
        received = super().recv_into(room, 0, flags)
        if not received:
            return 0
        shown = bytes(room[:received])
        if self._first:
            self._first = False
            shown = self._as_get(shown)
        shown = self.head.take(shown)
        if self.head.over and self.head.body == "none":
            del vars(self)["recv_into"]
        if not shown:
            # Nothing to show yet; 0 would be the end of the connection.
            raise BlockingIOError
        buffer[: len(shown)] = shown
        return len(shown)

    def _as_get(self, data: bytes) -> bytes:
        found = FIRST_LINE.match(data)
        if found is None:
            return data
        method, path, version = found.groups()
        if method != b"GET":
            self.method = method.decode()
        if version != b"HTTP/1.1":
            self.version = version.decode()
        return b"GET " + path + b" HTTP/1.1" + data[found.end() :]

    def close(self) -> None:
        before, self.before_close = self.before_close, None
        if before is None or self.fileno() < 0:
            super().close()
        else:
            before(self)


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
