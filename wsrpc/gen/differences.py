"""Names what is different in two JSON Schemas that take each other's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .subtypes import MAX_DEPTH, MOST, resolved, said

__all__ = ["Difference", "differences"]

# Names that are derived from those of classes and fields, and words that are looked at one by one.
_DERIVED = frozenset({"$defs", "$ref", "title", "x-type"})
_INSIDE = frozenset(
    {"additionalProperties", "anyOf", "items", "oneOf", "prefixItems", "properties"}
)
_ALONE = frozenset({"default", "description", "required"})


class Difference(NamedTuple):
    """One difference.

    Attributes:
        change: The kind of change: "type", "default" or "documentation".
        message: A sentence for people.
    """

    change: str
    message: str


def differences(old: Any, new: Any) -> list[Difference]:
    """The differences of two schemas; the first few, where there are many.

    Args:
        old: The schema of the old contract.
        new: The schema of the new one.
    """
    found = dict.fromkeys(_Walk(old, new).inside(old, new, "", 0))
    return list(found)[:MOST]


class _Walk:
    def __init__(self, old: Any, new: Any) -> None:
        self._old = old
        self._new = new
        self._seen: set[tuple[str, str]] = set()

    def inside(self, old: Any, new: Any, at: str, depth: int) -> Iterator[Difference]:
        old, old_name = resolved(self._old, old)
        new, new_name = resolved(self._new, new)
        if old_name and new_name:
            if (old_name, new_name) in self._seen:
                return
            self._seen.add((old_name, new_name))
        if depth > MAX_DEPTH or not isinstance(old, Mapping) or not isinstance(new, Mapping):
            if old != new:
                yield Difference("type", said(at, "is written in another way"))
            return
        if old.get("description") != new.get("description"):
            yield Difference("documentation", said(at, "has other documentation"))
        if old.get("default") != new.get("default"):
            yield Difference("default", said(at, "has another default"))
        known = _DERIVED | _INSIDE | _ALONE
        if any(old.get(word) != new.get(word) for word in (old.keys() | new.keys()) - known):
            yield Difference("type", said(at, "is written in another way"))
        yield from self._properties(old, new, at, depth)
        for word in sorted(_INSIDE - {"properties"}):
            was, now = old.get(word), new.get(word)
            if isinstance(was, list) and isinstance(now, list):
                if len(was) != len(now):
                    yield Difference("type", said(at, "is written in another way"))
                for one, other in zip(was, now, strict=False):
                    yield from self.inside(one, other, at, depth + 1)
            else:
                yield from self.inside(was, now, f"{at}[]" if word == "items" else at, depth + 1)

    def _properties(
        self, old: Mapping[str, Any], new: Mapping[str, Any], at: str, depth: int
    ) -> Iterator[Difference]:
        before, after = old.get("properties", {}), new.get("properties", {})
        always = set(old.get("required", ())), set(new.get("required", ()))
        for name in (*before, *(name for name in after if name not in before)):
            inside = f"{at}.{name}" if at else name
            if name not in after:
                yield Difference("type", said(inside, "is gone"))
            elif name not in before:
                yield Difference("type", said(inside, "is new"))
            else:
                if (name in always[0]) != (name in always[1]):
                    now = "is required now" if name in always[1] else "may be left out now"
                    yield Difference("type", said(inside, now))
                yield from self.inside(before[name], after[name], inside, depth + 1)
