"""pydantic's core schema of a type: what it says, and how it is edited to keep the wire's rules.

The settings of a nested model win over those of the whole in pydantic, so that no setting from
outside can make all bytes base64; a changed copy of the schema can (protocol.md, VALUE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ..errors import RegistrationError
from .checks import MAX_INT, MIN_INT, check_any, check_json_value, stand_in

Schema = dict[str, Any]

CONFIG: Final[dict[str, Any]] = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "allow_inf_nan": False,
    "ser_json_inf_nan": "constants",
    "serialize_by_alias": True,
    "validate_by_alias": True,
    "validate_by_name": True,
}

# Values that are no schemas, although some are dicts and lists.
_OPAQUE = frozenset(
    {
        "cls", "config", "custom_error_context", "default", "default_factory", "discriminator",
        "expected", "function", "members", "metadata", "ref", "schema_ref", "validation_alias",
    }
)  # fmt: skip

# Dicts of schemas by the user's own names, any of which may be a word that means something here.
_BY_NAME = frozenset({"choices", "fields"})

# Of two branches the one that JSON takes says what can travel.
_NOT_FROM_JSON = frozenset({"python_schema", "strict_schema", "serialization"})

_CONFIGURED = frozenset({"dataclass", "model", "typed-dict"})
_FIELDS = frozenset({"dataclass-field", "model-field", "typed-dict-field"})
_FIELD_SETS = frozenset({"dataclass-args", "model-fields", "typed-dict"})
_SEQUENCES = frozenset({"frozenset", "list", "set", "tuple"})

# Serialised by what the value turns out to be.
_FREE = frozenset({"any", "function-plain", "is-instance"})

# Types for which pydantic's python mode, given what MessagePack decodes to, accepts exactly what
# its JSON mode accepts, with the same result.
_ALIKE = _CONFIGURED | _FIELDS | _FIELD_SETS | _SEQUENCES | frozenset(
    {
        "any", "bool", "bytes", "computed-field", "date", "datetime", "decimal", "default",
        "definition-ref", "definitions", "dict", "enum", "float", "function-after",
        "function-before", "int", "literal", "none", "nullable", "str", "tagged-union", "time",
        "timedelta", "uuid",
    }
)  # fmt: skip

# Types of which a large value is one of long texts, and that python mode takes as JSON mode does,
# without a function of the user's that could tell the modes apart.
_TEXTUAL = _CONFIGURED | _FIELDS | _FIELD_SETS | frozenset(
    {"bool", "default", "enum", "int", "literal", "none", "nullable", "str"}
)  # fmt: skip

# Types that strict python mode refuses in the form in which they travel.
_STRICT_MATTERS = frozenset(
    {
        "bytes", "dataclass", "date", "datetime", "decimal", "deque", "enum", "frozenset", "model",
        "multi-host-url", "named-tuple", "set", "time", "timedelta", "tuple", "url", "uuid",
    }
)  # fmt: skip

_REFUSED = {
    "callable": "a function cannot travel in a value",
    "generator": "an iterable cannot travel; write list[…], or AsyncIterator[…] for a stream",
    "is-instance": "pydantic has no JSON form of this class; use a model, dataclass or TypedDict",
    "is-subclass": "a class cannot travel",
}


def _is_schema(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("type"), str)


def rewrite(node: Any, edit: Callable[[Schema], Schema]) -> Any:
    """A copy of a core schema with `edit` applied to every schema in it, the inner ones first.

    Classes and functions are shared, not copied.
    """
    if isinstance(node, (list, tuple)):
        return type(node)(rewrite(one, edit) for one in node)
    if not isinstance(node, dict):
        return node
    copy = {
        key: _rewrite_part(key, value, edit)
        for key, value in node.items()
        if key != "serialization"
    }
    if "serialization" in node:
        copy["serialization"] = {
            key: rewrite(value, edit) if key in ("schema", "return_schema") else value
            for key, value in node["serialization"].items()
        }
    return edit(copy) if _is_schema(copy) else copy


def _rewrite_part(key: str, value: Any, edit: Callable[[Schema], Schema]) -> Any:
    if key in _OPAQUE:
        return value
    if key in _BY_NAME and isinstance(value, dict):
        return {name: rewrite(one, edit) for name, one in value.items()}
    return rewrite(value, edit)


def simplified(schema: Schema) -> Schema:
    """The schema with pydantic's JsonValue, a Python function a node, in one node of its own."""

    def edit(schema: Schema) -> Schema:
        if schema["type"] == "json-or-python" and str(schema.get("ref", "")).startswith(
            _JSON_VALUE
        ):
            return {"type": "any", "ref": schema["ref"], "metadata": {_JSON_ONLY: True}}
        return schema

    simple: Schema = rewrite(schema, edit)
    if simple["type"] == "definitions" and simple["schema"]["type"] == "definition-ref":
        (target,) = (
            one for one in simple["definitions"] if one["ref"] == simple["schema"]["schema_ref"]
        )
        if target["type"] == "any":
            return {key: value for key, value in target.items() if key != "ref"}
    return simple


def is_json_only(schema: Schema) -> bool:
    """Whether a schema is what `simplified` makes of JsonValue."""
    return _JSON_ONLY in (schema.get("metadata") or {})


# Types whose values nobody can change.
_UNCHANGING = frozenset(
    {
        "bool", "bytes", "date", "datetime", "decimal", "enum", "float", "int", "literal", "none",
        "str", "time", "timedelta", "uuid",
    }
)  # fmt: skip


def is_flat(schema: Schema) -> bool:
    """Whether values of a type hold only values that nobody can change.

    So does a model, dataclass or TypedDict of plain fields: who holds the only reference to one
    knows that it stays as it is.
    """
    if "serialization" in schema:
        return False
    kind = schema["type"]
    if kind in ("default", "nullable", "dataclass-field", "model-field", "typed-dict-field"):
        return _is_unchanging(schema["schema"])
    if kind in ("model", "dataclass"):
        return (
            not schema.get("root_model") and not _takes_extras(schema) and is_flat(schema["schema"])
        )
    if kind in ("dataclass-args", "model-fields", "typed-dict"):
        fields = schema["fields"]
        return (
            not schema.get("computed_fields")
            and not _takes_extras(schema)
            and all(map(is_flat, fields.values() if isinstance(fields, dict) else fields))
        )
    return kind in _UNCHANGING


def _takes_extras(schema: Schema) -> bool:
    config = schema.get("config") or {}
    return "allow" in (schema.get("extra_behavior"), config.get("extra_fields_behavior"))


def _is_unchanging(schema: Schema) -> bool:
    if "serialization" in schema:
        return False
    if schema["type"] in ("default", "nullable"):
        return _is_unchanging(schema["schema"])
    return schema["type"] in _UNCHANGING


# What msgspec writes of these, once they are validated, is byte for byte what pydantic writes.
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
        not _takes_extras(schema)
        and not schema.get("computed_fields")
        and all(
            field.keys() <= _FIELD_SAYS_NO_MORE
            and field["schema"]["type"] in _SAME_JSON
            and "serialization" not in field["schema"]
            for field in schema["fields"].values()
        )
    )


_JSON_VALUE = "pydantic.types.JsonValue:"
_JSON_ONLY = "wsrpc_json_only"


class _Place:
    """A schema within a type: where it is, and which model's settings it falls under."""

    __slots__ = ("config", "path", "schema")

    def __init__(self, schema: Schema, path: str, config: dict[str, Any]) -> None:
        self.schema = schema
        self.path = path
        self.config = config

    @property
    def kind(self) -> str:
        kind: str = self.schema["type"]
        return kind


def _places(node: Any, path: str = "", config: dict[str, Any] | None = None) -> Iterator[_Place]:
    """Every schema that a value from the wire may meet."""
    if isinstance(node, (list, tuple)):
        for one in node:
            yield from _places(one, path, config)
    elif isinstance(node, dict):
        if _is_schema(node):
            config = node.get("config") or {} if node["type"] in _CONFIGURED else config or {}
            if node["type"] in _CONFIGURED:
                path = node["cls"].__name__ if "cls" in node else path
            elif node["type"] == "dataclass-field":
                path = f"{path}.{node['name']}"
            yield _Place(node, path, config)
        for key, value in node.items():
            if key in _OPAQUE or key in _NOT_FROM_JSON:
                continue
            if key in _BY_NAME and isinstance(value, dict):
                for name, inner in value.items():
                    yield from _places(inner, f"{path}.{name}" if key == "fields" else path, config)
            else:
                yield from _places(value[:1] if key == "steps" else value, path, config)


def _at(where: str, place: _Place) -> str:
    return f"{where}: {place.path}" if place.path else where


class Facts:
    """What there is to know about a type before it is compiled.

    Attributes:
        schema: pydantic's core schema of it.
        any: Whether it holds Any.
        bytes: Whether it holds bytes.
        deep: Whether its values may be nested without bound.
        floats: Whether a NaN might come out of it.
        free: Whether anything at all might, because it holds Any or a serialiser of its own.
        native: Whether bytes might.
        keys: Whether it holds objects with keys of the user's own.
        keyed: Whether it holds an object whose keys are declared as something else than strings.
        alike: Whether python mode agrees with JSON mode about it.
        textual: The same, and whether a large value of it can only be one of long texts.
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
        places = list(_places(schema))
        kinds = {place.kind for place in places}
        strict = [place for place in places if _is_strict(place)]
        keys = {_key_type(place.schema) for place in places} - {None}
        reach = _Reach(schema)
        self.any = "any" in kinds
        self.free = bool(kinds & _FREE) or any("serialization" in one.schema for one in places)
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
            and not any(_takes_extras(place.schema) for place in places)
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


def _is_strict(place: _Place) -> bool:
    if place.kind not in _STRICT_MATTERS:
        return False
    return bool(place.schema.get("strict", place.config.get("strict", False)))


def _refuse_kinds(places: list[_Place], where: str) -> None:
    for place in places:
        if place.kind in _REFUSED:
            raise RegistrationError(f"{_at(where, place)}: {_REFUSED[place.kind]}")


def _refuse_bytes_settings(places: list[_Place], where: str) -> None:
    for place in places:
        for key in ("ser_json_bytes", "val_json_bytes") if place.kind == "bytes" else ():
            chosen = place.config.get(key, "base64")
            if chosen != "base64":
                raise RegistrationError(
                    f"{_at(where, place)} holds bytes and its model sets {key}={chosen!r}, but "
                    "bytes travel as base64 in JSON and as they are in MessagePack; drop the "
                    "setting"
                )


def _refuse_ambiguous_bytes(places: list[_Place], where: str) -> None:
    """Bytes are strings in JSON: what only their Python type tells from others is lost there."""
    for place in places:
        if place.kind == "union" and {"bytes", "str"} <= set(_choices(place.schema)):
            raise RegistrationError(
                f"{_at(where, place)} is a union of str and bytes, which are both strings in "
                "JSON; put the bytes into a model or TypedDict"
            )
        values = [*place.schema.get("expected", ()), *_enum_values(place.schema)]
        if any(isinstance(value, bytes) for value in values):
            raise RegistrationError(
                f"{_at(where, place)} has bytes among its choices, which are strings in JSON; use "
                "strings"
            )


def _choices(union: Schema) -> Iterator[str]:
    """The types of a union's choices, wrappers taken off."""
    for choice in union["choices"]:
        node = choice[0] if isinstance(choice, tuple) else choice
        while node["type"] not in _CONFIGURED and _is_schema(node.get("schema")):
            node = node["schema"]
        yield node["type"]


def _enum_values(schema: Schema) -> Iterator[Any]:
    if schema["type"] == "enum":
        for member in schema["members"]:
            yield member.value


def _refuse_strict(strict: list[_Place], where: str) -> None:
    for place in strict:
        raise RegistrationError(
            f"{_at(where, place)} is strict within a type that also holds Any, so that "
            "MessagePack and JSON would not accept the same values; drop strict, or give the "
            "Any a type"
        )


_OBJECTS = frozenset({"counter", "dataclass", "dict", "model", "ordered-dict", "typed-dict"})
_ARRAYS = frozenset({"deque", "frozenset", "list", "named-tuple", "set", "tuple"})


class _Reach:
    """Which definitions of a schema lead to which."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = {
            one["ref"]: one for one in schema.get("definitions", ())
        }
        direct = {ref: self._refs(one) for ref, one in self.definitions.items()}
        self._far = {ref: self._closure(direct, refs) for ref, refs in direct.items()}

    @staticmethod
    def _refs(node: Any) -> set[str]:
        return {
            place.schema["schema_ref"] for place in _places(node) if place.kind == "definition-ref"
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
            for place in _places(definition):
                if place.kind == "union" and self._explodes(place.schema, home):
                    raise RegistrationError(
                        f"{_at(where, place)} is a recursive union without a discriminator, of "
                        "which 200 wrong bytes make 50,000 errors; use Field(discriminator=…), "
                        "or pydantic.JsonValue for any JSON"
                    )

    def _explodes(self, union: Schema, home: str) -> bool:
        """Whether two choices of one JSON shape lead back, so that errors double at each level.

        An object and an array beside each other do no harm: one of them fails at once.
        """
        choices = [one[0] if isinstance(one, tuple) else one for one in union["choices"]]
        shapes = [self._shape(one) for one in choices if home in self._of(one)]
        return len(shapes) > 1 and ("unknown" in shapes or len(set(shapes)) < len(shapes))

    def _shape(self, node: Schema) -> str:
        while node["type"] not in _OBJECTS and node["type"] not in _ARRAYS:
            if node["type"] == "definition-ref":
                node = self.definitions[node["schema_ref"]]
            elif _is_schema(node.get("schema")):
                node = node["schema"]
            else:
                return "unknown"
        return "object" if node["type"] in _OBJECTS else "array"


# --- The edits -------------------------------------------------------------------------------------


def for_validation(
    *, checked: bool, strict_bytes: bool, fail_fast: bool
) -> Callable[[Schema], Schema]:
    """The edit for validators.

    Args:
        checked: Look into values of type Any.
        strict_bytes: Take no string for bytes: in JSON it is base64, in MessagePack just a string.
        fail_fast: Stop at the first wrong element of a list.
    """

    def edit(schema: Schema) -> Schema:
        schema.pop("serialization", None)
        kind = schema["type"]
        if kind in _CONFIGURED:
            schema["config"] = {**(schema.get("config") or {}), **CONFIG}
        elif kind in _FIELDS:
            _accept_own_output(schema)
        elif kind == "int":
            _bound(schema)
        elif kind == "float":
            schema["allow_inf_nan"] = False
        elif kind == "bytes" and strict_bytes:
            schema["strict"] = True
        elif kind == "any" and checked:
            return _followed_by(schema, check_json_value if is_json_only(schema) else check_any)
        elif kind in _SEQUENCES and fail_fast:
            schema["fail_fast"] = True
        return schema

    return edit


def _accept_own_output(field: Schema) -> None:
    """Let what is written under a serialisation alias be read under it."""
    written = field.get("serialization_alias")
    read = field.get("validation_alias")
    if written is None or written == read:
        return
    if read is None:
        field["validation_alias"] = written
    elif isinstance(read, str):
        field["validation_alias"] = [[read], [written]]
    elif read and isinstance(read[0], list):
        field["validation_alias"] = [*read, [written]]
    else:
        field["validation_alias"] = [read, [written]]


def _bound(integer: Schema) -> None:
    if "gt" not in integer:
        integer["ge"] = max(integer.get("ge", MIN_INT), MIN_INT)
    if "lt" not in integer:
        integer["le"] = min(integer.get("le", MAX_INT), MAX_INT)


def _followed_by(schema: Schema, function: Callable[[Any], Any]) -> Schema:
    ref = {"ref": schema.pop("ref")} if "ref" in schema else {}
    return {
        "type": "function-after",
        "schema": schema,
        "function": {"type": "no-info", "function": function},
        **ref,
    }


def for_serialization(
    free: Callable[[Any], Any],
    *,
    native: bool,
    exact_keys: bool,
) -> Callable[[Schema], Schema]:
    """The edit for serialisers.

    Args:
        free: Turns what stands for Any into a plain value.
        native: Leave stand-ins for bytes instead of base64.
        exact_keys: Refuse keys with lone surrogates, which pydantic would replace.
    """
    plain = _serializer(free, {"type": "any"})

    def edit(schema: Schema) -> Schema:
        kind = schema["type"]
        own = schema.get("serialization")
        if kind in _CONFIGURED:
            _drop_computed_if_unreadable(schema)
            schema["config"] = {**(schema.get("config") or {}), **CONFIG}
        elif "keys_schema" in schema:
            _edit_keys(schema["keys_schema"], exact_keys)
        leaf = None
        if kind in _FREE:
            leaf = plain
        elif kind == "bytes" and native:
            leaf = _serializer(stand_in, {"type": "str"})
        if own is None:
            if leaf is not None:
                schema["serialization"] = leaf
        elif own["type"] == "any":
            schema["serialization"] = plain
        elif own["type"] in ("function-plain", "function-wrap"):
            own.setdefault("return_schema", {"type": "any", "serialization": plain})
            if own["type"] == "function-wrap" and leaf is not None:
                own.setdefault("schema", {"type": kind, "serialization": leaf})
        return schema

    return edit


def _edit_keys(keys: Schema, exact: bool) -> None:
    if keys["type"] == "bytes":
        # A key is a string in both codecs.
        keys.pop("serialization", None)
    elif keys["type"] == "str" and exact:
        keys["serialization"] = _serializer(_encodable, {"type": "str"})


def _encodable(key: str) -> str:
    key.encode()
    return key


def _serializer(function: Callable[[Any], Any], result: Schema) -> Schema:
    return {"type": "function-plain", "function": function, "return_schema": result}


def _drop_computed_if_unreadable(schema: Schema) -> None:
    """Leave out computed fields where the class, by refusing fields unknown to it, refuses them."""
    if (schema.get("config") or {}).get("extra_fields_behavior") != "forbid":
        return
    fields = schema
    while fields["type"] not in _FIELD_SETS and "schema" in fields:
        fields = fields["schema"]
    if "computed_fields" in fields:
        fields["computed_fields"] = []
