"""The context of a call: its caller, its metadata and its deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, get_origin, is_typeddict, overload
from weakref import ref

from msgspec import Struct
from typing_extensions import TypeVar

from .interfaces import Session
from .protocol.endpoint import Endpoint
from .protocol.frames import NotifyOptions
from .protocol.lanes import InCall
from .runtime import containing

__all__ = ["Authorize", "CallContext", "Visible", "current", "metadata"]

NO_METADATA: Mapping[str, str] = MappingProxyType({})
NO_TAGS: frozenset[str] = frozenset()

# The type of the principal, which a handler names: `current(User)`.
Principal = TypeVar("Principal", default=Any)
U = TypeVar("U")


class CallContext(Struct, Generic[Principal], eq=False):
    """The call that is being handled, as `wsrpc.current()` gives it to its handler.

    Attributes:
        session: The session on which it came in; `session.clientize(X)` calls the caller back.
        controller: Name of the controller, or "" for a callback.
        method: Name of the method, or of the parameter for a callback.
        call_id: The id on the wire.
        metadata: The metadata that the caller sent along; read-only.
        deadline: Seconds on the event loop's clock (`anyio.current_time()`), or None.
        principal: The caller's identity, as `authenticate` returned it, or None.
        key: The caller's idempotency key, or None.
        last_id: The id of the last item that the caller of a reopened stream has, or None.
        tags: The tags of the method and of its controller.
        draining: Whether one end of the session is about to go. A handler that could go on for long
            should come to an end.
    """

    # Context variables live on in timers, idle threads and tasks that outlive the handler. None of
    # these may keep a session, or the call's arguments, in memory.
    _session: ref[Session]
    call_id: int
    _options: NotifyOptions
    controller: str
    method: str
    deadline: float | None
    tags: frozenset[str] = NO_TAGS

    @property
    def metadata(self) -> Mapping[str, str]:
        sent = self._options.metadata
        return MappingProxyType(sent) if sent else NO_METADATA

    @property
    def session(self) -> Session:
        """The session of the call.

        Raises:
            RuntimeError: The session has ended, and this code has outlived its handler; the
                application's fault.
        """
        session = self._session()
        if session is None:
            raise RuntimeError(f"the session of {self!r} has ended")
        return session

    @property
    def principal(self) -> Principal:
        principal: Principal = self.session.principal
        return principal

    @property
    def draining(self) -> bool:
        return self.session.state == "draining"

    @property
    def key(self) -> str | None:
        return self._options.key

    @property
    def last_id(self) -> str | None:
        return getattr(self._options, "last_id", None)

    def __repr__(self) -> str:
        return f"<call {self.call_id} of {self.controller}.{self.method}>"


Authorize: TypeAlias = Callable[[CallContext], Awaitable[bool | None]]
"""Decides about a call before it begins: False, or an exception, refuses it."""

Visible: TypeAlias = Callable[[Any, str], bool]
"""Whether a principal is told of a method, which is given by its full name ("Shop.refund")."""


class Handling(Struct, eq=False):
    """A call while it is being handled, for outbound calls of its handler.

    Attributes:
        call: The call; None once its handler has ended.
        context: The call's context in its handler.
    """

    call: InCall | None
    context: CallContext

    def parent_in(self, endpoint: Endpoint) -> InCall | None:
        """The call, if it is still being handled and came in at `endpoint`."""
        call = self.call
        return call if call is not None and endpoint.handles(call) else None


handling: ContextVar[Handling | None] = ContextVar("wsrpc_handling", default=None)
containing.mark(handling)
outgoing_metadata: ContextVar[Mapping[str, str]] = ContextVar("wsrpc_metadata", default=NO_METADATA)


@overload
def current() -> CallContext: ...
@overload
def current(principal: type[U], /) -> CallContext[U]: ...
def current(principal: Any = None, /) -> CallContext[Any]:
    """The call that this code is handling.

    Args:
        principal: The class of the principals that `authenticate` returns, so that type checkers
            know the type of `current(User).principal`.

    Raises:
        RuntimeError: This code does not run inside a handler; the application's fault.
        TypeError: The principal is no instance of the class; the application's fault.
    """
    handled = handling.get()
    if handled is None:
        raise RuntimeError(
            "wsrpc.current() works inside a controller's method (or a callback) while it handles "
            "a call; here no call is being handled"
        )
    if principal is not None:
        _expect(handled.context, principal)
    return handled.context


def _expect(context: CallContext, principal: Any) -> None:
    found = context.principal
    kind = get_origin(principal) or principal
    if not isinstance(kind, type):
        raise TypeError(f"wsrpc.current() takes the class of the principal, not {principal!r}")
    if is_typeddict(kind):
        kind = dict
    if not isinstance(found, kind):
        raise TypeError(
            f"the principal of {context!r} is {type(found).__name__}, not {kind.__name__}: it is "
            "what authenticate= returned, and None without it"
        )


@contextmanager
def metadata(values: Mapping[str, str] | None = None, /, **more: str) -> Iterator[None]:
    """Send metadata along with every call made in this block.

    Nested blocks add up. Handlers do not pass on received metadata by themselves; `wsrpc.metadata(
    current().metadata)` does.

    Args:
        values: Keys and values, both strings.
        more: Further keys and values, as keyword arguments.

    Raises:
        TypeError: A key or value is no string; the caller's fault.
    """
    merged = checked_metadata({**(values or {}), **more})
    token = outgoing_metadata.set({**outgoing_metadata.get(), **merged})
    try:
        yield
    finally:
        outgoing_metadata.reset(token)


def checked_metadata(values: Mapping[str, str]) -> dict[str, str]:
    """Check that `values` are strings that can travel; returns a copy."""
    if not isinstance(values, Mapping):
        raise TypeError(f"metadata is a map of strings to strings; got {values!r}")
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata is a map of strings to strings; got {key!r}: {value!r}")
        if not (is_unicode(key) and is_unicode(value)):
            raise ValueError(f"metadata cannot hold lone surrogates; got {key!r}: {value!r}")
    return dict(values)


def is_unicode(text: str) -> bool:
    """Whether a string can travel: it must not hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
