"""`wsrpc call -v`: shows the frames of the connection, and durations."""

from __future__ import annotations

import time

from ..interfaces import CallEnd, ObservedCall, Observer, Session, StateChange
from ..protocol.codec import SUBPROTOCOLS
from ..telemetry.recorded_frames import plain_frame
from ..telemetry.recording_format import Sender
from ..telemetry.redaction import LinkRedaction, Redaction
from .failures import note
from .text import sayable, shortened, to_json

__all__ = ["Frames", "Verbose"]

# Characters of a frame's values that are shown.
WIDTH = 400


class Verbose(Observer):
    """Prints the events of a session on stderr, and each call both ways."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def session_state(self, session: Session, change: StateChange) -> None:
        seconds = time.perf_counter() - self._began
        if change.state == "connected":
            note(f"* connected to {session.peer} in {1000 * seconds:.1f} ms, session {session.id}")
        elif change.state == "closed":
            note(f"* {change.cause}")

    def call_started(self, call: ObservedCall) -> None:
        if call.controller != "wsrpc.reflection":
            with_metadata = f", metadata {to_json(dict(call.metadata))}" if call.metadata else ""
            note(f"* {call.name} ({call.kind}, {call.direction}) begins{with_metadata}")

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        if call.controller != "wsrpc.reflection":
            note(f"* {call.name} ended: {end.code}, {1000 * end.duration:.1f} ms")

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        note(f"* {call.name} ({call.kind}, {call.direction}) was refused: {end.code}")


class Frames:
    """Prints the frames of one connection, one on each line; credentials are masked.

    Args:
        subprotocol: The connection's subprotocol.
    """

    def __init__(self, subprotocol: str) -> None:
        self._codec = SUBPROTOCOLS[subprotocol]
        self._redaction = LinkRedaction(self._codec, Redaction(True, {}))
        self._bytes = {"C": 0, "S": 0}
        self._closed = False

    def passed(self, sender: Sender, message: bytes) -> None:
        """Print a message that was sent, or came."""
        self._bytes[sender] += len(message)
        arrow = ">" if sender == "C" else "<"
        found = self._redaction.frames(message)
        if found is None:
            note(f"{arrow} {len(message)} bytes that are no frames")
            return
        for data in found:
            values = map(to_json, map(sayable, plain_frame(self._codec, data)[1:]))
            name = plain_frame(self._codec, data)[0]
            note(f"{arrow} {name} {shortened(' '.join(values), WIDTH)} ({len(data)} bytes)")

    def closed(self, sender: Sender | None, code: int, reason: str = "") -> None:
        """Print the end of the connection."""
        if not self._closed:
            self._closed = True
            arrow = {"C": ">", "S": "<", None: "*"}[sender]
            sent, received = self._bytes["C"], self._bytes["S"]
            note(f"{arrow} close {code} {reason}".rstrip())
            note(f"* {sent} bytes sent, {received} received")

    def over(self) -> None:
        """Print the totals of a connection that is not used any more."""
