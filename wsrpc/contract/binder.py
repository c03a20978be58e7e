"""A call's arguments, assigned to the parameters of a method."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from types import MethodType
from typing import Any, Final

from .binding import Param, near

__all__ = ["Binder"]

# More arguments than any call has.
NEVER: Final = 2**31


class Binder:
    """Assigns positional and keyword arguments to parameter names, with Python's own messages.

    Args:
        label: The method's bare name.
        params: All parameters in order.
        positional: The parameters that may be given by position, in order.
        positional_only: The parameters that may only be given by position.
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
        positional_only: Collection[str] = (),
    ) -> None:
        self._label = label
        self._names = {param.name: None for param in params}
        self._positional = tuple(positional)
        self._positional_only = frozenset(positional_only)
        self._required = {param.name: None for param in params if param.required}
        self._uploads = {param.name: param for param in params if param.kind == "upload"}
        self._callbacks = {param.name: param for param in params if param.kind == "callback"}
        self._simple = not (self._uploads or self._callbacks)
        # With this many arguments by position, all required parameters are given.
        self._enough = 0
        for name in self._required:
            by_position = name in self._positional
            place = self._positional.index(name) + 1 if by_position else NEVER
            self._enough = max(self._enough, place)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The values, uploads and callbacks by name, without those that were not given.

        Raises:
            TypeError: As Python would raise it; the caller's fault.
        """
        if not kwargs and self._enough <= len(args) <= len(self._positional):
            # This takes a third of the time of the general way, which also finds errors.
            given = {}
            positional = self._positional
            for n, value in enumerate(args):
                given[positional[n]] = value
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

    def _refuse_unknown(self, names: Collection[str]) -> None:
        for name in names:
            if name not in self._names:
                close = near(name, self._names)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise TypeError(
                    f"{self._label}() got an unexpected keyword argument '{name}'{hint}"
                )

    def _refuse_missing(self, names: Collection[str]) -> None:
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
        takes = f"{self._label}() argument '{name}' is a stream and takes an async iterator, not "
        if inspect.isasyncgenfunction(value) or inspect.isgeneratorfunction(value):
            # The caller meant the generator that the function makes.
            raise TypeError(f"{takes}a function: call it, {value.__name__}(…)")
        raise TypeError(f"{takes}{type(value).__name__}: pass wsrpc.stream_of(…)")

    def _as_callback(self, name: str, value: Any) -> Any:
        if not callable(value):
            raise TypeError(
                f"{self._label}() argument '{name}' is a callback and takes an async function, not "
                f"{type(value).__name__}"
            )
        wanted = len(self._callbacks[name].arguments)
        if not takes_positional(value, wanted):
            raise TypeError(
                f"{self._label}() argument '{name}' is a callback that is called with {wanted} "
                f"argument{'s' * (wanted != 1)}, which {shown(value)} does not take"
            )
        return value


def takes_positional(function: Any, number: int) -> bool:
    """Whether a function takes this number of positional arguments; True where that is unknown."""
    code = getattr(function, "__code__", None)
    if (
        code is not None
        and code.co_argcount == number + isinstance(function, MethodType)
        and not code.co_kwonlyargcount
        and not hasattr(function, "__wrapped__")
    ):
        # The usual function; to read a signature takes ten microseconds.
        return True
    try:
        inspect.signature(function).bind(*range(number))
    except TypeError:
        return False
    except Exception:  # noqa: BLE001  (built-in functions need not have a signature)
        return True
    return True


def shown(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{name}()"
