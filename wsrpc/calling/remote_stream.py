"""Streams from the other end: opening them, opening them again, what others make of them."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import anyio

from ..engine.hub import Shell
from ..errors import Code, RpcError
from ..interfaces import Request
from ..protocol.lanes import OutCall
from ..protocol.splice import Encoded
from ..stream import LocalStream, Stream
from ..streams.consumer import Inbox, InboxStream, Tally
from ..streams.overflow import INBOXES, first_credit
from .invoke import begin, invalid_answer
from .remote_method import RemoteMethod
from .retry import Attempts
from .timing import Timing

__all__ = ["Fetched", "MadeStream", "RemoteStream", "TrackedStream"]


class Fetched:
    """What a stream fetcher or an interceptor has fetched so far.

    Attributes:
        streams: The streams, as long as somebody holds them.
        tally: What they have let go, those that nobody holds any more included.
    """

    __slots__ = ("streams", "tally")

    def __init__(self, whole: Tally | None = None) -> None:
        self.streams: WeakSet[Stream[Any, Any]] = WeakSet()
        self.tally = Tally(whole)


class MadeStream(LocalStream[Any, Any]):
    """What a stream fetcher or an interceptor made of streams from the other end.

    Args:
        source: What it returned.
        label: What messages call it.
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


class RemoteStream(InboxStream):
    """A stream from the other end. Nothing is sent before the first item is asked for.

    It is opened again like a unary call (RETRY-1) as long as nothing of it has been delivered.
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
        self._extras = method.extras(uploads, callbacks)
        self._shell: Shell | None = None
        self._call: OutCall | None = None
        self._timing: Timing | None = None
        self._payload: Encoded | None = None
        self._attempts: Attempts | None = None
        self._pause: anyio.Event | None = None
        self._delivered = False

    @property
    def dropped(self) -> int:
        return self._tally.dropped

    async def _start(self) -> Inbox:
        method, extras = self._method, self._extras
        shell = self._shell = method.route.hub
        options = method.options
        self._call = None
        if self._payload is None:
            # Once: whoever changes an argument later does not mean this call.
            self._payload = method.dump_args(self._arguments)
        timing = self._timing = self._timing or Timing(shell, options.stream_timeout())
        await shell.room(timing.alarm)
        call = self._call = begin(
            shell,
            self._label,
            self._label,
            self._payload,
            timing,
            metadata=self._metadata,
            extras=extras,
            window=first_credit(options.overflow, options.window, shell.limits),
            last_id=self.last_id,
        )
        inbox = INBOXES[options.overflow](
            shell,
            call,
            method.spec.item,
            method.spec.final,
            # Not `self`: what the session holds must not keep the stream alive.
            lambda invalid: invalid_answer(method.label, invalid),
            label=self._label,
            on_started=None if extras is None else extras.start,
            on_over=None if extras is None else extras.stop,
            check=method.check_results,
            tally=self._tally,
            room=options.window or shell.limits.window,
        )
        call.context = inbox
        if extras is not None:
            extras.attach(shell, call)
        if timing.alarm is not None:
            inbox.expire_at(timing.alarm)
        shell.wake()
        return inbox

    def _goes_on(self) -> bool:
        """Whether the stream may be opened again, as far as what was delivered goes."""
        delivered, self.fresh = self.fresh, False
        self._delivered = self._delivered or delivered
        return not self._delivered

    async def _reopens(self, error: RpcError[Any]) -> bool:
        retry, shell, timing = self._method.retry, self._shell, self._timing
        if shell is None or timing is None or not self._goes_on():
            return False
        if not retry.wants(
            error,
            begun=self._extras is not None and self._extras.begun,
            refused=self._call is None,
        ):
            return False
        attempts = self._attempts = self._attempts or retry.attempts(timing.deadline)
        delay = retry.delay(attempts, error, shell)
        if delay is None:
            return False
        await self._settle()
        self._pause = anyio.Event()
        with anyio.move_on_after(delay):
            await self._pause.wait()
        self._inbox = None
        return True

    async def _failed(self, error: RpcError[Any]) -> BaseException:
        extras, timing = self._extras, self._timing
        if self._attempts is not None:
            error = self._attempts.concluded(error)
        await self._settle()
        if extras is not None and extras.failure is not None:
            return extras.failure
        if error.code == Code.DEADLINE_EXCEEDED and timing is not None:
            await timing.let_scope_fire()
        return error

    def _reason(self) -> str:
        timing, shell = self._timing, self._shell
        return "cancelled" if timing is None or shell is None else timing.reason(shell)

    def _close(self, reason: str) -> None:
        super()._close(reason)
        if self._pause is not None:
            self._pause.set()

    async def aclose(self) -> None:
        await super().aclose()
        await self._settle()

    async def _settle(self) -> None:
        if self._extras is not None:
            await self._extras.close()


class TrackedStream(RemoteStream):
    """A stream that can be opened again behind the last item that was delivered (RETRY-3)."""

    async def __anext__(self) -> Any:
        inbox = self._inbox
        if inbox is not None and inbox.items and not self._over:
            item = inbox.pop()
        else:
            item = await self._next()
        self.last_id = item.id
        return item

    def _goes_on(self) -> bool:
        if self.fresh and self._attempts is not None:
            self._attempts.reset()
        self.fresh = False
        return True
