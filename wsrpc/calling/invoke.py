"""Calls out: begin one, wait for its answer.

The same code serves the methods of proxies and the callbacks that a handler was given.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import anyio
from msgspec import Raw

from ..context import checked_metadata, handling, outgoing_metadata
from ..engine.failures import error_from, wrong_kind
from ..engine.hub import Conversation, Shell, Terminal
from ..errors import Code, ConnectionLost, DeadlineExceeded, RpcError
from ..protocol.endpoint import NoSlotError, PeerDrainingError, ValueTooLargeError
from ..protocol.frames import CallOptions, Error, Result
from ..protocol.lanes import CallbackTarget, OutCall
from ..protocol.splice import Encoded
from ..runtime import Future
from ..values.adapter import Adapter, InvalidValue
from .attachments import Extras
from .route import Retry
from .timing import Timing

__all__ = ["begin", "invalid_answer", "invoke"]


def begin(
    shell: Shell,
    label: str,
    method: str | int,
    payload: Encoded,
    timing: Timing,
    *,
    metadata: Mapping[str, str] | None = None,
    oneway: bool = False,
    extras: Extras | None = None,
    target: CallbackTarget | None = None,
    window: int | None = None,
    last_id: str | None = None,
) -> OutCall:
    """Hand a call to the endpoint.

    Raises:
        RpcError: It cannot even be queued; `not_started` is set.
    """
    if shell.lost is not None:
        raise shell.lost_error(started=False)
    ambient = outgoing_metadata.get()
    options: CallOptions | None = None
    if metadata or ambient:
        carried = {**ambient, **(metadata or {})}
        _check_metadata(shell, label, carried)
        options = CallOptions(metadata=carried)
    if last_id is not None:
        options = options or CallOptions()
        options.last_id = last_id
    handled = handling.get()
    parent = None if handled is None else handled.parent_in(shell.endpoint)
    try:
        return shell.endpoint.call(
            method,
            payload,
            oneway=oneway,
            deadline=timing.deadline,
            options=options,
            uploads=tuple(extras.uploads) if extras is not None else (),
            callbacks=tuple(extras.callbacks) if extras is not None else (),
            parent=parent,
            target=target,
            window=window,
        )
    except NoSlotError:
        limit = shell.endpoint.slots.limit
        error = RpcError(
            Code.RESOURCE_EXHAUSTED,
            f"{label}: all {limit} slots of the other end are taken, and a call made while "
            "handling one of the same session does not wait",
        )
    except PeerDrainingError:
        error = RpcError(Code.UNAVAILABLE, f"{label}: the other end is draining")
    except ValueTooLargeError as too_large:
        error = RpcError(Code.RESOURCE_EXHAUSTED, f"the arguments of {label}: {too_large}")
    error.not_started = True
    raise error


def _check_metadata(shell: Shell, label: str, carried: Mapping[str, str]) -> None:
    # Interceptors may have put anything there.
    checked_metadata(carried)
    if (
        sum(len(k.encode()) + len(v.encode()) for k, v in carried.items())
        > shell.limits.max_metadata
    ):
        limit = shell.limits.max_metadata
        error: RpcError[Any] = RpcError(
            Code.RESOURCE_EXHAUSTED, f"the metadata of {label} exceeds {limit} bytes (max_metadata)"
        )
        error.not_started = True
        raise error


class Reply(Conversation):
    """The wait for one value.

    Attributes:
        call: Set where there is a deadline to act on.
    """

    __slots__ = ("call", "extras", "future", "label", "shell")
    call: OutCall

    def __init__(self, shell: Shell, label: str, extras: Extras | None) -> None:
        self.shell = shell
        self.label = label
        self.extras = extras
        self.future: Future = shell.runtime.future()

    def settle(self, outcome: Terminal | RpcError[Any]) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def expire(self) -> None:
        """The caller's own clock ran out: tell the far end, and do not wait for it (TIME-3)."""
        error = DeadlineExceeded(f"{self.label} did not answer before its deadline")
        error.not_started = self.call.id == 0
        self.shell.endpoint.cancel(self.call, "deadline_exceeded")
        self.shell.wake()
        self.settle(error)

    def on_finished(self, frame: Terminal) -> None:
        if not self.future.done():
            self.future.set_result(frame)
        if self.extras is not None:
            self.extras.stop()

    def on_lost(self, error: ConnectionLost) -> None:
        self.settle(error)
        if self.extras is not None:
            self.extras.stop()

    def on_items(self, items: list[Raw]) -> None:
        self.settle(wrong_kind(self.label, streams=True))

    def on_started(self) -> None:
        if self.extras is not None:
            self.extras.start()


async def invoke(
    shell: Shell,
    label: str,
    method: str | int,
    payload: Encoded,
    result: Adapter,
    timeout: float | None,
    *,
    check: bool = True,
    metadata: Mapping[str, str] | None = None,
    extras: Extras | None = None,
    target: CallbackTarget | None = None,
    timing: Timing | None = None,
    retry: Retry | None = None,
) -> Any:
    """Make a unary call and return its validated answer.

    If the await is cancelled, the handler is cancelled with it.

    Args:
        shell: Where to make it.
        label: What messages call it.
        method: Its name on the wire, or the id of a callback.
        payload: The encoded arguments.
        result: The type of the answer.
        timeout: Seconds, if `timing` is not given.
        check: Whether the answer is validated.
        metadata: What travels with it.
        extras: Uploads and callbacks.
        target: What a callback's calls are counted with.
        timing: That of the first attempt, for a later one.
        retry: Whether to make it again where it failed in a way that makes that safe; what costs
            anything for that is entered on a failure only.

    Raises:
        RpcError: What the handler raised, or why there is no answer.
    """
    if timing is None:
        timing = Timing(shell, timeout)
    call: OutCall | None = None
    try:
        if shell.endpoint.outbox_full:
            await shell.room(timing.alarm)
        call = begin(
            shell, label, method, payload, timing, metadata=metadata, extras=extras, target=target
        )
        reply = call.context = Reply(shell, label, extras)
        if extras is not None:
            extras.attach(shell, call)
        entry = None
        if timing.alarm is not None:
            reply.call = call
            entry = shell.deadlines.add(timing.alarm, reply.expire)
        shell.flush()
        try:
            outcome = await reply.future
        except BaseException as error:
            _abandon(shell, call, extras, timing.reason(shell))
            if extras is not None and not isinstance(error, GeneratorExit):
                await extras.close()
            raise
        finally:
            if entry is not None:
                shell.deadlines.remove(entry)
        if extras is not None:
            await extras.close()
        if not isinstance(outcome, Result):
            raise await _failure(shell, call, label, outcome, timing, extras)
        # The two point at each other; left so, each call would be garbage for the collector.
        call.context = None
        try:
            return result.load(outcome.value, shell.codec, check=check)
        except InvalidValue as invalid:
            # The other end's fault (ERROR table).
            raise invalid_answer(label, invalid) from None
    except RpcError as error:
        if retry is None or not retry.wants(
            error, begun=extras is not None and extras.begun, refused=call is None
        ):
            raise
        failed = error

    # No closure: each variable that one used would cost every call.
    repeat = partial(
        invoke,
        label=label,
        method=method,
        payload=payload,
        result=result,
        timeout=None,
        check=check,
        metadata=metadata,
        extras=extras,
        timing=timing,
    )
    return await _repeated(failed, shell, timing, retry, extras, repeat)


async def _repeated(
    error: RpcError[Any],
    shell: Shell,
    timing: Timing,
    retry: Retry,
    extras: Extras | None,
    repeat: Callable[[Shell], Coroutine[Any, Any, Any]],
) -> Any:
    """Make a failed call again, as often as that may be, over what the session runs on by then."""
    attempts = retry.attempts(timing.deadline)
    while (delay := retry.delay(attempts, error, shell)) is not None:
        await anyio.sleep(delay)
        shell = retry.route.hub
        try:
            return await repeat(shell)
        except RpcError as again:
            error = again
        if not retry.wants(error, begun=extras is not None and extras.begun):
            break
    raise attempts.concluded(error)


async def _failure(
    shell: Shell,
    call: OutCall,
    label: str,
    outcome: Terminal | RpcError[Any],
    timing: Timing,
    extras: Extras | None,
) -> BaseException:
    """What to raise where there is no value."""
    error: RpcError[Any]
    if isinstance(outcome, Error):
        error = error_from(outcome.body, shell.codec)
        if error.code == Code.DEADLINE_EXCEEDED:
            await timing.let_scope_fire()
    elif isinstance(outcome, RpcError):
        error = outcome
        if shell.endpoint.cancel(call):
            shell.wake()
    else:
        error = wrong_kind(label, streams=True)
    if extras is not None and extras.failure is not None:
        extras.failure.__cause__ = error
        return extras.failure
    return error


def invalid_answer(label: str, invalid: InvalidValue) -> RpcError[Any]:
    return RpcError(
        Code.INTERNAL, f"what {label} answered does not validate: {invalid}", invalid.data()
    )


def _abandon(shell: Shell, call: OutCall, extras: Extras | None, reason: str) -> None:
    if shell.lost is None:
        shell.endpoint.cancel(call, reason)
        shell.wake()
    if extras is not None:
        extras.stop()
