"""What surrounds a call: who makes it, what travels with it, how long it may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .protocol.calls import InCall
    from .session import Session

__all__ = ["CallContext", "current", "metadata"]

NO_METADATA: Mapping[str, str] = MappingProxyType({})


class CallContext:
    """The call that is being handled, as `wsrpc.current()` gives it to its handler.

    Attributes:
        session: The session it came in on; `session.clientize(X)` calls the caller back.
        controller: Name of the controller, or "" for a callback.
        method: Name of the method, or of the parameter for a callback.
        call_id: The id on the wire.
        metadata: What the caller sent along; read-only.
        deadline: Seconds on the event loop's clock (`anyio.current_time()`), or None.
        principal: Who the caller is, as `authenticate` returned it, or None.
        key: The caller's idempotency key, or None.
        last_id: Where a reopened stream should go on, or None.
    """

    __slots__ = ("_call", "controller", "deadline", "metadata", "method", "session")

    def __init__(
        self,
        session: Session,
        call: InCall,
        controller: str,
        method: str,
        deadline: float | None,
    ) -> None:
        self._call = call
        self.session = session
        self.controller = controller
        self.method = method
        self.deadline = deadline
        sent = call.metadata
        self.metadata: Mapping[str, str] = MappingProxyType(sent) if sent else NO_METADATA

    @property
    def call_id(self) -> int:
        return self._call.id

    @property
    def principal(self) -> Any:
        return self.session.principal

    @property
    def key(self) -> str | None:
        return self._call.key

    @property
    def last_id(self) -> str | None:
        return self._call.last_id

    def __repr__(self) -> str:
        return f"<call {self.call_id} of {self.controller}.{self.method}>"


handling: ContextVar[CallContext | None] = ContextVar("wsrpc_handling", default=None)
outgoing_metadata: ContextVar[Mapping[str, str]] = ContextVar("wsrpc_metadata", default=NO_METADATA)


def current() -> CallContext:
    """The call that this code is handling.

    Raises:
        RuntimeError: This code does not run inside a handler.
    """
    context = handling.get()
    if context is None:
        raise RuntimeError(
            "wsrpc.current() works inside a controller's method (or a callback) while it handles "
            "a call; here no call is being handled"
        )
    return context


@contextmanager
def metadata(values: Mapping[str, str] | None = None, /, **more: str) -> Iterator[None]:
    """Send metadata along with every call made in this block.

    Nested blocks add up. Handlers do not pass on what they received: `wsrpc.metadata(
    current().metadata)` asks for that.

    Args:
        values: Keys and values, both strings.
        more: The same as keywords.

    Raises:
        TypeError: A key or value is no string.
    """
    merged = checked_metadata({**(values or {}), **more})
    token = outgoing_metadata.set({**outgoing_metadata.get(), **merged})
    try:
        yield
    finally:
        outgoing_metadata.reset(token)


def checked_metadata(values: Mapping[str, str]) -> dict[str, str]:
    """A copy of `values`, all strings for certain."""
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata is a map of strings to strings; got {key!r}: {value!r}")
    return dict(values)
