"""Types from JSON Schema, as pydantic writes it; equal definitions get one name."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .names import ContractError, pascal_case
from .types import (
    Array,
    Choice,
    Definition,
    Dictionary,
    Field,
    Intersection,
    Record,
    Reference,
    Scalar,
    Tuple,
    Type,
    Union,
)

__all__ = ["Place", "Types", "object_in", "text_in"]

# A schema that is nested deeper is refused: honest schemas are not, and each level costs a call.
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a schema: its path, its definitions, and the direction of its value."""

    path: str
    defs: Mapping[str, Any]
    leaving: bool
    depth: int

    def inside(self, step: str) -> Place:
        if self.depth >= MAX_DEPTH:
            raise ContractError(self.path, f"it is nested more than {MAX_DEPTH} deep")
        return Place(f"{self.path}.{step}", self.defs, self.leaving, self.depth + 1)


_NAMED_KINDS = ("object", "array")
_SCALARS = {"string", "integer", "number", "boolean", "null"}


@dataclass(slots=True)
class Types:
    """Turns schemas into types; equal definitions become one."""

    differs: Callable[[Mapping[str, Any]], bool]
    definitions: list[Definition] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], Definition] = field(default_factory=dict)

    def root(self, schema: Any, place: Place) -> Type:
        """The type of a whole schema, which may be named by its title."""
        if isinstance(schema, Mapping) and isinstance(schema.get("title"), str):
            kind = schema.get("type")
            if "properties" in schema or "enum" in schema or kind == "array":
                return self._define(schema["title"], schema, place)
        return self.type(schema, place)

    def _define(self, wanted: str, schema: Any, place: Place) -> Type:
        identity = schema.get("x-type", "") if isinstance(schema, Mapping) else ""
        identity = identity if isinstance(identity, str) else ""
        key = (pascal_case(wanted), _canonical(schema, place, self.differs))
        known = self._known.get(key)
        if known is None:
            plain = {k: v for k, v in schema.items() if k not in ("title", "$defs")}
            known = Definition(
                pascal_case(wanted),
                place.leaving,
                identity,
                text_in(schema, place.path, "description"),
            )
            self._known[key] = known
            self.definitions.append(known)
            known.type = self.type(plain, place.inside(wanted))
        return Reference(known)

    def type(self, schema: Any, place: Place) -> Type:
        """The type of a schema.

        Raises:
            ContractError: It is no schema, or refers to a definition that is not there.
        """
        if schema is True:
            return Scalar("any")
        if schema is False:
            return Scalar("never")
        if not isinstance(schema, Mapping):
            raise ContractError(place.path, "a schema must be an object, true or false")
        if "$ref" in schema:
            return self._reference(schema["$ref"], place)
        if "const" in schema:
            return self._choice([schema["const"]], place)
        if "enum" in schema:
            return self._choice(schema["enum"], place)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                tag = schema.get("discriminator")
                name = tag.get("propertyName") if isinstance(tag, Mapping) else None
                members = self._members(schema[word], place.inside(word))
                return Union(members, name if isinstance(name, str) else None)
        if "allOf" in schema:
            return Intersection(self._members(schema["allOf"], place.inside("allOf")))
        return self._by_kind(schema, schema.get("type"), place)

    def _by_kind(self, schema: Mapping[str, Any], kind: Any, place: Place) -> Type:
        if isinstance(kind, list):
            return Union(tuple(self._by_kind(schema, one, place.inside("type")) for one in kind))
        if isinstance(kind, str) and kind in _SCALARS:
            said = schema.get("format")
            return Scalar(kind, said if isinstance(said, str) else None)
        if kind == "array":
            return self._array(schema, place)
        if kind == "object" or "properties" in schema:
            return self._record(schema, place)
        if kind is not None:
            self._becomes_anything(f"the type {json.dumps(kind)[:60]}", place)
        elif set(schema) - _ANNOTATIONS:
            words = ", ".join(sorted(map(str, set(schema) - _ANNOTATIONS)))[:60]
            self._becomes_anything(f"a schema of {words}", place)
        return Scalar("any")

    def _becomes_anything(self, what: str, place: Place) -> None:
        self.warnings.append(f"{place.path}: {what} is not known here; it becomes any value")

    def _reference(self, target: Any, place: Place) -> Type:
        name = target.removeprefix("#/$defs/") if isinstance(target, str) else ""
        name = name.replace("~1", "/").replace("~0", "~")
        if name not in place.defs or not str(target).startswith("#/$defs/"):
            raise ContractError(place.path, f"it refers to {json.dumps(target)[:60]}, not in $defs")
        schema = place.defs[name]
        if not isinstance(schema, Mapping):
            return self.type(schema, place)
        if not set(schema) - _ANNOTATIONS:
            return Scalar("json" if name == "JsonValue" else "any")
        title = schema.get("title")
        at = Place(f"$defs.{name}", place.defs, place.leaving, 0)
        return self._define(title if isinstance(title, str) and title else name, schema, at)

    def _choice(self, values: Any, place: Place) -> Type:
        if not isinstance(values, list) or not values:
            raise ContractError(place.path, "enum must be a list with something in it")
        for value in values:
            if not isinstance(value, (str, int, float, bool, type(None))):
                self._becomes_anything("a constant that is an object or a list", place)
                return Scalar("any")
        return Choice(tuple(values))

    def _members(self, schemas: Any, place: Place) -> tuple[Type, ...]:
        if not isinstance(schemas, list) or not schemas:
            raise ContractError(place.path, "it must be a list with something in it")
        return tuple(self.type(one, place.inside(str(n))) for n, one in enumerate(schemas))

    def _array(self, schema: Mapping[str, Any], place: Place) -> Type:
        items, most = schema.get("items", True), schema.get("maxItems")
        if "prefixItems" not in schema:
            if most == 0:
                return Tuple((), 0, None)
            item = self.type(items, place.inside("items"))
            return Array(item, schema.get("uniqueItems") is True)
        parts = self._members(schema["prefixItems"], place.inside("prefixItems"))
        least = schema.get("minItems", 0)
        if not isinstance(least, int):
            raise ContractError(place.path, "minItems must be a number")
        closed = items is False or most == len(parts)
        rest = None if closed else self.type(items, place.inside("items"))
        return Tuple(parts, least, rest)

    def _record(self, schema: Mapping[str, Any], place: Place) -> Type:
        properties = object_in(schema, place.path, "properties", optional=True)
        extra = schema.get("additionalProperties")
        if not properties:
            return self._dictionary(schema, extra, place)
        required = schema.get("required", [])
        if not isinstance(required, list):
            raise ContractError(place.path, "required must be a list")
        fields = tuple(
            self._field(name, one, name in required, place.inside(name))
            for name, one in properties.items()
        )
        more = None if extra is None or extra is False else self.type(extra, place.inside("extra"))
        return Record(fields, more)

    def _dictionary(self, schema: Mapping[str, Any], extra: Any, place: Place) -> Type:
        if extra is False and "patternProperties" not in schema:
            return Record((), None)
        patterns = schema.get("patternProperties")
        if isinstance(patterns, Mapping) and patterns:
            value: Type = Union(self._members(list(patterns.values()), place.inside("values")))
        else:
            value = self.type(True if extra is None else extra, place.inside("values"))
        names = schema.get("propertyNames")
        known = isinstance(names, Mapping) and ({"$ref", "enum", "const", "format"} & set(names))
        key = (
            self.type({"type": "string", **names}, place.inside("keys"))
            if known and names
            else None
        )
        return Dictionary(key or Scalar("string"), value)

    def _field(self, name: str, schema: Any, required: bool, place: Place) -> Field:
        said = schema if isinstance(schema, Mapping) else {}
        form = said.get("format")
        return Field(
            name,
            self.type(schema, place),
            _is_present(said, required, place.leaving),
            said.get("default"),
            "default" in said,
            text_in(said, place.path, "description"),
            said.get("deprecated") is True,
            form if isinstance(form, str) else None,
        )

    def name_all(self, reserved: Collection[str]) -> None:
        """Give every definition a name.

        The name depends on the definition itself, and on its order only among equals.
        """
        self.definitions.sort(key=lambda one: one.leaving)
        taken = set(reserved)
        by_identity: dict[str, str] = {}
        stable = sorted(self.definitions, key=lambda one: (one.leaving, one.wanted, one.identity))
        for one in stable:
            stem = f"{one.wanted}_" if one.wanted in reserved else one.wanted
            if one.leaving:
                twin = by_identity.get(one.identity) if one.identity else None
                stem = f"{twin}Input" if twin else f"{stem}Input" if stem in taken else stem
            name, number = stem, 1
            while name in taken:
                number += 1
                name = f"{stem}{number}"
            taken.add(name)
            one.name = name
            if one.identity:
                by_identity.setdefault(one.identity, name)


# Words of a schema that narrow or explain a value and do not change its type.
_ANNOTATIONS = {
    "$defs", "contentEncoding", "contentMediaType", "default", "deprecated", "description", "examples",
    "exclusiveMaximum", "exclusiveMinimum", "maxItems", "maxLength", "maximum", "minItems", "minLength",
    "minimum", "multipleOf", "pattern", "readOnly", "title", "writeOnly", "x-type",
}  # fmt: skip


def _is_present(schema: Mapping[str, Any], required: bool, leaving: bool) -> bool:
    """Whether a property is always there; a property with a default is always sent."""
    return required or (not leaving and "default" in schema)


def _canonical(schema: Any, place: Place, differs: Callable[[Mapping[str, Any]], bool]) -> str:
    """The canonical text of a definition and its references; equal for equal types."""
    seen: dict[str, Any] = {}

    def walk(one: Any, depth: int) -> Any:
        if depth > 4 * MAX_DEPTH:
            raise ContractError(place.path, "it is nested too deep")
        if isinstance(one, list):
            return [walk(part, depth + 1) for part in one]
        if not isinstance(one, Mapping):
            return one
        if "$ref" in one:
            name = str(one["$ref"]).rpartition("/")[2]
            if name not in seen:
                seen[name] = None
                seen[name] = walk(place.defs.get(name), depth + 1)
            return {"$ref": name}
        made = {
            key: walk(value, depth + 1)
            for key, value in one.items()
            if key not in _ANNOTATIONS and key not in ("required", "properties")
        }
        properties = one.get("properties")
        if isinstance(properties, Mapping):
            required = one.get("required") if isinstance(one.get("required"), list) else []
            made["properties"] = {
                name: [
                    walk(part, depth + 1),
                    _is_present(
                        part if isinstance(part, Mapping) else {},
                        name in (required or ()),
                        place.leaving,
                    ),
                ]
                for name, part in properties.items()
            }
        if differs(one):
            made["leaving"] = place.leaving
        return made

    return json.dumps([walk(schema, 0), seen], sort_keys=True)


def object_in(holder: Any, path: str, name: str, *, optional: bool = False) -> Mapping[str, Any]:
    value = holder.get(name, {} if optional else None) if isinstance(holder, Mapping) else None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ContractError(path, f"it needs {name!r}, an object")
    return value


def text_in(holder: Any, path: str, name: str = "doc") -> str:
    text = holder.get(name, "") if isinstance(holder, Mapping) else ""
    details = holder.get("details", "") if name == "doc" and isinstance(holder, Mapping) else ""
    if not isinstance(text, str) or not isinstance(details, str):
        raise ContractError(path, f"its {name} must be text")
    return f"{text}\n\n{details}" if text and details else text or details
