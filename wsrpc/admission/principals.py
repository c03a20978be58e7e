"""Comparing principals: by a key, where there is one, else by equality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ..telemetry.logs import everyone

__all__ = ["Identity", "Tally", "is_equal", "key_of"]

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

    The principal's own `__hash__` and `__eq__` may raise anything: it is then another principal than
    all others.

    Args:
        principal: The principal that `authenticate` returned.
        key: The key that `authenticate` gave, if any.

    Attributes:
        principal: The principal that `authenticate` returned.
        key: See `key_of`.
        hashable: Whether it has a key or a hash, so that it is found quickly among many.

    Raises:
        Exception: Reading the principal's `sub` or `id` failed.
    """

    __slots__ = ("_hash", "hashable", "key", "principal")

    def __init__(self, principal: Any, key: str | int | None = None) -> None:
        self._set(principal, key_of(principal, key))

    @classmethod
    def known(cls, principal: Any, key: str | None) -> Identity:
        """The identity of a principal whose key, if it has one, was found before."""
        self = cls.__new__(cls)
        self._set(principal, key)
        return self

    def _set(self, principal: Any, key: str | None) -> None:
        self.principal = principal
        self.key = key
        number = hash(key) if key is not None else _hash_of(principal)
        self.hashable = number is not None
        self._hash = hash((type(principal) if key is None else None, number))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.is_same(other.principal, other.key)

    def is_same(self, principal: Any, key: str | None) -> bool:
        """Whether another principal is the same; without keys 1, 1.0 and True differ.

        Args:
            principal: The other principal.
            key: Its key.
        """
        if self.key is not None or key is not None:
            return self.key == key
        return type(self.principal) is type(principal) and is_equal(self.principal, principal)


class Tally:
    """Counts principals; those without a key or a hash are compared one by one."""

    def __init__(self) -> None:
        self._counts: dict[Identity, _Count] = {}

    def __getitem__(self, who: Identity) -> int:
        counted = self._counts.get(who)
        return 0 if counted is None else counted.number

    def add(self, who: Identity) -> Identity:
        """Count one in; returns the identity by which to count it out again."""
        counted = self._counts.get(who)
        if counted is None:
            counted = self._counts[who] = _Count(who)
        counted.number += 1
        return counted.who

    def remove(self, who: Identity) -> None:
        """Count one out."""
        counted = self._counts[who]
        counted.number -= 1
        if not counted.number:
            del self._counts[who]


class _Count:
    """How many links one principal has."""

    __slots__ = ("number", "who")

    def __init__(self, who: Identity) -> None:
        self.who = who
        self.number = 0


def is_equal(one: Any, other: Any) -> bool:
    """Whether two principals are equal, by a function of theirs that may raise."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (logged; a peer's principal ends no server)
        _told("__eq__", one, error)
        return False


def _hash_of(principal: Any) -> int | None:
    try:
        return hash(principal)
    except TypeError:
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (as above)
        _told("__hash__", principal, error)
        return None


def _told(function: str, principal: Any, error: BaseException) -> None:
    everyone.error(
        "%s of a principal of type %s raised; it counts as another one than all others",
        function,
        type(principal).__name__,
        error=error,
        secret=True,
    )
