"""The parts that cases through the public interface share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from .case import Cases, Ground, equal

__all__ = ["SHAPES", "cases", "echoed", "numbers"]

cases = Cases()

# Every shape of value, the ones that are easily taken for something else among them.
SHAPES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**53 + 1,
    0.5,
    -1.5e300,
    5e-324,
    "",
    "text",
    'two\nlines, a tab\t, a quote ", a backslash \\ and a nul \0',
    "ümlaut, 漢字, 👩‍🚀, \U0010ffff",
    [],
    {},
    [[], [[]], {}],
    {"": None, "a": {"b": [1, {"c": True}]}},
    {"isError": True, "reason": "x"},
    {"code": "aborted", "message": "no error", "data": None},
    ["end", 1],
    [1, "two", None, {"three": 3.5}],
]


async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


async def echoed(at: Ground, values: Iterable[Any]) -> None:
    for value in values:
        equal(await at.interop.echo(value), value)
