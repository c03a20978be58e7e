"""A contract as types: what arrives and what leaves, each definition with one name.

A contract describes values by JSON Schema, as pydantic writes it. `read` turns the schemas into
a small tree of types that both printers walk, checks every part of the contract on the way, and
gives equal definitions one name. What arrives has the plain names (`Cat`); what leaves has a name
of its own (`CatInput`) only where its type differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .names import ContractError, identifier, pascal_case

__all__ = [
    "Array",
    "Callback",
    "Choice",
    "Controller",
    "Definition",
    "Dictionary",
    "ErrorType",
    "Field",
    "Intersection",
    "Method",
    "Model",
    "Parameter",
    "Record",
    "Reference",
    "Scalar",
    "Tuple",
    "Type",
    "Union",
    "read",
]

# A schema nested deeper is refused: nobody writes one, and each level costs the reader a call.
MAX_DEPTH = 64

Kind: TypeAlias = Literal["unary", "stream", "notify"]


# ---------------------------------------------------------------------------------------- types


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts: "string", "integer", "number", "boolean", "null", "any", "never", "json"."""

    name: str
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these JSON values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """One of several types.

    Attributes:
        members: The types.
        discriminator: The property whose value tells them apart, or None.
    """

    members: tuple[Type, ...]
    discriminator: str | None = None


@dataclass(frozen=True, slots=True)
class Intersection:
    """All of several types."""

    members: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """Items of one type; `unique` where the schema says `uniqueItems`."""

    item: Type
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Tuple:
    """Items by position; those from `least` on may be left out; `rest` may follow."""

    items: tuple[Type, ...]
    least: int
    rest: Type | None


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A map by string; `key` is a `Choice` or a reference to one where the keys are known."""

    key: Type
    value: Type


@dataclass(frozen=True, slots=True)
class Field:
    """A property of a record."""

    name: str
    type: Type
    required: bool
    default: Any
    has_default: bool
    doc: str
    deprecated: bool
    format: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """An object with properties; `extra` is the type of those that are not listed, or None."""

    fields: tuple[Field, ...]
    extra: Type | None


@dataclass(slots=True, eq=False)
class Definition:
    """A type with a name.

    Attributes:
        wanted: The name it asks for.
        leaving: Whether it is written as what leaves; one that serves both ways is not.
        identity: `module:name` of the class at the other end, or "".
        name: The name it has, once all are known.
        type: What it stands for.
        doc: What the contract says of it.
    """

    wanted: str
    leaving: bool
    identity: str
    doc: str
    name: str = ""
    type: Type = Scalar("any")


@dataclass(frozen=True, slots=True)
class Reference:
    """A definition, by name."""

    to: Definition


Type: TypeAlias = (
    Scalar | Choice | Union | Intersection | Array | Tuple | Dictionary | Record | Reference
)


# ------------------------------------------------------------------------------------ contracts


@dataclass(frozen=True, slots=True)
class Callback:
    """A function that the callee may call: names and types of its arguments, its result."""

    arguments: tuple[tuple[str, Type], ...]
    result: Type


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method; `type` is that of the value, of an upload's items, or a callback."""

    name: str
    kind: Literal["value", "upload", "callback"]
    required: bool
    type: Type | Callback
    doc: str
    default: Any
    has_default: bool


@dataclass(frozen=True, slots=True)
class ErrorType:
    """An error that a method documents: the class's name on the wire, its code, its data."""

    name: str
    code: str
    data: Type


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a controller."""

    name: str
    kind: Kind
    doc: str
    parameters: tuple[Parameter, ...]
    result: Type | None
    item: Type | None
    final: Type | None
    idempotent: bool
    tracked: bool
    deprecated: bool
    errors: tuple[ErrorType, ...]


@dataclass(frozen=True, slots=True)
class Controller:
    """One controller."""

    name: str
    doc: str
    methods: tuple[Method, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """All that a contract describes.

    Attributes:
        controllers: In the order of the contract.
        definitions: The named types, those that arrive first.
        warnings: What the schemas say that no type says, and what it became.
    """

    controllers: tuple[Controller, ...]
    definitions: tuple[Definition, ...]
    warnings: tuple[str, ...]


def read(
    contract: Any,
    *,
    only: Sequence[str] = (),
    callee: bool = False,
    reserved: Collection[str] = (),
    differs: Callable[[Mapping[str, Any]], bool] = lambda schema: False,
) -> Model:
    """Check a contract and turn it into types.

    Args:
        contract: As `wsrpc schema` writes it.
        only: Controllers to take; all where it is empty.
        callee: Whether the code is for the side that answers the calls, so that arguments arrive.
        reserved: Names that no type may have.
        differs: Whether a schema is written otherwise where its value leaves.

    Raises:
        ContractError: It is no contract, or names something that cannot be named in code.
    """
    controllers = _object(contract, "", "controllers")
    for name in only:
        if name not in controllers:
            there = ", ".join(map(str, controllers)) or "none"
            raise ContractError("controllers", f"there is no {name!r}; there are: {there}")
    types = _Types(differs)
    chosen = {name: one for name, one in controllers.items() if not only or name in only}
    reader = _Reader(types, callee)
    made: tuple[Controller, ...] = ()
    try:
        # What arrives first, so that its definitions come first.
        for reader.arriving_only in (True, False):
            made = tuple(reader.controller(name, one) for name, one in chosen.items())
    except RecursionError:
        raise ContractError("controllers", "its types refer to each other too deeply") from None
    types.name_all(reserved)
    return Model(made, tuple(types.definitions), tuple(dict.fromkeys(types.warnings)))


class _Reader:
    """Reads controllers; the first time only what arrives, so that it is named first."""

    def __init__(self, types: _Types, callee: bool) -> None:
        self._types = types
        self._callee = callee
        self.arriving_only = True

    def controller(self, name: Any, described: Any) -> Controller:
        path = f"controllers.{name}"
        methods = _object(described, path, "methods")
        if not isinstance(name, str) or pascal_case(name) == "T":
            raise ContractError(path, "a controller's name must have a letter in it")
        return Controller(
            name,
            _doc(described, path),
            tuple(self.method(f"{path}.methods.{key}", key, one) for key, one in methods.items()),
        )

    def method(self, path: str, name: str, described: Any) -> Method:
        identifier(name, path, "method")
        kind = described.get("kind") if isinstance(described, Mapping) else None
        if kind not in ("unary", "stream", "notify"):
            raise ContractError(path, "its kind must be unary, stream or notify")
        params = _object(described, path, "params", optional=True)
        tracked = described.get("tracked") is True
        item = described.get("item", True) if kind == "stream" else None
        if tracked and isinstance(item, Mapping):
            item = _tracked_value(item, f"{path}.item")
        errors = described.get("errors", [])
        if not isinstance(errors, list):
            raise ContractError(f"{path}.errors", "it must be a list")
        return Method(
            name,
            kind,
            _doc(described, path),
            tuple(self.parameter(f"{path}.params.{key}", key, one) for key, one in params.items()),
            self.result(described.get("result", {"type": "null"}), f"{path}.result")
            if kind == "unary"
            else None,
            None if item is None else self.result(item, f"{path}.item"),
            self.result(described["final"], f"{path}.final") if "final" in described else None,
            described.get("idempotent") is True,
            tracked,
            described.get("deprecated") is True,
            tuple(self.error(one, f"{path}.errors.{n}") for n, one in enumerate(errors)),
        )

    def parameter(self, path: str, name: str, described: Any) -> Parameter:
        identifier(name, path, "parameter")
        if not isinstance(described, Mapping):
            raise ContractError(path, "it must be an object")
        kind = described.get("kind", "value")
        if kind not in ("value", "upload", "callback"):
            raise ContractError(path, "its kind must be value, upload or callback")
        made: Type | Callback
        if kind == "callback":
            made = self.callback(described, path)
        else:
            made = self.argument(described.get("schema", True), f"{path}.schema")
        return Parameter(
            name,
            kind,
            described.get("required", True) is True,
            made,
            _doc(described, path),
            described.get("default"),
            "default" in described,
        )

    def callback(self, described: Mapping[str, Any], path: str) -> Callback:
        arguments = described.get("arguments", [])
        names = described.get("names", [])
        if not isinstance(arguments, list) or not isinstance(names, list):
            raise ContractError(path, "its arguments and names must be lists")
        taken: list[tuple[str, Type]] = []
        for number, one in enumerate(arguments):
            name = names[number] if number < len(names) else None
            known = {earlier for earlier, _ in taken}
            if not isinstance(name, str) or not _is_plain(name) or name in known:
                name = f"arg{number}"
            taken.append((name, self.result(one, f"{path}.arguments.{number}")))
        return Callback(
            tuple(taken), self.argument(described.get("result", True), f"{path}.result")
        )

    def error(self, described: Any, path: str) -> ErrorType:
        if not isinstance(described, Mapping):
            raise ContractError(path, "it must be an object")
        name, code = described.get("type"), described.get("code")
        if not isinstance(name, str) or not isinstance(code, str) or not code.isidentifier():
            raise ContractError(path, "it needs a type and a code")
        return ErrorType(
            identifier(name, path, "error"),
            code,
            self.result(described.get("data", True), f"{path}.data"),
        )

    def result(self, schema: Any, path: str) -> Type:
        """What the callee sends: it leaves where the code is the callee's."""
        return self._of(schema, path, self._callee)

    def argument(self, schema: Any, path: str) -> Type:
        """What the caller sends: it leaves where the code is the caller's."""
        return self._of(schema, path, not self._callee)

    def _of(self, schema: Any, path: str, leaving: bool) -> Type:
        if leaving and self.arriving_only:
            return Scalar("any")
        defs = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        if not isinstance(defs, Mapping):
            raise ContractError(f"{path}.$defs", "it must be an object")
        return self._types.root(schema, _Place(path, defs, leaving, 0))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a schema stands: its path, the definitions it may refer to, which way it goes."""

    path: str
    defs: Mapping[str, Any]
    leaving: bool
    depth: int

    def inside(self, step: str) -> _Place:
        if self.depth >= MAX_DEPTH:
            raise ContractError(self.path, f"it is nested more than {MAX_DEPTH} deep")
        return _Place(f"{self.path}.{step}", self.defs, self.leaving, self.depth + 1)


_NAMED_KINDS = ("object", "array")
_SCALARS = {"string", "integer", "number", "boolean", "null"}


@dataclass(slots=True)
class _Types:
    """From schemas to types; equal definitions become one."""

    differs: Callable[[Mapping[str, Any]], bool]
    definitions: list[Definition] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], Definition] = field(default_factory=dict)

    def root(self, schema: Any, place: _Place) -> Type:
        """The type of a whole schema, which may have a title to go by."""
        if isinstance(schema, Mapping) and isinstance(schema.get("title"), str):
            kind = schema.get("type")
            if "properties" in schema or "enum" in schema or kind == "array":
                return self._define(schema["title"], schema, place)
        return self.type(schema, place)

    def _define(self, wanted: str, schema: Any, place: _Place) -> Type:
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
                _doc(schema, place.path, "description"),
            )
            self._known[key] = known
            self.definitions.append(known)
            known.type = self.type(plain, place.inside(wanted))
        return Reference(known)

    def type(self, schema: Any, place: _Place) -> Type:
        """The type of a schema.

        Raises:
            ContractError: It is no schema, or refers to what is not there.
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

    def _by_kind(self, schema: Mapping[str, Any], kind: Any, place: _Place) -> Type:
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

    def _becomes_anything(self, what: str, place: _Place) -> None:
        self.warnings.append(f"{place.path}: {what} is not known here; it becomes any value")

    def _reference(self, target: Any, place: _Place) -> Type:
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
        at = _Place(f"$defs.{name}", place.defs, place.leaving, 0)
        return self._define(title if isinstance(title, str) and title else name, schema, at)

    def _choice(self, values: Any, place: _Place) -> Type:
        if not isinstance(values, list) or not values:
            raise ContractError(place.path, "enum must be a list with something in it")
        for value in values:
            if not isinstance(value, (str, int, float, bool, type(None))):
                self._becomes_anything("a constant that is an object or a list", place)
                return Scalar("any")
        return Choice(tuple(values))

    def _members(self, schemas: Any, place: _Place) -> tuple[Type, ...]:
        if not isinstance(schemas, list) or not schemas:
            raise ContractError(place.path, "it must be a list with something in it")
        return tuple(self.type(one, place.inside(str(n))) for n, one in enumerate(schemas))

    def _array(self, schema: Mapping[str, Any], place: _Place) -> Type:
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

    def _record(self, schema: Mapping[str, Any], place: _Place) -> Type:
        properties = _object(schema, place.path, "properties", optional=True)
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

    def _dictionary(self, schema: Mapping[str, Any], extra: Any, place: _Place) -> Type:
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

    def _field(self, name: str, schema: Any, required: bool, place: _Place) -> Field:
        said = schema if isinstance(schema, Mapping) else {}
        form = said.get("format")
        return Field(
            name,
            self.type(schema, place),
            _is_present(said, required, place.leaving),
            said.get("default"),
            "default" in said,
            _doc(said, place.path, "description"),
            said.get("deprecated") is True,
            form if isinstance(form, str) else None,
        )

    def name_all(self, reserved: Collection[str]) -> None:
        """Give every definition a name; it depends on what the definitions are, not on their order
        where they say who they are."""
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
    """Whether a property is always there; what has a default is always sent."""
    return required or (not leaving and "default" in schema)


def _canonical(schema: Any, place: _Place, differs: Callable[[Mapping[str, Any]], bool]) -> str:
    """What a definition comes to, with those that it refers to; equal for equal types."""
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


def _tracked_value(item: Mapping[str, Any], path: str) -> Any:
    """The schema of the value in `[id, value]`."""
    parts = item.get("prefixItems")
    if not isinstance(parts, list) or len(parts) != 2:
        raise ContractError(path, "a tracked item is a pair of an id and a value")
    value = parts[1]
    return {**value, "$defs": item.get("$defs", {})} if isinstance(value, Mapping) else value


def _is_plain(name: str) -> bool:
    try:
        identifier(name, "", "name")
    except ContractError:
        return False
    return True


def _object(holder: Any, path: str, name: str, *, optional: bool = False) -> Mapping[str, Any]:
    value = holder.get(name, {} if optional else None) if isinstance(holder, Mapping) else None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ContractError(path, f"it needs {name!r}, an object")
    return value


def _doc(holder: Any, path: str, name: str = "doc") -> str:
    text = holder.get(name, "") if isinstance(holder, Mapping) else ""
    details = holder.get("details", "") if name == "doc" and isinstance(holder, Mapping) else ""
    if not isinstance(text, str) or not isinstance(details, str):
        raise ContractError(path, f"its {name} must be text")
    return f"{text}\n\n{details}" if text and details else text or details
