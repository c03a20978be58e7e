"""The recorder of calls: for assertions, and for waiting until calls are over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from ..context import current
from ..interfaces import CallEnd, Next, ObservedCall, Observer, Request

__all__ = ["RecordedCall", "Recorder"]

# The code of a call that runs.
RUNNING = ""


@dataclass(slots=True)
class RecordedCall:
    """One call, up to this moment.

    Attributes:
        name: Controller and method, such as "Shop.order"; of a callback, its parameter.
        kind: "unary", "stream", "notify" or "callback".
        direction: "inbound" where it is handled, "outbound" where it is made.
        principal: The caller's principal, as `authenticate` returned it; None for an outbound call.
        session_id: The session's id.
        metadata: The metadata that travelled with it.
        tags: The method's tags.
        code: "ok", or the code of the error; "" while it runs.
        refused: Whether it was refused before its method ran.
        not_started: Whether the method is known not to have run.
        error_id: The id under which the handling side logged an unexpected exception.
        duration: Seconds that it took, cleanup included.
        items_sent: Items of its streams that went out.
        items_received: Items of its streams that came in.
        arguments: Its arguments by name, if the call is inbound and the recorder is an interceptor
            of the server too; None otherwise.
    """

    name: str
    kind: Literal["unary", "stream", "notify", "callback"]
    direction: Literal["inbound", "outbound"]
    principal: Any
    session_id: str
    metadata: Mapping[str, str]
    tags: frozenset[str]
    code: str = RUNNING
    refused: bool = False
    not_started: bool = False
    error_id: str | None = None
    duration: float = 0.0
    items_sent: int = 0
    items_received: int = 0
    arguments: dict[str, Any] | None = field(default=None)

    @property
    def over(self) -> bool:
        """Whether it has ended, and its handler has cleaned up."""
        return self.code != RUNNING


class Recorder(Observer):
    """Notes every call of a server or a connection; `Server(observers=[recorder])`.

    The host of `wsrpc.testing.server` has one as `host.calls`. Given as an interceptor too,
    `Server(interceptors=[recorder], observers=[recorder])`, it notes the arguments of inbound calls.

    Args:
        keep: Calls that are kept at most; the oldest ended ones go first.

    Attributes:
        calls: The calls, in the order in which they began or were refused.
    """

    def __init__(self, keep: int = 10_000) -> None:
        self.calls: list[RecordedCall] = []
        self._keep = keep
        self._live: dict[int, tuple[ObservedCall, RecordedCall]] = {}
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Recorder: {len(self.calls)} calls, {len(self._live)} of them live>"

    # ------------------------------------------------------------ for assertions

    @property
    def live(self) -> list[RecordedCall]:
        """The calls that have begun and are not over; a cleanup is a part of its call."""
        return [record for _, record in self._live.values()]

    def of(
        self, name: str, direction: Literal["inbound", "outbound"] | None = None
    ) -> list[RecordedCall]:
        """The calls of one method.

        Args:
            name: Controller and method, such as "Shop.order".
            direction: "inbound" or "outbound"; both if left out.
        """
        return [
            call for call in self.calls if call.name == name and direction in (None, call.direction)
        ]

    def codes(self, name: str, direction: Literal["inbound", "outbound"] = "inbound") -> list[str]:
        """The codes of the calls of one method: "ok" or an error's code; "" for one that runs.

        Args:
            name: Controller and method, such as "Shop.order".
            direction: "inbound" or "outbound".
        """
        return [call.code for call in self.of(name, direction)]

    def clear(self) -> None:
        """Forget the calls that are over."""
        self.calls = [call for call in self.calls if not call.over]

    # ------------------------------------------------------------ for waiting

    async def ended(
        self,
        name: str,
        count: int = 1,
        direction: Literal["inbound", "outbound"] = "inbound",
    ) -> list[RecordedCall]:
        """Wait until `count` calls of a method are over, their cleanup included.

        The wait has no time limit; put `anyio.fail_after` around it. Nothing is lost if the await
        is cancelled.

        Args:
            name: Controller and method, such as "Shop.order".
            count: Calls, refused ones among them, since the recorder began or was cleared.
            direction: "inbound" where they are handled, "outbound" where they are made.

        Returns:
            The calls that are over.
        """
        while True:
            over = [call for call in self.of(name, direction) if call.over]
            if len(over) >= count:
                return over
            await self._change()

    async def started(
        self,
        name: str,
        count: int = 1,
        direction: Literal["inbound", "outbound"] = "inbound",
    ) -> list[RecordedCall]:
        """Wait until `count` calls of a method have begun; the arguments are those of `ended`.

        Returns:
            The calls that have begun.
        """
        while True:
            begun = [call for call in self.of(name, direction) if not call.refused]
            if len(begun) >= count:
                return begun
            await self._change()

    async def idle(self) -> None:
        """Wait until no call is live; a call still under way to its handler does not count."""
        while self._live:
            await self._change()

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()

    # ----------------------------------------------------------------- reports

    async def __call__(self, request: Request, call_next: Next) -> Any:
        """As an interceptor: record the arguments, and go on."""
        if request.direction == "inbound":
            here = (request.session.id, current().call_id)
            for call, record in self._live.values():
                if call.direction == "inbound" and (call.session_id, call.id) == here:
                    record.arguments = dict(request.arguments)
        return await call_next(request)

    def call_started(self, call: ObservedCall) -> None:
        self._live[id(call)] = call, self._note(call)
        self._changed.set()

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        _, record = self._live.pop(id(call), (None, None))
        if record is not None:
            _finish(record, end)
            self._changed.set()

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        record = self._note(call)
        record.refused = True
        _finish(record, end)
        self._changed.set()

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        _, record = self._live.get(id(call), (None, None))
        if record is not None and direction == "sent":
            record.items_sent += count
        elif record is not None:
            record.items_received += count

    def _note(self, call: ObservedCall) -> RecordedCall:
        if len(self.calls) >= self._keep:
            oldest = next((one for one in self.calls if one.over), self.calls[0])
            self.calls.remove(oldest)
        record = RecordedCall(
            call.name,
            call.kind,
            call.direction,
            call.principal if call.direction == "inbound" else None,
            call.session_id,
            call.metadata,
            call.tags,
        )
        self.calls.append(record)
        return record


def _finish(record: RecordedCall, end: CallEnd) -> None:
    record.code = end.code
    record.not_started = end.not_started
    record.error_id = end.error_id
    record.duration = end.duration
