"""The counts and holdings of a server at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts and holdings of a server at one moment; see `Server.snapshot`.

    Attributes:
        calls_live: Handlers running.
        calls_peak: Handlers that ran at a time at most.
        generators_open: Handlers of streams that have begun and are not closed.
        sessions: Sessions that have not ended, with those that have no connection.
        detached: Sessions without a connection.
        links: Connections, with those that have not said hello.
        unauthenticated: Connections that are not authenticated yet, with those in the opening
            handshake.
        outbox_bytes: Bytes of values that wait to be written, of all sessions.
        replay_bytes: Bytes kept for replay, of all sessions.
        paused_streams: Streams of this side that wait for credit or for room; only counted on an
            observed server.
        held_bytes: Bytes that all sessions hold for their peers, of every kind.
        frames_ignored: Frames ignored so far, of all sessions, with those that ended.
        closes: Connections closed so far, by close code.
        refused: Calls that were refused so far, by method and code; see `Stats`.
        resumes: Resumptions so far: times at which a session went on over a new connection.
        bytes_received: Bytes of all WebSocket messages that came in.
        bytes_sent: Bytes of all WebSocket messages that went out.
        strangers_refused: Connections that were refused so far, by reason.
    """

    calls_live: int
    calls_peak: int
    generators_open: int
    sessions: int
    detached: int
    links: int
    unauthenticated: int
    outbox_bytes: int
    replay_bytes: int
    held_bytes: int
    frames_ignored: int
    closes: dict[int, int]
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    resumes: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    strangers_refused: dict[str, int] = field(default_factory=dict)
    paused_streams: int = 0
