"""The decorator that makes a method callable from the other end."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import (
    AsyncIterable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from types import FrameType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

from typing_extensions import ParamSpec

from ..errors import RegistrationError, RpcError
from ..options import checked_bool, checked_seconds, one_of
from ..stream import Final, LocalStream, Stream
from ..unary import UnaryCall
from .annotations import is_stream, names_in, resolve_hints
from .signature import MethodOptions, nature

__all__ = ["Marked", "checked_tags", "mark_of", "method"]

P = ParamSpec("P")
R = TypeVar("R")
U = TypeVar("U")
Call: TypeAlias = Coroutine[Any, Any, R]

_MARK = "__wsrpc_method__"


class _Item(Protocol):
    """Every type but `Final`, which has no `__dir__` for type checkers."""

    def __dir__(self) -> Iterable[str]: ...


T = TypeVar("T", bound=_Item | None)


class _Any:
    """A return type that only `Any` matches."""


class _Decorator(Protocol):
    """The decorator that `method(…)` with options returns; typed as `method` itself."""

    @overload
    def __call__(self, fn: Callable[P, Call[_Any]], /) -> Callable[P, Call[Any]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, AsyncIterable[T]],
        /,  # pyright: ignore[reportOverlappingOverload]
    ) -> Callable[P, Stream[T]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, AsyncIterable[T | Final[U]]], /
    ) -> Callable[P, Stream[T, U]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, Call[AsyncIterable[T]]],
        /,  # pyright: ignore[reportOverlappingOverload]
    ) -> Callable[P, Stream[T]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Call[AsyncIterable[T | Final[U]]]], /
    ) -> Callable[P, Stream[T, U]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Iterator[T]], /
    ) -> Callable[P, Stream[T]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Iterator[T | Final[U]]], /
    ) -> Callable[P, Stream[T, U]]: ...
    @overload
    def __call__(self, fn: Callable[P, Call[R]], /) -> Callable[P, Call[R]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, Call[R]]: ...


class _OnewayDecorator(Protocol):
    """The decorator that `method(oneway=True)` returns: a call is over once it is queued."""

    def __call__(self, fn: Callable[P, object], /) -> Callable[P, Call[None]]: ...


@overload
def method(fn: Callable[P, Call[_Any]], /) -> Callable[P, Call[Any]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    fn: Callable[P, AsyncIterable[T]],
    /,  # pyright: ignore[reportOverlappingOverload]
) -> Callable[P, Stream[T]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    fn: Callable[P, AsyncIterable[T | Final[U]]], /
) -> Callable[P, Stream[T, U]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    fn: Callable[P, Call[AsyncIterable[T]]],
    /,  # pyright: ignore[reportOverlappingOverload]
) -> Callable[P, Stream[T]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    fn: Callable[P, Call[AsyncIterable[T | Final[U]]]], /
) -> Callable[P, Stream[T, U]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    fn: Callable[P, Iterator[T]], /
) -> Callable[P, Stream[T]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    fn: Callable[P, Iterator[T | Final[U]]], /
) -> Callable[P, Stream[T, U]]: ...
@overload
def method(fn: Callable[P, Call[R]], /) -> Callable[P, Call[R]]: ...
@overload
def method(fn: Callable[P, R], /) -> Callable[P, Call[R]]: ...
@overload
def method(
    *,
    oneway: Literal[True],
    idempotent: bool = ...,
    on_disconnect: Literal["detach", "cancel"] = ...,
    on_drain: Literal["finish", "end"] | None = ...,
    tags: Collection[str] = ...,
    raises: Sequence[type[RpcError[Any]]] = ...,
    deprecated: bool | str = ...,
    timeout: float | None = ...,
) -> _OnewayDecorator: ...
@overload
def method(
    *,
    oneway: Literal[False] = ...,
    idempotent: bool = ...,
    on_disconnect: Literal["detach", "cancel"] = ...,
    on_drain: Literal["finish", "end"] | None = ...,
    tags: Collection[str] = ...,
    raises: Sequence[type[RpcError[Any]]] = ...,
    deprecated: bool | str = ...,
    timeout: float | None = ...,
) -> _Decorator: ...
def method(
    fn: Any = None,
    /,
    *,
    oneway: bool = False,
    idempotent: bool = False,
    on_disconnect: Literal["detach", "cancel"] = "detach",
    on_drain: Literal["finish", "end"] | None = None,
    tags: Collection[str] = (),
    raises: Sequence[type[RpcError[Any]]] = (),
    deprecated: bool | str = False,
    timeout: float | None = None,
) -> Any:
    """Make a method callable from the other end.

    A local call of the result is typed as a remote one: a coroutine function stays one, a plain
    function is awaited, and a method that returns an async iterator, or yields, gives a `Stream`.
    The decorator stands above every other decorator except `@staticmethod` and `@classmethod`.
    These two may stand on either side of it; type checkers understand them only above it.

    Args:
        fn: The function.
        oneway: Whether the method gives no answer; a call is over once it is queued.
        idempotent: Whether calling it twice does no harm, so that a retry is safe (RETRY-1).
        on_disconnect: The fate of a running call when the connection is lost: "detach" lets it run
            on for the resume window, "cancel" cancels it at once.
        on_drain: The fate of a running stream when its server drains: "finish" lets it run on for
            the grace, "end" cancels it at once, and its caller gets `unavailable` (DRAIN-1). If
            left out, streams of `Tracked` items end, since their callers reopen them elsewhere, and
            all others are finished.
        tags: Words for `authorize` and interceptors to judge by, such as `{"admin"}`. A class may
            have more for all of its methods, in an attribute `tags`. A method that overrides
            another one has its tags too, so that a subclass cannot drop them.
        raises: The `RpcError` classes that callers may meet, for the contract and for generated
            clients. Other `RpcError`s cross all the same.
        deprecated: Whether callers should stop using it; a string names the replacement.
        timeout: Seconds after which a call is cancelled and fails with `deadline_exceeded`, even if
            its caller allows more. Callers that know the method by its class, its contract or
            generated code wait as long, unless they set a timeout.

    Raises:
        RegistrationError: The decorated object is no function, or an option has an invalid value;
            the author of the class is to blame.
    """
    one_of("on_disconnect", on_disconnect, ("detach", "cancel"))
    checked_bool("oneway", oneway)
    checked_bool("idempotent", idempotent)
    if not isinstance(deprecated, str):
        checked_bool("deprecated", deprecated)
    if on_drain is not None:
        one_of("on_drain", on_drain, ("finish", "end"))
    options = MethodOptions(
        oneway,
        idempotent,
        on_disconnect,
        checked_tags("@wsrpc.method", tags),
        _checked_errors(raises),
        deprecated,
        on_drain,
        _checked_timeout(timeout),
    )
    frame = sys._getframe(1)
    if fn is not None:
        return _decorate(fn, options, frame)
    return lambda inner: _decorate(inner, options, sys._getframe(1))


def checked_tags(where: str, tags: Any) -> frozenset[str]:
    """Tags as a frozenset.

    Raises:
        RegistrationError: The tags are no collection of strings.
    """
    if isinstance(tags, (str, bytes, Mapping)) or not isinstance(tags, Collection):
        raise RegistrationError(f"{where}: tags must be a set of strings, not {tags!r}")
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise RegistrationError(f"{where}: tags must be strings, not {tag!r}")
    return frozenset(tags)


def _checked_timeout(timeout: Any) -> float | None:
    try:
        if checked_seconds("timeout", timeout) is None or timeout > 0:
            return None if timeout is None else float(timeout)
    except ValueError:
        pass
    raise RegistrationError(f"timeout must be a number of seconds above 0, not {timeout!r}")


def _checked_errors(raises: Any) -> tuple[type[RpcError[Any]], ...]:
    if isinstance(raises, (str, type)) or not isinstance(raises, Iterable):
        raise RegistrationError(f"raises must be a list of RpcError classes, not {raises!r}")
    found = tuple(raises)
    for one in found:
        if not (isinstance(one, type) and issubclass(one, RpcError)):
            raise RegistrationError(
                f"raises must name classes derived from wsrpc.RpcError, which cross the wire, and "
                f"{one!r} is none"
            )
    return found


class Marked:
    """A decorated function, with its options.

    Attributes:
        fn: The undecorated function.
        options: The options of the decorator.
        public: The object that stands in the class instead.
        names: The locals of the class's surroundings to which the annotations refer.
    """

    __slots__ = ("_streams", "fn", "names", "options", "public")

    def __init__(
        self, fn: Callable[..., Any], options: MethodOptions, names: dict[str, Any]
    ) -> None:
        self.fn = fn
        self.options = options
        self.names = names
        self.public: Any = fn
        self._streams: bool | None = None

    def streams(self) -> bool:
        """Whether calling the function gives a stream; its annotation tells, unless it yields."""
        if self._streams is None:
            self._streams = self._find_streams()
        return self._streams

    def _find_streams(self) -> bool:
        if nature(self.fn) in ("async generator", "generator"):
            return True
        hints = resolve_hints(self.fn, self.fn.__qualname__, self.names)
        return is_stream(hints.get("return"))


def _decorate(fn: Any, options: MethodOptions, frame: FrameType) -> Any:
    wrap: Any = type(fn) if isinstance(fn, (staticmethod, classmethod)) else None
    raw = fn.__func__ if wrap is not None else fn
    if isinstance(raw, (type, property, functools.partial)) or not callable(raw):
        raise RegistrationError(f"@wsrpc.method decorates functions, not {raw!r}")
    if _MARK in getattr(raw, "__dict__", {}):
        raise RegistrationError(f"{raw.__qualname__} is decorated with @wsrpc.method twice")
    marked = Marked(raw, options, _names_around(raw, frame))
    public = marked.public = _public(marked)
    setattr(public, _MARK, marked)
    return public if wrap is None else wrap(public)


def _public(marked: Marked) -> Any:
    """The object that stands in the class, which keeps the declared type in local calls too.

    A plain coroutine function stays as it is, which keeps its tracebacks and costs nothing.
    """
    fn = marked.fn
    if inspect.iscoroutinefunction(fn):
        try:
            streams = marked.streams()
        except RegistrationError:
            # A name that is defined further down; it will be there by the first call.
            return _lazily(marked)
        if not streams:
            return fn
    return _lazily(marked)


def _lazily(marked: Marked) -> Any:
    fn = marked.fn
    label = fn.__qualname__.rpartition("<locals>.")[2]

    @functools.wraps(fn)
    def public(*args: Any, **kwargs: Any) -> Any:
        if marked.streams():
            return LocalStream(fn(*args, **kwargs), label)
        return UnaryCall(_awaited(fn, args, kwargs), label)

    return public


async def _awaited(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = fn(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _names_around(fn: Callable[..., Any], frame: FrameType | None) -> dict[str, Any]:
    """The locals of the class body and the function around it that the annotations refer to.

    Only these are kept, so that no frame is held alive, and only for annotations that are strings.
    """
    annotations = getattr(fn, "__annotations__", {}).values()
    wanted = frozenset().union(*(names_in(one) for one in annotations if isinstance(one, str)))
    found: dict[str, Any] = {}
    while wanted and frame is not None and frame.f_code.co_name != "<module>":
        for name in wanted - found.keys():
            if name in frame.f_locals:
                found[name] = frame.f_locals[name]
        frame = frame.f_back if not frame.f_code.co_flags & inspect.CO_NEWLOCALS else None
    return found


def mark_of(attribute: Any) -> Marked | None:
    found = getattr(attribute, "__dict__", {}).get(_MARK)
    return found if isinstance(found, Marked) else None
