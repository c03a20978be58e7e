"""The forms of a type's values in JSON, and whether they tell two types apart.

pydantic's smart mode picks the type of a union that keeps most fields, and among several of these
the one that fits most exactly. The rules here tell when that is always the type that was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .pydantic_schema import FIELD_SETS, Schema, fields_of, is_schema, takes_extras

_ARRAYS = frozenset({"deque", "frozenset", "list", "named-tuple", "set", "tuple"})
_MAPS = frozenset({"counter", "defaultdict", "dict", "ordered-dict"})
_RECORDS = frozenset({"dataclass", "model", "typed-dict"})

# Types that travel as strings of a form of their own.
FORMATS = frozenset(
    {
        "bytes", "complex", "date", "datetime", "decimal", "fraction", "multi-host-url", "time",
        "timedelta", "url", "uuid",
    }
)  # fmt: skip

_TEMPORAL = frozenset({"date", "datetime", "time", "timedelta"})

_SCALARS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "none": "null"}

# All forms.
ALL = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


class Shapes:
    """The forms of the types within one schema.

    Args:
        definitions: The schema's definitions by their ref.
    """

    __slots__ = ("_definitions", "_under_way")

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._under_way: set[tuple[int, int]] = set()

    # The types at the end of all wrappers.

    def leaves(self, node: Schema, seen: frozenset[str] = frozenset()) -> Iterator[Schema]:
        """The types that a value may have, with wrappers and nested unions taken off."""
        kind = node["type"]
        if _is_written_by_function(node):
            yield node
        elif kind == "definition-ref":
            if node["schema_ref"] not in seen:
                target = self._definitions[node["schema_ref"]]
                yield from self.leaves(target, seen | {node["schema_ref"]})
        elif kind == "definitions":
            yield from self.leaves(node["schema"], seen)
        elif kind == "nullable":
            yield {"type": "none"}
            yield from self.leaves(node["schema"], seen)
        elif kind in ("union", "tagged-union"):
            choices = node["choices"]
            for choice in choices.values() if isinstance(choices, dict) else choices:
                inner = choice[0] if isinstance(choice, tuple) else choice
                if is_schema(inner):
                    yield from self.leaves(inner, seen)
        elif kind == "lax-or-strict":
            yield from self.leaves(node["lax_schema"], seen)
        elif kind == "json-or-python":
            yield from self.leaves(node["json_schema"], seen)
        elif kind == "model" and node.get("root_model"):
            yield node
        elif kind not in _RECORDS and is_schema(node.get("schema")):
            yield from self.leaves(node["schema"], seen)
        else:
            yield node

    def forms(self, leaf: Schema) -> frozenset[str]:
        """The JSON types that values of a leaf have."""
        kind = leaf["type"]
        if _is_written_by_function(leaf):
            # Paths, addresses and URLs: the types that pydantic itself writes by a function are
            # strings.
            return ALL if _is_users(leaf) else frozenset({"string"})
        if kind in _SCALARS:
            return frozenset({_SCALARS[kind]})
        if kind in FORMATS:
            return frozenset({"string"})
        if kind in ("literal", "enum"):
            return frozenset(map(_form_of, choices_of(leaf)))
        if kind in _ARRAYS:
            return frozenset({"array"})
        if kind == "model" and leaf.get("root_model"):
            return frozenset().union(*map(self.forms, self.leaves(_root(leaf))))
        if kind in _RECORDS or kind in _MAPS:
            return frozenset({"object"})
        return ALL

    # Telling two types apart.

    def clash(self, first: Schema, second: Schema) -> bool:
        """Whether a value of one of two choices of a union may be taken for the other.

        Args:
            first: The first choice, which wins a draw.
            second: The other one.
        """
        pair = (id(first), id(second))
        if pair in self._under_way:
            return False
        self._under_way.add(pair)
        try:
            return any(
                self._leaves_clash(one, other)
                for one in self.leaves(first)
                for other in self.leaves(second)
            )
        finally:
            self._under_way.discard(pair)

    def _leaves_clash(self, one: Schema, other: Schema) -> bool:
        shared = self.forms(one) & self.forms(other)
        if one is other or _is_same(one, other):
            return False
        if _is_users(one) or _is_users(other):
            # A function of pydantic writes any value that it gets.
            return "none" not in (one["type"], other["type"])
        if not shared:
            return False
        if _is_written_by_function(one) or _is_written_by_function(other):
            return True
        kinds = (one["type"], other["type"])
        if "any" in kinds:
            return not all(map(self._is_plain, (one, other)))
        if kinds[0] in _ARRAYS or kinds[1] in _ARRAYS:
            return self._arrays_clash(one, other)
        if "object" in shared:
            return self._objects_clash(one, other)
        return _scalars_clash(one, other)

    def _is_plain(self, leaf: Schema) -> bool:
        """Whether Any returns the same value as the type itself."""
        kind = leaf["type"]
        if kind in ("list", "dict"):
            return all(
                map(
                    self._is_plain,
                    self.leaves(leaf.get("items_schema") or leaf.get("values_schema") or _ANY),
                )
            ) and (kind == "list" or leaf.get("keys_schema", _STR)["type"] == "str")
        return kind in ("any", *_SCALARS) or (kind == "literal" and not _has_members(leaf))

    def _arrays_clash(self, one: Schema, other: Schema) -> bool:
        if one["type"] != other["type"] or "cls" in one or "cls" in other:
            return True
        if one["type"] != "tuple":
            return self.clash(one.get("items_schema", _ANY), other.get("items_schema", _ANY))
        mine, yours = one["items_schema"], other["items_schema"]
        if "variadic_item_index" in one or "variadic_item_index" in other:
            return any(self.clash(a, b) for a in mine for b in yours)
        if len(mine) != len(yours):
            return False
        return any(self.clash(a, b) for a, b in zip(mine, yours, strict=True))

    def _objects_clash(self, one: Schema, other: Schema) -> bool:
        if one["type"] in _MAPS and other["type"] in _MAPS:
            # All keys are strings.
            keys = [
                {leaf["type"] for leaf in self.leaves(mapping.get("keys_schema", _STR))}
                for mapping in (one, other)
            ]
            return (
                one["type"] != other["type"]
                or keys[0] != keys[1]
                or self.clash(one.get("keys_schema", _STR), other.get("keys_schema", _STR))
                or self.clash(one.get("values_schema", _ANY), other.get("values_schema", _ANY))
            )
        if one["type"] in _MAPS or other["type"] in _MAPS or _has_root(one, other):
            record, mapping = (other, one) if one["type"] in _MAPS else (one, other)
            if _has_root(one, other):
                return True
            values = mapping.get("values_schema", _ANY)
            fields = _Fields(record)
            return not any(
                name in fields.required and self._refuses(schema, values)
                for name, schema in fields.schemas.items()
            )
        first, second = _Fields(one), _Fields(other)
        return self._is_taken_for(first, second, wins_draws=True) or self._is_taken_for(
            second, first, wins_draws=False
        )

    def _is_taken_for(self, sent: _Fields, read: _Fields, *, wins_draws: bool) -> bool:
        """Whether a record that was sent may be read as another one."""
        if not sent.open and not all(
            any(name in sent.schemas for name in names) for names in read.needs
        ):
            return False
        if read.closed and not sent.always <= read.names:
            return False
        common = [
            (sent.schemas[name], read.schemas[name], name)
            for name in sent.schemas
            if name in read.schemas
        ]
        if any(
            name in sent.always | read.required and self._refuses(reader, schema)
            for schema, reader, name in common
        ):
            return False
        # Both fit; the one with more fields wins, nested ones counted.
        if not all(
            _is_same(schema, reader) or (self._is_countless(schema) and self._is_countless(reader))
            for schema, reader, _ in common
        ):
            return True
        if wins_draws or sent.always - read.names:
            return False
        # A draw: the more exact one wins.
        return not any(
            name in sent.always
            and not self._forms_of(schema) & self._forms_of(reader)
            and "null" not in self._forms_of(schema)
            for schema, reader, name in common
        )

    def _forms_of(self, node: Schema) -> frozenset[str]:
        return frozenset().union(*map(self.forms, self.leaves(node)))

    def _is_countless(self, node: Schema) -> bool:
        """Whether pydantic counts no fields within a type."""
        return not self._forms_of(node) & {"object", "array"}

    def _refuses(self, reader: Schema, sent: Schema) -> bool:
        """Whether one type surely takes no value of another."""
        return all(
            self._leaf_refuses(one, other)
            for one in self.leaves(reader)
            for other in self.leaves(sent)
        )

    def _leaf_refuses(self, reader: Schema, sent: Schema) -> bool:
        forms, others = self.forms(reader), self.forms(sent)
        if _is_written_by_function(reader) or _is_written_by_function(sent):
            return False
        if reader["type"] in ("literal", "enum"):
            if sent["type"] in ("literal", "enum"):
                return not {_key(one) for one in choices_of(reader)} & {
                    _key(one) for one in choices_of(sent)
                }
            return not forms & others and "boolean" not in others
        if forms & others:
            return False
        # A string may be read as a number, but an object may not, and null is only null.
        loose = {"boolean", "integer", "number", "string"}
        if reader["type"] == "str":
            return True
        return not (forms & loose and others & loose)


_ANY: Schema = {"type": "any"}
_STR: Schema = {"type": "str"}


class _Fields:
    """The fields of a record, under the names that they are written and read by."""

    __slots__ = ("always", "closed", "names", "needs", "open", "required", "schemas")

    def __init__(self, record: Schema) -> None:
        inside = record
        while inside["type"] not in FIELD_SETS and is_schema(inside.get("schema")):
            inside = inside["schema"]
        found = inside.get("fields", {})
        listed = (
            found.items()
            if isinstance(found, dict)
            else [(field["name"], field) for field in found]
        )
        extra = inside.get("extra_behavior") or (record.get("config") or {}).get(
            "extra_fields_behavior"
        )
        self.open = takes_extras(record) or takes_extras(inside)
        self.closed = extra == "forbid"
        self.schemas: dict[str, Schema] = {}
        self.needs: list[set[str]] = []
        always: set[str] = set()
        names: set[str] = set()
        required: set[str] = set()
        typed_dict = inside["type"] == "typed-dict"
        for name, field in listed:
            written = field.get("serialization_alias", name)
            aliases = {name, written, *_flat(field.get("validation_alias"))}
            names |= aliases
            self.schemas[written] = field["schema"]
            default = field["schema"]["type"] == "default"
            needed = field.get("required", not typed_dict) and not default
            if needed:
                self.needs.append(aliases)
                required.add(written)
            if needed or not typed_dict:
                always.add(written)
        self.always = always
        self.names = names
        self.required = required


def _is_written_by_function(leaf: Schema) -> bool:
    return "serialization" in leaf and leaf["serialization"]["type"].startswith("function")


def _is_users(leaf: Schema) -> bool:
    """Whether a function of the user writes the values of a type."""
    if not _is_written_by_function(leaf):
        return False
    function = leaf["serialization"]["function"]
    return not str(getattr(function, "__module__", "")).startswith("pydantic.")


def _flat(alias: Any) -> Iterator[str]:
    if isinstance(alias, str):
        yield alias
    elif isinstance(alias, (list, tuple)) and alias:
        if isinstance(alias[0], (list, tuple)):
            for one in alias:
                yield from _flat(one)
        elif isinstance(alias[0], str):
            yield alias[0]


def _root(model: Schema) -> Schema:
    inside = fields_of(model)
    root: Schema = inside["fields"]["root"]["schema"] if "fields" in inside else model["schema"]
    return root


def _has_root(*records: Schema) -> bool:
    return any(one.get("root_model") for one in records)


def _is_same(one: Schema, other: Schema) -> bool:
    if one["type"] != other["type"]:
        return False
    if "cls" in one:
        return one["cls"] is other.get("cls")
    return one == other


def choices_of(leaf: Schema) -> list[Any]:
    """The members of a literal or an enum, as they are written."""
    if leaf["type"] == "enum":
        return [member.value for member in leaf["members"]]
    return list(leaf.get("expected", ()))


def _has_members(literal: Schema) -> bool:
    return any(type(one) not in (str, int, bool, type(None)) for one in choices_of(literal))


def _form_of(value: Any) -> str:
    for kind, form in (
        (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"),
        ((list, tuple), "array"), (dict, "object"), (type(None), "null"),
    ):  # fmt: skip
        if isinstance(value, kind):
            return form
    return "string"


def _key(value: Any) -> tuple[str, str]:
    return _form_of(value), str(value)


def _scalars_clash(one: Schema, other: Schema) -> bool:
    kinds = {one["type"], other["type"]}
    if kinds <= {"literal", "enum"}:
        if "enum" not in kinds:
            return False
        return bool({_key(a) for a in choices_of(one)} & {_key(b) for b in choices_of(other)})
    if kinds <= {"literal", *_SCALARS}:
        # The value of a literal is one of the other type, too.
        return False
    if len(kinds) == 1 and "enum" not in kinds:
        return False
    if "uuid" in kinds and kinds & _TEMPORAL:
        return False
    if "literal" in kinds or "enum" in kinds:
        listed, rest = (one, other) if one["type"] in ("literal", "enum") else (other, one)
        if rest["type"] in _TEMPORAL or rest["type"] == "uuid":
            return not all(
                isinstance(value, str) and value.isalpha() for value in choices_of(listed)
            )
    return True


def describe(node: Schema, shapes: Shapes) -> str:
    """A choice of a union, as messages call it."""
    names: dict[str, None] = {}
    for leaf in shapes.leaves(node):
        cls = leaf.get("cls") or _class_within(leaf)
        if isinstance(cls, type):
            names[cls.__name__] = None
        else:
            kind: str = leaf["type"]
            names[_NAMES.get(kind, kind)] = None
    return " or ".join(names)


def _class_within(leaf: Schema) -> Any:
    """The class of a type that pydantic describes by functions, such as an address."""
    for name in ("strict_schema", "python_schema"):
        inner = leaf.get(name)
        if isinstance(inner, dict):
            return inner.get("cls") or _class_within(inner)
    # A URL: its class writes it.
    return getattr(leaf.get("serialization", {}).get("function"), "__self__", None)


_NAMES = {
    "any": "Any",
    "counter": "Counter",
    "decimal": "Decimal",
    "fraction": "Fraction",
    "function-after": "a type with a validator",
    "function-before": "a type with a validator",
    "function-plain": "a type with a validator",
    "function-wrap": "a type with a validator",
    "literal": "Literal",
    "none": "None",
    "ordered-dict": "OrderedDict",
    "uuid": "UUID",
}

IN_WORDS = {
    "array": "arrays",
    "boolean": "booleans",
    "integer": "integers",
    "null": "null",
    "number": "numbers",
    "object": "objects",
    "string": "strings",
}
