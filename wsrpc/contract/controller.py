"""What is exposed: the decorator, and the classes that carry it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import (
    AsyncIterable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from types import FrameType
from typing import (
    Any,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    overload,
)

from typing_extensions import ParamSpec, get_original_bases, get_type_hints

from ..errors import RegistrationError
from ..stream import Final, LocalStream, Stream, UnaryCall
from .signature import (
    Binding,
    MethodOptions,
    MethodSpec,
    is_stream,
    names_in,
    nature,
    read,
    resolve_hints,
)

__all__ = ["Exposed", "Interface", "MethodOptions", "expose", "expose_all", "interface", "method"]

P = ParamSpec("P")
R = TypeVar("R")
U = TypeVar("U")
Call: TypeAlias = Coroutine[Any, Any, R]

RESERVED = "wsrpc"
_MARK = "__wsrpc_method__"


class _Item(Protocol):
    """Everything but `Final`, which has no `__dir__` for type checkers."""

    def __dir__(self) -> Iterable[str]: ...


T = TypeVar("T", bound=_Item | None)


class _Any:
    """A return type that only `Any` matches."""


# --- The decorator ---------------------------------------------------------------------------------


class _Decorator(Protocol):
    """What `method(…)` with options returns; typed as `method` itself is."""

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
    """What `method(oneway=True)` returns: calls that are over when they are queued."""

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
) -> _OnewayDecorator: ...
@overload
def method(
    *,
    oneway: Literal[False] = ...,
    idempotent: bool = ...,
    on_disconnect: Literal["detach", "cancel"] = ...,
) -> _Decorator: ...
def method(
    fn: Any = None,
    /,
    *,
    oneway: bool = False,
    idempotent: bool = False,
    on_disconnect: Literal["detach", "cancel"] = "detach",
) -> Any:
    """Make a method callable from the other end.

    What it returns is what a caller gets, here as there: a coroutine function stays one, a plain
    function is awaited, and a method that returns an async iterator, or yields, gives a `Stream`.
    It goes above every other decorator except `@staticmethod` and `@classmethod`, which may stand
    on either side; type checkers follow only those that stand above it.

    Args:
        fn: The function.
        oneway: Nobody waits for an answer; the call is over once it is queued.
        idempotent: Calling it twice does no harm, so that a retry is safe.
        on_disconnect: What happens to a running call when the connection is lost: "detach" lets it
            run on for the resume window, "cancel" cancels it at once.

    Raises:
        RegistrationError: What is decorated is no function.
    """
    if on_disconnect not in ("detach", "cancel"):
        raise ValueError(f"on_disconnect must be 'detach' or 'cancel', not {on_disconnect!r}")
    options = MethodOptions(oneway, idempotent, on_disconnect)
    frame = sys._getframe(1)
    if fn is not None:
        return _decorate(fn, options, frame)
    return lambda inner: _decorate(inner, options, sys._getframe(1))


class _Marked:
    """What the decorator knows of one function.

    Attributes:
        fn: The undecorated function.
        options: What the decorator was told.
        public: What stands in the class instead.
        names: What the annotations refer to, of the locals where the class is defined.
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
        """Whether calling the function gives a stream; by its annotation, unless it yields."""
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
    marked = _Marked(raw, options, _names_around(raw, frame))
    public = marked.public = _public(marked)
    setattr(public, _MARK, marked)
    return public if wrap is None else wrap(public)


def _public(marked: _Marked) -> Any:
    """What stands in the class: true to its type locally, too.

    A plain coroutine function stays as it is, which keeps its tracebacks and costs nothing.
    """
    fn = marked.fn
    if inspect.iscoroutinefunction(fn):
        try:
            streams = marked.streams()
        except RegistrationError:
            # A name that is defined further down; by the first call it will be there.
            return _lazily(marked)
        if not streams:
            return fn
    return _lazily(marked)


def _lazily(marked: _Marked) -> Any:
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


# --- Interfaces ------------------------------------------------------------------------------------


class Interface:
    """The methods of a controller class.

    Attributes:
        name: What the controller is called on the wire.
        specs: Its methods by name.
        doc: The first paragraph of the class's docstring.
        origin: The class, or the alias such as `Repo[int]`.
    """

    __slots__ = ("__weakref__", "doc", "name", "origin", "specs")

    def __init__(self, name: str, specs: dict[str, MethodSpec], doc: str, origin: Any) -> None:
        self.name = name
        self.specs = specs
        self.doc = doc
        self.origin = origin

    def __repr__(self) -> str:
        return f"<Interface {self.name}: {', '.join(self.specs)}>"


# Kept on the class itself, so that both go together. The prefix keeps Protocol's isinstance from
# taking it for a member.
_CACHE = "_abc_wsrpc_interfaces"


def interface(cls_or_alias: Any) -> Interface:
    """The interface of a controller class, or of a generic one with its arguments.

    Raises:
        RegistrationError: It has no method, or one that cannot be exposed as it is written.
    """
    cls = get_origin(cls_or_alias) or cls_or_alias
    if not isinstance(cls, type):
        raise RegistrationError(f"a controller is a class, not {cls_or_alias!r}")
    cache: dict[Any, Interface] | None = cls.__dict__.get(_CACHE)
    found = cache.get(cls_or_alias) if cache is not None else None
    if found is None:
        found = _read_class(cls, cls_or_alias)
        if cache is None:
            cache = {}
            setattr(cls, _CACHE, cache)
        cache[cls_or_alias] = found
    return found


def _read_class(cls: type, alias: Any) -> Interface:
    variables = _variables(alias)
    specs: dict[str, MethodSpec] = {}
    for name in _marked_names(cls):
        owner, attribute, binding = _look_up(cls, name)
        marked = _marked(cls, owner, name, attribute)
        specs[name] = read(
            cls.__name__,
            name,
            marked.fn,
            binding=binding,
            options=marked.options,
            namespaces=(marked.names, vars(owner)),
            variables=variables.get(owner, {}),
        )
    if not specs:
        raise RegistrationError(
            f"{cls.__name__} has no method decorated with @wsrpc.method, so nothing of it could "
            "be called"
        )
    return Interface(_name(cls), specs, _doc(cls), alias)


def _name(cls: type) -> str:
    name = getattr(cls, "controller_name", None) or cls.__name__
    if not isinstance(name, str) or "." in name.removeprefix(f"{RESERVED}."):
        raise RegistrationError(
            f"{cls.__name__}.controller_name must be a string without dots, not {name!r}"
        )
    return name


def _doc(cls: type) -> str:
    doc = cls.__dict__.get("__doc__") or ""
    return " ".join(inspect.cleandoc(doc).split("\n\n")[0].split())


def _marked_names(cls: type) -> list[str]:
    """The names decorated anywhere in the class or its bases, those of the bases first."""
    names: dict[str, None] = {}
    for owner in reversed(cls.__mro__):
        for name, attribute in vars(owner).items():
            if _mark_of(_unbound(attribute)[0]) is not None:
                names[name] = None
    return list(names)


def _unbound(attribute: Any) -> tuple[Any, Binding]:
    if isinstance(attribute, staticmethod):
        return attribute.__func__, "static"
    if isinstance(attribute, classmethod):
        return attribute.__func__, "class"
    return attribute, "instance"


def _mark_of(attribute: Any) -> _Marked | None:
    found = getattr(attribute, "__dict__", {}).get(_MARK)
    return found if isinstance(found, _Marked) else None


def _look_up(cls: type, name: str) -> tuple[type, Any, Binding]:
    for owner in cls.__mro__:
        if name in vars(owner):
            attribute, binding = _unbound(vars(owner)[name])
            return owner, attribute, binding
    raise AssertionError(name)


def _marked(cls: type, owner: type, name: str, attribute: Any) -> _Marked:
    marked = _mark_of(attribute)
    if marked is None:
        base = next(
            one.__name__
            for one in cls.__mro__
            if name in vars(one) and _mark_of(_unbound(vars(one)[name])[0]) is not None
        )
        raise RegistrationError(
            f"{owner.__name__}.{name} overrides a method of {base} without a decorator of its "
            "own; put @wsrpc.method above it"
        )
    if marked.public is not attribute:
        raise RegistrationError(
            f"{owner.__name__}.{name} has a decorator above @wsrpc.method, which a call would "
            "bypass; put @wsrpc.method on top"
        )
    return marked


def _variables(alias: Any) -> dict[type, dict[Any, Any]]:
    """What each base's type variables stand for, from `Repo[int]` or `class IntRepo(Repo[int])`."""
    found: dict[type, dict[Any, Any]] = {}

    def visit(alias: Any, outer: Mapping[Any, Any]) -> None:
        cls = get_origin(alias) or alias
        parameters = getattr(cls, "__parameters__", ())
        args = tuple(outer.get(one, one) for one in get_args(alias))
        known = {
            one: value
            for one, value in zip(parameters, args, strict=False)
            if not isinstance(value, TypeVar)
        }
        if cls in found and not known:
            return
        found[cls] = known
        for base in get_original_bases(cls) if isinstance(cls, type) else ():
            origin = get_origin(base) or base
            if isinstance(origin, type) and origin not in (Generic, Protocol, object):
                visit(base, known)

    visit(alias, {})
    return found


# --- Exposing --------------------------------------------------------------------------------------


class Exposed:
    """A controller as a server or client offers it.

    Attributes:
        name: What it is called on the wire.
        interface: Its methods.
    """

    __slots__ = ("_instance", "_make", "_wants_session", "interface", "name")

    def __init__(
        self,
        interface: Interface,
        *,
        instance: object | None = None,
        make: Callable[..., object] | None = None,
        wants_session: bool = False,
    ) -> None:
        self.name = interface.name
        self.interface = interface
        self._instance = instance
        self._make = make
        self._wants_session = wants_session

    @property
    def per_session(self) -> bool:
        """Whether each session gets an instance of its own."""
        return self._make is not None

    def instance(self, session: object) -> object:
        """The controller that serves `session`; a new one where a class or factory was given.

        The factory gets the session if it has a parameter of that name.
        """
        if self._make is None:
            return self._instance
        return self._make(session=session) if self._wants_session else self._make()

    def __repr__(self) -> str:
        return f"<Exposed {self.name}>"


def expose(controller: Any) -> Exposed:
    """What to serve for an instance, or one a session for a class or factory.

    Args:
        controller: An instance that serves every session; or a class, a `functools.partial` of
            one, or a function annotated to return one, called once a session.

    Raises:
        RegistrationError: It is no controller, or one that cannot be exposed as it is written.
    """
    if isinstance(controller, type) or isinstance(get_origin(controller), type):
        return _per_session(controller, controller)
    if isinstance(controller, functools.partial):
        made = controller.func
        return _per_session(controller, made if isinstance(made, type) else _made_by(made))
    if inspect.isroutine(controller):
        return _per_session(controller, _made_by(controller))
    # A generic class called with its argument leaves the alias on the instance.
    kind = getattr(controller, "__orig_class__", None) or type(controller)
    return Exposed(interface(kind), instance=controller)


def _made_by(factory: Any) -> Any:
    label = getattr(factory, "__qualname__", repr(factory))
    if inspect.iscoroutinefunction(factory):
        raise RegistrationError(f"{label} is async; a controller factory is a plain function")
    try:
        made = get_type_hints(factory).get("return")
    except NameError as error:
        raise RegistrationError(
            f"{label}: its return annotation names {error.name!r}, which is not there at run time"
        ) from error
    if not isinstance(get_origin(made) or made, type) or made is type(None):
        raise RegistrationError(
            f"{label} is no controller; a factory is annotated with the class that it returns"
        )
    return made


def _per_session(make: Any, cls: Any) -> Exposed:
    described = interface(cls)
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return Exposed(described, make=make)
    wants_session = "session" in signature.parameters
    try:
        signature.bind(**({"session": None} if wants_session else {}))
    except TypeError as error:
        raise RegistrationError(
            f"{described.name} is made anew for each session and cannot be: {error}; give an "
            "instance, or a function without parameters that returns one"
        ) from None
    if inspect.isabstract(make) or getattr(make, "_is_protocol", False):
        raise RegistrationError(
            f"{described.name} is an interface; expose a class that implements it"
        )
    return Exposed(described, make=make, wants_session=wants_session)


def expose_all(controllers: Sequence[Any], *, builtin: Sequence[Any] = ()) -> dict[str, Exposed]:
    """What to serve, by name.

    Args:
        controllers: Instances, classes and factories, as `expose` takes them.
        builtin: The package's own, whose names may be reserved ones.

    Raises:
        RegistrationError: Two have one name, or a name is reserved.
    """
    if isinstance(controllers, (str, bytes)) or not isinstance(controllers, Iterable):
        raise RegistrationError(
            f"controllers must be a list of controllers, not {type(controllers).__name__}"
        )
    found: dict[str, Exposed] = {}
    for controller in controllers:
        exposed = expose(controller)
        if exposed.name.startswith(RESERVED):
            raise RegistrationError(
                f"{_class_name(exposed)}: controller names that begin with {RESERVED!r} are "
                f"reserved, and so is {exposed.name!r}; set controller_name"
            )
        _add(found, exposed)
    for controller in builtin:
        _add(found, expose(controller))
    return found


def _add(found: dict[str, Exposed], exposed: Exposed) -> None:
    other = found.get(exposed.name)
    if other is not None:
        raise RegistrationError(
            f"{_class_name(other)} and {_class_name(exposed)} are both called {exposed.name!r}; "
            "set controller_name on one of them"
        )
    found[exposed.name] = exposed


def _class_name(exposed: Exposed) -> str:
    origin = exposed.interface.origin
    cls = get_origin(origin) or origin
    return f"{cls.__module__}.{cls.__qualname__}"
