"""`wsrpc call -v`: what went over the connection, and how long it took."""

from __future__ import annotations

import time
from typing import Literal

from ..interfaces import CallEnd, ObservedCall, Observer, Session, StateChange
from .failures import note
from .text import to_json

__all__ = ["Verbose"]


class Verbose(Observer):
    """Notes the life of a session on stderr, and each call both ways."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._bytes = {"sent": 0, "received": 0}

    def session_state(self, session: Session, change: StateChange) -> None:
        seconds = time.perf_counter() - self._began
        if change.state == "connected":
            note(f"* connected to {session.peer} in {1000 * seconds:.1f} ms, session {session.id}")
        elif change.state == "closed":
            sent, received = self._bytes["sent"], self._bytes["received"]
            note(f"* {change.cause}; {sent} bytes sent, {received} received")

    def bytes(self, session: Session, direction: Literal["sent", "received"], count: int) -> None:
        self._bytes[direction] += count
        note(f"{'>' if direction == 'sent' else '<'} {count} bytes")

    def call_started(self, call: ObservedCall) -> None:
        if call.controller != "wsrpc.reflection":
            with_metadata = f", metadata {to_json(dict(call.metadata))}" if call.metadata else ""
            note(f"* {call.name} ({call.kind}, {call.direction}) begins{with_metadata}")

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        if call.controller != "wsrpc.reflection":
            note(f"* {call.name} ended: {end.code}, {1000 * end.duration:.1f} ms")
