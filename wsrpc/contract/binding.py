"""The parameters of a method."""

from __future__ import annotations

import collections.abc as abc
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal

from ..values.adapter import Adapter

__all__ = ["NO_DEFAULT", "Param", "near"]


class NoDefault:
    """The mark of a parameter that has no default."""


NO_DEFAULT: Final = NoDefault()


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a method.

    Attributes:
        name: Its name, in Python and on the wire.
        kind: A value travels with the call; an upload is a stream towards the callee; a callback
            is called by the callee.
        annotation: The type, resolved.
        required: Whether the caller must give it.
        item: The adapter of an upload's items.
        arguments: The adapters of a callback's arguments, in order.
        result: The adapter of a callback's result.
        optional_stream: Whether an upload or callback may be None.
        default: The value where the caller leaves it out; `NO_DEFAULT` if it has to be given.
        names: The names of a callback's arguments, where its type has them.
        least: How many of a callback's arguments have to come; None: all of them.
        more: The adapter of further arguments, for a callback that takes any number.
    """

    name: str
    kind: Literal["value", "upload", "callback"]
    annotation: Any
    required: bool
    item: Adapter | None = None
    arguments: tuple[Adapter, ...] = ()
    result: Adapter | None = None
    optional_stream: bool = False
    default: Any = NO_DEFAULT
    names: tuple[str, ...] = ()
    least: int | None = None
    more: Adapter | None = None


# Characters. A longer name is no typing error, and takes long to compare.
LONGEST_NAME = 200


def near(name: str, candidates: abc.Iterable[str]) -> list[str]:
    """At most three of `candidates` that resemble `name`."""
    if len(name) > LONGEST_NAME:
        return []
    pool = list(candidates)
    folded = {one.lower(): one for one in pool}
    return get_close_matches(name, pool, 3) or [
        folded[one] for one in get_close_matches(name.lower(), folded, 3)
    ]
