"""Calls of this side as observers see them."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Literal

from ..context import outgoing_metadata
from ..engine.hub import Hub
from ..errors import Code, RpcError
from ..interfaces import CallEnd, ObservedCall, Session
from ..telemetry.events import Events
from .timing import Timing

__all__ = ["Kind", "OutboundCall", "told", "unsent"]

Kind = Literal["unary", "stream", "notify", "callback"]


class OutboundCall:
    """One call of this side, from its beginning to its one end.

    Args:
        hub: The session's.
        label: `"Controller.method"`, or the name of a callback.
        kind: "unary", "stream", "notify" or "callback".
        metadata: The metadata that the caller gave, without that of `wsrpc.metadata`.
        tags: The tags of the method.
        relayed: Whether another node makes it.
    """

    __slots__ = ("_began", "_ended", "_hub", "call")

    def __init__(
        self,
        hub: Hub,
        label: str,
        kind: Kind,
        metadata: Mapping[str, str] | None,
        tags: frozenset[str] = frozenset(),
        *,
        relayed: bool = False,
    ) -> None:
        self.call = _observed(hub.session, label, kind, metadata, tags, relayed)
        self._hub = hub
        self._began = hub.runtime.now()
        self._ended = False
        hub.events.call_started(self.call)

    def succeeded(self) -> None:
        """The call gave its value, or its stream ended."""
        self.end("ok")

    def failed(self, error: BaseException, timing: Timing | None = None) -> None:
        """The call raised an exception.

        Args:
            error: The exception.
            timing: The deadline of the call; it tells why the caller's scope was cancelled.
        """
        if isinstance(error, RpcError):
            self.end(error.code, not_started=error.not_started, error_id=error.error_id)
        elif timing is not None and isinstance(error, self._hub.runtime.cancelled_class()):
            self.end(timing.reason(self._hub))
        elif isinstance(error, (self._hub.runtime.cancelled_class(), GeneratorExit)):
            self.end(Code.CANCELLED)
        else:
            self.end(Code.UNKNOWN)

    def stopped(self, reason: str) -> None:
        """This side stopped the call.

        Args:
            reason: "cancelled" or "deadline_exceeded".
        """
        self.end(reason)

    def end(self, code: str, *, not_started: bool = False, error_id: str | None = None) -> None:
        """Tell observers how the call ended; once.

        Args:
            code: "ok", or the code of the error.
            not_started: See `CallEnd`.
            error_id: See `CallEnd`.
        """
        if self._ended:
            return
        self._ended = True
        duration = self._hub.runtime.now() - self._began
        self._hub.events.call_ended(self.call, CallEnd(str(code), duration, not_started, error_id))


def _observed(
    session: Session,
    label: str,
    kind: Kind,
    metadata: Mapping[str, str] | None,
    tags: frozenset[str],
    relayed: bool = False,
) -> ObservedCall:
    if kind == "callback":
        # `Report.build(on_progress=…)`
        controller, method = "", label.rpartition("(")[2].partition("=")[0]
    else:
        controller, _, method = label.rpartition(".")
    return ObservedCall(
        controller,
        method,
        kind,
        "outbound",
        session,
        session.id,
        session.principal,
        session.handshake.remote,
        0,
        tags,
        {**outgoing_metadata.get(), **(metadata or {})},
        relayed=relayed,
    )


def unsent(
    session: Session,
    events: Events,
    label: str,
    kind: Kind,
    code: str,
    metadata: Mapping[str, str] | None = None,
    tags: frozenset[str] = frozenset(),
) -> None:
    """Tell observers of a call that fails before it could be handed to its session.

    Args:
        session: The session.
        events: Tells its observers.
        label: As for `OutboundCall`.
        kind: As for `OutboundCall`.
        code: The code of its error.
        metadata: As for `OutboundCall`.
        tags: As for `OutboundCall`.
    """
    if events.observed:
        call = _observed(session, label, kind, metadata, tags)
        events.call_started(call)
        events.call_ended(call, CallEnd(str(code), not_started=True))


async def told(call: OutboundCall, work: Coroutine[Any, Any, Any], timing: Timing) -> Any:
    """Make a call for one value, and tell observers how it ends.

    Args:
        call: The call.
        work: Makes it.
        timing: Its deadline, which may be that of the caller's scope.
    """
    try:
        value = await work
    except BaseException as error:
        call.failed(error, timing)
        raise
    call.succeeded()
    return value
