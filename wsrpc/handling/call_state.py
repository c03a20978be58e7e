"""The state of one inbound call, and all that its handler does without waiting.

The module is compiled where the core is; the waits are in `handler`, and the causes that stop a
call in `deadline`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from ..engine.ledger import STEP
from ..interfaces import CallEnd, ObservedCall
from ..protocol.lanes import InCall
from ..protocol.splice import Encoded
from ..runtime.compiling import mypyc_attr
from ..values.adapter import Adapter
from .deadline import StoppableCall
from .live import LiveCalls

__all__ = ["OK", "CallState"]

# The code of a call that did not fail.
OK = "ok"

# Bytes. Calls with less are not counted: there are at most `max_calls` of them.
LIGHT = 256


@mypyc_attr(allow_interpreted_subclasses=True)
class CallState(StoppableCall):
    """One inbound call while it runs, between two waits of its handler."""

    __slots__ = (
        "_context",
        "_error_id",
        "_since",
        "_waits_for_thread",
        "_weight",
        "calls",
        "observed",
    )

    def __init__(
        self, calls: LiveCalls, call: InCall, label: str, context: Context | None = None
    ) -> None:
        # The attributes of `StoppableCall` too: a constructor of its own takes 1,500 instructions.
        self.hub = calls.hub
        self.call = call
        self.label = label
        self.producer = None
        self.handled = None
        self.stopped = None
        self._begun = False
        self._threaded = False
        self._code = ""
        self._deadline = None
        self._entry = None
        self._killer = None
        self._task = None
        self.calls = calls
        self._error_id: str | None = None
        # The time since which the method has run; negative before that.
        self._since = -1.0
        self.observed: ObservedCall | None = None
        self._waits_for_thread = False
        # Bytes that came with the call, and are held for it.
        self._weight = 0
        # The context variables of its task; None for a copy of the reader's.
        self._context = context
        call.owner = self

    def __repr__(self) -> str:
        return f"the handler of {self.label}, id {self.call.id}"

    @property
    def attached(self) -> bool:
        """Whether to cancel it when the connection is lost."""
        return False

    @property
    def ends_on_drain(self) -> bool:
        """Whether to cancel it when a drain begins."""
        return False

    @property
    def waits(self) -> bool:
        """Whether the handler runs, but its method has not begun."""
        return self._waits_for_thread

    # ------------------------------------------------------------ start and stop

    def start(self, complete: bool, baggage: int = 0, allowed: float | None = None) -> None:
        """Run the call as soon as its arguments are here; its timeout counts from now.

        Args:
            complete: Whether the arguments are here.
            baggage: Bytes that are held for it besides its arguments.
            allowed: Seconds that it may take, even if the caller allows more.
        """
        hub = self.hub
        if self.call.cancel_reason is not None:
            # The cancel itself comes next, and finds no task to stop.
            self.stopped = self.call.cancel_reason
            self._refuse(self.stopped)
            self._report()
            return
        timeout: float | None = self.call.timeout
        if allowed is not None:
            timeout = allowed * 1000 if timeout is None else min(timeout, allowed * 1000)
        if timeout is not None:
            self._deadline = deadline = hub.runtime.now() + timeout / 1000
            self._entry = hub.timers.add(deadline, self._expire)
        self.calls.live[self] = None
        if baggage >= LIGHT:
            self._load(baggage)
        if complete:
            size = len(self.call.args)
            if size >= LIGHT:
                self._load(size)
            # This is `_launch`, written out: a compiled method looks up a method of an interpreted
            # subclass by its name, which takes several times as long as the call.
            self.calls.events.handler_began()
            self._task = hub.nursery.spawn_handler(
                self._run, context=self._context, deadline=self._deadline, name=self.label
            )
        else:
            self._await_arguments()

    def on_arguments(self) -> None:
        self._load(len(self.call.args))
        self._arguments_came()

    def _arguments_came(self) -> None:
        self._launch()

    def _load(self, size: int) -> None:
        self._weight += size
        self.hub.hold(size)

    def _unload(self) -> None:
        """Give back the bytes that came with the call, which are not needed any more."""
        weight, self._weight = self._weight, 0
        self.hub.release(weight)

    def _await_arguments(self) -> None:
        """Do the work that needs no arguments, before they are here."""

    def _launch(self) -> None:
        self.calls.events.handler_began()
        self._task = self.hub.nursery.spawn_handler(
            self._run, context=self._context, deadline=self._deadline, name=self.label
        )

    def on_credit(self) -> None:
        if self.producer is not None:
            self.producer.wake()

    # ------------------------------------------------------------ the task

    def _run(self) -> Coroutine[Any, Any, None]:
        """The task."""
        raise NotImplementedError

    def _observe(self) -> ObservedCall:
        """This call, as observers get it."""
        raise NotImplementedError

    def _runs(self) -> None:
        """Note that the method is about to run: from here on the call has begun."""
        # Only observers learn how long it took.
        self._since = 0.0
        events = self.calls.events
        if events.observed:
            self._since = self.hub.runtime.now()
            self.observed = self._observe()
            events.call_started(self.observed)

    def _report(self) -> None:
        """Tell observers how the call ended; once."""
        events = self.calls.events
        begun = self._since >= 0.0
        code = self._code or self.stopped or "cancelled"
        duration = self.hub.runtime.now() - self._since if begun else 0.0
        end = CallEnd(str(code), duration, not begun, self._error_id)
        if not begun:
            events.call_refused(self.label, end, self.hub.log, self.call.id)
            if events.observed:
                events.refusal(self._observe(), end)
        elif self.observed is not None:
            events.call_ended(self.observed, end)

    def _ended(self, ran: bool = False) -> None:
        """Count the call out, and let go of what it holds.

        Args:
            ran: Whether its task ends with it.
        """
        hub, call, calls = self.hub, self.call, self.calls
        try:
            if ran:
                calls.events.handler_ended()
            if self.observed is not None or self._since < 0.0:
                self._report()
        finally:
            # This is `LiveCalls.end`, written out to save a function call.
            live = calls.live
            live.pop(self, None)
            if not live:
                calls.emptied()
            # Call and handler refer to each other; without this, each call would be a cycle for the
            # garbage collector.
            call.owner = None
            handled = self.handled
            if handled is not None:
                handled.call = None
            if self._entry is not None:
                hub.timers.remove(self._entry)
            if self._killer is not None:
                hub.timers.remove(self._killer)
            if call.callbacks:
                hub.settle_abandoned()
            if call.uploads:
                self._close_uploads()
            if self._weight:
                self._unload()

    def _close_uploads(self) -> None:
        """Close the uploads that the method may still hold."""

    # ------------------------------------------------------------ terminals

    def _dump_result(self, adapter: Adapter | None, value: Any) -> Encoded:
        codec = self.hub.codec
        if self.call.oneway or adapter is None:
            return bytes(codec.null)
        return adapter.dump(value, codec, check=self.calls.check)

    def _answer(self, payload: Encoded, waited: bool = False) -> bool:
        """Send the answer, if there is room for it; returns whether there was.

        Args:
            payload: The encoded answer.
            waited: Whether its handler has waited for room.
        """
        hub, call = self.hub, self.call
        if not waited and hub.endpoint.awaited_full:
            return False
        if not call.takes_answer or self.stopped is not None or hub.lost is not None:
            # This notes a cancel, so that the end of the handler tells the reason.
            self._halted()
            return True
        self._code = OK
        if call.oneway:
            hub.endpoint.finish(call)
        else:
            hub.endpoint.result(call, payload)
            if len(payload) >= STEP:
                hub.settle()
        hub.flush()
        return True
