"""Calls from the peer: this layer opens their ids, and gives each call a slot or refuses it."""

from __future__ import annotations

from typing import Literal

from ..limits import MAX_CALLBACK_CALLS, MAX_CREDIT, MAX_IDS_PER_CALL, Limits
from .codec import Codec
from .events import CallReceived, CallRefused
from .frames import ABSENT, ErrorBody, NotifyOptions, SizedCall, SizedNotify
from .lanes import CallbackOffer, CallbackTarget, InCall, OutCall, UploadReader
from .requests import Requests
from .slots import Places
from .window import SendCredit, violation

__all__ = ["Arrivals"]

NO_IDS: dict[str, int] = {}


class Arrivals(Requests):
    """The layer of an endpoint that lets calls in.

    Attributes:
        running: This side's slots.
    """

    __slots__ = ("running",)

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        self.running = Places(limits.max_calls)

    def _on_call(self, frame: SizedCall) -> None:
        if frame.size is not None:
            self._incoming.check_taken(frame)
        call = InCall(frame, self.peer_window)
        options = frame.options
        self._open(call, options)
        if self.crowded and self.serves_live(call):
            self._incoming.needed += 1
        if isinstance(frame.method, int):
            self._join_callback(call, frame.method)
            if frame.size is not None:
                self._await_arguments(call, frame, frame.size)
            return
        if options is not None and options.credit is not None:
            if options.credit > MAX_CREDIT:
                raise violation(f"a call with a credit of {options.credit}")
            call.credit = SendCredit(options.credit)
        self._take_slot(call)
        if frame.size is not None:
            self._await_arguments(call, frame, frame.size)

    def _on_notify(self, frame: SizedNotify) -> None:
        if frame.size is not None:
            self._incoming.check_taken(frame)
        call = InCall(frame, 0)
        self._open(call, frame.options)
        self._take_slot(call)
        if frame.size is not None:
            self._await_arguments(call, frame, frame.size)

    def _await_arguments(self, call: InCall, frame: SizedCall | SizedNotify, size: int) -> None:
        if call.state != "finished":
            self._incoming.begin(frame, size, needed=self.serves_live(call))

    def _open(self, call: InCall, options: NotifyOptions | None) -> None:
        """Open the call's id, then its upload and callback ids, checking every one (ID-2)."""
        id = call.id
        if (id & 1) == self._parity or id <= self._peer_highest:
            raise violation(f"id {id} cannot be opened here")
        self._peer_highest = id
        self._lanes[id] = call
        if options is not None and (options.uploads or options.callbacks):
            self._open_channels(call, options.uploads or NO_IDS, options.callbacks or NO_IDS)

    def _open_channels(
        self, call: InCall, uploads: dict[str, int], callbacks: dict[str, int]
    ) -> None:
        if call.state != "running":
            raise violation(f"uploads or callbacks on id {call.id}")
        ids = sorted([*uploads.values(), *callbacks.values()])
        if len(ids) >= MAX_IDS_PER_CALL:
            raise violation(f"a call that opens {len(ids) + 1} ids")
        for id in ids:
            if (id & 1) == self._parity or id <= self._peer_highest:
                raise violation(f"id {id} cannot be opened here")
            self._peer_highest = id
        call.uploads, call.callbacks = {}, {}
        for name, id in uploads.items():
            reader = UploadReader(id, self.limits.window, self.limits.window_bytes)
            call.uploads[name] = self._lanes[id] = reader
        for name, id in callbacks.items():
            call.callbacks[name] = self._lanes[id] = CallbackTarget(id)

    def _take_slot(self, call: InCall) -> None:
        """Let the call begin if there is a slot for it, and answer it otherwise."""
        limit = self.limits.max_calls
        if self._drain is not None and not self.serves_live(call):
            self._turn_away(call, "unavailable", "this end is draining and takes no new calls")
        elif self.running.live >= limit:
            self._turn_away(call, "resource_exhausted", f"more than {limit} calls at a time")
        else:
            self.running.live += 1
            call.pool = self.running
            self._begin(call)

    def serves_live(self, call: InCall) -> bool:
        """Whether a call of this side needs this call in order to end (DRAIN-2)."""
        return call.parent is not None and isinstance(self._lanes.get(call.parent), OutCall)

    def _join_callback(self, call: InCall, id: int) -> None:
        """Let the call of a callback begin if there is room for it, and answer it otherwise."""
        offer = self._lanes.get(id)
        if isinstance(offer, CallbackOffer):
            if offer.live >= MAX_CALLBACK_CALLS:
                message = f"more than {MAX_CALLBACK_CALLS} calls of one callback at a time"
                self._turn_away(call, "resource_exhausted", message)
            else:
                offer.live += 1
                offer.calls[call] = None
                call.pool = call.offer = offer
                self._begin(call)
        elif offer is None and (id & 1) == self._parity and id < self._next_id:
            body = ErrorBody("failed_precondition", "the callback's call has ended")
            self.fail(call, body)
            self._events.append(CallRefused(call, body.code))
        else:
            raise violation(f"a call of {id}, which is no callback")

    def _turn_away(self, call: InCall, code: str, message: str) -> None:
        """Refuse a call that an honest peer would not have made (CALM-3)."""
        self._patience.refused += 1
        self.refuse(call, code, message)
        self._events.append(CallRefused(call, code))

    def _begin(self, call: InCall) -> None:
        size = call.size
        if call.timeout == 0:
            self.refuse(call, "deadline_exceeded", "deadline exceeded")
            self._events.append(CallRefused(call, "deadline_exceeded"))
        elif size is None:
            self._events.append(CallReceived(call))
        elif size > self.limits.max_value:
            self._turn_away(call, "resource_exhausted", self._above_limit(size))
        else:
            call.args = ABSENT
            self._events.append(CallReceived(call, complete=False))

    def _above_limit(self, size: int) -> str:
        return f"a value of {size} bytes; this end takes at most {self.limits.max_value}"
