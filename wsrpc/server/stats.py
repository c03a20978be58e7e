"""The built-in controller `wsrpc.stats`: a server's counts and holdings, for allowed principals."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from heapq import nlargest
from time import monotonic
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel

from ..context import current
from ..contract.decorator import method
from ..errors import Code, RpcError
from ..session.live_session import LiveSession
from ..telemetry.events import Events
from ..telemetry.method_counts import MethodCounts
from ..telemetry.session_counts import SessionCounts
from ..telemetry.snapshot import Snapshot

__all__ = ["STATS", "Order", "StatsController", "StatsFor"]

STATS = "wsrpc.stats"

StatsFor: TypeAlias = Callable[[Any], bool | Awaitable[bool]]
"""Whether a principal may see a server's counts and holdings; a plain or an async function."""

Order: TypeAlias = Literal[
    "calls_live",
    "calls_ended",
    "streams_live",
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
    "paused_streams",
    "paused_for",
    "lag",
    "held_bytes",
]
"""The count by which sessions are chosen and sorted, the largest first."""

Row: TypeAlias = dict[str, Any]

# Sessions that are listed one by one.
MOST_SESSIONS = 1_000

# Sessions that are looked at before other tasks have a turn.
SLICE = 100

# Seconds between two snapshots of `watch`, at least.
SHORTEST = 0.1

# Seconds. The time from which a peer is called slow: it owes an ack, which an honest peer sends
# within a second and a round trip; or its streams have no credit; or its connection takes no bytes.
SLOW_ACK = 3.0
SLOW = 1.0


class StatsController:
    """Tells a caller the server's counts and holdings.

    The server's `authorize` is not asked: `Server(stats_for=…)` alone decides.

    Args:
        allowed: Tells whether a caller's principal may ask.
        snapshot: Gives the server's counts and holdings.
        sessions: The sessions.
        events: The server's events, which are counted by method from now on.
    """

    controller_name = STATS

    def __init__(
        self,
        allowed: StatsFor,
        snapshot: Callable[[], Snapshot],
        sessions: Mapping[str, LiveSession],
        events: Events,
    ) -> None:
        self._allowed = allowed
        self._snapshot = snapshot
        self._sessions = sessions
        self._events = events
        self._methods = MethodCounts()
        self._counts = SessionCounts()
        events.add(self._methods)
        events.add(self._counts)

    @method(idempotent=True)
    async def snapshot(self, sort: Order = "held_bytes", limit: int = MOST_SESSIONS) -> Row:
        """The server's counts and holdings now: in all, by method, and by session.

        Args:
            sort: The count by which sessions are chosen and sorted, the largest first.
            limit: Sessions that are listed; at most a thousand.
        """
        await self._check()
        return await self._now(sort, limit)

    @method(on_drain="end")
    async def watch(
        self, interval: float = 1.0, sort: Order = "held_bytes", limit: int = MOST_SESSIONS
    ) -> AsyncIterator[Row]:
        """The same as `snapshot`, now and then in intervals.

        Args:
            interval: Seconds between two snapshots; at least 0.1.
            sort: The count by which sessions are chosen and sorted, the largest first.
            limit: Sessions that are listed; at most a thousand.
        """
        await self._check()
        while True:
            yield await self._now(sort, limit)
            await anyio.sleep(max(interval, SHORTEST))

    async def _check(self) -> None:
        allowed = self._allowed(current().principal)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            raise RpcError(Code.PERMISSION_DENIED, "Server(stats_for=…) does not allow this caller")

    async def _now(self, sort: Order, limit: int) -> Row:
        told = asdict(self._snapshot())
        told["closes"] = {str(int(code)): count for code, count in told["closes"].items()}
        told["refused"] = [
            {"method": name, "code": code, "count": count}
            for (name, code), count in told["refused"].items()
        ]
        pauses = self._pauses()
        rows = []
        for count, session in enumerate(self._sessions.values(), 1):
            if not session.closed:
                rows.append(self._row(session, pauses.get(session, [])))
            if count % SLICE == 0:
                await anyio.lowlevel.checkpoint()
        return {
            "time": monotonic(),
            "server": told,
            "total": self._counts.total.as_json(),
            "methods": self._methods.as_json(),
            "sessions": nlargest(
                max(0, min(limit, MOST_SESSIONS)), rows, key=lambda row: float(row[sort])
            ),
        }

    def _pauses(self) -> dict[object, list[float]]:
        """The times at which the waiting streams of each session began to wait for credit."""
        found: dict[object, list[float]] = {}
        for pause in self._events.pauses.values():
            if pause.for_credit:
                found.setdefault(pause.call.session, []).append(pause.since)
        return found

    def _row(self, session: LiveSession, pauses: list[float]) -> Row:
        waits = max(0.0, session.runtime.now() - min(pauses)) if pauses else 0.0
        lag, blocked = session.ack_lag, session.blocked
        slow = []
        if session.state != "detached":
            slow += ["acks"] if lag > SLOW_ACK else []
            slow += ["credit"] if waits > SLOW else []
            slow += ["socket"] if blocked > SLOW else []
        return {
            "id": session.id,
            "principal": session.principal_key,
            "peer": session.handshake.remote,
            "agent": session.peer,
            "state": session.state,
            **self._counts.of(session).as_json(),
            "paused_streams": len(pauses),
            "paused_for": waits,
            "lag": lag,
            "blocked_for": blocked,
            "outbox_bytes": session.outbox_bytes,
            "replay_bytes": session.replay_bytes,
            "held_bytes": session.held,
            "slow": slow,
        }
