"""A function's signature, read once: what travels, how, and under which name."""

from __future__ import annotations

import collections.abc as abc
import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NotRequired, TypeVar, Union, cast, get_args, get_origin

import typing_extensions
from msgspec import Raw
from pydantic import ConfigDict
from typing_extensions import TypeAliasType

from ..errors import RegistrationError
from ..protocol.codec import Codec
from ..protocol.splice import Encoded
from ..stream import Final, Stream, Tracked
from ..values.adapter import MAX_DEPTH, Adapter
from ..values.tracked import TrackedAdapter

__all__ = ["MethodOptions", "MethodSpec", "Param", "near"]

Kind = Literal["unary", "stream", "notify"]
Flavor = Literal["coroutine", "sync", "async_iterator", "awaited_iterator", "sync_iterator"]
Binding = Literal["instance", "class", "static"]

_ASYNC_STREAMS = (abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator, Stream)
_SYNC_STREAMS = (abc.Iterator, abc.Generator)
_AWAITABLES = (abc.Awaitable, abc.Coroutine)
_UNIONS = (Union, types.UnionType)
_EMPTY: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """What `@method(…)` was told.

    Attributes:
        oneway: Nobody waits for an answer.
        idempotent: Calling it twice does no harm, so that a retry is safe.
        on_disconnect: What happens to a running call when the connection is lost: "detach" lets it
            run on for the resume window, "cancel" cancels it at once.
    """

    oneway: bool = False
    idempotent: bool = False
    on_disconnect: Literal["detach", "cancel"] = "detach"


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a method.

    Attributes:
        name: Its name, in Python and on the wire.
        kind: A value travels with the call; an upload is a stream towards the callee; a callback
            is called by the callee.
        annotation: The type as written, resolved.
        required: Whether the caller must give it.
        item: An upload's items.
        arguments: A callback's arguments, in order.
        result: What a callback returns.
        optional_stream: An upload or callback that may be None.
    """

    name: str
    kind: Literal["value", "upload", "callback"]
    annotation: Any
    required: bool
    item: Adapter | None = None
    arguments: tuple[Adapter, ...] = ()
    result: Adapter | None = None
    optional_stream: bool = False


# Characters. A longer one is no slip of the pen, and takes long to compare.
LONGEST_NAME = 200


def near(name: str, candidates: abc.Iterable[str]) -> list[str]:
    """At most three of `candidates` that `name` may have meant."""
    if len(name) > LONGEST_NAME:
        return []
    pool = list(candidates)
    folded = {one.lower(): one for one in pool}
    return get_close_matches(name, pool, 3) or [
        folded[one] for one in get_close_matches(name.lower(), folded, 3)
    ]


# --- Binding a call's arguments --------------------------------------------------------------------


class Binder:
    """Assigns positional and keyword arguments to parameter names, with Python's own messages.

    Args:
        label: The method's bare name.
        params: All parameters in order.
        positional: Those that may be given by position, in order.
        positional_only: Those that may only be.
    """

    __slots__ = (
        "_callbacks",
        "_enough",
        "_label",
        "_names",
        "_positional",
        "_positional_only",
        "_required",
        "_simple",
        "_uploads",
    )

    def __init__(
        self,
        label: str,
        params: Sequence[Param],
        positional: Sequence[str],
        positional_only: abc.Collection[str] = (),
    ) -> None:
        self._label = label
        self._names = {param.name: None for param in params}
        self._positional = tuple(positional)
        self._positional_only = frozenset(positional_only)
        self._required = {param.name: None for param in params if param.required}
        self._uploads = {param.name: param for param in params if param.kind == "upload"}
        self._callbacks = {param.name: param for param in params if param.kind == "callback"}
        self._simple = not (self._uploads or self._callbacks)
        # With so many arguments given by position, all that is required is given.
        self._enough: float = 0
        for name in self._required:
            place = self._positional.index(name) + 1 if name in self._positional else math.inf
            self._enough = max(self._enough, place)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The values, uploads and callbacks by name; what was not given is left out.

        Raises:
            TypeError: As Python would raise it; the caller's fault.
        """
        if not kwargs and self._enough <= len(args) <= len(self._positional):
            # A third of the time of the general way, which also finds out what is wrong.
            given = dict(zip(self._positional, args, strict=False))
        else:
            given = self._place(args, kwargs) if args or self._positional_only else kwargs
            names = given.keys()
            if names != self._names.keys():
                self._refuse_unknown(names)
                if not self._required.keys() <= names:
                    self._refuse_missing(names)
        if self._simple:
            return given, {}, {}
        return self._split(given)

    def _place(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        positional = self._positional
        if len(args) > len(positional):
            takes = len(positional)
            raise TypeError(
                f"{self._label}() takes {takes} positional argument{'s' * (takes != 1)} but "
                f"{len(args)} {'were' if len(args) != 1 else 'was'} given"
            )
        by_keyword = self._positional_only.intersection(kwargs)
        if by_keyword:
            raise TypeError(
                f"{self._label}() got some positional-only arguments passed as keyword arguments: "
                f"'{', '.join(name for name in positional if name in by_keyword)}'"
            )
        given = dict(zip(positional, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                raise TypeError(f"{self._label}() got multiple values for argument '{name}'")
            given[name] = value
        return given

    def _refuse_unknown(self, names: abc.Collection[str]) -> None:
        for name in names:
            if name not in self._names:
                close = near(name, self._names)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise TypeError(
                    f"{self._label}() got an unexpected keyword argument '{name}'{hint}"
                )

    def _refuse_missing(self, names: abc.Collection[str]) -> None:
        missing = [f"'{name}'" for name in self._required if name not in names]
        listed = missing[0]
        if len(missing) > 1:
            comma = "," if len(missing) > 2 else ""
            listed = f"{', '.join(missing[:-1])}{comma} and {missing[-1]}"
        raise TypeError(
            f"{self._label}() missing {len(missing)} required "
            f"argument{'s' * (len(missing) != 1)}: {listed}"
        )

    def _split(
        self, given: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        values: dict[str, Any] = {}
        uploads: dict[str, Any] = {}
        callbacks: dict[str, Any] = {}
        for name, value in given.items():
            if name in self._uploads:
                if value is not None or not self._uploads[name].optional_stream:
                    uploads[name] = self._as_upload(name, value)
            elif name in self._callbacks:
                if value is not None or not self._callbacks[name].optional_stream:
                    callbacks[name] = self._as_callback(name, value)
            else:
                values[name] = value
        return values, uploads, callbacks

    def _as_upload(self, name: str, value: Any) -> Any:
        if hasattr(value, "__aiter__"):
            return value
        raise TypeError(
            f"{self._label}() argument '{name}' is a stream and takes an async iterator, not "
            f"{type(value).__name__}: pass wsrpc.stream_of(…)"
        )

    def _as_callback(self, name: str, value: Any) -> Any:
        if callable(value):
            return value
        raise TypeError(
            f"{self._label}() argument '{name}' is a callback and takes an async function, not "
            f"{type(value).__name__}"
        )


# --- The method ------------------------------------------------------------------------------------


class MethodSpec:
    """Everything that both ends need to know about one method.

    Attributes:
        name: Its name, in Python and on the wire.
        controller: The class that it belongs to, for messages.
        fn: The undecorated function.
        doc: The first paragraph of its docstring.
        kind: What the caller gets: a value, a stream, or nothing.
        flavor: How the function is written, and so how it is run.
        binding: What the function expects before its arguments.
        params: Its parameters by name, in order.
        options: What the decorator was told.
        result: The value of a unary method.
        item: The items of a stream.
        final: What a stream may end with.
        bind: Sorts the arguments of a call by what they are; see `Binder.bind`. Defaults are left
            to the callee.
        dump_args: Encodes a call's values; see `Adapter.dump`.
        load_args: Decodes them as they arrived; see `Adapter.load`. In an `InvalidValue` `loc` begins
            with the parameter's name.
    """

    __slots__ = (
        "_positional_only",
        "bind",
        "binding",
        "controller",
        "doc",
        "dump_args",
        "final",
        "flavor",
        "fn",
        "item",
        "kind",
        "load_args",
        "name",
        "options",
        "params",
        "result",
    )

    def __init__(
        self,
        name: str,
        controller: str,
        fn: Callable[..., Any],
        *,
        binding: Binding,
        options: MethodOptions,
        flavor: Flavor,
        params: Sequence[Param],
        positional: Sequence[str],
        positional_only: Mapping[str, Any],
        result: Adapter | None,
        item: Adapter | None,
        final: Adapter | None,
    ) -> None:
        self.name = name
        self.controller = controller
        self.fn = fn
        self.doc = _first_paragraph(fn)
        self.binding = binding
        self.options = options
        self.flavor = flavor
        self.kind: Kind = "notify" if options.oneway else "unary" if item is None else "stream"
        self.params = {param.name: param for param in params}
        self.result = result
        self.item = item
        self.final = final
        self._positional_only = dict(positional_only)
        # Their own methods, without a function around them: these three run with every call.
        self.bind = Binder(name, params, positional, positional_only).bind
        args = _args_adapter(f"{controller}.{name}", params)
        self.dump_args = args.dump
        self.load_args: Callable[[Raw | Encoded, Codec], dict[str, Any]] = args.load

    @property
    def idempotent(self) -> bool:
        """Whether calling it twice does no harm."""
        return self.options.idempotent or isinstance(self.item, TrackedAdapter)

    def target(self, instance: object) -> Callable[..., Any]:
        """The function bound to a controller, to be called with keyword arguments only."""
        bound = self.fn
        if self.binding == "instance":
            bound = functools.partial(self.fn, instance)
        elif self.binding == "class":
            bound = functools.partial(self.fn, type(instance))
        if not self._positional_only:
            return bound
        return functools.partial(self._call_positional, bound)

    def _call_positional(self, bound: Callable[..., Any], /, **arguments: Any) -> Any:
        args = [
            arguments.pop(name) if name in arguments else default
            for name, default in self._positional_only.items()
        ]
        return bound(*args, **arguments)

    def __repr__(self) -> str:
        return f"<MethodSpec {self.controller}.{self.name}>"


def _first_paragraph(fn: Callable[..., Any]) -> str:
    doc = inspect.getdoc(fn) or ""
    return " ".join(doc.split("\n\n")[0].split())


def _args_adapter(where: str, params: Sequence[Param]) -> Adapter:
    fields = {
        param.name: param.annotation if param.required else NotRequired[param.annotation]
        for param in params
        if param.kind == "value"
    }
    arguments = cast(Any, typing_extensions.TypedDict)(where.replace(".", "_"), fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")
    # The object that holds the arguments is no part of their own depth.
    return Adapter(arguments, where=where, depth=MAX_DEPTH + 1)


# --- Annotations -----------------------------------------------------------------------------------


def resolve_hints(
    fn: Callable[..., Any], where: str, *namespaces: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The annotations of `fn` as objects, globals first, then each further namespace.

    Raises:
        RegistrationError: A name in them is not there at run time.
    """
    try:
        return typing_extensions.get_type_hints(fn, include_extras=True)
    except NameError:
        pass
    except Exception as error:
        raise RegistrationError(f"{where}: an annotation cannot be evaluated: {error}") from error
    merged: dict[str, Any] = {}
    for namespace in namespaces:
        merged.update(namespace or {})
    try:
        return typing_extensions.get_type_hints(fn, localns=merged, include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"{where}: the annotation of {_culprit(fn, error.name)} names {error.name!r}, which "
            "is not there at run time; import it outside of `if TYPE_CHECKING`, before the class"
        ) from error
    except Exception as error:
        raise RegistrationError(f"{where}: an annotation cannot be evaluated: {error}") from error


def _culprit(fn: Callable[..., Any], name: str | None) -> str:
    for param, annotation in getattr(fn, "__annotations__", {}).items():
        if isinstance(annotation, str) and name is not None and name in names_in(annotation):
            return "its result" if param == "return" else f"parameter {param!r}"
    return "a parameter"


def names_in(annotation: str) -> frozenset[str]:
    """The names that an annotation written as a string refers to."""
    try:
        return frozenset(compile(annotation, "<annotation>", "eval").co_names)
    except SyntaxError:
        return frozenset()


def substitute(annotation: Any, variables: Mapping[Any, Any], where: str) -> Any:
    """`annotation` with type variables replaced.

    Raises:
        RegistrationError: A variable stands for nothing.
    """
    if isinstance(annotation, TypeVar):
        return _value_of(annotation, variables, where)
    if isinstance(annotation, list):
        return [substitute(one, variables, where) for one in annotation]
    generic = getattr(annotation, "__pydantic_generic_metadata__", None)
    if isinstance(annotation, type) and generic and generic["parameters"]:
        if generic["origin"] is None and not any(p in variables for p in generic["parameters"]):
            return annotation
        return annotation[  # type: ignore[index]
            tuple(substitute(one, variables, where) for one in generic["parameters"])
        ]
    origin = get_origin(annotation)
    if origin is None or origin is Literal:
        return annotation
    args = get_args(annotation)
    if origin is Annotated:
        return Annotated[(substitute(args[0], variables, where), *args[1:])]
    new = tuple(substitute(one, variables, where) for one in args)
    if new == args:
        return annotation
    if origin in _UNIONS:
        return Union[new]  # noqa: UP007
    if origin is abc.Callable:
        return cast(Any, Callable)[new[0], new[1]]
    return origin[new]


def _value_of(variable: Any, variables: Mapping[Any, Any], where: str) -> Any:
    if variable in variables:
        return variables[variable]
    default = getattr(variable, "__default__", typing_extensions.NoDefault)
    if default is not typing_extensions.NoDefault:
        return default
    raise RegistrationError(
        f"{where}: the type variable {variable} stands for nothing here; write a concrete type, "
        "or expose the generic class with its argument, as in Repo[int]"
    )


def _strip(annotation: Any) -> Any:
    """The type under `Annotated` and `type X = …`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        else:
            return annotation


def _without_none(annotation: Any) -> tuple[Any, bool]:
    annotation = _strip(annotation)
    if get_origin(annotation) in _UNIONS:
        args = get_args(annotation)
        rest = [one for one in args if one is not type(None)]
        if len(rest) == 1 and len(rest) < len(args):
            return _strip(rest[0]), True
    return annotation, False


def _origin(annotation: Any) -> Any:
    annotation = _strip(annotation)
    return get_origin(annotation) or annotation


def _is(annotation: Any, kinds: tuple[Any, ...]) -> bool:
    origin = _origin(annotation)
    return any(origin is kind for kind in kinds)


def _argument(annotation: Any, index: int = 0) -> Any:
    args = get_args(_strip(annotation))
    return args[index] if len(args) > max(index, 0) else Any


def is_stream(annotation: Any) -> bool:
    """Whether a method with this return annotation streams."""
    annotation = _strip(annotation)
    if _is(annotation, _AWAITABLES):
        annotation = _argument(annotation, -1)
    return _is(annotation, _ASYNC_STREAMS + _SYNC_STREAMS)


# --- Reading a function ----------------------------------------------------------------------------


def read(
    controller: str,
    name: str,
    fn: Callable[..., Any],
    *,
    binding: Binding = "instance",
    options: MethodOptions | None = None,
    namespaces: Sequence[Mapping[str, Any] | None] = (),
    variables: Mapping[Any, Any] | None = None,
) -> MethodSpec:
    """What travels when `fn` is called.

    Args:
        controller: The class's name, for messages.
        name: The method's name.
        fn: The undecorated function.
        binding: Whether its first parameter is the instance, the class, or its own.
        options: What the decorator was told.
        namespaces: Where else to look for names in annotations.
        variables: What the class's type variables stand for.

    Raises:
        RegistrationError: The function cannot be exposed as it is written.
    """
    options = options or MethodOptions()
    where = f"{controller}.{name}"
    hints = {
        key: substitute(hint, variables or {}, where)
        for key, hint in resolve_hints(fn, where, *namespaces).items()
    }
    parameters = _own_parameters(fn, binding, where)
    params = [_param(parameter, hints, where) for parameter in parameters]
    flavor, returned = _flavor(fn, hints.get("return", _EMPTY), where)
    result, item, final = _returned(flavor, returned, where)
    if options.oneway:
        _check_oneway(where, params, item, returned)
        result = None
    return MethodSpec(
        name,
        controller,
        fn,
        binding=binding,
        options=options,
        flavor=flavor,
        params=params,
        positional=[p.name for p in parameters if p.kind is not p.KEYWORD_ONLY],
        positional_only={p.name: p.default for p in parameters if p.kind is p.POSITIONAL_ONLY},
        result=result,
        item=item,
        final=final,
    )


def _own_parameters(
    fn: Callable[..., Any], binding: Binding, where: str
) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(fn).parameters.values())
    if binding != "static":
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise RegistrationError(
                f"{where} takes no self; add it, or put @staticmethod above @wsrpc.method"
            )
        if parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters = parameters[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise RegistrationError(
                f"{where}: {stars}{parameter.name} cannot travel; name each parameter. If this is "
                "the inside of a decorator, give its inner function @functools.wraps"
            )
    return parameters


def _param(parameter: inspect.Parameter, hints: Mapping[str, Any], where: str) -> Param:
    name = parameter.name
    where = f"{where}: parameter {name!r}"
    if name not in hints:
        raise RegistrationError(f"{where} has no annotation; write its type, or object for any")
    annotation = hints[name]
    required = parameter.default is _EMPTY
    bare, optional = _without_none(annotation)
    if _is(bare, _ASYNC_STREAMS):
        _check_default(parameter, where)
        item = Adapter(_argument(bare), where=where)
        return Param(name, "upload", annotation, required, item=item, optional_stream=optional)
    if _is(bare, (abc.Callable,)):
        _check_default(parameter, where)
        arguments, result = _callback(bare, where)
        return Param(
            name,
            "callback",
            annotation,
            required,
            arguments=arguments,
            result=result,
            optional_stream=optional,
        )
    if _is(bare, (abc.Iterator, abc.Generator, abc.Iterable)):
        raise RegistrationError(
            f"{where} is an {_origin(bare).__name__}: write list[…] for a value, or "
            "AsyncIterator[…] for a stream"
        )
    Adapter(annotation, where=where)
    return Param(name, "value", annotation, required)


def _check_default(parameter: inspect.Parameter, where: str) -> None:
    if parameter.default is not _EMPTY and parameter.default is not None:
        raise RegistrationError(f"{where} is a stream or callback: its default can only be None")


def _callback(annotation: Any, where: str) -> tuple[tuple[Adapter, ...], Adapter]:
    args = get_args(_strip(annotation))
    good = "write Callable[[T], Awaitable[R]]"
    if len(args) != 2 or not isinstance(args[0], list):
        raise RegistrationError(f"{where} is a callback of unknown arguments; {good}")
    if not _is(args[1], _AWAITABLES):
        raise RegistrationError(f"{where} is a callback that is not awaited; {good}")
    result = _argument(args[1], -1)
    return (
        tuple(Adapter(one, where=f"{where}, argument {n}") for n, one in enumerate(args[0], 1)),
        Adapter(result, where=f"{where}, its result"),
    )


Nature = Literal["async generator", "generator", "coroutine", "plain"]


def nature(fn: Callable[..., Any]) -> Nature:
    """What calling `fn` gives, as far as its code tells.

    A plain function that wraps another (`functools.wraps`) gives what the other one does.
    """
    for one in (fn, inspect.unwrap(fn)):
        if inspect.isasyncgenfunction(one):
            return "async generator"
        if inspect.isgeneratorfunction(one):
            return "generator"
        if inspect.iscoroutinefunction(one):
            return "coroutine"
    return "plain"


def _flavor(fn: Callable[..., Any], returned: Any, where: str) -> tuple[Flavor, Any]:
    """How the function is run, and what it returns once it has been awaited."""
    kind = nature(fn)
    if kind == "async generator":
        _check_generator(returned, _ASYNC_STREAMS, "AsyncIterator", where)
        return "async_iterator", returned
    if kind == "generator":
        _check_generator(returned, _SYNC_STREAMS, "Iterator", where)
        return "sync_iterator", returned
    if kind == "plain" and _is(returned, _AWAITABLES):
        kind, returned = "coroutine", _argument(returned, -1)
    if _is(returned, (abc.Iterable,)):
        raise RegistrationError(
            f"{where} returns an Iterable: write Iterator[…] to stream it, or list[…] for one value"
        )
    if kind == "plain":
        if _is(returned, _ASYNC_STREAMS):
            return "async_iterator", returned
        return ("sync_iterator" if _is(returned, _SYNC_STREAMS) else "sync"), returned
    if _is(returned, _SYNC_STREAMS):
        raise RegistrationError(
            f"{where} is async and returns an Iterator: write AsyncIterator[…] and yield, or make "
            "it a plain def"
        )
    return ("awaited_iterator" if _is(returned, _ASYNC_STREAMS) else "coroutine"), returned


def _check_generator(returned: Any, kinds: tuple[Any, ...], good: str, where: str) -> None:
    if returned is _EMPTY:
        raise RegistrationError(f"{where} yields and has no return annotation; write {good}[…]")
    if not _is(returned, kinds):
        raise RegistrationError(
            f"{where} yields, but is annotated to return {_text(returned)}; write {good}[…]"
        )


def _text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _returned(
    flavor: Flavor, returned: Any, where: str
) -> tuple[Adapter | None, Adapter | None, Adapter | None]:
    if flavor in ("coroutine", "sync"):
        result = Any if returned is _EMPTY else returned
        return Adapter(result, where=f"{where}: result"), None, None
    item, final = _split_final(_argument(returned), where)
    if final is None and _is(returned, (Stream,)):
        declared = _argument(returned, 1)
        final = declared if declared not in (Any, None, type(None)) else None
    return (
        None,
        _item_adapter(item, where),
        None if final is None else Adapter(final, where=f"{where}: final value"),
    )


def _item_adapter(annotation: Any, where: str) -> Adapter:
    bare = _strip(annotation)
    if _is(bare, (Tracked,)):
        return TrackedAdapter(_argument(bare), where=f"{where}: item")
    if get_origin(bare) in _UNIONS and any(_is(one, (Tracked,)) for one in get_args(bare)):
        raise RegistrationError(
            f"{where} streams Tracked items besides others; write Tracked[A | B], since either all "
            "of them have ids or none"
        )
    return Adapter(annotation, where=f"{where}: item")


def _split_final(annotation: Any, where: str) -> tuple[Any, Any]:
    bare = _strip(annotation)
    choices = get_args(bare) if get_origin(bare) in _UNIONS else (bare,)
    finals = [one for one in choices if _is(one, (Final,))]
    if not finals:
        return annotation, None
    items = tuple(one for one in choices if one not in finals)
    if not items:
        raise RegistrationError(
            f"{where} streams nothing but a final value; return the value instead"
        )
    return Union[items], Union[tuple(_argument(one) for one in finals)]  # noqa: UP007


def _check_oneway(where: str, params: Sequence[Param], item: Adapter | None, returned: Any) -> None:
    if item is not None:
        raise RegistrationError(f"{where} is oneway and streams; drop oneway=True, or the stream")
    for param in params:
        if param.kind != "value":
            raise RegistrationError(
                f"{where}: parameter {param.name!r} is {'an' if param.kind == 'upload' else 'a'} "
                f"{param.kind}, and a oneway call is over before it could be used; drop "
                "oneway=True"
            )
    if returned is not _EMPTY and returned not in (None, type(None), Any):
        raise RegistrationError(
            f"{where} is oneway: nobody gets its result; annotate it to return None"
        )
