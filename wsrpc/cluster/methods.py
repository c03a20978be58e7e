"""Resolving `Worker.square`, as a program writes it, to a controller and a method's name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ..contract.controller import interface
from ..contract.decorator import mark_of

__all__ = ["Wanted", "method_of", "wanted"]


class Wanted:
    """A method to be called at a member.

    Attributes:
        controller: The controller, in a form that `clientize` takes.
        name: The method's name.
        label: `"Controller.method"`, for messages.
        kind: "unary", "stream", "notify", or "untyped" where only its name is known.
        idempotent: Whether calling it twice does no harm.
    """

    __slots__ = ("controller", "idempotent", "kind", "label", "name")

    def __init__(self, controller: Any, name: str, kind: str, idempotent: bool) -> None:
        self.controller = controller
        self.name = name
        self.kind = kind
        self.idempotent = idempotent
        title = controller if isinstance(controller, str) else controller.__name__
        self.label = f"{title}.{name}"


def method_of(proxy: Any, name: str) -> Any:
    """A method of a proxy, by the name that the application's own class gives it."""
    return getattr(proxy, name)


_known: WeakKeyDictionary[Any, Wanted] = WeakKeyDictionary()


def wanted(method: Callable[..., Any] | str) -> Wanted:
    """Resolve a method of a controller's class.

    Args:
        method: `Worker.square`, or `"Worker.square"` for a call without types.

    Raises:
        TypeError: It is no method of a controller; the caller's fault.
    """
    if isinstance(method, str):
        controller, _, name = method.rpartition(".")
        if not controller or not name:
            raise TypeError(
                f"name a method together with its controller: 'Worker.square', not {method!r}"
            )
        return Wanted(controller, name, "untyped", False)
    try:
        found = _known.get(method)
    except TypeError:
        found = None
    if found is None:
        found = _find(method)
        _known[method] = found
    return found


def _find(method: Callable[..., Any]) -> Wanted:
    name = getattr(method, "__name__", None)
    bound = getattr(method, "__self__", None) is not None
    if name is None or bound or isinstance(method, type):
        raise TypeError(
            f"give the method of the class, as in `group.call(Worker.square, 3)`, not {method!r}"
        )
    cls = _class_of(method)
    if cls is None or getattr(cls, name, None) is not method:
        # A class that is defined inside of a function is known only by its name.
        title = method.__qualname__.split(".")[-2:][0]
        cls = type(title, (), {name: method})
    if mark_of(method) is None:
        raise TypeError(
            f"{method.__qualname__} is no method of a controller: decorate it with @wsrpc.method"
        )
    spec = interface(cls).specs[name]
    return Wanted(cls, name, spec.kind, spec.idempotent)


def _class_of(method: Callable[..., Any]) -> Any:
    found: Any = sys.modules.get(method.__module__)
    for part in method.__qualname__.split(".")[:-1]:
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None
