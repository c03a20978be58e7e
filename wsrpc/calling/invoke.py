"""Outbound calls: beginning one, and waiting for its answer.

The same code serves the methods of proxies and the callbacks that a handler was given.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Literal

import anyio

from ..context import handling
from ..engine.failures import error_from, wrong_kind
from ..engine.hub import Hub
from ..engine.lane_owner import Terminal
from ..errors import Code, RpcError
from ..interfaces import ObservedCall
from ..protocol.frames import Error, Result
from ..protocol.lanes import CallbackTarget, OutCall
from ..protocol.splice import Encoded
from ..values.adapter import Adapter, InvalidValue
from .attachments import Attachments
from .begin import Reply, begin
from .observed import OutboundCall, told
from .route import Retry
from .timing import Timing

__all__ = ["Callee", "invalid_answer", "invoke"]


class Callee:
    """A method or a callback, as a unary call needs it; all calls of one share this object.

    Attributes:
        label: Its name in messages.
        method: Its name on the wire, or the id of a callback.
        result: The type of the answer.
        timeout: Seconds that a call may take, or None.
        check: Whether the answer is validated.
        target: The callback to invoke, if it is one.
        tags: The tags of the method, for observers.
    """

    __slots__ = ("check", "label", "method", "result", "tags", "target", "timeout")

    def __init__(
        self,
        label: str,
        method: str | int,
        result: Adapter,
        timeout: float | None,
        *,
        check: bool = True,
        target: CallbackTarget | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        self.label = label
        self.method = method
        self.result = result
        self.timeout = timeout
        self.check = check
        self.target = target
        self.tags = tags


async def invoke(
    hub: Hub,
    callee: Callee,
    payload: Encoded,
    metadata: Mapping[str, str] | None = None,
    attachments: Attachments | None = None,
    retry: Retry | None = None,
    timing: Timing | None = None,
    observed: ObservedCall | None = None,
) -> Any:
    """Make a unary call and return its validated answer.

    If the await is cancelled, the handler is cancelled with it.

    Args:
        hub: The hub of the session.
        callee: The method, or the callback.
        payload: The encoded arguments.
        metadata: The metadata that travels with it.
        attachments: Uploads and callbacks.
        retry: Decides whether to repeat the call after a failure that makes that safe. It costs
            nothing before a failure.
        timing: The timing of the first attempt, for a later one.
        observed: The call, if observers have been told of it.

    Raises:
        RpcError: The error that the handler raised, or the reason why there is no answer.
    """
    label, target = callee.label, callee.target
    if timing is None:
        timing = Timing(hub, callee.timeout)
        if hub.events.observed:
            kind: Literal["unary", "callback"] = "unary" if target is None else "callback"
            told_of = OutboundCall(hub, label, kind, metadata, callee.tags)
            if attachments is not None:
                attachments.observed = told_of.call
            again = invoke(hub, callee, payload, metadata, attachments, retry, timing, told_of.call)
            return await told(told_of, again, timing)
    call: OutCall | None = None
    try:
        if hub.endpoint.outbox_full:
            await hub.room(timing.alarm, len(payload), awaited=_is_nested(hub, target))
        call = begin(
            hub,
            label,
            callee.method,
            payload,
            timing,
            metadata=metadata,
            attachments=attachments,
            target=target,
        )
        reply = Reply(hub, label, call, attachments, timing.alarm)
        if attachments is not None:
            attachments.attach(hub, call)
        flush = hub.flush
        flush()
        try:
            outcome = await reply.future
        except BaseException as error:
            _abandon(hub, call, attachments, timing.reason(hub))
            if attachments is not None and not isinstance(error, GeneratorExit):
                await attachments.close()
            raise
        finally:
            reply.end()
        if attachments is not None:
            await attachments.close()
        if not isinstance(outcome, Result):
            failure = await _failure(hub, call, label, outcome, timing, attachments)
            # The error's traceback holds this frame, in which nothing may hold the error: the two
            # would stay until the garbage collector runs.
            call.owner = None
            del reply, outcome
            try:
                raise failure
            finally:
                del failure
        try:
            return callee.result.load(outcome.value, hub.codec, check=callee.check)
        except InvalidValue as invalid:
            # The other end is to blame (ERROR table).
            raise invalid_answer(label, invalid) from None
    except RpcError as error:
        if retry is None or not retry.wants(
            error, begun=attachments is not None and attachments.begun, refused=call is None
        ):
            raise
        failed = error

    # This is no closure: each variable in it would cost time in every call.
    repeat = partial(
        invoke,
        callee=callee,
        payload=payload,
        metadata=metadata,
        attachments=attachments,
        timing=timing,
    )
    repeated = _repeated(failed, hub, timing, retry, attachments, repeat, observed)
    del failed
    return await repeated


async def _repeated(
    error: RpcError[Any],
    hub: Hub,
    timing: Timing,
    retry: Retry,
    attachments: Attachments | None,
    repeat: Callable[[Hub], Coroutine[Any, Any, Any]],
    observed: ObservedCall | None,
) -> Any:
    """Repeat a failed call as often as is allowed, over the session's present wire session."""
    attempts = retry.attempts(timing.deadline)
    while (delay := retry.delay(attempts, error, hub)) is not None:
        await anyio.sleep(delay)
        hub = retry.route.hub
        if observed is not None:
            hub.events.retry(observed, attempts.made, error.code)
        try:
            return await repeat(hub)
        except RpcError as again:
            error = again
        if not retry.wants(error, begun=attachments is not None and attachments.begun):
            break
    try:
        raise attempts.concluded(error)
    finally:
        # The error's traceback holds this frame, as in `invoke`.
        del error


async def _failure(
    hub: Hub,
    call: OutCall,
    label: str,
    outcome: Terminal | RpcError[Any],
    timing: Timing,
    attachments: Attachments | None,
) -> BaseException:
    """The error to raise for a call that has no value."""
    error: RpcError[Any]
    if isinstance(outcome, Error):
        error = error_from(outcome.body, hub.codec, hub.origin_of(outcome.body.type))
        if error.code == Code.DEADLINE_EXCEEDED:
            await timing.let_scope_fire()
    elif isinstance(outcome, RpcError):
        error = outcome
        if hub.endpoint.cancel(call):
            hub.wake()
    else:
        error = wrong_kind(label, streams=True)
    if attachments is not None and attachments.failure is not None:
        failure, attachments.failure = attachments.failure, None
        if failure.__cause__ is None:
            failure.__cause__ = error
        return failure
    return error


def invalid_answer(label: str, invalid: InvalidValue) -> RpcError[Any]:
    return RpcError(
        Code.INTERNAL, f"the answer of {label} does not validate: {invalid}", invalid.data()
    )


def _is_nested(hub: Hub, target: CallbackTarget | None) -> bool:
    """Whether a call of this session's peer waits for a call that is about to be made."""
    handled = handling.get()
    nested = handled is not None and handled.parent_in(hub.endpoint) is not None
    return nested or target is not None


def _abandon(hub: Hub, call: OutCall, attachments: Attachments | None, reason: str) -> None:
    if hub.lost is None:
        hub.endpoint.cancel(call, reason)
        hub.wake()
    if attachments is not None:
        attachments.stop()
