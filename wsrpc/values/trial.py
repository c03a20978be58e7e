"""Finds and refuses, before the first call, types whose values would change on the way.

The schema tells most faults. Functions of the user, and of pydantic, are tried on a few values.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel, EncodedBytes, EncodedStr, Secret, SecretBytes, SecretStr

from ..errors import RegistrationError
from .invalid import InvalidValue
from .pydantic_schema import CONFIGURED, OPAQUE, Schema, fields_of, is_schema, takes_extras
from .samples import MAX_SAMPLES, Samples
from .shapes import IN_WORDS, Shapes, choices_of, describe

__all__ = ["Attempt", "refuse_what_changes"]


class Attempt(Protocol):
    """Sends values of one schema to itself."""

    def read(self, text: bytes) -> Any:
        """The value that a JSON text stands for."""

    def send(self, value: Any) -> Iterator[Any]:
        """The value that arrives in each codec, or the error that refuses it there."""
        ...


# Members of an enum or literal that are tried.
MAX_MEMBERS = 100

_KEYS = frozenset(
    {"bool", "bytes", "date", "datetime", "decimal", "float", "int", "str", "time", "timedelta",
     "uuid"}
)  # fmt: skip
_UNHASHABLE = frozenset(
    {"counter", "defaultdict", "deque", "dict", "list", "ordered-dict", "set", "typed-dict"}
)
_FUNCTIONS = ("function-after", "function-before", "function-plain", "function-wrap")


class _Spot:
    """A schema within a type, and its name in messages."""

    __slots__ = ("config", "is_key", "path", "schema")

    def __init__(self, schema: Schema, path: str, config: Mapping[str, Any], is_key: bool) -> None:
        self.schema = schema
        self.path = path
        self.config = config
        self.is_key = is_key


def refuse_what_changes(schema: Schema, where: str, attempt: Callable[[Schema], Attempt]) -> None:
    """Refuse a type if a value of it would not arrive as it was sent.

    Args:
        schema: pydantic's core schema of it.
        where: The name of its place in messages.
        attempt: Makes the object that sends values of a schema to itself.

    Raises:
        RegistrationError: The message names the field and the type to write instead.
    """
    definitions = {one["ref"]: one for one in schema.get("definitions", ())}
    _Refusals(definitions, where, attempt).check(schema)


class _Refusals:
    def __init__(
        self, definitions: dict[str, Schema], where: str, attempt: Callable[[Schema], Attempt]
    ) -> None:
        self._definitions = definitions
        self._shapes = Shapes(definitions)
        self._where = where
        self._samples = Samples(definitions)
        self._attempt = attempt

    def check(self, schema: Schema) -> None:
        spots = list(_spots(schema, "", {}))
        for spot in spots:
            why = self._why_not(spot)
            if why is not None:
                raise RegistrationError(f"{self._called(spot)} {why}")
        for spot in spots:
            if self._is_to_be_tried(spot.schema):
                why = self._why_changed(spot.schema)
                if why is not None:
                    raise RegistrationError(f"{self._called(spot)} {why}")

    def _called(self, spot: _Spot) -> str:
        return f"{self._where}: {spot.path}" if spot.path else f"{self._where}: the type"

    # Faults that the schema tells.

    def _why_not(self, spot: _Spot) -> str | None:
        schema = spot.schema
        kind = schema["type"]
        if schema.get("serialization_exclude") or schema.get("serialization_exclude_if"):
            return (
                "is excluded when it is written, so that it would be lost on the way; drop "
                "exclude, or take the field out of the type"
            )
        if kind == "json":
            return (
                "is Json[…], which reads text and writes a value; declare the type of the value, "
                "or str for the text"
            )
        if kind == "any" and "schema" in schema.get("serialization", {}):
            return (
                "is not validated (SkipValidation), so that only JSON's own types would come back; "
                "drop SkipValidation"
            )
        if kind == "literal" and any(
            type(one) not in (str, int, bool, type(None)) for one in schema["expected"]
        ):
            return (
                "is a Literal of enum members, which arrive as their bare values; declare the "
                "enum, or Literal[…] of the values"
            )
        if kind in ("datetime", "date", "time", "timedelta"):
            return _why_not_time(spot)
        if spot.is_key:
            return self._why_not_key(schema) or _why_not_function(schema)
        if kind == "nullable":
            return self._why_not_nullable(schema)
        if kind in ("set", "frozenset"):
            return self._why_not_items(schema.get("items_schema", {"type": "any"}))
        if kind in ("dataclass", "model", "typed-dict"):
            return _why_not_record(schema)
        if kind in _FUNCTIONS or "serialization" in schema:
            return _why_not_function(schema)
        if kind == "union":
            return self._why_not_union(schema)
        return None

    def _why_not_items(self, items: Schema) -> str | None:
        for leaf in self._shapes.leaves(items):
            cls = leaf.get("cls")
            if leaf["type"] in _UNHASHABLE or getattr(cls, "__hash__", True) is None:
                named = getattr(cls, "__name__", leaf["type"])
                return (
                    f"is a set of {named}, which cannot be in a set since it cannot be hashed; "
                    "write list[…]"
                )
        return None

    def _why_not_key(self, key: Schema) -> str | None:
        for leaf in self._shapes.leaves(key):
            kind = leaf["type"]
            if kind == "none":
                return (
                    "has None among the keys of a dict, which are strings on the wire; write a "
                    "list of pairs, or another key for it"
                )
            if kind in ("literal", "enum"):
                if not all(type(one) is str for one in choices_of(leaf)):
                    return (
                        f"has {describe(leaf, self._shapes)} as the keys of a dict, which are "
                        "strings on the wire, and its values are none; give it values that are "
                        "strings, or write dict[int, …] or a list of pairs"
                    )
            elif kind in ("union", "tagged-union"):
                continue
            elif kind not in _KEYS and "serialization" not in leaf:
                return (
                    f"has {describe(leaf, self._shapes)} as the keys of a dict, which are strings "
                    "on the wire; write a list of pairs"
                )
        kinds = {leaf["type"] for leaf in self._shapes.leaves(key)}
        if len(kinds) > 1 and not kinds <= {"str", "literal"}:
            return (
                "has keys of more than one type in a dict, which are all strings on the wire; "
                "write dict[str, …] or a list of pairs"
            )
        return None

    def _why_not_nullable(self, schema: Schema) -> str | None:
        for leaf in self._shapes.leaves(schema["schema"]):
            if leaf["type"] in ("enum", "model") and "null" in self._shapes.forms(leaf):
                name = describe(leaf, self._shapes)
                cure = (
                    "give that member another value" if leaf["type"] == "enum" else "drop one None"
                )
                return (
                    f"is {name} or None, but {name} has a value that is null in JSON, too, and would "
                    f"arrive as None; {cure}"
                )
        return None

    def _why_not_union(self, union: Schema) -> str | None:
        choices = [one[0] if isinstance(one, tuple) else one for one in union["choices"]]
        loose = union.get("mode") == "left_to_right"
        for number, first in enumerate(choices):
            for second in choices[number + 1 :]:
                if not (self._shapes.clash(first, second) or (loose and self._mix(first, second))):
                    continue
                forms = self._forms(first) & self._forms(second) or self._forms(first)
                kind = next((IN_WORDS[one] for one in sorted(forms)), "alike")
                names = f"{describe(first, self._shapes)} and {describe(second, self._shapes)}"
                if kind == "strings":
                    cure = "put each into a model or TypedDict of its own, or declare only one"
                elif kind == "objects":
                    cure = (
                        "give each a field `kind: Literal[…]` of its own and write "
                        "Field(discriminator='kind')"
                    )
                else:
                    cure = "declare only one of them, or put each into a model of its own"
                return f"is a union of {names}, which are both {kind} in JSON; {cure}"
        return None

    def _forms(self, node: Schema) -> frozenset[str]:
        return frozenset().union(*map(self._shapes.forms, self._shapes.leaves(node)))

    def _mix(self, first: Schema, second: Schema) -> bool:
        """Whether the first choice may take, by conversion, a value of the second."""
        scalars = {"boolean", "integer", "number", "string"}
        return bool(self._forms(first) & scalars and self._forms(second) & scalars)

    # Faults of the type's functions.

    def _is_to_be_tried(self, schema: Schema) -> bool:
        kind = schema["type"]
        if schema.get("serialization", {}).get("is_field_serializer"):
            # Its serializer asks for the whole record, which is tried.
            return False
        if kind in ("union", "tagged-union", "enum"):
            return True
        if kind == "literal":
            return not all(type(one) is str for one in schema["expected"])
        if kind in _FUNCTIONS or kind in ("fraction", "multi-host-url", "url"):
            return True
        if schema.get("serialization", {}).get("type", "").startswith("function"):
            return True
        if kind in ("dataclass", "model", "typed-dict"):
            return _is_record_to_be_tried(schema)
        return False

    def _why_changed(self, schema: Schema) -> str | None:
        attempt = self._attempt_of(schema)
        if attempt is None:
            return None
        listed = schema["type"] in ("enum", "literal")
        left, refused = 0, None
        misfit = self._misfit(schema, attempt)
        if misfit is not None:
            return misfit
        for sent in self._members(schema) if listed else self._values(schema):
            try:
                arrived = list(attempt.send(sent))
            except Exception as error:  # noqa: BLE001 - a function of the user's, surprised
                if listed:
                    return _refused_again(schema, sent, error)
                refused = refused or _refused_again(schema, sent, error, "leave")
                continue
            left += 1
            for got in arrived:
                if isinstance(got, InvalidValue):
                    return _refused_again(schema, sent, got)
                if not _is_equal(sent, got):
                    return _changed(schema, sent, got)
        # Where some values leave and others do not, the values are at fault, not the type.
        return None if left else refused

    def _misfit(self, schema: Schema, attempt: Attempt) -> str | None:
        """The reason why no value fits a type: a constraint in it is for another type."""
        samples = self._samples.of(schema, 0) if schema["type"] == "function-after" else []
        if not samples:
            return None
        try:
            attempt.read(json.dumps(samples[0]).encode())
        except Exception as error:  # noqa: BLE001 - a function of the user's, surprised
            words, _, rest = str(error).partition(" to supplied value")
            if rest and words.startswith("Unable to apply constraint "):
                return f"has the constraint {words.split()[-1]}, which is for other types; drop it"
        return None

    def _attempt_of(self, schema: Schema) -> Attempt | None:
        whole: Schema = {key: value for key, value in schema.items() if key != "ref"}
        if self._definitions:
            whole = {
                "type": "definitions",
                "schema": whole,
                "definitions": list(self._definitions.values()),
            }
        try:
            return self._attempt(whole)
        except Exception:  # noqa: BLE001 - a part of a type that does not stand by itself
            return None

    def _members(self, schema: Schema) -> list[Any]:
        return list(schema["members" if schema["type"] == "enum" else "expected"])[:MAX_MEMBERS]

    def _values(self, schema: Schema) -> Iterator[Any]:
        """Some values of a type, each choice of a union read by itself."""
        choices = schema["choices"] if schema["type"] in ("union", "tagged-union") else [schema]
        for choice in choices.values() if isinstance(choices, dict) else choices:
            inner = choice[0] if isinstance(choice, tuple) else choice
            if not is_schema(inner):
                continue
            if inner["type"] in ("enum", "literal"):
                yield from self._members(inner)
                continue
            attempt = self._attempt_of(inner)
            if attempt is None:
                continue
            for sample in self._samples.of(inner, 0)[: 2 * MAX_SAMPLES]:
                try:
                    yield attempt.read(json.dumps(sample).encode())
                except Exception:  # noqa: BLE001  # nosec B112 - no value of the type
                    continue


# --- The schema ------------------------------------------------------------------------------------


def _spots(node: Any, path: str, config: Mapping[str, Any], key: bool = False) -> Iterator[_Spot]:
    """The schemas within a type, without those that a function of the type replaces."""
    if isinstance(node, (list, tuple)):
        for one in node:
            yield from _spots(one, path, config)
        return
    if not isinstance(node, dict):
        return
    if is_schema(node):
        kind = node["type"]
        if kind in CONFIGURED:
            config = node.get("config") or {}
            if not key:
                path = node["cls"].__name__ if "cls" in node else path or node.get("cls_name", path)
        elif kind == "dataclass-field":
            path = f"{path}.{node['name']}"
        yield _Spot(node, path, config, key)
        own = node.get("serialization", {})
        if kind in ("json", "function-plain") or own.get("type") == "function-plain":
            return
    for name, value in node.items():
        if name in OPAQUE or name in ("python_schema", "strict_schema", "serialization"):
            continue
        if name in ("fields", "choices") and isinstance(value, dict):
            for field, inner in value.items():
                yield from _spots(inner, f"{path}.{field}" if name == "fields" else path, config)
        elif name == "steps":
            yield from _spots(value[:1], path, config)
        else:
            yield from _spots(value, path, config, name == "keys_schema")


def _why_not_time(spot: _Spot) -> str | None:
    for setting in ("ser_json_temporal", "ser_json_timedelta"):
        chosen = spot.config.get(setting, "iso8601")
        if chosen != "iso8601" and (
            setting == "ser_json_temporal" or spot.schema["type"] == "timedelta"
        ):
            return (
                f"is a {spot.schema['type']}, and its model sets {setting}={chosen!r}, which loses "
                "its zone or its microseconds; drop the setting"
            )
    return None


def _why_not_record(schema: Schema) -> str | None:
    inside = fields_of(schema)
    if schema.get("cls") is BaseModel:
        return (
            "is BaseModel itself, which has no fields, so that all would be lost; declare the model"
        )
    if schema["type"] == "dataclass" and takes_extras(schema):
        return (
            "is a dataclass with extra='allow', whose further fields would be lost on the way; use a "
            "BaseModel, or drop the setting"
        )
    unset = _set_after_init(schema) if schema["type"] == "dataclass" else None
    if unset is not None:
        return (
            f"has the field {unset!r} with init=False, so that a value given to it later would be "
            "lost on the way; make the dataclass frozen, or drop init=False"
        )
    computed = [one["property_name"] for one in inside.get("computed_fields", ())]
    if computed and (takes_extras(schema) or takes_extras(inside)):
        return (
            f"has the computed field {computed[0]!r} and extra='allow', so that it would arrive as "
            "a field more; drop one of the two"
        )
    fields = inside.get("fields", {})
    written = [
        field.get("serialization_alias", name)
        for name, field in (
            fields.items() if isinstance(fields, dict) else [(one["name"], one) for one in fields]
        )
    ]
    for name in written:
        if written.count(name) > 1:
            return f"writes two fields under the name {name!r}; give each an alias of its own"
    return None


def _set_after_init(schema: Schema) -> str | None:
    """A field of a dataclass that is no argument of its constructor, and may be set at any time.

    In a frozen one, `__post_init__` gives it a value; trying the type shows whether it is the same on
    both sides.
    """
    cls = schema["cls"]
    if cls.__dataclass_params__.frozen:
        return None
    return next((one.name for one in dataclasses.fields(cls) if not one.init), None)


def _why_not_function(schema: Schema) -> str | None:
    function = schema.get("function")
    function = function.get("function") if isinstance(function, dict) else function
    written = schema.get("serialization", {}).get("function")
    for one in (function, written):
        owner = getattr(one, "__self__", None)
        if isinstance(owner, EncodedBytes):
            return (
                "encodes its bytes a second time; declare bytes, which travel as base64url in JSON "
                "and as they are in MessagePack"
            )
        if isinstance(owner, EncodedStr):
            return "encodes its text a second time; declare str"
        if getattr(one, "__name__", "") == "import_string":
            return "imports any name that a peer sends; declare str, and look the name up in a dict"
        if getattr(one, "__name__", "").startswith("pattern_"):
            return "is a compiled pattern, whose flags would be lost; declare str"
    return None


def _is_record_to_be_tried(schema: Schema) -> bool:
    if schema.get("post_init") or schema.get("custom_init"):
        return True
    if _is_renamed(schema):
        return True
    for field in _listed_fields(schema):
        if field.get("init") is False or field.get("init_only"):
            return True
        if field["schema"].get("serialization", {}).get("is_field_serializer"):
            return True
    return bool((schema.get("config") or {}).get("use_enum_values"))


def _listed_fields(record: Schema) -> list[Schema]:
    fields = fields_of(record).get("fields", {})
    return list(fields.values() if isinstance(fields, dict) else fields)


def _is_renamed(record: Schema) -> bool:
    """Whether a field of it travels under another name."""
    return any(
        {"serialization_alias", "validation_alias"} & field.keys()
        for field in _listed_fields(record)
    )


# --- The functions ---------------------------------------------------------------------------------


def _is_equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _is_equal(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, (str, int, float, bytes, Decimal, UUID, dt.date, dt.time, re.Pattern)):
        return bool(one == other)
    fields = getattr(type(one), "__pydantic_fields__", None) or getattr(
        type(one), "__dataclass_fields__", None
    )
    if fields:
        return all(_is_equal(getattr(one, name), getattr(other, name)) for name in fields)
    if getattr(type(one), "__eq__", None) is getattr(object, "__eq__", None):
        # The values cannot be compared: the user's own functions answer for them.
        return True
    return bool(one == other)


_MASKED = (
    "is a secret, which is masked when it is written, so that asterisks would arrive; declare str "
    "or bytes"
)


def _is_secret(value: Any) -> bool:
    return isinstance(value, (SecretStr, SecretBytes, Secret))


def _changed(schema: Schema, sent: Any, got: Any) -> str:
    if _is_secret(sent):
        return _MASKED
    return f"would change on the way: {_shown(sent)} arrives as {_shown(got)}{_culprit(schema)}"


def _refused_again(schema: Schema, sent: Any, error: Exception, fails: str = "arrive") -> str:
    if _is_secret(sent):
        return _MASKED
    reason = " ".join(str(error).split()).removeprefix(": ")[:120]
    if fails == "leave" and schema["type"] in _FUNCTIONS:
        return (
            f"would not leave: {_shown(sent)} is refused by its own type ({reason}); its validator "
            "must also take a value that it has made (pydantic_core's json_or_python_schema)"
        )
    return (
        f"would not {fails}: {_shown(sent)} is refused by its own type ({reason}){_culprit(schema)}"
    )


def _culprit(schema: Schema) -> str:
    kind = schema["type"]
    if kind == "union":
        return "; declare only one of the types, or put each into a model of its own"
    if kind == "tagged-union":
        return "; give the discriminator one alias for both directions"
    if kind == "enum":
        return "; give its members values that are strings or integers, each of its own"
    if kind == "literal":
        return "; use values that are all strings, or all integers"
    if "serialization" in schema:
        return (
            "; its serializer must write a form that its validator reads back, or declare a type that "
            "needs none"
        )
    if kind in _FUNCTIONS:
        return "; its validator must not change a value that it has already accepted"
    if kind in ("dataclass", "model", "typed-dict") and _is_renamed(schema):
        return (
            "; each field must be read under the name under which it is written, which no other "
            "field may have"
        )
    return "; its validators and serializers must give back the value that they were given"


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
