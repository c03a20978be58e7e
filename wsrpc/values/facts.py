"""Facts about a type, found before it is compiled, and the types that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import RegistrationError
from .pydantic_schema import (
    CONFIGURED,
    FIELD_SETS,
    FIELDS,
    FREE,
    SEQUENCES,
    Place,
    Schema,
    at,
    is_schema,
    places_of,
    takes_extras,
)

# Types for which pydantic's python mode, given values that MessagePack decodes to, accepts exactly
# the same values as its JSON mode, with the same result.
_ALIKE = CONFIGURED | FIELDS | FIELD_SETS | SEQUENCES | frozenset(
    {
        "any", "bool", "bytes", "computed-field", "date", "datetime", "decimal", "default",
        "definition-ref", "definitions", "dict", "enum", "float", "function-after",
        "function-before", "int", "literal", "none", "nullable", "str", "tagged-union", "time",
        "timedelta", "uuid",
    }
)  # fmt: skip

# Types of which a large value consists of long texts. Python mode takes them as JSON mode does, and
# no function of the user could tell the modes apart.
_TEXTUAL = CONFIGURED | FIELDS | FIELD_SETS | frozenset(
    {"bool", "default", "enum", "int", "literal", "none", "nullable", "str"}
)  # fmt: skip

# Types that strict python mode refuses in the form in which they travel.
_STRICT_MATTERS = frozenset(
    {
        "bytes", "complex", "counter", "dataclass", "date", "datetime", "decimal", "defaultdict",
        "deque", "enum", "fraction", "frozenset", "lax-or-strict", "model", "multi-host-url",
        "named-tuple", "ordered-dict", "set", "time", "timedelta", "tuple", "url", "uuid",
    }
)  # fmt: skip

_REFUSED = {
    "callable": "a function cannot travel in a value",
    "generator": "an iterable cannot travel; write list[…], or AsyncIterator[…] for a stream",
    "is-instance": "pydantic has no JSON form of this class; use a model, dataclass or TypedDict",
    "is-subclass": "a class cannot travel",
}

# Types whose values are immutable.
_UNCHANGING = frozenset(
    {
        "bool", "bytes", "date", "datetime", "decimal", "enum", "float", "int", "literal", "none",
        "str", "time", "timedelta", "uuid",
    }
)  # fmt: skip


def is_flat(schema: Schema) -> bool:
    """Whether values of a type hold only immutable values.

    A model, dataclass or TypedDict of plain fields counts too: code that holds the only reference
    to one knows that it stays the same.
    """
    if "serialization" in schema:
        return False
    kind = schema["type"]
    if kind in ("default", "nullable", "dataclass-field", "model-field", "typed-dict-field"):
        return _is_unchanging(schema["schema"])
    if kind in ("model", "dataclass"):
        return (
            not schema.get("root_model") and not takes_extras(schema) and is_flat(schema["schema"])
        )
    if kind in ("dataclass-args", "model-fields", "typed-dict"):
        fields = schema["fields"]
        return (
            not schema.get("computed_fields")
            and not takes_extras(schema)
            and all(map(is_flat, fields.values() if isinstance(fields, dict) else fields))
        )
    return kind in _UNCHANGING


def _is_unchanging(schema: Schema) -> bool:
    if "serialization" in schema:
        return False
    if schema["type"] in ("default", "nullable"):
        return _is_unchanging(schema["schema"])
    return schema["type"] in _UNCHANGING


# For validated values of these types msgspec and pydantic write the same bytes.
_SAME_JSON = frozenset({"str", "int", "bool", "none"})
_FIELD_SAYS_NO_MORE = frozenset({"type", "schema", "required", "metadata", "validation_alias"})


def is_same_json(schema: Schema) -> bool:
    """Whether msgspec and pydantic write the same JSON for every validated value of a type.

    msgspec takes half the time for a long text, and a quarter for a few arguments.
    """
    if "serialization" in schema:
        return False
    if schema["type"] != "typed-dict":
        return schema["type"] in _SAME_JSON
    return (
        not takes_extras(schema)
        and not schema.get("computed_fields")
        and all(
            field.keys() <= _FIELD_SAYS_NO_MORE
            and field["schema"]["type"] in _SAME_JSON
            and "serialization" not in field["schema"]
            for field in schema["fields"].values()
        )
    )


class Facts:
    """The facts about a type before it is compiled.

    Attributes:
        schema: pydantic's core schema of it.
        any: Whether it holds Any.
        bytes: Whether it holds bytes.
        deep: Whether its values may be nested without bound.
        floats: Whether its values may hold a NaN.
        free: Whether its values may hold anything, because it holds Any or a serialiser of its own.
        native: Whether its values may hold bytes when they are encoded.
        keys: Whether it holds objects with arbitrary keys.
        keyed: Whether it holds an object whose keys are declared with another type than str.
        alike: Whether pydantic's python mode agrees with its JSON mode about it.
        textual: Whether, besides, a large value of it can only consist of long texts.
    """

    __slots__ = (
        "alike",
        "any",
        "bytes",
        "deep",
        "floats",
        "free",
        "keyed",
        "keys",
        "native",
        "schema",
        "textual",
    )

    def __init__(self, schema: Schema, where: str) -> None:
        self.schema = schema
        places = list(places_of(schema))
        kinds = {place.kind for place in places}
        strict = [place for place in places if _is_strict(place)]
        keys = {_key_type(place.schema) for place in places} - {None}
        reach = _Reach(schema)
        self.any = "any" in kinds
        self.free = bool(kinds & FREE) or any("serialization" in one.schema for one in places)
        self.bytes = "bytes" in kinds
        self.deep = self.free or reach.is_recursive
        self.floats = self.free or bool(kinds & {"float", "complex"})
        self.native = self.free or self.bytes
        self.keys = bool(keys)
        self.keyed = bool(keys - {"str"})
        self.alike = not strict and kinds <= _ALIKE and "bytes" not in keys
        self.textual = (
            self.alike
            and kinds <= _TEXTUAL
            and not any(takes_extras(place.schema) for place in places)
        )
        _refuse_kinds(places, where)
        _refuse_bytes_settings(places, where)
        _refuse_ambiguous_bytes(places, where)
        if self.any:
            _refuse_strict(strict, where)
        reach.refuse_recursive_unions(where)


def _key_type(schema: Schema) -> str | None:
    kind: str | None = schema["keys_schema"]["type"] if "keys_schema" in schema else None
    return kind


def _is_strict(place: Place) -> bool:
    if place.kind not in _STRICT_MATTERS:
        return False
    return bool(place.schema.get("strict", place.config.get("strict", False)))


def _refuse_kinds(places: list[Place], where: str) -> None:
    for place in places:
        if place.kind in _REFUSED:
            raise RegistrationError(f"{at(where, place)}: {_REFUSED[place.kind]}")


def _refuse_bytes_settings(places: list[Place], where: str) -> None:
    for place in places:
        for key in ("ser_json_bytes", "val_json_bytes") if place.kind == "bytes" else ():
            chosen = place.config.get(key, "base64")
            if chosen != "base64":
                raise RegistrationError(
                    f"{at(where, place)} holds bytes and its model sets {key}={chosen!r}, but "
                    "bytes travel as base64 in JSON and as they are in MessagePack; drop the "
                    "setting"
                )


def _refuse_ambiguous_bytes(places: list[Place], where: str) -> None:
    """Refuse bytes beside strings in a union: in JSON both are strings."""
    for place in places:
        values = [*place.schema.get("expected", ()), *_enum_values(place.schema)]
        if any(isinstance(value, bytes) for value in values):
            raise RegistrationError(
                f"{at(where, place)} has bytes among its choices, which are strings in JSON; use "
                "strings"
            )


def _enum_values(schema: Schema) -> Iterator[Any]:
    if schema["type"] == "enum":
        for member in schema["members"]:
            yield member.value


def _refuse_strict(strict: list[Place], where: str) -> None:
    for place in strict:
        raise RegistrationError(
            f"{at(where, place)} is strict within a type that also holds Any (extra='allow' is Any), "
            "so that MessagePack and JSON would not accept the same values; drop strict, or give the "
            "Any a type"
        )


_OBJECTS = frozenset({"counter", "dataclass", "dict", "model", "ordered-dict", "typed-dict"})
_ARRAYS = frozenset({"deque", "frozenset", "list", "named-tuple", "set", "tuple"})


class _Reach:
    """The references between the definitions of a schema."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = {
            one["ref"]: one for one in schema.get("definitions", ())
        }
        direct = {ref: self._refs(one) for ref, one in self.definitions.items()}
        self._far = {ref: self._closure(direct, refs) for ref, refs in direct.items()}

    @staticmethod
    def _refs(node: Any) -> set[str]:
        return {
            place.schema["schema_ref"]
            for place in places_of(node)
            if place.kind == "definition-ref"
        }

    @staticmethod
    def _closure(direct: dict[str, set[str]], start: set[str]) -> set[str]:
        seen: set[str] = set()
        todo = list(start)
        while todo:
            ref = todo.pop()
            if ref not in seen:
                seen.add(ref)
                todo.extend(direct.get(ref, ()))
        return seen

    def _of(self, node: Any) -> set[str]:
        refs = self._refs(node)
        return refs.union(*(self._far.get(ref, set()) for ref in refs))

    @property
    def is_recursive(self) -> bool:
        return any(ref in far for ref, far in self._far.items())

    def refuse_recursive_unions(self, where: str) -> None:
        for home, definition in self.definitions.items():
            if home not in self._far[home]:
                continue
            for place in places_of(definition):
                if place.kind == "union" and self._explodes(place.schema, home):
                    raise RegistrationError(
                        f"{at(where, place)} is a recursive union without a discriminator, of "
                        "which 200 wrong bytes make 50,000 errors; use Field(discriminator=…), "
                        "or pydantic.JsonValue for any JSON"
                    )

    def _explodes(self, union: Schema, home: str) -> bool:
        """Whether two choices of one JSON type refer to the union, so that each level doubles errors.

        An object beside an array does no harm: one of the two fails at once.
        """
        choices = [one[0] if isinstance(one, tuple) else one for one in union["choices"]]
        shapes = [self._shape(one) for one in choices if home in self._of(one)]
        return len(shapes) > 1 and ("unknown" in shapes or len(set(shapes)) < len(shapes))

    def _shape(self, node: Schema) -> str:
        while node["type"] not in _OBJECTS and node["type"] not in _ARRAYS:
            if node["type"] == "definition-ref":
                node = self.definitions[node["schema_ref"]]
            elif is_schema(node.get("schema")):
                node = node["schema"]
            else:
                return "unknown"
        return "object" if node["type"] in _OBJECTS else "array"
