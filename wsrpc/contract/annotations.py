"""Annotations: resolving them, replacing type variables, and taking them apart."""

from __future__ import annotations

import collections.abc as abc
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import typing_extensions
from typing_extensions import TypeAliasType

from ..errors import RegistrationError
from ..stream import Stream

ASYNC_STREAMS = (abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator, Stream)
SYNC_STREAMS = (abc.Iterator, abc.Generator)
AWAITABLES = (abc.Awaitable, abc.Coroutine)
UNIONS = (Union, types.UnionType)


def resolve_hints(
    fn: Callable[..., Any], where: str, *namespaces: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The annotations of `fn` as objects, globals first, then each further namespace.

    Raises:
        RegistrationError: A name in an annotation is not there at run time; the class's author is
            to blame.
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
        RegistrationError: A variable has no type.
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
    if origin in UNIONS:
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


def strip(annotation: Any) -> Any:
    """The type under `Annotated` and `type X = …`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        else:
            return annotation


def without_none(annotation: Any) -> tuple[Any, bool]:
    annotation = strip(annotation)
    if get_origin(annotation) in UNIONS:
        args = get_args(annotation)
        rest = [one for one in args if one is not type(None)]
        if len(rest) == 1 and len(rest) < len(args):
            return strip(rest[0]), True
    return annotation, False


def origin_of(annotation: Any) -> Any:
    annotation = strip(annotation)
    return get_origin(annotation) or annotation


def is_one_of(annotation: Any, kinds: tuple[Any, ...]) -> bool:
    origin = origin_of(annotation)
    return any(origin is kind for kind in kinds)


def argument_of(annotation: Any, index: int = 0) -> Any:
    args = get_args(strip(annotation))
    return args[index] if len(args) > max(index, 0) else Any


def is_stream(annotation: Any) -> bool:
    """Whether a method with this return annotation streams."""
    annotation = strip(annotation)
    if is_one_of(annotation, AWAITABLES):
        annotation = argument_of(annotation, -1)
    return is_one_of(annotation, ASYNC_STREAMS + SYNC_STREAMS)
