"""Callbacks of this side that the peer invokes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any
from weakref import ref

from msgspec import Raw

from ..context import CallContext, Handling, handling
from ..contract.signature import Param
from ..engine.hub import Offered
from ..interfaces import ObservedCall
from ..protocol.lanes import InCall
from ..values.adapter import InvalidValue
from .handler import Handler
from .live import LiveCalls
from .observed import inbound
from .refusals import bad, invalid_argument, under

__all__ = ["CallbackHandler"]


class CallbackHandler(Handler):
    """A callback of this side, invoked by the peer: always unary, in its owner's context."""

    __slots__ = ("_offered",)

    def __init__(self, calls: LiveCalls, call: InCall, offered: Offered) -> None:
        label = f"{offered.label}({offered.param.name}=…)"
        super().__init__(calls, call, label, offered.context.copy())
        self._offered = offered

    async def _handle(self) -> None:
        param = self._offered.param
        call = self.call
        context = CallContext(
            ref(self.calls.session), call.id, call.options, "", param.name, self._deadline
        )
        self.handled = Handling(call, context)
        handling.set(self.handled)
        try:
            arguments = self._arguments(param)
            self.call.forget_arguments()
        except InvalidValue as invalid:
            raise invalid_argument(self.label, invalid) from None
        self._runs()
        called = self._called(arguments)
        del arguments
        payload = self._dump_result(param.result, await called)
        del called
        if not self._answer(payload):
            await self._room_for(payload)
            self._answer(payload, True)

    @property
    def _nested(self) -> bool:
        # The call that offered the callback may be waiting for this very call.
        return True

    def _observe(self) -> ObservedCall:
        return inbound(self.calls.session, self.call, "", self._offered.param.name, "callback")

    async def _called(self, arguments: list[Any]) -> Any:
        """The result of the function; a plain one runs in a thread, as plain methods do."""
        fn = self._offered.fn
        if is_async(fn):
            return await fn(*arguments)
        outcome = await self._in_thread(partial(fn, *arguments))
        return await outcome if isawaitable(outcome) else outcome

    def _arguments(self, param: Param) -> list[Any]:
        raws: list[Raw] = self.hub.codec.split_array(self.call.args)
        most, came = len(param.arguments), len(raws)
        least = most if param.least is None else param.least
        if came < least or (came > most and param.more is None):
            wanted = str(most) if least == most else f"{least} to {most}"
            if param.more is not None:
                wanted = f"at least {least}"
            message = f"expected {wanted} arguments, got {came}"
            raise bad((min(came, most),), message, "arguments")
        further = () if param.more is None else (param.more,) * (came - most)
        adapters = (*param.arguments[:came], *further)
        arguments: list[Any] = []
        for position, (adapter, raw) in enumerate(zip(adapters, raws, strict=True)):
            try:
                arguments.append(adapter.load(raw, self.hub.codec))
            except InvalidValue as invalid:
                raise under(position, invalid) from None
        return arguments


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether a call of it makes a coroutine, as far as that is known without a call."""
    return iscoroutinefunction(fn) or iscoroutinefunction(type(fn).__call__)
