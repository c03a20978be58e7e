"""The types of a contract, as a small tree that every printer walks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

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
    "Kind",
    "Method",
    "Model",
    "Parameter",
    "Record",
    "Reference",
    "Scalar",
    "Tuple",
    "Type",
    "Union",
]

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
        wanted: The name that it asks for.
        leaving: Whether it is the type of leaving values only.
        identity: `module:name` of the class at the other end, or "".
        name: The name that it has, once all are known.
        type: The type that it stands for.
        doc: Its documentation in the contract.
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
    # Milliseconds after which the callee cancels a call.
    timeout: int | None


@dataclass(frozen=True, slots=True)
class Controller:
    """One controller."""

    name: str
    doc: str
    methods: tuple[Method, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """The content of a contract.

    Attributes:
        controllers: The controllers, in the order of the contract.
        definitions: The named types, those of arriving values first.
        warnings: The parts of schemas that types cannot express, and their replacements.
    """

    controllers: tuple[Controller, ...]
    definitions: tuple[Definition, ...]
    warnings: tuple[str, ...]
