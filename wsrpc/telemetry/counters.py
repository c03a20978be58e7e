"""The counts of a server, or of a connecting session, for monitoring."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Stats"]


@dataclass(slots=True)
class Stats:
    """Counts of one server and all its sessions, or of one connecting session.

    Attributes:
        calls_live: Handlers that run now.
        calls_peak: Handlers that ran at a time at most.
        generators_open: Handlers of streams that have begun and are not closed.
        links: Connections open now.
        frames_ignored: Frames for finished ids, and unknown extensions, of sessions that ended.
        closes: Connections closed so far, by close code.
        refused: Calls of the peers that were refused so far, by method and code. At most 1,000
            pairs have a count of their own; methods that do not exist share "?".
        bytes_received: Bytes of all WebSocket messages that came in.
        bytes_sent: Bytes of all WebSocket messages that went out.
        resumes: Resumptions so far: times at which a session went on over a new connection.
        strangers_refused: Connections that were refused so far, by reason.
    """

    calls_live: int = 0
    calls_peak: int = 0
    generators_open: int = 0
    links: int = 0
    frames_ignored: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_received: int = 0
    bytes_sent: int = 0
    resumes: int = 0
    strangers_refused: Counter[str] = field(default_factory=Counter)
