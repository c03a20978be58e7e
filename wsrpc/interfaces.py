"""Code around calls: one type for both directions, for single values and for streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from .session.live_session import Session

__all__ = ["Interceptor", "Next", "Request", "fold"]


@dataclass(slots=True)
class Request:
    """One call, as interceptors and stream fetchers see it.

    Attributes:
        controller: Name of the controller.
        method: Name of the method.
        arguments: The arguments by name, as Python values; streams and callbacks included.
        kind: "unary", "stream" or "notify".
        metadata: What travels along. An outbound interceptor may add to it.
        direction: "outbound" where the call is made, "inbound" where it is handled.
        session: The session that carries it.
        options: The options of `clientize` in force; empty for inbound calls.
    """

    controller: str
    method: str
    arguments: dict[str, Any]
    kind: Literal["unary", "stream", "notify"]
    metadata: dict[str, str]
    direction: Literal["outbound", "inbound"]
    session: Session
    options: dict[str, Any] = field(default_factory=dict)

    def with_arguments(self, **changed: Any) -> Self:
        """A copy with some arguments replaced, for fetchers that ask again differently."""
        return replace(self, arguments={**self.arguments, **changed})


Next: TypeAlias = Callable[[Request], Awaitable[Any]]


class Interceptor(Protocol):
    """Runs around a call: look at the request, go on by `await call_next(request)`, or raise.

    For a single value `call_next` returns it; for a stream it returns an async iterator, which may
    be returned as it is or wrapped in another one::

        async def timing(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
            begin = time.perf_counter()
            try:
                return await call_next(request)
            finally:
                print(request.controller, request.method, time.perf_counter() - begin)
    """

    def __call__(self, request: Request, call_next: Next, /) -> Awaitable[Any]: ...


def fold(interceptors: Sequence[Interceptor], innermost: Next) -> Next:
    """One callable out of many; the first interceptor is the outermost."""
    chain = innermost
    for interceptor in reversed(interceptors):
        chain = _link(interceptor, chain)
    return chain


def _link(interceptor: Interceptor, call_next: Next) -> Next:
    def step(request: Request) -> Awaitable[Any]:
        return interceptor(request, call_next)

    return step
