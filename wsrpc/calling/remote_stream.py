"""Streams from the other end: opening, reopening, and those that interceptors make of them."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakSet

import anyio

from ..engine.hub import Hub
from ..errors import Code, DeadlineExceeded, RpcError
from ..interfaces import Request
from ..protocol.lanes import OutCall
from ..protocol.splice import Encoded
from ..stream import LocalStream, NoItemYet, Stream
from ..streams.consumer import Consumer
from ..streams.items import Tally
from ..streams.overflow import CONSUMERS, first_credit
from ..streams.received_stream import ReceivedStream
from .begin import begin
from .invoke import invalid_answer
from .observed import OutboundCall
from .remote_method import RemoteMethod
from .retry import Attempts
from .timing import Timing

__all__ = ["Fetched", "MadeStream", "RemoteStream", "TrackedStream"]


class Fetched:
    """The streams that a stream fetcher or an interceptor has fetched so far.

    Attributes:
        streams: The streams, as long as other code holds them.
        tally: The items that they have dropped, including streams that no code holds any more.
    """

    __slots__ = ("streams", "tally")

    def __init__(self, whole: Tally | None = None) -> None:
        self.streams: WeakSet[Stream[Any, Any]] = WeakSet()
        self.tally = Tally(whole)


class MadeStream(LocalStream[Any, Any]):
    """The stream that a stream fetcher or an interceptor made of streams from the other end.

    Args:
        source: The async iterable that it returned.
        label: The name of the stream in messages.
        fetched: The streams from the other end; they end with this one.
    """

    __slots__ = ("_fetched",)

    def __init__(self, source: Any, label: str, fetched: Fetched) -> None:
        super().__init__(source, label)
        self._fetched = fetched

    @property
    def lag(self) -> int:
        return sum(stream.lag for stream in self._fetched.streams)

    @property
    def dropped(self) -> int:
        return self._fetched.tally.dropped

    def cancel(self) -> None:
        super().cancel()
        for stream in list(self._fetched.streams):
            stream.cancel()


class RemoteStream(ReceivedStream):
    """A stream from the other end; no frame is sent before the first item is asked for.

    It is opened again like a unary call (RETRY-1) as long as no item of it has been delivered.
    """

    last_id: str | None = None

    def __init__(
        self,
        method: RemoteMethod,
        request: Request,
        tally: Tally,
        values: dict[str, Any],
        uploads: dict[str, Any],
        callbacks: dict[str, Any],
    ) -> None:
        super().__init__(None, method.label, method.options.idle_timeout)
        self._method = method
        self._tally = tally
        self._metadata = request.metadata
        self._arguments = values
        self._attachments = method.attachments(uploads, callbacks)
        self._hub: Hub | None = None
        self._call: OutCall | None = None
        self._timing: Timing | None = None
        self._payload: Encoded | None = None
        self._attempts: Attempts | None = None
        self._pause: anyio.Event | None = None
        self._delivered = False
        self._not_before: float | None = None
        self._told: OutboundCall | None = None

    @property
    def dropped(self) -> int:
        return self._tally.dropped

    async def _start(self, until: float | None) -> Consumer:
        await self._held_back(until)
        if self._over:
            raise StopAsyncIteration
        method, attachments = self._method, self._attachments
        options = method.options
        self._call = None
        try:
            hub = self._hub = method.route.hub
            if self._payload is None:
                # Encoded once: an argument that is changed later does not change this call.
                self._payload = method.dump_args(self._arguments, hub.codec)
        except RpcError as error:
            if self._timing is None:
                method.unsent("stream", self._metadata, error)
            raise
        timing = self._timing = self._timing or Timing(
            hub, options.stream_timeout(method.spec.timeout)
        )
        if self._told is None and hub.events.observed:
            self._told = OutboundCall(hub, self._label, "stream", self._metadata, method.spec.tags)
            if attachments is not None:
                attachments.observed = self._told.call
        await self._room(hub, timing, until)
        call = self._call = begin(
            hub,
            self._label,
            self._label,
            self._payload,
            timing,
            metadata=self._metadata,
            attachments=attachments,
            window=first_credit(options.overflow, options.window, hub.limits),
            last_id=self.last_id,
        )
        consumer = CONSUMERS[options.overflow](
            hub,
            call,
            method.spec.item,
            method.spec.final,
            # It does not refer to `self`: the session must not keep the stream alive.
            lambda invalid: invalid_answer(method.label, invalid),
            label=self._label,
            on_started=None if attachments is None else attachments.start,
            on_over=None if attachments is None else attachments.stop,
            check=method.check_results,
            tally=self._tally,
            room=options.window or hub.limits.window,
        )
        call.owner = consumer
        if self._told is not None:
            consumer.observed = self._told.call
            consumer.on_dropped = partial(self._told.stopped, "cancelled")
        if attachments is not None:
            attachments.attach(hub, call)
        if timing.alarm is not None:
            consumer.expire_at(timing.alarm)
        hub.wake()
        return consumer

    def _goes_on(self) -> bool:
        """Whether the items delivered so far allow the stream to be opened again."""
        delivered, self.fresh = self.fresh, False
        self._delivered = self._delivered or delivered
        return not self._delivered

    async def _reopens(self, error: RpcError[Any]) -> bool:
        retry, hub, timing = self._method.retry, self._hub, self._timing
        if hub is None or timing is None or not self._goes_on():
            return False
        if not retry.wants(
            error,
            begun=self._attachments is not None and self._attachments.begun,
            refused=self._call is None,
        ):
            return False
        attempts = self._attempts = self._attempts or retry.attempts(timing.deadline)
        delay = retry.delay(attempts, error, hub)
        if delay is None:
            return False
        if self._told is not None:
            hub.events.retry(self._told.call, attempts.made, error.code)
        await self._settle()
        self._not_before = hub.runtime.now() + delay
        self._pause = anyio.Event()
        self._consumer = None
        return True

    async def _held_back(self, until: float | None) -> None:
        """Wait until the stream may be opened again."""
        if self._pause is None or self._not_before is None:
            return
        when = self._not_before if until is None else min(self._not_before, until)
        with anyio.move_on_after(when - anyio.current_time()):
            await self._pause.wait()
        if when < self._not_before and not self._over:
            raise NoItemYet(f"{self._label}: it is about to be opened again")
        self._not_before = None

    async def _room(self, hub: Hub, timing: Timing, until: float | None) -> None:
        """Wait until the outbox takes the call.

        Raises:
            NoItemYet: There was no room before `until`.
            DeadlineExceeded: There was no room before the call's deadline.
        """
        alarm = timing.alarm
        if until is None or (alarm is not None and alarm <= until):
            await hub.room(alarm)
            return
        try:
            await hub.room(until)
        except DeadlineExceeded:
            raise NoItemYet(f"{self._label}: the outbox is full") from None

    async def _failed(self, error: RpcError[Any]) -> BaseException:
        attachments, timing = self._attachments, self._timing
        if self._attempts is not None:
            error = self._attempts.concluded(error)
        if self._told is not None:
            self._told.failed(error)
        await self._settle()
        if attachments is not None and attachments.failure is not None:
            return attachments.failure
        if error.code == Code.DEADLINE_EXCEEDED and timing is not None:
            await timing.let_scope_fire()
        return error

    def _reason(self) -> str:
        timing, hub = self._timing, self._hub
        return "cancelled" if timing is None or hub is None else timing.reason(hub)

    def _finish(self, final: Any = None) -> None:
        super()._finish(final)
        if self._told is not None:
            self._told.succeeded()

    def _close(self, reason: str) -> None:
        super()._close(reason)
        if self._told is not None:
            self._told.stopped(reason)
        if self._pause is not None:
            self._pause.set()

    async def aclose(self) -> None:
        await super().aclose()
        await self._settle()

    async def _settle(self) -> None:
        if self._attachments is not None:
            await self._attachments.close()


class TrackedStream(RemoteStream):
    """A stream that can be opened again after the last item that was delivered (RETRY-3)."""

    async def __anext__(self) -> Any:
        consumer = self._consumer
        if consumer is not None and consumer.items and not self._over:
            item = consumer.pop()
        else:
            item = await self._next()
        self.last_id = item.id
        return item

    async def next(self, timeout: float | None = None) -> Any:
        item = await super().next(timeout)
        self.last_id = item.id
        return item

    def _goes_on(self) -> bool:
        if self.fresh and self._attempts is not None:
            self._attempts.reset()
        self.fresh = False
        return True
