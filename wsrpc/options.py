"""Checks of options: one check, in one place, for all entry points that take the option.

`connect`, `Server`, `clientize`, `@method` and the testing pairs call these with the option's name.
So a wrong value is refused where it was written, and everywhere in the same words.
"""

from __future__ import annotations

import math
import os
import ssl as ssl_module
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from inspect import iscoroutinefunction, signature
from typing import Any, TypeVar

from .close_codes import may_send
from .limits import MAX_SECONDS, Limits

__all__ = [
    "checked_address",
    "checked_bool",
    "checked_close",
    "checked_count",
    "checked_function",
    "checked_interceptors",
    "checked_limits",
    "checked_list",
    "checked_plain",
    "checked_seconds",
    "checked_text",
    "checked_tls",
    "checked_wait",
    "one_of",
]

T = TypeVar("T")

VALIDATES = ("both", "arrival", "none")


def one_of(name: str, value: T, choices: Sequence[str]) -> T:
    """The value of an option that is one of a few words.

    Raises:
        ValueError: It is none of them; the caller's fault.
    """
    if isinstance(value, str) and value in choices:
        return value
    *most, last = map(repr, choices)
    listed = f"{', '.join(most)} or {last}" if most else last
    close = get_close_matches(value[:200], choices, 1) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{name} must be {listed}, not {value!r}{hint}")


def checked_seconds(name: str, value: float | None) -> float | None:
    """A number of seconds, or None for no bound.

    Raises:
        ValueError: It is no such number; the caller's fault.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number of seconds, or None, not {value!r}")
    # A negative number is a deadline that has passed, such as the rest of another timeout.
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"{name} must be a finite number, or None for no bound, not {value!r:.80}")
    return value


def checked_wait(name: str, value: float) -> float:
    """A number of seconds to give the peer, which is told them in milliseconds.

    Raises:
        ValueError: It is no such number; the caller's fault.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{name} must be a number of seconds, at least 0, not {value!r:.80}")
    return value


def checked_close(code: int, reason: str) -> None:
    """Refuse a close code that no application may send, and a reason that is no text.

    Raises:
        ValueError: They are no such code and text; the caller's fault.
    """
    whole = isinstance(code, int) and not isinstance(code, bool)
    if not whole or not may_send(code):
        raise ValueError(
            f"code must be a close code that can be sent (1000 for a normal end, or 3000 to 4999), not "
            f"{code!r:.80}"
        )
    if not isinstance(reason, str):
        raise ValueError(f"reason must be a text, not {reason!r:.80}")


def checked_text(name: str, value: str) -> str:
    """Text that is not empty.

    Raises:
        ValueError: It is no such text.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty, not {value!r}")
    return value


def checked_count(name: str, value: int | None, unit: str, most: int | None = None) -> int | None:
    """A whole number of at least 1, or None for the default.

    Args:
        name: The name of the option.
        value: Its value.
        unit: The unit of it, in words.
        most: The largest number that it may be.

    Raises:
        ValueError: It is no such number; the caller's fault.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be at least 1 {unit}, not {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most} {unit}s, not {value}")
    return value


def checked_bool(name: str, value: bool) -> bool:
    """True or False, and no other value that counts as one of them.

    Raises:
        ValueError: It is neither; the caller's fault.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return value


def checked_list(name: str, value: Iterable[str]) -> list[str]:
    """A list of texts.

    Raises:
        ValueError: It is no list, or an entry is no text; the caller's fault.
        TypeError: It is one text, which Python would take for a list of its letters.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} is a list; write [{value!r}]")
    if not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list, not {value!r}")
    found = list(value)
    for one in found:
        if not isinstance(one, str):
            raise ValueError(f"each of {name} must be a text, not {one!r}")
    return found


def checked_tls(value: ssl_module.SSLContext | None) -> None:
    """Refuse a value of `ssl=` that holds no TLS settings.

    Raises:
        ValueError: It is neither an `ssl.SSLContext` nor None; the caller's fault.
    """
    if value is not None and not isinstance(value, ssl_module.SSLContext):
        raise ValueError(
            f"ssl must be an ssl.SSLContext, as ssl.create_default_context() makes one, or None, not "
            f"{value!r}"
        )


def checked_address(host: Any, port: Any, path: Any) -> None:
    """Refuse an address at which no server can listen.

    Raises:
        ValueError: The host, port or path is of another type, or the port out of range; the
            caller's fault.
    """
    if host is not None and not isinstance(host, str):
        raise ValueError(f"host must be a text, or None for every interface, not {host!r}")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
    if path is not None and not (isinstance(path, (str, os.PathLike)) and os.fspath(path)):
        raise ValueError(f"path must be the path of a Unix socket, or None, not {path!r}")


def checked_function(name: str, value: Callable[..., Any] | None, *arguments: str) -> None:
    """Refuse a value that cannot be called with the given arguments.

    Args:
        name: The name of the option.
        value: The function.
        arguments: The names of the arguments that it will get, by position.

    Raises:
        ValueError: It is neither such a function nor None; the caller's fault.
    """
    if value is None:
        return
    if not callable(value):
        raise ValueError(f"{name} must be a function, or None, not {value!r}")
    try:
        takes = signature(value)
    except (TypeError, ValueError):
        # Some functions of C have no signature.
        return
    try:
        takes.bind(*arguments)
    except TypeError as error:
        call = f"{name.rpartition(' ')[2]}({', '.join(arguments)})"
        raise ValueError(f"{name} will be called as {call}, which does not fit: {error}") from None


def checked_plain(name: str, value: Callable[..., Any] | None, *arguments: str) -> None:
    """Refuse a value that cannot be called, or whose calls would have to be awaited.

    Raises:
        ValueError: It is neither a plain function nor None; the caller's fault.
    """
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        raise ValueError(f"{name} must be a plain function: it is async, and nobody would await it")
    checked_function(name, value, *arguments)


DEFAULT_LIMITS = Limits()


def checked_limits(value: Limits | None) -> Limits:
    """The given limits, or the default ones.

    Raises:
        ValueError: It is of another type; the caller's fault.
    """
    if value is None:
        return DEFAULT_LIMITS
    if not isinstance(value, Limits):
        raise ValueError(f"limits must be a wsrpc.Limits, not {value!r}")
    return value


def checked_interceptors(value: Iterable[Any]) -> tuple[Any, ...]:
    """The given interceptors, as a tuple.

    Raises:
        ValueError: It is no list of functions; the caller's fault.
    """
    if callable(value) or isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ValueError(f"interceptors must be a list of functions, not {value!r}")
    found = tuple(value)
    for one in found:
        if one is None:
            raise ValueError("each of interceptors must be a function, not None")
        checked_function("each of interceptors", one, "request", "call_next")
    return found
