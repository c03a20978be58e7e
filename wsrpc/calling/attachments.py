"""The attachments of a call, which travel beside its arguments: uploads and callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from contextvars import Context, copy_context
from typing import Any

import anyio

from ..contract.signature import Param
from ..engine.failures import as_text, error_body, only_leaf, unforeseen
from ..engine.hub import Hub, Offered
from ..engine.lane_owner import LaneOwner
from ..errors import Code, ConnectionLost, RpcError
from ..interfaces import ObservedCall
from ..protocol.endpoint import ValueTooLargeError
from ..protocol.frames import ErrorBody
from ..protocol.lanes import OutCall, Upload
from ..runtime import Future, Task
from ..runtime.by_hand import as_fault
from ..runtime.containing import set_off_by_peer
from ..runtime.timers import TimerEntry
from ..streams.producer import Producer
from ..streams.pushing import Packer
from ..values.adapter import Adapter, Unencodable

__all__ = ["Attachments"]


class Attachments:
    """The uploads and callbacks that travel with one call.

    Attributes:
        uploads: Async iterators by parameter.
        callbacks: Functions by parameter.
        check: Whether items and the arguments and results of callbacks are validated.
        failure: The first exception that the source of an upload raised. The caller gets it, rather
            than the error with which the other end answers it.
        observed: The call, where observers are told of the items of its uploads.
    """

    def __init__(
        self,
        label: str,
        params: Mapping[str, Param],
        uploads: dict[str, AsyncIterable[Any]],
        callbacks: dict[str, Callable[..., Any]],
        check: bool,
    ) -> None:
        self._label = label
        self._params = params
        self.check = check
        self.uploads = uploads
        self.callbacks = callbacks
        self.failure: BaseException | None = None
        self.observed: ObservedCall | None = None
        self._pumps: list[_Pump] = []
        self._begun = False
        self._context = copy_context()

    @property
    def begun(self) -> bool:
        """Whether an upload may have been read, so that it cannot go with another attempt."""
        return self._begun or any(pump.task is not None for pump in self._pumps)

    def attach(self, hub: Hub, call: OutCall) -> None:
        """Connect the call's lanes with these attachments, in place of an earlier call's."""
        self._pumps.clear()
        for name, lane in call.uploads.items():
            item = self._params[name].item
            assert item is not None
            label = f"{self._label}({name}=…)"
            pump = _Pump(hub, self, lane, label, item)
            pump.source = self.uploads[name]
            lane.owner = pump
            self._pumps.append(pump)
        for name, offer in call.callbacks.items():
            offer.owner = Offered(self._label, self._params[name], self.callbacks[name])

    def start(self) -> None:
        """Let the uploads flow, since the call is numbered."""
        for pump in self._pumps:
            pump.start(self._context)

    def stop(self) -> None:
        """Stop the uploads, since the call is over."""
        for pump in self._pumps:
            pump.stop()

    async def close(self) -> None:
        """Stop, and wait until the sources, which are the caller's own code, are closed."""
        self.stop()
        with anyio.CancelScope(shield=True):
            for pump in self._pumps:
                await pump.through()
        self._begun = self.begun
        self._pumps.clear()


class _Pump(LaneOwner):
    """One upload on its way out."""

    def __init__(
        self, hub: Hub, attachments: Attachments, lane: Upload, label: str, item: Adapter
    ) -> None:
        self._hub = hub
        self._attachments = attachments
        packer = Packer(
            hub,
            item,
            None,
            check=attachments.check,
            no_final=f"{label}: an upload has no final value; yield items only",
        )
        self._producer = Producer(
            hub,
            lane,
            packer,
            halt=self._halt,
            spare=self._spare,
            observed=attachments.observed,
        )
        self._lane = lane
        self._label = label
        self._reason: str | None = None
        self._stopped = False
        self._begun = False
        self._killer: TimerEntry | None = None
        self.source: AsyncIterable[Any]
        self.task: Task | None = None
        self.done: Future = hub.runtime.future()

    def start(self, context: Context) -> None:
        self._hub.pumps[self] = None
        self.task = self._hub.nursery.spawn(self.run, context=context, once=True)

    async def run(self) -> None:
        self._begun = True
        body: ErrorBody | None = None
        try:
            if not self._stopped:
                with set_off_by_peer():
                    await self._producer.run(self.source)
        except self._hub.runtime.cancelled_class() as error:
            assert self.task is not None
            if self._stopped or self._hub.runtime.is_cancelled(self.task):
                body = ErrorBody(Code.CANCELLED, "the upload was stopped")
            else:
                body = self._failed(error)
        except KeyboardInterrupt as error:
            body = self._failed(error)
            if not self._hub.runtime.interrupt():
                raise
        except BaseException as error:  # noqa: BLE001  (it is the caller's, and raised there)
            body = self._failed(error)
        finally:
            self._ended()
        self._terminate(body)
        # The lane and this upload refer to each other; without this line, each upload would be a
        # cycle for the garbage collector.
        self._lane.owner = None

    def _ended(self) -> None:
        self._hub.pumps.pop(self, None)
        if self._killer is not None:
            self._hub.timers.remove(self._killer)
        if not self.done.done():
            self.done.set_result(None)

    async def through(self) -> None:
        """Wait until the source is closed, if it was begun."""
        if self.task is None:
            return
        if not self._begun and self._hub.runtime.never_ran(self.task):
            self._ended()
        await self.done

    def _failed(self, error: BaseException) -> ErrorBody:
        if self._stopped:
            rest = unforeseen(error, self._hub.runtime.cancelled_class())
            if rest is not None:
                self._hub.log.error(
                    "the source of %s failed while it was being stopped",
                    self._label,
                    error=rest,
                    method=self._label,
                )
            return ErrorBody(Code.CANCELLED, "the upload was stopped")
        error = as_fault(error, f"the source of {self._label}")
        if isinstance(error, ValueTooLargeError):
            error = RpcError(Code.RESOURCE_EXHAUSTED, f"an item of {self._label}: {error}")
        elif isinstance(error, Unencodable):
            error = RpcError(Code.INVALID_ARGUMENT, f"an item of {self._label}: {error.reason}")
        if self._attachments.failure is None:
            self._attachments.failure = error
        single = only_leaf(error)
        if isinstance(single, RpcError) and single.origin in (None, self._hub.origin):
            try:
                return error_body(single, self._hub.codec)
            except Exception:  # noqa: BLE001  (its data cannot travel; the caller has it anyway)
                return ErrorBody(str(single.code), as_text(single.message))
        return ErrorBody(Code.ABORTED, "the source of the upload failed")

    def _terminate(self, body: ErrorBody | None) -> None:
        hub, lane = self._hub, self._lane
        if hub.lost is not None or not lane.wants_terminal:
            return
        if lane.was_stopped:
            body = ErrorBody(self._reason or "cancelled", "the upload was stopped on request")
        if body is None:
            hub.endpoint.finish(lane)
        else:
            hub.endpoint.fail(lane, body)
        hub.wake()

    def stop(self) -> None:
        """Cancel the source; its cleanup then has `Limits.cleanup_timeout`."""
        if self._stopped or self.done.done():
            return
        self._stopped = True
        # asyncio drops a task that is cancelled before its first step; `run` checks `_stopped`
        # itself.
        if self.task is not None and self._begun:
            if not self._producer.closing:
                self._hub.runtime.cancel(self.task)
            self._producer.stop()
            self._arm_killer()

    def _halt(self) -> None:
        assert self.task is not None
        self._hub.runtime.cancel(self.task)

    def _spare(self) -> None:
        assert self.task is not None
        self._hub.runtime.spare(self.task)

    def _arm_killer(self) -> None:
        when = self._hub.runtime.now() + self._hub.limits.cleanup_timeout
        self._killer = self._hub.timers.add(when, self._kill)

    def _kill(self) -> None:
        self._hub.log.warning(
            "the source of %s was still cleaning up after cleanup_timeout",
            self._label,
            method=self._label,
        )
        assert self.task is not None
        self.task.cancel()
        self._arm_killer()

    def on_credit(self) -> None:
        self._producer.wake()

    def on_cancel(self, reason: str) -> None:
        self._reason = reason
        self.stop()

    def on_lost(self, error: ConnectionLost) -> None:
        self.stop()
