"""Calls to sessions of other nodes, as the observers of the server that makes them see them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..interfaces import CallEnd, ObservedCall, Observer
from ..limits import Limits
from ..telemetry.events import Events
from .relay import TO, WORKER
from .tunnels import RoutedSession

__all__ = ["CallsAbroad"]


class CallsAbroad(Observer):
    """Observes a session between two nodes, and passes on the calls that the application made.

    The nodes' own calls, and the state of the session itself, are in `Cluster(on_event=…)`.

    Args:
        events: Tells the server's observers.
        limits: The server's bounds.
    """

    def __init__(self, events: Events, limits: Limits) -> None:
        self._events = events
        self._limits = limits
        # The keys are identities of the calls as they are known here, which live until their ends.
        self._told: dict[int, ObservedCall] = {}

    def call_started(self, call: ObservedCall) -> None:
        told = self._abroad(call)
        if told is not None:
            self._told[id(call)] = told
            self._events.call_started(told)

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        told = self._told.pop(id(call), None)
        if told is not None:
            self._events.call_ended(told, end)

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        told = self._abroad(call)
        if told is not None:
            self._events.refusal(told, end)

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        told = self._told.get(id(call))
        if told is not None:
            self._events.items(told, direction, count)

    def paused(self, call: ObservedCall, seconds: float) -> None:
        told = self._told.get(id(call))
        if told is not None:
            self._events.paused(told, seconds)

    def retry(self, call: ObservedCall, attempt: int, code: str) -> None:
        told = self._told.get(id(call))
        if told is not None:
            self._events.retry(told, attempt, code)

    def _abroad(self, call: ObservedCall) -> ObservedCall | None:
        """The call with the session that it is for; None for a call of the nodes themselves."""
        if call.kind == "callback":
            # A call of a callback of this side, which comes from the other node.
            return call
        id = call.metadata.get(TO)
        if id is None:
            return None
        session = RoutedSession(id, self._limits)
        metadata = {key: value for key, value in call.metadata.items() if key not in (TO, WORKER)}
        return replace(
            call,
            session=session,
            session_id=id,
            principal=None,
            peer=session.handshake.remote,
            metadata=metadata,
        )
