"""A method's signature, read once: the adapters, names and kinds of its parameters and results."""

from __future__ import annotations

import collections.abc as abc
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Union, cast, get_args, get_origin

import typing_extensions
from msgspec import Raw
from pydantic import ConfigDict
from typing_extensions import get_protocol_members, is_protocol

from ..errors import RegistrationError, RpcError
from ..protocol.codec import Codec
from ..protocol.splice import Encoded
from ..stream import Final, Stream, Tracked
from ..values.adapter import MAX_DEPTH, Adapter
from ..values.tracked import TrackedAdapter
from .annotations import (
    ASYNC_STREAMS,
    AWAITABLES,
    SYNC_STREAMS,
    UNIONS,
    argument_of,
    is_one_of,
    origin_of,
    resolve_hints,
    strip,
    substitute,
    without_none,
)
from .binder import Binder
from .binding import NO_DEFAULT, Param, near
from .docs import docs_of

__all__ = ["MethodOptions", "MethodSpec", "Param", "near"]

Kind = Literal["unary", "stream", "notify"]
Flavor = Literal["coroutine", "sync", "async_iterator", "awaited_iterator", "sync_iterator"]
Binding = Literal["instance", "class", "static"]

_EMPTY: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """The options of `@method(…)`.

    Attributes:
        oneway: Whether the method gives no answer.
        idempotent: Whether calling it twice does no harm, so that a retry is safe.
        on_disconnect: The fate of a running call when the connection is lost: "detach" lets it run
            on for the resume window, "cancel" cancels it at once.
        on_drain: The fate of a running stream when its server drains; None: "end" where its items
            are `Tracked`, else "finish".
        tags: Words for `authorize` and interceptors to judge by, such as roles.
        raises: The error classes that callers may meet, for the contract.
        deprecated: Whether callers should stop using it; a string names the replacement.
        timeout: Seconds after which a call is cancelled, even if its caller allows more.
    """

    oneway: bool = False
    idempotent: bool = False
    on_disconnect: Literal["detach", "cancel"] = "detach"
    tags: frozenset[str] = frozenset()
    raises: tuple[type[RpcError[Any]], ...] = ()
    deprecated: bool | str = False
    on_drain: Literal["finish", "end"] | None = None
    timeout: float | None = None


# --- The method ------------------------------------------------------------------------------------


class MethodSpec:
    """A method, with all that both ends need for its calls.

    Attributes:
        name: Its name, in Python and on the wire.
        controller: The class that it belongs to, for messages.
        fn: The undecorated function.
        doc: The first paragraph of its docstring.
        details: The other paragraphs of it.
        param_docs: The text of the docstring for each parameter.
        kind: "unary", "stream" or "notify", by whether the caller gets a value, a stream or
            nothing.
        flavor: The way in which the function is written, and so has to be run.
        binding: The first argument that the function expects: the instance, the class, or neither.
        params: Its parameters by name, in order.
        options: The options of the decorator.
        tags: The tags of its controller and its own.
        timeout: Seconds after which a call is cancelled, even if its caller allows more.
        result: The adapter of a unary method's value.
        item: The adapter of a stream's items.
        final: The adapter of a stream's final value, if it may have one.
        bind: Sorts the arguments of a call into values, uploads and callbacks; see `Binder.bind`.
            The callee fills in defaults.
        dump_args: Encodes a call's values; see `Adapter.dump`.
        load_args: Decodes the values of a call that arrived; see `Adapter.load`. In an
            `InvalidValue`, `loc` begins with the parameter's name.
    """

    __slots__ = (
        "_positional_only",
        "bind",
        "binding",
        "controller",
        "details",
        "doc",
        "dump_args",
        "ends_on_drain",
        "final",
        "flavor",
        "fn",
        "item",
        "kind",
        "load_args",
        "name",
        "options",
        "param_docs",
        "params",
        "result",
        "tags",
        "timeout",
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
        docs = docs_of(fn)
        self.doc = docs.doc
        self.details = docs.details
        self.param_docs = docs.params
        self.binding = binding
        self.options = options
        self.tags = options.tags
        self.timeout = options.timeout
        self.flavor = flavor
        self.kind: Kind = "notify" if options.oneway else "unary" if item is None else "stream"
        tracked = isinstance(item, TrackedAdapter)
        self.ends_on_drain = options.on_drain == "end" or (tracked and options.on_drain is None)
        self.params = {param.name: param for param in params}
        self.result = result
        self.item = item
        self.final = final
        self._positional_only = dict(positional_only)
        # Bound methods, without a function around them: all three run with every call.
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


def _args_adapter(where: str, params: Sequence[Param]) -> Adapter:
    fields = {
        param.name: param.annotation if param.required else NotRequired[param.annotation]
        for param in params
        if param.kind == "value"
    }
    arguments = cast(Any, typing_extensions.TypedDict)(where.replace(".", "_"), fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")
    # The object that holds the arguments does not count for their depth.
    return Adapter(arguments, where=where, depth=MAX_DEPTH + 1)


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
    """Read the signature of `fn`.

    Args:
        controller: The class's name, for messages.
        name: The method's name.
        fn: The undecorated function.
        binding: Whether its first parameter is the instance, the class, or a parameter like the
            others.
        options: The options of the decorator.
        namespaces: Further namespaces in which to look up names of annotations.
        variables: The types of the class's type variables.

    Raises:
        RegistrationError: The function cannot be exposed as it is written; its author is to blame.
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
    if options.on_drain is not None and item is None:
        raise RegistrationError(
            f"{where} has on_drain=, which is for streams: a call for one value is always finished"
        )
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
    bare, optional = without_none(annotation)
    if is_one_of(bare, ASYNC_STREAMS):
        _check_default(parameter, where)
        item = Adapter(argument_of(bare), where=where)
        return Param(name, "upload", annotation, required, item=item, optional_stream=optional)
    if is_one_of(bare, (abc.Callable,)) or _is_callback_protocol(bare):
        _check_default(parameter, where)
        arguments, result, names = _callback(bare, where)
        return Param(
            name,
            "callback",
            annotation,
            required,
            arguments=arguments,
            result=result,
            optional_stream=optional,
            names=names,
        )
    if is_one_of(bare, (abc.Iterator, abc.Generator, abc.Iterable)):
        raise RegistrationError(
            f"{where} is an {origin_of(bare).__name__}: write list[…] for a value, or "
            "AsyncIterator[…] for a stream"
        )
    Adapter(annotation, where=where)
    default = NO_DEFAULT if required else parameter.default
    return Param(name, "value", annotation, required, default=default)


def _check_default(parameter: inspect.Parameter, where: str) -> None:
    if parameter.default is not _EMPTY and parameter.default is not None:
        raise RegistrationError(f"{where} is a stream or callback: its default can only be None")


def _is_callback_protocol(annotation: Any) -> bool:
    """Whether a type is a Protocol with only `__call__`, whose arguments have names."""
    return (
        isinstance(annotation, type)
        and is_protocol(annotation)
        and get_protocol_members(annotation) == {"__call__"}
    )


def _callback_of_protocol(
    protocol: Any, where: str
) -> tuple[tuple[Adapter, ...], Adapter, tuple[str, ...]]:
    call = protocol.__call__
    label = f"{where}: {protocol.__name__}.__call__"
    hints = resolve_hints(call, label, vars(protocol))
    parameters = list(inspect.signature(call).parameters.values())[1:]
    for one in parameters:
        if one.kind not in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD):
            raise RegistrationError(
                f"{label}: {one.name} cannot be given by position, as the arguments of callbacks "
                "are; name each parameter, without * before it"
            )
        if one.name not in hints:
            raise RegistrationError(f"{label}: {one.name} has no annotation; write its type")
    returned = hints.get("return", Any)
    if not inspect.iscoroutinefunction(call):
        if not is_one_of(returned, AWAITABLES):
            raise RegistrationError(
                f"{where} is a callback that is not awaited; write `async def __call__`"
            )
        returned = argument_of(returned, -1)
    return (
        tuple(Adapter(hints[one.name], where=f"{label}: {one.name}") for one in parameters),
        Adapter(returned, where=f"{label}: result"),
        tuple(one.name for one in parameters),
    )


def _callback(annotation: Any, where: str) -> tuple[tuple[Adapter, ...], Adapter, tuple[str, ...]]:
    if _is_callback_protocol(annotation):
        return _callback_of_protocol(annotation, where)
    args = get_args(strip(annotation))
    good = "write Callable[[T], Awaitable[R]]"
    if len(args) != 2 or not isinstance(args[0], list):
        raise RegistrationError(f"{where} is a callback of unknown arguments; {good}")
    if not is_one_of(args[1], AWAITABLES):
        raise RegistrationError(f"{where} is a callback that is not awaited; {good}")
    result = argument_of(args[1], -1)
    return (
        tuple(Adapter(one, where=f"{where}, argument {n}") for n, one in enumerate(args[0], 1)),
        Adapter(result, where=f"{where}, its result"),
        (),
    )


Nature = Literal["async generator", "generator", "coroutine", "plain"]


def nature(fn: Callable[..., Any]) -> Nature:
    """The kind of object that calling `fn` gives, as far as its code tells.

    A plain function that wraps another (`functools.wraps`) gives the same as the other one.
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
    """The way to run the function, and the type that it returns once it has been awaited."""
    kind = nature(fn)
    if kind == "async generator":
        _check_generator(returned, ASYNC_STREAMS, "AsyncIterator", where)
        return "async_iterator", returned
    if kind == "generator":
        _check_generator(returned, SYNC_STREAMS, "Iterator", where)
        return "sync_iterator", returned
    if kind == "plain" and is_one_of(returned, AWAITABLES):
        kind, returned = "coroutine", argument_of(returned, -1)
    if is_one_of(returned, (abc.Iterable,)):
        raise RegistrationError(
            f"{where} returns an Iterable: write Iterator[…] to stream it, or list[…] for one value"
        )
    if kind == "plain":
        if is_one_of(returned, ASYNC_STREAMS):
            return "async_iterator", returned
        return ("sync_iterator" if is_one_of(returned, SYNC_STREAMS) else "sync"), returned
    if is_one_of(returned, SYNC_STREAMS):
        raise RegistrationError(
            f"{where} is async and returns an Iterator: write AsyncIterator[…] and yield, or make "
            "it a plain def"
        )
    return ("awaited_iterator" if is_one_of(returned, ASYNC_STREAMS) else "coroutine"), returned


def _check_generator(returned: Any, kinds: tuple[Any, ...], good: str, where: str) -> None:
    if returned is _EMPTY:
        raise RegistrationError(f"{where} yields and has no return annotation; write {good}[…]")
    if not is_one_of(returned, kinds):
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
    item, final = _split_final(argument_of(returned), where)
    if final is None and is_one_of(returned, (Stream,)):
        declared = argument_of(returned, 1)
        final = declared if declared not in (Any, None, type(None)) else None
    return (
        None,
        _item_adapter(item, where),
        None if final is None else Adapter(final, where=f"{where}: final value"),
    )


def _item_adapter(annotation: Any, where: str) -> Adapter:
    bare = strip(annotation)
    if is_one_of(bare, (Tracked,)):
        return TrackedAdapter(argument_of(bare), where=f"{where}: item")
    if get_origin(bare) in UNIONS and any(is_one_of(one, (Tracked,)) for one in get_args(bare)):
        raise RegistrationError(
            f"{where} streams Tracked items besides others; write Tracked[A | B], since either all "
            "of them have ids or none"
        )
    return Adapter(annotation, where=f"{where}: item")


def _split_final(annotation: Any, where: str) -> tuple[Any, Any]:
    bare = strip(annotation)
    choices = get_args(bare) if get_origin(bare) in UNIONS else (bare,)
    finals = [one for one in choices if is_one_of(one, (Final,))]
    if not finals:
        return annotation, None
    items = tuple(one for one in choices if one not in finals)
    if not items:
        raise RegistrationError(
            f"{where} streams nothing but a final value; return the value instead"
        )
    return Union[items], Union[tuple(argument_of(one) for one in finals)]  # noqa: UP007


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
