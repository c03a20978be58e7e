"""A contract as TypeScript: an interface and a constant for each controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from .model import read
from .names import camel_case, comment, controller_names, literal
from .types import (
    Array,
    Callback,
    Choice,
    Controller,
    Definition,
    Dictionary,
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

__all__ = ["typescript"]

# Names with another meaning in a module.
RESERVED = {
    "Array", "ArrayBuffer", "AsyncIterable", "AsyncIterator", "Awaited", "BigInt", "Blob", "Boolean", "Bytes",
    "BytesIn", "CallContext", "CallOptions", "Controller", "DataView", "Date", "Error", "Event", "Exclude",
    "Extract", "File", "Function", "Generator", "Infinity", "Intl", "Iterable", "Iterator", "JSON", "JsonValue",
    "Map", "Math", "NaN", "NoArgs", "NonNullable", "Number", "Object", "Omit", "Parameters", "Partial", "Pick",
    "Promise", "PromiseLike", "Proxy", "Readonly", "ReadonlyArray", "ReadonlySet", "Record", "Reflect", "RegExp",
    "Required", "ReturnType", "RpcError", "Session", "Set", "Stream", "String", "Symbol", "Uint8Array", "Upload",
    "WeakMap", "WeakSet",
}  # fmt: skip

# The language, frameworks and loggers treat an object with one of these methods in a special way, so
# that a client in JavaScript never has them.
TAKEN_METHODS = {
    "asymmetricMatch", "catch", "constructor", "finally", "inspect", "nodeType", "then",
    "toJSON", "toString", "valueOf",
}  # fmt: skip

# Properties that every object has. The compiler judges a literal that has one of these names by
# them, so a text there would lose its exact type.
_INHERITED = {"hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString"}

_BYTES = {
    "either": "string | Uint8Array",
    "string": "string",
    "uint8array": "Uint8Array",
}

_IN_PLACE = {"any": "unknown", "never": "never", "json": "JsonValue", "null": "null"}


def differs(schema: Mapping[str, Any]) -> bool:
    """Whether a value of this schema has another type where it leaves."""
    if "enum" in schema or "const" in schema:
        return False
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    return (
        schema.get("format") in ("date-time", "base64url", "binary", "byte")
        or "discriminator" in schema
        or bool({"array", "integer"} & {one for one in kinds if isinstance(one, str)})
    )


def typescript(
    contract: Any,
    *,
    case: Literal["camel", "exact"] = "camel",
    bytes: Literal["either", "string", "uint8array"] = "either",
    module: str = "./wsrpc.js",
    only: tuple[str, ...] = (),
    side: Literal["caller", "callee"] = "caller",
    constants: bool = True,
) -> tuple[str, tuple[str, ...]]:
    """The text of a module, and warnings about it.

    Args:
        contract: As `wsrpc schema` writes it.
        case: The spelling of methods: `streamTokens`, or as on the wire.
        bytes: The type of bytes inside of other values: base64url in JSON, arrays in MessagePack.
        module: The module from which the client's types are imported.
        only: Controllers to take; all where it is empty.
        side: "caller" for code that calls the controllers, "callee" for code that answers.
        constants: Whether the constants are written, which a `.d.ts` cannot have.

    Raises:
        ContractError: No code can be written for the contract.
    """
    names = controller_names(contract, only, RESERVED)
    model = read(
        contract,
        only=only,
        callee=side == "callee",
        reserved=RESERVED | set(names.values()),
        differs=differs,
    )
    printer = _Printer(model, names, case, bytes, side == "callee", constants)
    return printer.module(module), (*model.warnings, *printer.warnings)


class _Printer:
    def __init__(
        self,
        model: Model,
        names: Mapping[str, str],
        case: str,
        bytes: str,
        callee: bool,
        constants: bool,
    ) -> None:
        self._model = model
        self._names = names
        self._camel = case == "camel"
        self._bytes = bytes
        self._callee = callee
        self._constants = constants and not callee
        self._uses: set[str] = set()
        self.warnings: list[str] = []

    def module(self, source: str) -> str:
        """The whole text."""
        controllers = [self._controller(one) for one in self._model.controllers]
        errors = self._errors()
        definitions = [self._definition(one) for one in self._model.definitions]
        imports = sorted(
            self._uses
            & {"CallContext", "CallOptions", "Controller", "RpcError", "Stream", "Upload"}
        )
        head = "// Made by `wsrpc gen ts`. Do not edit.\n/* eslint-disable */\n"
        if imports:
            head += f"import type {{ {', '.join(imports)} }} from {literal(source)};\n"
        helpers = [text for name, text in self._helpers().items() if name in self._uses]
        return "\n".join([head, *helpers, *definitions, *errors, *controllers])

    def _helpers(self) -> dict[str, str]:
        return {
            "Bytes": "/** Bytes inside of other values; `toBytes` of the client makes them an array. */\n"
            f"export type Bytes = {_BYTES[self._bytes]};\n",
            "BytesIn": "export type BytesIn = Uint8Array | ArrayBuffer | string;\n",
            "JsonValue": "export type JsonValue =\n  | null | boolean | number | string\n"
            "  | readonly JsonValue[] | { readonly [key: string]: JsonValue };\n",
            "NoArgs": "export type NoArgs = { readonly [key: string]: never };\n",
        }

    def _use(self, name: str) -> str:
        self._uses.add(name)
        return name

    # --- types

    def _definition(self, one: Definition) -> str:
        head = _doc(one.doc, [], "")
        body = self._type(one.type, one.leaving, "")
        if isinstance(one.type, Record) and one.type.fields:
            return f"{head}export interface {one.name} {body}\n"
        return f"{head}export type {one.name} = {body};\n"

    def _type(self, one: Type, leaving: bool, indent: str) -> str:
        match one:
            case Reference(to):
                return to.name
            case Scalar():
                return self._scalar(one, leaving)
            case Choice(values):
                return _union(literal(value) for value in values)
            case Union(members, tag):
                return _union(self._tagged(member, tag, leaving, indent) for member in members)
            case Intersection(members):
                parts = [self._type(member, leaving, indent) for member in members]
                return " & ".join(_grouped(part) for part in parts)
            case Array(item, unique):
                return _array(self._type(item, leaving, indent), leaving, unique)
            case Tuple():
                return self._tuple(one, leaving, indent)
            case Dictionary(key, value):
                return self._dictionary(key, value, leaving, indent)
            case Record():
                return self._record(one, leaving, indent)

    def _scalar(self, one: Scalar, leaving: bool) -> str:
        if one.name == "json":
            return self._use("JsonValue")
        if one.name in _IN_PLACE:
            return _IN_PLACE[one.name]
        if one.name == "string" and one.format in ("base64url", "binary", "byte"):
            return self._use("BytesIn" if leaving else "Bytes")
        if one.name == "string" and one.format == "date-time" and leaving:
            return "string | Date"
        if one.name == "integer":
            return "number | bigint" if leaving else "number"
        return one.name

    def _tagged(self, member: Type, tag: str | None, leaving: bool, indent: str) -> str:
        """A member of a union; for a leaving value, the discriminator is written out."""
        text = self._type(member, leaving, indent)
        if not leaving or tag is None or not isinstance(member, Reference):
            return text
        fields = member.to.type.fields if isinstance(member.to.type, Record) else ()
        for one in fields:
            if one.name == tag and not one.required:
                kinds = self._type(one.type, leaving, indent)
                return f"({text} & {{ {_property(tag)}: {kinds} }})"
        return text

    def _tuple(self, one: Tuple, leaving: bool, indent: str) -> str:
        parts = [self._type(item, leaving, indent) for item in one.items]
        shown = [
            part if number < one.least else f"{_grouped(part)}?"
            for number, part in enumerate(parts)
        ]
        if one.rest is not None:
            shown.append(f"...{_array(self._type(one.rest, leaving, indent), False, False)}")
        return f"{'readonly ' if leaving else ''}[{', '.join(shown)}]"

    def _dictionary(self, key: Type, value: Type, leaving: bool, indent: str) -> str:
        deeper = indent + "  "
        shown = self._type(value, leaving, deeper)
        known = key.to.type if isinstance(key, Reference) else key
        if isinstance(known, Choice) and all(isinstance(one, str) for one in known.values):
            optional = f"{_grouped(shown)} | undefined" if leaving else shown
            return f"{{ [key in {self._type(key, leaving, indent)}]?: {optional} }}"
        return f"{{ [key: string]: {shown} }}"

    def _record(self, one: Record, leaving: bool, indent: str) -> str:
        if not one.fields and one.extra is None:
            return "{ [key: string]: never }"
        deeper, lines, seen = indent + "  ", [], []
        for field in one.fields:
            kind = self._type(field.type, leaving, deeper)
            seen.append(kind)
            tags = []
            if leaving and field.has_default and field.default is not None:
                tags.append(f"@default {literal(field.default)}")
            if field.deprecated:
                tags.append("@deprecated")
            if field.format not in (None, "base64url", "binary", "byte"):
                tags.append(f"@format {field.format}")
            if not field.required and leaving:
                kind = f"{kind} | undefined"
            mark = "" if field.required else "?"
            head = _doc(field.doc, tags, deeper)
            lines.append(f"{head}{deeper}{_property(field.name)}{mark}: {kind};\n")
        if one.extra is not None:
            more = self._type(one.extra, leaving, deeper)
            optional = ["undefined"] if any(not field.required for field in one.fields) else []
            lines.append(f"{deeper}[key: string]: {_union([more, *seen, *optional])};\n")
        return "{\n" + "".join(lines) + indent + "}"

    # --- methods

    def _errors(self) -> list[str]:
        """One type for each documented error; `instanceof RpcError` and `type` identify it."""
        found: dict[str, str] = {}
        for controller in self._model.controllers:
            for method in controller.methods:
                for error in method.errors:
                    data = self._type(error.data, self._callee, "")
                    self._use("RpcError")
                    taken = {one.name for one in self._model.definitions} | set(
                        self._names.values()
                    )
                    name = f"{error.name}Error" if error.name in taken | RESERVED else error.name
                    found.setdefault(
                        name,
                        f"/** Raised with the code {literal(error.code)}. */\n"
                        f"export type {name} = RpcError & {{ readonly type: {literal(error.name)}; "
                        f"readonly code: {literal(error.code)}; readonly data: {data} }};\n",
                    )
        return list(found.values())

    def _controller(self, one: Controller) -> str:
        shown = self._method_names(one)
        name = self._names[one.name]
        made = [self._method(method, shown[method.name]) for method in one.methods]
        text = (
            f"{_doc(one.doc, [], '')}export interface {name}{'Handlers' if self._callee else ''} {{\n"
            f"{''.join(line for line, _ in made)}}}\n"
        )
        if self._constants:
            self._use("Controller")
            facts = "".join(
                f"    {_property(shown[method.name])}: {{ {fact} }},\n"
                for method, (_, fact) in zip(one.methods, made, strict=True)
            )
            text += (
                f"export const {name}: Controller<{name}> = {{\n  name: {literal(one.name)},\n"
                f"  methods: {{\n{facts}  }},\n}};\n"
            )
        return text

    def _method_names(self, controller: Controller) -> dict[str, str]:
        """The spelling of each method; two methods with one spelling keep their exact names."""
        names = [method.name for method in controller.methods]
        spell = camel_case if self._camel else str
        counts = Counter(map(spell, names))
        shown: dict[str, str] = {}
        for name in names:
            made = spell(name)
            if counts[made] > 1:
                self.warnings.append(
                    f"{controller.name}.{name}: another method is {made} too; both keep their names"
                )
                made = name
            if made in TAKEN_METHODS and not self._callee:
                made += "_"
                self.warnings.append(f"{controller.name}.{name} is written {made}")
            shown[name] = made
        return shown

    def _method(self, method: Method, shown: str) -> tuple[str, str]:
        facts = [f"kind: {literal(method.kind)}{' as const' if shown in _INHERITED else ''}"]
        if shown != method.name:
            facts.append(f"wire: {literal(method.name)}")
        facts += ["idempotent: true"] if method.idempotent else []
        facts += ["tracked: true"] if method.tracked else []
        facts += [] if method.timeout is None else [f"timeout: {method.timeout}"]
        counts = [
            f"{_property(one.name)}: {len(one.type.arguments)}"
            for one in method.parameters
            if isinstance(one.type, Callback)
        ]
        facts += [f"callbacks: {{ {', '.join(counts)} }}"] if counts else []
        tags = [
            f"@param args.{one.name} {line}"
            for one in method.parameters
            for line in _first(one.doc)
        ]
        tags += [f"@throws {{{error.name}}} {error.code}" for error in method.errors]
        if method.timeout is not None:
            tags.append(f"@remarks Cancelled after {method.timeout} ms.")
        tags += ["@deprecated"] if method.deprecated else []
        returns, is_bytes = self._returns(method)
        if is_bytes:
            facts.append("bytes: true")
        last = "ctx: CallContext" if self._callee else "options?: CallOptions"
        self._use("CallContext" if self._callee else "CallOptions")
        line = (
            f"{_doc(method.doc, tags, '  ')}  {_property(shown)}({self._arguments(method)}, {last}): "
            f"{returns};\n"
        )
        return line, ", ".join(facts)

    def _arguments(self, method: Method) -> str:
        if not method.parameters:
            return f"args{'' if self._callee else '?'}: {self._use('NoArgs')}"
        lines = []
        for one in method.parameters:
            optional = not one.required
            kind = self._parameter(one)
            if optional and not self._callee:
                kind = f"{_grouped(kind) if '=>' in kind else kind} | undefined"
            tags = [f"@default {literal(one.default)}"] if one.has_default else []
            lines.append(
                f"{_doc(one.doc, tags, '    ')}    {_property(one.name)}{'?' if optional else ''}: {kind};\n"
            )
        all_optional = not any(one.required for one in method.parameters)
        mark = "?" if all_optional and not self._callee else ""
        return f"args{mark}: {{\n{''.join(lines)}  }}"

    def _parameter(self, one: Parameter) -> str:
        if isinstance(one.type, Callback):
            arguments = ", ".join(
                f"{name}: {self._type(kind, self._callee, '    ')}"
                for name, kind in one.type.arguments
            )
            result = self._type(one.type.result, not self._callee, "    ")
            if self._callee:
                return f"({arguments}) => Promise<{'void' if result == 'null' else result}>"
            if result == "null":
                result = "void"
            return f"({arguments}) => {result} | PromiseLike<{result}>"
        kind = self._type(one.type, not self._callee, "    ")
        if one.kind == "upload":
            if self._callee:
                return f"AsyncIterable<{'Uint8Array' if kind == 'Bytes' else kind}>"
            return f"{self._use('Upload')}<{kind}>"
        return kind

    def _returns(self, method: Method) -> tuple[str, bool]:
        """The type of a method's result, and whether that is bytes as a whole."""
        leaving = self._callee
        if method.kind == "notify":
            return ("void | Promise<void>" if leaving else "Promise<void>"), False
        if method.kind == "unary":
            assert method.result is not None
            text, is_bytes = self._whole(method.result, leaving)
            text = "void" if text == "null" else text
            return (f"{text} | Promise<{text}>" if leaving else f"Promise<{text}>"), is_bytes
        assert method.item is not None
        text, is_bytes = self._whole(method.item, leaving)
        if leaving:
            return f"AsyncIterable<{text}>", is_bytes
        final = f", {self._type(method.final, False, '    ')}" if method.final else ""
        return f"{self._use('Stream')}<{text}{final}>", is_bytes

    def _whole(self, one: Type, leaving: bool) -> tuple[str, bool]:
        """A whole result or item; where it is bytes, it arrives as an array in either codec."""
        if not leaving and _is_bytes(one):
            return ("Uint8Array | null" if isinstance(one, Union) else "Uint8Array"), True
        return self._type(one, leaving, "    "), False


def _is_bytes(one: Type) -> bool:
    if isinstance(one, Union):
        rest = [member for member in one.members if member != Scalar("null")]
        return len(rest) == 1 and len(one.members) == 2 and _is_bytes(rest[0])
    return isinstance(one, Scalar) and one.name == "string" and one.format == "base64url"


def _first(text: str) -> list[str]:
    return comment(text)[:1]


def _property(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else literal(name)


def _grouped(text: str) -> str:
    return f"({text})" if any(mark in text for mark in (" | ", " & ", "=>")) else text


def _union(parts: Iterable[str]) -> str:
    """A union without doubles, null last."""
    flat = dict.fromkeys(one for part in parts for one in _members(part))
    if "unknown" in flat:
        return "unknown"
    kept = [one for one in flat if one != "never"] or ["never"]
    if "null" in kept:
        kept = [one for one in kept if one != "null"] + ["null"]
    return " | ".join(f"({one})" if "=>" in one else one for one in kept)


def _members(text: str) -> list[str]:
    """The members of a union that has no brackets in it; anything else is one member."""
    return text.split(" | ") if not set(text) & set("({[<\"'") else [text]


def _array(item: str, leaving: bool, unique: bool) -> str:
    made = f"{'readonly ' if leaving else ''}{_grouped(item) if not item.startswith('readonly ') else f'({item})'}[]"
    return f"{made} | ReadonlySet<{item}>" if unique and leaving else made


def _doc(text: str, tags: list[str], indent: str) -> str:
    lines = [*comment(text), *(line for tag in tags for line in comment(tag))]
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return (
        f"{indent}/**\n"
        + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
        + f"{indent} */\n"
    )
