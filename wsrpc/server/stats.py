"""The built-in controller `wsrpc.stats`: what a server counts and holds, for those allowed to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any, TypeAlias

import anyio

from ..context import current
from ..contract.decorator import method
from ..errors import Code, RpcError
from ..interfaces import Session
from ..telemetry.counters import Snapshot
from ..telemetry.method_counts import MethodCounts

__all__ = ["StatsController", "StatsFor"]

StatsFor: TypeAlias = Callable[[Any], bool]
"""Whether a principal may see what a server counts and holds."""

# Sessions that are told of one by one.
MOST_SESSIONS = 1_000

# Seconds between two snapshots of `watch`, at least.
SHORTEST = 0.1


class StatsController:
    """Tells a caller what the server counts and holds.

    Args:
        allowed: Asked with the caller's principal.
        snapshot: Gives what the server counts and holds.
        sessions: The sessions.
        methods: Counts the calls by method.
    """

    controller_name = "wsrpc.stats"

    def __init__(
        self,
        allowed: StatsFor,
        snapshot: Callable[[], Snapshot],
        sessions: Mapping[str, Session],
        methods: MethodCounts,
    ) -> None:
        self._allowed = allowed
        self._snapshot = snapshot
        self._sessions = sessions
        self._methods = methods

    @method(idempotent=True)
    async def snapshot(self) -> dict[str, object]:
        """Counts of the server, its methods, and its sessions (of at most a thousand)."""
        self._check()
        return self._now()

    @method(on_drain="end")
    async def watch(self, interval: float = 1.0) -> AsyncIterator[dict[str, object]]:
        """The same now, and then again and again.

        Args:
            interval: Seconds between two of them; at least 0.1.
        """
        self._check()
        while True:
            yield self._now()
            await anyio.sleep(max(interval, SHORTEST))

    def _check(self) -> None:
        if not self._allowed(current().principal):
            raise RpcError(Code.PERMISSION_DENIED, "Server(stats_for=…) does not allow this caller")

    def _now(self) -> dict[str, object]:
        told = asdict(self._snapshot())
        told["closes"] = {str(int(code)): count for code, count in told["closes"].items()}
        told["refused"] = [
            {"method": name, "code": code, "count": count}
            for (name, code), count in told["refused"].items()
        ]
        return {
            "server": told,
            "methods": self._methods.as_json(),
            "sessions": [
                {
                    "id": session.id,
                    "principal": session.principal_key,
                    "peer": session.handshake.remote,
                    "agent": session.peer,
                    "state": session.state,
                    "outbox_bytes": session.outbox_bytes,
                    "replay_bytes": session.replay_bytes,
                }
                for session in islice(self._sessions.values(), MOST_SESSIONS)
            ],
        }
