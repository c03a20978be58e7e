"""Calls in: find the method, and hand the call to a handler.

The session's reader hands each call over and goes on reading at once. Methods are found in a
dictionary, made when the controllers were registered; nothing that came over the wire is ever
looked up on an object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Raw

from ..context import Authorize
from ..contract.expose import Exposed
from ..contract.signature import MethodSpec, near
from ..engine.hub import Offered, Shell, settle
from ..errors import Code
from ..interfaces import Interceptor
from ..protocol.frames import ErrorBody
from ..protocol.lanes import InCall
from ..protocol.rates import Bucket
from ..runtime import Future
from ..telemetry.counters import Stats
from .handler import CallbackHandler, Handler, MethodHandler

__all__ = ["Dispatcher", "Target", "targets_of"]


# Looking for names that resemble a wrong one takes milliseconds where there are many methods: a
# person who mistypes is helped, and a program that asks for thousands need not be.
HINTS = 20
HINTS_PER_SECOND = 5


class Target:
    """A method that can be called: what `"Controller.method"` stands for.

    Attributes:
        label: `"Controller.method"`.
        spec: The method.
        exposed: The controller.
        interceptors: What runs around it, outermost first.
        channels: Whether it takes streams or callbacks.
    """

    __slots__ = ("channels", "exposed", "interceptors", "label", "spec")

    def __init__(
        self, exposed: Exposed, spec: MethodSpec, interceptors: Sequence[Interceptor]
    ) -> None:
        self.label = f"{exposed.name}.{spec.name}"
        self.spec = spec
        self.exposed = exposed
        self.interceptors = tuple(interceptors)
        self.channels = any(param.kind != "value" for param in spec.params.values())


def targets_of(
    exposed: Mapping[str, Exposed], interceptors: Sequence[Interceptor]
) -> dict[str, Target]:
    """The one dictionary in which calls are looked up."""
    targets: dict[str, Target] = {}
    for controller in exposed.values():
        own = getattr(controller.interface.origin, "interceptors", ())
        for spec in controller.interface.specs.values():
            target = Target(controller, spec, (*interceptors, *own))
            targets[target.label] = target
    return targets


def _baggage(call: InCall) -> int:
    """Characters that travel with a call for its handler, and are held for as long as that runs."""
    options = call.options
    size = 0
    if options.metadata:
        size = sum(len(key) + len(value) for key, value in options.metadata.items())
    if options.key:
        size += len(options.key)
    last_id = getattr(options, "last_id", None)
    return size + len(last_id) if last_id else size


class Dispatcher:
    """Runs the calls of one session.

    Attributes:
        targets: The methods by full name; shared by all sessions of a server.
        authorize: Asked before each call of a method, if there is one.
        live: The handlers that have not ended.
    """

    def __init__(
        self,
        shell: Shell,
        targets: Mapping[str, Target],
        *,
        authorize: Authorize | None,
        check: bool,
        debug: bool,
        stats: Stats,
    ) -> None:
        self.shell = shell
        self.targets = targets
        self.authorize = authorize
        self.check = check
        self.debug = debug
        self.stats = stats
        self.live: set[Handler] = set()
        self._idle: list[Future] = []
        self._instances: dict[str, Any] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        self._hints: Bucket | None = None

    def receive(self, call: InCall, complete: bool) -> None:
        """Start what the peer asked for, or answer why not; never waits.

        Args:
            call: The call.
            complete: Whether its arguments are here; otherwise the handler is told when they are.
        """
        if call.offer is not None:
            offered = call.offer.context
            assert isinstance(offered, Offered)
            CallbackHandler(self, call, offered).start(complete)
            return
        assert isinstance(call.method, str)
        target = self.targets.get(call.method)
        if target is None:
            self._unknown(call, call.method)
        elif call.oneway and (target.spec.kind == "stream" or target.channels):
            body = ErrorBody(
                Code.FAILED_PRECONDITION, f"{target.label} cannot be notified: call it instead"
            )
            self.shell.endpoint.fail(call, body)
        elif _baggage(call) > self.shell.limits.max_metadata:
            limit = self.shell.limits.max_metadata
            body = ErrorBody(
                Code.RESOURCE_EXHAUSTED,
                f"metadata, key and last_id of {target.label} exceed {limit} bytes (max_metadata)",
            )
            self.shell.endpoint.fail(call, body)
        else:
            MethodHandler(self, call, target).start(complete)

    def _unknown(self, call: InCall, method: str) -> None:
        names = near(method, self.targets) if self._may_hint() else []
        hint = f"; did you mean {' or '.join(names)}?" if names else ""
        body = ErrorBody(Code.UNIMPLEMENTED, f"there is no method {method[:200]!r} here{hint}")
        body.data = Raw(self.shell.codec.dump({"near": names}))
        self.shell.endpoint.fail(call, body)

    def _may_hint(self) -> bool:
        if self._hints is None:
            self._hints = Bucket(HINTS, HINTS_PER_SECOND)
        return self._hints.take(self.shell.runtime.now())

    def function(self, target: Target) -> Callable[..., Any]:
        """The method, bound to this session's controller: a shared one, or one made for it."""
        try:
            return self._functions[target.label]
        except KeyError:
            name = target.exposed.name
            if name not in self._instances:
                self._instances[name] = target.exposed.instance(self.shell.session)
            function = target.spec.target(self._instances[name])
            self._functions[target.label] = function
            return function

    async def idle(self) -> None:
        """Wait until no handler runs any more."""
        while self.live:
            idle = self.shell.runtime.future()
            self._idle.append(idle)
            await idle

    def ended(self, handler: Handler) -> None:
        """A handler is through, its cleanup included."""
        self.live.discard(handler)
        if not self.live:
            settle(self._idle)

    def stop_all(self, reason: str = "cancelled") -> None:
        """Cancel every handler, so that it cleans up (CLOSE-5, DRAIN-3).

        Args:
            reason: The code with which their callers are told, as far as the session goes on.
        """
        for handler in list(self.live):
            handler.stop(reason)

    def stop_attached(self) -> None:
        """The link is lost: cancel the handlers that are not to run on without one (RESUME-8)."""
        for handler in list(self.live):
            if handler.attached:
                handler.stop("cancelled")
