"""Inbound calls: find the method, and hand the call to a handler.

The session's reader hands each call over and goes on reading at once. Methods are found in a
dictionary, made when the controllers were registered; a name from the wire is never looked up on an
object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from ..context import Visible
from ..contract.signature import near
from ..engine.hub import Offered
from ..interfaces import CallEnd
from ..protocol.frames import ErrorBody, NotifyOptions
from ..protocol.lanes import InCall
from ..protocol.rates import Bucket
from .callback import CallbackHandler
from .live import LiveCalls
from .method import MethodHandler
from .observed import inbound
from .refusals import not_for_notify, too_much_metadata, unknown_method
from .target import MethodEntry

__all__ = ["Dispatcher", "Relay"]


# Searching names that resemble a wrong one takes milliseconds where there are many methods. It
# helps a person who mistypes; a program that asks for thousands gets no such help.
HINTS = 20
HINTS_PER_SECOND = 5


# The name under which refused calls of callbacks are counted.
CALLBACK = "(callback)"

Relay: TypeAlias = Callable[[LiveCalls, InCall, bool], bool]


def _baggage(options: NotifyOptions, last_id: str | None) -> int:
    """Bytes that travel with a call for its handler, and are held while the handler runs."""
    size = 0
    if options.metadata:
        size = sum(_bytes(key) + _bytes(value) for key, value in options.metadata.items())
    if options.key:
        size += _bytes(options.key)
    return size + _bytes(last_id) if last_id else size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


class Dispatcher:
    """Starts the calls of one session, or refuses them.

    Args:
        calls: The calls that run, and the state that they share.
        entries: The methods by full name; shared by all sessions of a server.
        visible: Tells whether the peer is told of a method; None: of all.

    Attributes:
        relay: Gets each call first, if there is one; it returns True if it has taken the call.
    """

    __slots__ = ("_calls", "_entries", "_hints", "_hub", "_visible", "relay")

    def __init__(
        self,
        calls: LiveCalls,
        entries: Mapping[str, MethodEntry],
        visible: Visible | None = None,
    ) -> None:
        self._calls = calls
        self._hub = calls.hub
        self._entries = entries
        self._visible = visible
        self._hints: Bucket | None = None
        self.relay: Relay | None = None

    def receive(self, call: InCall, complete: bool) -> None:
        """Start a call, or refuse it; never waits.

        Args:
            call: The call.
            complete: Whether its arguments are here; otherwise the handler is told when they are.
        """
        if call.offer is not None:
            offered = call.offer.owner
            if isinstance(offered, Offered):
                CallbackHandler(self._calls, call, offered).start(complete)
            else:
                # The callback belongs to a call that was passed on from elsewhere.
                offered.invoked(self._calls, call, complete)
            return
        if self.relay is not None and self.relay(self._calls, call, complete):
            return
        assert isinstance(call.method, str)
        entry = self._entries.get(call.method)
        options, baggage = call.options, 0
        last_id = getattr(options, "last_id", None)
        if options.metadata or options.key or last_id:
            baggage = _baggage(options, last_id)
        if entry is None:
            self._unknown(call, call.method)
        elif call.oneway and (entry.spec.kind == "stream" or entry.channels):
            self._refuse(call, call.method, not_for_notify(entry.label))
        elif baggage > self._hub.limits.max_metadata:
            self._refuse(
                call, call.method, too_much_metadata(entry.label, self._hub.limits.max_metadata)
            )
        else:
            MethodHandler(self._calls, call, entry).start(complete, baggage, entry.spec.timeout)

    def _unknown(self, call: InCall, method: str) -> None:
        names: list[str] = []
        if self._may_hint():
            told: Iterable[str] = self._entries
            if (visible := self._visible) is not None:
                principal = self._hub.session.principal
                told = [one for one in self._entries if visible(principal, one)]
            names = near(method, told)
        body = unknown_method(method, names, self._hub.codec)
        self._refuse(call, method, body, known=False)

    def _refuse(self, call: InCall, method: str, body: ErrorBody, *, known: bool = True) -> None:
        """Answer a call that gets no handler, and tell observers."""
        self._hub.endpoint.fail(call, body)
        self.refused(call, method, body.code, known=known)

    def refused(self, call: InCall, method: str, code: str, *, known: bool = True) -> None:
        """Tell counters and observers of a call that was refused and is answered already.

        Args:
            call: The call.
            method: The method that it named; "" for a callback.
            code: The code of the error.
            known: Whether there is such a method.
        """
        events = self._hub.events
        end = CallEnd(str(code), not_started=True)
        known = known and (not method or method in self._entries)
        events.call_refused(method or CALLBACK, end, self._hub.log, call.id, known=known)
        if not events.observed:
            return
        controller, _, name = method.rpartition(".")
        entry = self._entries.get(method)
        kind: Literal["unary", "stream", "notify", "callback"] = (
            "unary" if entry is None else entry.spec.kind
        )
        if not method:
            kind, name = "callback", CALLBACK
        elif call.oneway:
            kind = "notify"
        tags = frozenset[str]() if entry is None else entry.tags
        observed = inbound(self._hub.session, call, controller, name, kind, tags, known=known)
        events.refusal(observed, end)

    def _may_hint(self) -> bool:
        if self._hints is None:
            self._hints = Bucket(HINTS, HINTS_PER_SECOND)
        return self._hints.take(self._hub.runtime.now())
