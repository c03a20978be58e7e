"""A contract as Python: a Protocol for each controller, pydantic models for the values."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from .model import read
from .names import ContractError, controller_names, docstring
from .types import (
    Array,
    Callback,
    Choice,
    Controller,
    Definition,
    Dictionary,
    ErrorType,
    Field,
    Intersection,
    Method,
    Model,
    Parameter,
    Record,
    Reference,
    Scalar,
    Tuple,
    Type,
    Union,
)

__all__ = ["python"]

_FORMATS = {
    "date-time": "dt.datetime",
    "date": "dt.date",
    "time": "dt.time",
    "duration": "dt.timedelta",
    "uuid": "uuid.UUID",
    "base64url": "bytes",
}
_SCALARS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "any": "object",
    "never": "Never",
    "json": "JsonValue",
}

# The modules of the names that may stand in the code, in the order of imports.
_IMPORTS = {
    "collections.abc": ("AsyncIterator", "Awaitable", "Callable"),
    "typing": ("Annotated", "Literal", "Never", "Protocol", "TypeAlias"),
    "pydantic": ("BaseModel", "ConfigDict", "Field", "JsonValue"),
    "typing_extensions": ("NotRequired", "TypedDict"),
}

# Names that an attribute of a model would hide.
_TAKEN = set(dir(BaseModel))

RESERVED = {
    *(name for names in _IMPORTS.values() for name in names),
    *keyword.kwlist,
    *("bool", "bytes", "dict", "dt", "float", "int", "list", "object", "set", "str", "tuple"),
    *("T", "uuid", "wsrpc"),
}


def python(contract: Any, *, only: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
    """The text of a module, and warnings about it.

    Args:
        contract: As `wsrpc schema` writes it.
        only: Controllers to take; all where it is empty.

    Raises:
        ContractError: No code can be written for the contract.
    """
    names = controller_names(contract, only, RESERVED)
    model = read(contract, only=only, reserved=RESERVED | set(names.values()))
    text = _Printer(model, names).module()
    _check_shape(text)
    return text, model.warnings


class _Printer:
    def __init__(self, model: Model, names: Mapping[str, str]) -> None:
        self._model = model
        self._names = names
        self._uses: set[str] = set()

    def module(self) -> str:
        """The whole text."""
        definitions = [self._definition(one) for one in self._model.definitions]
        errors = self._errors()
        controllers = [self._controller(one) for one in self._model.controllers]
        body = "\n\n".join([*definitions, *errors, *controllers])
        return f"{self._head(body)}\n\n{body}" if body else self._head(body)

    def _head(self, body: str) -> str:
        lines = [
            '"""Made by `wsrpc gen py`; do not edit."""\n\nfrom __future__ import annotations\n\n'
        ]
        plain = [
            f"import {module}\n" for module in ("datetime as dt", "uuid") if module in self._uses
        ]
        groups: list[list[str]] = [plain, []]
        for module, names in _IMPORTS.items():
            used = [name for name in names if name in self._uses]
            if used:
                # The standard library first, then the others.
                where = 0 if module in ("collections.abc", "typing") else 1
                groups[where].append(f"from {module} import {', '.join(used)}\n")
        groups.append(["import wsrpc\n"])
        return lines[0] + "\n".join("".join(group) for group in groups if group)

    def _use(self, name: str) -> str:
        self._uses.add(name)
        return name

    # --- types

    def _definition(self, one: Definition) -> str:
        if isinstance(one.type, Record) and one.type.fields:
            return self._record(one, one.type)
        text = self._type(one.type)
        return f"{one.name}: {self._use('TypeAlias')} = {text!r}\n"

    def _record(self, one: Definition, record: Record) -> str:
        about = docstring(one.doc, "    ")
        attributes = _attributes(record)
        if any(not field.required and not field.has_default for field in record.fields):
            return self._typed_dict(one, record, about)
        extra = ', extra="allow"' if record.extra is not None else ""
        config = f"    model_config = {self._use('ConfigDict')}(populate_by_name=True{extra})\n"
        fields = "".join(self._field(field, attributes[field.name]) for field in record.fields)
        between = "\n" if about else ""
        return f"class {one.name}({self._use('BaseModel')}):\n{about}{between}{config}{fields}"

    def _field(self, field: Field, attribute: str) -> str:
        kind = self._type(field.type)
        facts = []
        if not field.required:
            facts += [f"default={field.default!r}"]
            if (
                not isinstance(field.default, (str, int, float, bool, type(None)))
                or isinstance(field.type, Reference)
                or field.format
            ):
                facts += ["validate_default=True"]
        if attribute != field.name:
            facts.append(f"alias={field.name!r}")
        if field.doc:
            facts.append(f"description={field.doc!r}")
        if field.deprecated:
            facts.append("deprecated=True")
        if len(facts) == 1 and not field.required:
            return f"    {attribute}: {kind} = {field.default!r}\n"
        value = f" = {self._use('Field')}({', '.join(facts)})" if facts else ""
        return f"    {attribute}: {kind}{value}\n"

    def _typed_dict(self, one: Definition, record: Record, about: str) -> str:
        """A TypedDict for a record with properties that may be absent, which a model would send."""
        kinds: dict[str, str] = {}
        for field in record.fields:
            kind = self._type(field.type)
            kinds[field.name] = kind if field.required else f"{self._use('NotRequired')}[{kind}]"
        base = self._use("TypedDict")
        if all(name.isidentifier() and not keyword.iskeyword(name) for name in kinds):
            fields = "".join(f"    {name}: {kind}\n" for name, kind in kinds.items())
            return f"class {one.name}({base}):\n{about}{fields}"
        body = ", ".join(f"{name!r}: {kind!r}" for name, kind in kinds.items())
        return f"{one.name} = {base}({one.name!r}, {{{body}}})\n"

    def _type(self, one: Type) -> str:
        match one:
            case Reference(to):
                return to.name
            case Scalar():
                return self._scalar(one)
            case Choice(values):
                return self._choice(values)
            case Union(members, tag):
                return self._union(members, tag)
            case Intersection(members):
                return self._type(members[0]) if len(members) == 1 else "object"
            case Array(item, unique):
                return f"{'set' if unique else 'list'}[{self._type(item)}]"
            case Tuple(items, _, rest):
                return self._tuple(items, rest)
            case Dictionary(key, value):
                return f"dict[{self._type(key)}, {self._type(value)}]"
            case Record():
                return "dict[str, object]"

    def _scalar(self, one: Scalar) -> str:
        name = _SCALARS[one.name]
        if one.name == "string" and one.format in _FORMATS:
            name = _FORMATS[one.format]
            if "." in name:
                self._use("datetime as dt" if name.startswith("dt.") else "uuid")
        return self._use(name)

    def _choice(self, values: tuple[Any, ...]) -> str:
        # A float is no literal in Python.
        if any(isinstance(value, float) for value in values):
            return "float"
        shown = ", ".join(repr(value) for value in values)
        return "None" if values == (None,) else f"{self._use('Literal')}[{shown}]"

    def _union(self, members: tuple[Type, ...], tag: str | None) -> str:
        shown = list(dict.fromkeys(self._type(one) for one in members))
        if "object" in shown:
            return "object"
        kept = [one for one in shown if one != "None"]
        text = " | ".join([*kept, *(["None"] if "None" in shown else [])])
        if tag is None or "None" in shown:
            return text
        return f"{self._use('Annotated')}[{text}, {self._use('Field')}(discriminator={tag!r})]"

    def _tuple(self, items: tuple[Type, ...], rest: Type | None) -> str:
        if not items and rest is None:
            return "tuple[()]"
        if rest is None:
            return f"tuple[{', '.join(self._type(one) for one in items)}]"
        return f"list[{self._type(rest) if not items else 'object'}]"

    # --- methods

    def _errors(self) -> list[str]:
        found: dict[str, ErrorType] = {}
        for controller in self._model.controllers:
            for method in controller.methods:
                for error in method.errors:
                    found.setdefault(error.name, error)
        taken = {one.name for one in self._model.definitions} | set(self._names.values()) | RESERVED
        made: list[str] = []
        for error in found.values():
            name = f"{error.name}Error" if error.name in taken else error.name
            renamed = f"    type_name = {error.name!r}\n" if name != error.name else ""
            about = docstring(f"Raised with the code {error.code}.", "    ")
            made.append(
                f"class {name}(wsrpc.RpcError[{self._type(error.data)}], replace=True):\n"
                f"{about}{chr(10) if renamed else ''}{renamed}"
            )
        return made

    def _controller(self, one: Controller) -> str:
        name = self._names[one.name]
        about = docstring(one.doc, "    ")
        renamed = f"    controller_name = {one.name!r}\n" if name != one.name else ""
        methods = [self._method(one.name, method) for method in one.methods]
        parts = [part for part in (about, renamed, *methods) if part]
        body = "\n".join(parts) if parts else "    ...\n"
        return f"class {name}({self._use('Protocol')}):\n{body}"

    def _method(self, controller: str, method: Method) -> str:
        for name in (method.name, *(one.name for one in method.parameters)):
            if keyword.iskeyword(name) or name == "self":
                raise ContractError(
                    f"controllers.{controller}.methods.{method.name}",
                    f"{name!r} cannot be a name in Python",
                )
        how = []
        if method.kind == "notify":
            how.append("oneway=True")
        if method.idempotent and not method.tracked:
            how.append("idempotent=True")
        if method.timeout is not None:
            how.append(f"timeout={method.timeout / 1000:g}")
        decorator = f"    @wsrpc.method{'(' + ', '.join(how) + ')' if how else ''}\n"
        ordered = sorted(method.parameters, key=lambda one: not one.required)
        signature = "".join(f", {self._parameter(one)}" for one in ordered)
        about = docstring(_described(method), "        ")
        body = f"{about}        ...\n"
        if method.kind == "stream":
            returns = f"{self._use('AsyncIterator')}[{self._item(method)}]"
            return f"{decorator}    def {method.name}(self{signature}) -> {returns}:\n{body}"
        result = "None" if method.result is None else self._type(method.result)
        return f"{decorator}    async def {method.name}(self{signature}) -> {result}:\n{body}"

    def _item(self, method: Method) -> str:
        assert method.item is not None
        item = self._type(method.item)
        if method.tracked:
            item = f"wsrpc.Tracked[{item}]"
        return item if method.final is None else f"{item} | wsrpc.Final[{self._type(method.final)}]"

    def _parameter(self, one: Parameter) -> str:
        if isinstance(one.type, Callback):
            arguments = ", ".join(self._type(kind) for _, kind in one.type.arguments)
            result = self._type(one.type.result)
            kind = f"{self._use('Callable')}[[{arguments}], {self._use('Awaitable')}[{result}]]"
        else:
            kind = self._type(one.type)
            if one.kind == "upload":
                kind = f"{self._use('AsyncIterator')}[{kind}]"
        if one.required:
            return f"{one.name}: {kind}"
        return (
            f"{one.name}: {kind} = ..."
            if one.kind == "value"
            else f"{one.name}: {kind} | None = None"
        )


def _described(method: Method) -> str:
    """A method's text, with the texts of its parameters."""
    said = [f"    {one.name}: {one.doc}" for one in method.parameters if one.doc]
    if not said or "Args:" in method.doc:
        return method.doc
    return "\n".join([method.doc, "", "Args:", *said] if method.doc else ["Args:", *said])


def _attributes(record: Record) -> dict[str, str]:
    """A name in Python for each property; properties with another name get an alias."""
    made: dict[str, str] = {}
    for field in record.fields:
        name = "".join(
            one if (one.isalnum() and one.isascii()) or one == "_" else "_" for one in field.name
        )
        name = name.lstrip("_") or "field"
        if name[0].isdigit():
            name = f"field_{name}"
        if (
            keyword.iskeyword(name)
            or name in _TAKEN
            or name in RESERVED
            or name.startswith("model_")
        ):
            name += "_"
        while name in made.values():
            name += "_"
        made[field.name] = name
    return made


_CALLED = {"ConfigDict", "Field", "TypedDict", "method"}


def _check_shape(text: str) -> None:
    """Check that the code has only statements of this module: a contract must not add any."""
    allowed = (
        ast.Module, ast.Import, ast.ImportFrom, ast.alias, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef,
        ast.arguments, ast.arg, ast.AnnAssign, ast.Assign, ast.Expr, ast.Constant, ast.Name, ast.Attribute,
        ast.Subscript, ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.BitOr, ast.Call, ast.keyword, ast.Load,
        ast.Store, ast.UnaryOp, ast.USub,
    )  # fmt: skip
    for node in ast.walk(ast.parse(text)):
        assert isinstance(node, allowed), ast.dump(node)[:100]
        if isinstance(node, ast.Call):
            called = (
                node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            )
            assert called in _CALLED, called
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), ast.dump(node)[:100]
