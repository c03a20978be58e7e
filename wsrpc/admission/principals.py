"""Comparing principals: by a key, where there is one, else by equality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

__all__ = ["Identity", "Tally", "key_of"]

# Fields with the key of an object or a mapping; claims have the first.
FIELDS = ("sub", "id")


def key_of(principal: Any, key: str | int | None = None) -> str | None:
    """A string that is the same for the same principal, with the type of it in front.

    Strings are "s:ann", whole numbers "n:1" and UUIDs "u:…". Objects and mappings that have a field
    `sub` or `id` with such a value go by their class and that value.

    Args:
        principal: The principal that `authenticate` returned.
        key: The key that `authenticate` gave, if any.

    Returns:
        The key; None, where the principal has none.
    """
    if key is not None:
        return _simple(key)
    if principal is None:
        return None
    simple = _simple(principal)
    if simple is not None:
        return simple
    for field in FIELDS:
        told = _simple(_field(principal, field))
        if told is not None:
            kind = "map" if isinstance(principal, Mapping) else type(principal).__qualname__
            return f"{kind}.{field}:{told}"
    return None


def _field(principal: Any, field: str) -> Any:
    if isinstance(principal, Mapping):
        return principal.get(field)
    return getattr(principal, "sub", None) if field == "sub" else getattr(principal, "id", None)


def _simple(value: object) -> str | None:
    if type(value) is str:
        return f"s:{value}"
    if type(value) is int:
        return f"n:{value}"
    if type(value) is UUID:
        return f"u:{value}"
    return None


class Identity:
    """A principal in a form that can be compared with others.

    Args:
        principal: The principal that `authenticate` returned.
        key: The key that `authenticate` gave, if any.

    Attributes:
        principal: The principal that `authenticate` returned.
        key: See `key_of`.
    """

    __slots__ = ("key", "principal")

    def __init__(self, principal: Any, key: str | int | None = None) -> None:
        self.principal = principal
        self.key = key_of(principal, key)

    def is_same(self, principal: Any, key: str | None) -> bool:
        """Whether another principal is the same; without keys 1, 1.0 and True differ.

        Args:
            principal: The other principal.
            key: Its key.
        """
        if self.key is not None or key is not None:
            return self.key == key
        return type(self.principal) is type(principal) and bool(self.principal == principal)


class Tally:
    """Counts principals; those without a key or a hash are compared one by one."""

    def __init__(self) -> None:
        self._hashed: Counter[Any] = Counter()
        self._others: list[Identity] = []

    def __getitem__(self, who: Identity) -> int:
        try:
            return self._hashed[_place(who)]
        except TypeError:
            return sum(who.is_same(other.principal, other.key) for other in self._others)

    def add(self, who: Identity) -> None:
        try:
            self._hashed[_place(who)] += 1
        except TypeError:
            self._others.append(who)

    def remove(self, who: Identity) -> None:
        """Count one out, by its identity where it cannot be hashed."""
        try:
            place = _place(who)
            self._hashed[place] -= 1
            if not self._hashed[place]:
                del self._hashed[place]
        except TypeError:
            self._others.remove(who)


def _place(who: Identity) -> Any:
    return who.key if who.key is not None else (type(who.principal), who.principal)
