"""A controller class, and the methods of it that carry the decorator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin

from typing_extensions import get_original_bases

from ..errors import RegistrationError
from .decorator import Marked, checked_tags, mark_of
from .docs import Docs, docs_of
from .signature import Binding, MethodSpec, read

__all__ = ["RESERVED", "Interface", "interface"]

RESERVED = "wsrpc"


class Interface:
    """The methods of a controller class.

    Attributes:
        name: The name of the controller on the wire.
        specs: Its methods by name.
        doc: The first paragraph of the class's docstring.
        details: The rest of it.
        origin: The class, or the alias such as `Repo[int]`.
    """

    __slots__ = ("__weakref__", "details", "doc", "name", "origin", "specs")

    def __init__(self, name: str, specs: dict[str, MethodSpec], docs: Docs, origin: Any) -> None:
        self.name = name
        self.specs = specs
        self.doc = docs.doc
        self.details = docs.details
        self.origin = origin

    def __repr__(self) -> str:
        return f"<Interface {self.name}: {', '.join(self.specs)}>"


# The cache is an attribute of the class, so that both live equally long. The prefix keeps
# Protocol's isinstance from taking it for a member.
_CACHE = "_abc_wsrpc_interfaces"


def interface(cls_or_alias: Any) -> Interface:
    """The interface of a controller class, or of a generic one with its arguments.

    Raises:
        RegistrationError: It has no method, or one that cannot be exposed as it is written; its
            author is to blame.
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
    tags = _tags(cls)
    for name in _marked_names(cls):
        owner, attribute, binding = _look_up(cls, name)
        marked = _marked(cls, owner, name, attribute)
        specs[name] = read(
            cls.__name__,
            name,
            marked.fn,
            binding=binding,
            options=replace(marked.options, tags=tags | _tags_of_method(cls, name)),
            namespaces=(marked.names, vars(owner)),
            variables=variables.get(owner, {}),
        )
    if not specs:
        raise RegistrationError(
            f"{cls.__name__} has no method decorated with @wsrpc.method, so nothing of it could "
            "be called"
        )
    return Interface(_name(cls), specs, docs_of(cls), alias)


def _tags(cls: type) -> frozenset[str]:
    """The tags of a class and all its bases: a subclass adds to them and takes none away."""
    found: frozenset[str] = frozenset()
    for owner in cls.__mro__:
        own = vars(owner).get("tags", ())
        # A method, a property or a model's field of that name is no set of tags.
        if not (callable(own) or hasattr(own, "__get__")):
            found |= checked_tags(f"{owner.__name__}.tags", own)
    return found


def _tags_of_method(cls: type, name: str) -> frozenset[str]:
    marks = (
        mark_of(_unbound(vars(owner)[name])[0]) for owner in cls.__mro__ if name in vars(owner)
    )
    return frozenset().union(*(mark.options.tags for mark in marks if mark is not None))


def _name(cls: type) -> str:
    name = getattr(cls, "controller_name", None) or cls.__name__
    if not isinstance(name, str) or "." in name.removeprefix(f"{RESERVED}."):
        raise RegistrationError(
            f"{cls.__name__}.controller_name must be a string without dots, not {name!r}"
        )
    return name


def _marked_names(cls: type) -> list[str]:
    """The names decorated anywhere in the class or its bases, those of the bases first."""
    names: dict[str, None] = {}
    for owner in reversed(cls.__mro__):
        for name, attribute in vars(owner).items():
            if mark_of(_unbound(attribute)[0]) is not None:
                names[name] = None
    return list(names)


def _unbound(attribute: Any) -> tuple[Any, Binding]:
    if isinstance(attribute, staticmethod):
        return attribute.__func__, "static"
    if isinstance(attribute, classmethod):
        return attribute.__func__, "class"
    return attribute, "instance"


def _look_up(cls: type, name: str) -> tuple[type, Any, Binding]:
    for owner in cls.__mro__:
        if name in vars(owner):
            attribute, binding = _unbound(vars(owner)[name])
            return owner, attribute, binding
    raise AssertionError(name)


def _marked(cls: type, owner: type, name: str, attribute: Any) -> Marked:
    marked = mark_of(attribute)
    if marked is None:
        base = next(
            one.__name__
            for one in cls.__mro__
            if name in vars(one) and mark_of(_unbound(vars(one)[name])[0]) is not None
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
    """The types of each base's type variables, from `Repo[int]` or `class IntRepo(Repo[int])`."""
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
