"""Controllers and methods known by their bare names."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable
from typing import Any

from ..contract.signature import Param
from ..protocol.codec import Codec
from ..protocol.splice import Encoded
from ..values.adapter import Adapter

__all__ = ["LooseInterface", "LooseMethod"]


class LooseMethod:
    """A method known by its bare name: it takes keywords only, and its use decides its kind."""

    __slots__ = ("final", "item", "name", "params", "result")
    kind = "untyped"
    doc = ""
    idempotent = False
    tags: frozenset[str] = frozenset()
    timeout: float | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.params: dict[str, Param] = {}
        self.result = self.item = self.final = Adapter(Any, where=name)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort arguments by their types: async iterables are uploads, functions are callbacks."""
        if args:
            raise TypeError(
                f"{self.name}() takes keyword arguments only: by bare name its parameters are "
                "not known"
            )
        values: dict[str, Any] = {}
        uploads: dict[str, Any] = {}
        callbacks: dict[str, Any] = {}
        for name, value in kwargs.items():
            if isinstance(value, AsyncIterable):
                uploads[name] = aiter(value)
                self.params[name] = Param(name, "upload", Any, True, item=self.item)
            elif callable(value):
                callbacks[name] = value
                self.params[name] = self._callback(name, value)
            else:
                values[name] = value
        return values, uploads, callbacks

    def _callback(self, name: str, function: Callable[..., Any]) -> Param:
        """A function as a callback: defaults allow fewer arguments, and `*args` allows more."""
        least, most, more = _arity(function)
        return Param(
            name,
            "callback",
            Any,
            True,
            arguments=(self.item,) * most,
            result=self.result,
            least=least,
            more=self.item if more else None,
        )

    def dump_args(self, values: dict[str, Any], codec: Codec, check: bool = True) -> Encoded:
        return self.item.dump(values, codec, check=check)


def _arity(function: Callable[..., Any]) -> tuple[int, int, bool]:
    """How many positional arguments a callback needs and takes, and whether it takes any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0, 0, True  # Some builtins have no signature; they check their arguments themselves.
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [one for one in parameters if one.kind in positional]
    least = sum(one.default is inspect.Parameter.empty for one in places)
    return least, len(places), any(one.kind is one.VAR_POSITIONAL for one in parameters)


class LooseInterface:
    """A controller known by its bare name."""

    __slots__ = ("name", "specs")

    def __init__(self, name: str) -> None:
        self.name = name
        self.specs: dict[str, LooseMethod] = {}

    def spec(self, name: str) -> LooseMethod:
        """A method of this name; the other end tells whether it exists."""
        return LooseMethod(name)
