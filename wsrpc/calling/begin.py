"""The beginning of an outbound call, and its answer: all of a call but the waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from ..context import checked_metadata, handling, outgoing_metadata
from ..engine.failures import wrong_kind
from ..engine.hub import Hub
from ..engine.lane_owner import LaneOwner, Terminal
from ..engine.ledger import STEP
from ..errors import Code, ConnectionLost, RpcError
from ..protocol.endpoint import NoSlotError, PeerDrainingError, ValueTooLargeError
from ..protocol.frames import CallOptions
from ..protocol.lanes import CallbackTarget, OutCall
from ..protocol.splice import Encoded
from ..runtime import Future
from ..runtime.timers import TimerEntry
from .attachments import Attachments
from .timing import Timing

__all__ = ["Reply", "begin"]


def begin(
    hub: Hub,
    label: str,
    method: str | int,
    payload: Encoded,
    timing: Timing,
    *,
    metadata: Mapping[str, str] | None = None,
    oneway: bool = False,
    attachments: Attachments | None = None,
    target: CallbackTarget | None = None,
    window: int | None = None,
    last_id: str | None = None,
) -> OutCall:
    """Hand a call to the endpoint.

    Raises:
        RpcError: The call cannot even be queued; `not_started` is set.
    """
    if hub.lost is not None:
        raise hub.lost_error(started=False)
    ambient = outgoing_metadata.get()
    options: CallOptions | None = None
    if metadata or ambient:
        carried = {**ambient, **(metadata or {})}
        _check_metadata(hub, label, carried)
        options = CallOptions(metadata=carried)
    if last_id is not None:
        options = options or CallOptions()
        options.last_id = last_id
    handled = handling.get()
    parent = None if handled is None else handled.parent_in(hub.endpoint)
    try:
        call = hub.endpoint.call(
            method,
            payload,
            oneway=oneway,
            deadline=timing.deadline,
            options=options,
            uploads=tuple(attachments.uploads) if attachments is not None else (),
            callbacks=tuple(attachments.callbacks) if attachments is not None else (),
            parent=parent,
            target=target,
            window=window,
        )
        if len(payload) >= STEP:
            hub.settle()
        return call
    except NoSlotError as no_slot:
        error = RpcError(Code.RESOURCE_EXHAUSTED, f"{label}: {no_slot}")
    except PeerDrainingError:
        error = RpcError(Code.UNAVAILABLE, f"{label}: the other end is draining")
    except ValueTooLargeError as too_large:
        error = RpcError(Code.RESOURCE_EXHAUSTED, f"the arguments of {label}: {too_large}")
    error.not_started = True
    try:
        raise error
    finally:
        # Its traceback holds this frame and those of the callers, with the arguments.
        del error


def _check_metadata(hub: Hub, label: str, carried: Mapping[str, str]) -> None:
    size = 0
    try:
        for key, value in carried.items():
            size += len(str.encode(key)) + len(str.encode(value))
    except (TypeError, UnicodeEncodeError):
        # Interceptors may have put any object there.
        checked_metadata(carried)
        raise
    if size > hub.limits.max_metadata:
        limit = hub.limits.max_metadata
        error: RpcError[Any] = RpcError(
            Code.RESOURCE_EXHAUSTED, f"the metadata of {label} exceeds {limit} bytes (max_metadata)"
        )
        error.not_started = True
        try:
            raise error
        finally:
            # Its traceback holds this frame, as in `begin`.
            del error


class Reply(LaneOwner):
    """The wait for one value.

    Args:
        hub: The hub of the session.
        label: The name of the call in messages.
        call: The call, which has just begun.
        attachments: Uploads and callbacks.
        alarm: Seconds on the loop's clock. The time at which the call fails on this side; None:
            never.
    """

    __slots__ = ("_call", "_entry", "attachments", "future", "hub", "label")

    def __init__(
        self,
        hub: Hub,
        label: str,
        call: OutCall,
        attachments: Attachments | None,
        alarm: float | None,
    ) -> None:
        self.hub = hub
        self.label = label
        self.attachments = attachments
        self.future: Future = hub.runtime.future()
        call.owner = self
        self._call: OutCall | None = None
        self._entry: TimerEntry | None = None
        if alarm is not None:
            self._call = call
            self._entry = hub.timers.add(alarm, self.expire)

    def end(self) -> None:
        """Note that the wait is over."""
        if self._entry is not None:
            self.hub.timers.remove(self._entry)
            # Call and reply refer to each other; without this, each call would be a cycle for the
            # garbage collector.
            self._entry = self._call = None

    def settle(self, outcome: Terminal | RpcError[Any]) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def expire(self) -> None:
        """Cancel the call at the far end and fail it here: its time is over (TIME-3)."""
        call = self._call
        assert call is not None
        sent = call.is_numbered
        did_not = "did not answer" if sent else "was not sent"
        error = self.hub.overdue(self.label, f"{did_not} before its deadline")
        error.not_started = not sent
        self.hub.endpoint.cancel(call, "deadline_exceeded")
        self.hub.wake()
        self.settle(error)

    def on_finished(self, frame: Terminal) -> None:
        if not self.future.done():
            self.future.set_result(frame)
        if self.attachments is not None:
            self.attachments.stop()

    def on_lost(self, error: ConnectionLost) -> None:
        self.settle(error)
        if self.attachments is not None:
            self.attachments.stop()

    def on_items(self, items: list[Raw]) -> None:
        self.settle(wrong_kind(self.label, streams=True))

    def on_started(self) -> None:
        if self.attachments is not None:
            self.attachments.start()
