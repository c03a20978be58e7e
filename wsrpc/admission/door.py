"""The door of a listener: it decides which connections may open a link."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from ..interfaces import Handshake
from ..limits import Limits
from ..runtime.timers import TimerEntry, Timers
from ..telemetry.logs import everyone
from ..transport.base import HttpAnswer, Socket
from ..transport.listening import hang_up, has_arrived, host_of, remote_of, say
from .forwarded import Proxies
from .handshakes import Pending, PendingLinks
from .origins import Origins

__all__ = ["Answer", "Door"]


# Connections that are accepted although there is no room for them, until they send a request: they
# may be probes.
IN_BETWEEN = 32

# Seconds. New connections wait to be accepted as long as any pending one makes progress within this
# time. Otherwise up to `IN_BETWEEN` of them are accepted without a place, and after that the silent
# ones make room. Probes wait for a second; honest clients of a busy machine may be silent for
# longer.
STANDSTILL = 0.75

# Seconds that a stopping server leaves for opening handshakes, and for peers to leave after an
# answer over HTTP.
LAST = 1.0

# Seconds between two log lines about the same trouble.
QUIET = 1.0

CROWDED_HTTP = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 44\r\n\r\n"
    b"Too many connections that do not ask at all."
)

Answer: TypeAlias = Callable[[str, str, Mapping[str, str], str, str], HttpAnswer | None]


class Door:
    """The door of one listener: the `transport.base.Doorkeeper` of a server.

    Args:
        limits: The server's.
        pending: The pending connections of all listeners of the server.
        now: The time on the loop's clock, in seconds.
        origins: The rule for web pages that may connect.
        proxies: The proxies whose headers are believed.
        answer: Gives the answer over HTTP to a method, path, headers, and the addresses that the
            connection reached and comes from. None: no request is answered over HTTP.
        deadlines: The timers for handshakes; without them only the libraries bound their time.
        refused: Called with a word for each connection that is refused before it is a link.
        plain: Whether there is no TLS, so that peers can read plain text written to their sockets.
    """

    def __init__(
        self,
        limits: Limits,
        pending: PendingLinks,
        now: Callable[[], float],
        *,
        origins: Origins | None = None,
        proxies: Proxies | None = None,
        answer: Answer | None = None,
        deadlines: Timers | None = None,
        refused: Callable[[str], None] | None = None,
        plain: bool = False,
    ) -> None:
        self._plain = plain
        self._limits = limits
        self._pending = pending
        self._now = now
        self._origins = origins or Origins()
        self._proxies = proxies or Proxies()
        self._answer = answer
        self._deadlines = deadlines
        self._refused = refused or _untold
        # The keys are file numbers, since the libraries do not pass on the objects that they are
        # given.
        self._arrived: dict[int, tuple[Pending, TimerEntry | None]] = {}
        # The connections for which there is no room, the oldest first.
        self._crowd: dict[Pending, None] = {}
        # The number of connections that have left the crowd or a place, and the time of the last
        # change.
        self._departures = 0
        self._seen = 0
        self._moved = now()
        # Seconds that each connection has.
        self._most = limits.hello_timeout
        self._loud = -math.inf

    def has_room(self) -> bool:
        """Whether one more connection may be accepted; otherwise it waits, and this is asked again.

        In a rush all connections come in, one after another. A silent crowd does not hold up others
        for long: see `STANDSTILL`.
        """
        if len(self._crowd) >= IN_BETWEEN:
            for one in [one for one in self._crowd if one.gone]:
                del self._crowd[one]
                self._departures += 1
        departures = self._departures + self._pending.departures
        now = self._now()
        if departures != self._seen:
            self._seen, self._moved = departures, now
        if len(self._crowd) < IN_BETWEEN and not self._pending.queue_is_full:
            return True
        return now >= self._moved + STANDSTILL

    def exhausted(self, error: OSError) -> None:
        """Log that the system lacks the resources to accept a connection; it is tried again."""
        now = self._now()
        if now >= self._loud + QUIET:
            self._loud = now
            everyone.error(
                "cannot accept connections at the moment: %s; those that come wait", error.strerror
            )

    def arrive(self, connection: Socket, peer: Any) -> bool:
        """Take in an accepted connection; returns False if it has to be closed for lack of room.

        It has `Limits.hello_timeout` from now, TLS and the opening handshake included.
        """
        address = host_of(peer)
        end = partial(hang_up, connection)
        pending = self._pending.add(
            "" if self._proxies.trust(address) else address,
            self._now(),
            socket=connection,
            dismiss=end,
        )
        if pending is None:
            if self._answer is None:
                self._refused("no_room")
                return False
            pending = self._in_between(address, connection, end)
        number = connection.fileno()
        if (before := self.opened(number)) is not None:
            # The number was given anew, so the older connection was closed.
            self._pending.remove(before)
        due = None
        if self._deadlines is not None:
            late = partial(self._late, number, pending)
            due = self._deadlines.add(pending.since + self._most, late)
        self._arrived[number] = pending, due
        return True

    def opened(self, number: int) -> Pending | None:
        """Let go of a connection whose handshake is through: its session watches its time now.

        Args:
            number: The file number of its socket; -1 if it is closed.
        """
        pending, due = self._arrived.pop(number, (None, None))
        if due is not None and self._deadlines is not None:
            self._deadlines.remove(due)
        if pending in self._crowd:
            del self._crowd[pending]
            self._departures += 1
            # A connection that opens a WebSocket has to wait for a place like all others.
            return None
        return pending

    def hurry(self) -> None:
        """Let no opening handshake take longer than `LAST` from now: the server stops."""
        until = self._now() + LAST
        for number, (pending, due) in self._arrived.items():
            if (
                self._deadlines is not None
                and due is not None
                and pending.since + self._most > until
            ):
                self._deadlines.remove(due)
                due = self._deadlines.add(until, partial(self._late, number, pending))
                self._arrived[number] = pending, due
        self._most = min(self._most, LAST)

    def close(self) -> None:
        """Close the connections that are still within the opening handshake: the server has stopped."""
        for number, (pending, _) in list(self._arrived.items()):
            self.opened(number)
            self._pending.remove(pending)
            pending.dismiss()

    def answered(self, number: int) -> None:
        """Free the place of a connection whose request was answered; its time still runs.

        Args:
            number: The file number of its socket; -1 if it is closed.
        """
        if (arrived := self._arrived.get(number)) is not None:
            self._pending.remove(arrived[0])
            if arrived[0] in self._crowd:
                del self._crowd[arrived[0]]
                self._departures += 1

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], *, local: str, peer: str
    ) -> HttpAnswer | None:
        """The answer to a request over HTTP; None where a WebSocket may open.

        Args:
            method: The request's method.
            path: Its path, with the query.
            headers: Its headers, names in lower case.
            local: The address that the connection reached, without a port; "" where there is none.
            peer: The address from which it comes, without a port; "" where there is none.
        """
        if self._answer is None:
            return None
        return self._answer(method, path, headers, local, peer)

    def forbids(self, headers: Mapping[str, str]) -> bool:
        """Whether the request comes from a web page that may not connect.

        Args:
            headers: The request's, names in lower case.
        """
        origin = headers.get("origin")
        if origin is None or self._origins.allow(origin, self._proxies.host_of(headers)):
            return False
        self._refused("origin")
        return True

    def handshake(
        self,
        path: str,
        headers: Mapping[str, str],
        peer: Any,
        *,
        tls: bool,
        certificate: Mapping[str, Any] | None = None,
        scope: Mapping[str, Any] | None = None,
    ) -> Handshake:
        """The facts about the connection that its session gets."""
        return Handshake(
            path=path,
            headers=headers,
            remote=remote_of(peer),
            tls=tls,
            address=self._proxies.client_of(host_of(peer), headers),
            certificate=certificate or None,
            scope=scope,
        )

    def _in_between(self, address: str, connection: Socket, end: Callable[[], None]) -> Pending:
        """Let a connection for which there is no room send a request: it may be a probe.

        A flood may take all of these places, but gains nothing by them: once it is at a standstill,
        each newcomer takes the place of the oldest connection. A connection that sends its request
        at once is answered before it has to leave.
        """
        pending = Pending(address, self._now(), connection, end)
        if len(self._crowd) >= max(IN_BETWEEN, self._limits.max_unauthenticated):
            self._make_room()
        self._crowd[pending] = None
        return pending

    def _make_room(self) -> None:
        """Close the oldest silent connection, and tell it the reason."""
        silent = (one for one in self._crowd if not has_arrived(one.socket))
        oldest = next(silent, next(iter(self._crowd)))
        if self._plain:
            say(oldest.socket, CROWDED_HTTP)
        del self._crowd[oldest]
        self._refused("no_room")
        oldest.dismiss()

    def _late(self, number: int, pending: Pending) -> None:
        """Close a connection that is still within the opening handshake (HELLO-9)."""
        self.opened(number)
        self._pending.remove(pending)
        self._refused("handshake_timeout")
        pending.dismiss()


def _untold(reason: str) -> None:
    """Do nothing: refused connections are not counted."""
