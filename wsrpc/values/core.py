"""Compiled types: each is compiled once, for all adapters that use it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, cast, get_args, get_origin
from weakref import WeakValueDictionary

import msgspec
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaError, SchemaSerializer, SchemaValidator, to_jsonable_python
from typing_extensions import Unpack

from ..errors import RegistrationError
from .checks import BYTES, MOMENTS, check_moments, dicts_with_odd_keys, protected, with_bytes
from .edits import for_serialization, for_validation
from .facts import Facts
from .pydantic_schema import CONFIG, Schema, rewrite, simplified

# See `adapter`: a warning that this module issues is an error.
__warningregistry__ = ()


# The texts in which keys of these types travel.
_KEYS = {
    "bool": "^(true|false)$",
    "decimal": "^[0-9eE.+-]+$",
    "float": "^[0-9eE.+-]+$",
    "int": "^-?[0-9]+$",
}


class WireSchema(GenerateJsonSchema):
    """The JSON Schema of values as they travel: bytes are base64url."""

    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        known = super().bytes_schema(schema)
        return {**known, "format": "base64url", "contentEncoding": "base64url"}

    # Formats that JSON Schema has no word for, and that a reader must not take for just any string.

    def complex_schema(self, schema: Any) -> JsonSchemaValue:
        return {**super().complex_schema(schema), "format": "complex"}

    def fraction_schema(self, schema: Any) -> JsonSchemaValue:
        return {**super().fraction_schema(schema), "format": "fraction"}

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().decimal_schema(schema)
        for one in (described, *described.get("anyOf", ())):
            if one.get("type") == "string":
                one["format"] = "decimal"
        return described

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().dict_schema(schema)
        pattern = _KEYS.get(schema.get("keys_schema", {}).get("type"))
        if pattern is not None:
            described.setdefault("propertyNames", {"pattern": pattern})
        return described

    def field_is_required(self, field: Any, total: bool) -> bool:
        """A value that leaves has all its fields, with or without a default."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return True
        return super().field_is_required(field, total)

    # The name of the class tells a reader of two schemas that they describe one type.

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        return _identified(super().model_schema(schema), schema)

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return _identified(super().dataclass_schema(schema), schema)

    def typed_dict_schema(self, schema: Any) -> JsonSchemaValue:
        return _identified(super().typed_dict_schema(schema), schema)

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        return _identified(super().enum_schema(schema), schema)


def _identified(described: JsonSchemaValue, schema: Any) -> JsonSchemaValue:
    cls = schema.get("cls")
    if not isinstance(cls, type) or "$ref" in described:
        return described
    return {**described, "x-type": f"{cls.__module__}:{cls.__qualname__}"}


class Core:
    """The compiled form of a type, shared by all adapters for it.

    Parts that are seldom used are compiled when they are first needed.
    """

    __slots__ = ("__weakref__", "_built", "adapter", "facts")

    def __init__(self, adapter: TypeAdapter[Any] | None, facts: Facts) -> None:
        self.adapter = adapter
        self.facts = facts
        self._built: dict[Any, Any] = {}

    def validator(
        self,
        *,
        checked: bool = False,
        strict_bytes: bool = False,
        fail_fast: bool = False,
        many: bool = False,
    ) -> SchemaValidator:
        key = (checked, strict_bytes, fail_fast, many)
        if key not in self._built:
            edit = for_validation(
                checked=checked and self.facts.any, strict_bytes=strict_bytes, fail_fast=fail_fast
            )
            schema: Any = rewrite(self.facts.schema, edit)
            schema = _listed(schema, fail_fast) if many else schema
            self._built[key] = SchemaValidator(schema, cast(Any, CONFIG), _use_prebuilt=False)
        return cast(SchemaValidator, self._built[key])

    def serializer(
        self, *, native: bool = False, exact_keys: bool = False, many: bool = False
    ) -> SchemaSerializer:
        key = (native, exact_keys, many)
        if key not in self._built:
            free = _protected if native else exactly if exact_keys else builtins
            edit = for_serialization(free, native=native, exact_keys=exact_keys)
            schema: Any = rewrite(self.facts.schema, edit)
            schema = _listed(schema, fail_fast=False) if many else schema
            self._built[key] = SchemaSerializer(schema, cast(Any, CONFIG), _use_prebuilt=False)
        return cast(SchemaSerializer, self._built[key])

    def to_plain(self, value: Any, **options: Any) -> Any:
        """`value` in JSON's own types and bytes."""
        native = self.facts.native
        serializer = self._built.get((native, False, False)) or self.serializer(native=native)
        if not native:
            return serializer.to_python(value, mode="json", **options)
        return with_bytes(lambda: serializer.to_python(value, mode="json", **options))


def _listed(schema: Schema, fail_fast: bool) -> Schema:
    if schema["type"] == "definitions":
        return {**schema, "schema": _listed(schema["schema"], fail_fast)}
    return {"type": "list", "items_schema": schema, "fail_fast": fail_fast}


_cores: WeakValueDictionary[Any, Core] = WeakValueDictionary()


def core_of(
    annotation: Any, where: str, approve: Callable[[Facts, str], None] = lambda facts, where: None
) -> Core:
    """The compiled form of a type.

    Args:
        annotation: The type.
        where: The name of its place in messages.
        approve: Called once with the facts about a new type; it may refuse the type.

    Raises:
        RegistrationError: The type cannot travel.
    """
    # `A | B` equals `B | A`, but their order may matter to pydantic, so the text is a part of the
    # key.
    key = (annotation, str(annotation))
    try:
        core = _cores.get(key)
    except TypeError:
        return _compiled(annotation, where, approve)
    if core is None:
        core = _cores[key] = _compiled(annotation, where, approve)
    return core


def _compiled(annotation: Any, where: str, approve: Callable[[Facts, str], None]) -> Core:
    if _holds_unpacked(annotation):
        # pydantic takes it for one element, which is a tuple itself.
        raise RegistrationError(
            f"{where}: a tuple with a part of any length in it (*tuple[…]) cannot be checked; "
            "write tuple[X, ...], or a list beside the other elements"
        )
    try:
        adapter = TypeAdapter(annotation)
        schema = simplified(dict(adapter.core_schema))
    except PydanticSchemaGenerationError as error:
        what = str(error).split("\n")[0].split(". Set `arbitrary")[0]
        raise RegistrationError(f"{where}: {what}{_instead(what)}") from error
    except (PydanticUserError, SchemaError) as error:
        lines = str(error).split("\n")
        # pydantic-core tells the cause on its second line.
        reason = " ".join(lines[:2] if isinstance(error, SchemaError) else lines[:1])
        raise RegistrationError(f"{where}: {reason}") from error
    except Exception as error:
        # A function of the user's raised it, or pydantic did, which had no better error.
        reason = " ".join(traceback.format_exception_only(error)[-1].split())
        raise RegistrationError(f"{where}: pydantic made no schema of it: {reason}") from error
    facts = Facts(schema, where)
    approve(facts, where)
    return Core(adapter, facts)


def _holds_unpacked(annotation: Any) -> bool:
    return any(
        get_origin(one) is Unpack or getattr(one, "__unpacked__", False) or _holds_unpacked(one)
        for one in get_args(annotation)
    )


def _instead(what: str) -> str:
    """The advice after a sentence about a type for which pydantic has no schema."""
    if "explicit default factory" in what:
        # The sentence itself says how to write the type.
        return ""
    if "'bytearray'" in what or "'memoryview'" in what:
        return "; declare bytes"
    if "'range'" in what:
        return "; declare list[int]"
    if any(f".{name}[" in what for name in ("Iterator", "Collection", "Container", "Reversible")):
        return "; declare list[…], or AsyncIterator[…] for a stream"
    return "; use a model, dataclass or TypedDict"


# --- Any -------------------------------------------------------------------------------------------


def builtins(value: Any) -> Any:
    """`value`, of any type, in JSON's own types and bytes."""
    return msgspec.to_builtins(
        value, builtin_types=BYTES, str_keys=True, enc_hook=_builtins_of_other
    )


def exactly(value: Any) -> Any:
    """The same as `builtins`, for values that do not change on the way.

    Raises:
        ValueError: It holds a moment whose text would be another one, or an object with two keys of
            one text.
    """
    kept = msgspec.to_builtins(value, builtin_types=(*BYTES, *MOMENTS), enc_hook=_builtins_of_other)
    check_moments(kept)
    for one in dicts_with_odd_keys(value):
        if len(builtins(dict.fromkeys(one))) != len(one):
            keys = ", ".join(map(repr, one))
            raise ValueError(f"Two keys of an object are the same text in JSON: {keys:.200}")
    return builtins(value)


def _builtins_of_other(value: Any) -> Any:
    kind = type(value)
    if hasattr(kind, "__pydantic_core_schema__"):
        return core_of(kind, kind.__name__).to_plain(value, warnings="error")
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="constants")


def _protected(value: Any) -> Any:
    return protected(builtins(value))
