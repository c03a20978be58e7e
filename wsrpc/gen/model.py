"""A contract as types: values that arrive and values that leave, each definition with one name.

`read` also checks every part of a contract. Types of arriving values have the plain names (`Cat`);
types of leaving values have a name of their own (`CatInput`) only where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .names import ContractError, identifier, pascal_case
from .schemas import Place, Types, object_in, text_in
from .types import Callback, Controller, ErrorType, Method, Model, Parameter, Scalar, Type

__all__ = ["read"]


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
        callee: Whether the code is for the callee, at which arguments arrive.
        reserved: Names that no type may have.
        differs: Tells whether a schema has another type where its value leaves.

    Raises:
        ContractError: It is no contract, or has a name that cannot stand in code.
    """
    controllers = object_in(contract, "", "controllers")
    for name in only:
        if name not in controllers:
            there = ", ".join(map(str, controllers)) or "none"
            raise ContractError("controllers", f"there is no {name!r}; there are: {there}")
    types = Types(differs)
    chosen = {name: one for name, one in controllers.items() if not only or name in only}
    reader = _Reader(types, callee)
    made: tuple[Controller, ...] = ()
    try:
        # Arriving values first, so that their definitions come first.
        for reader.arriving_only in (True, False):
            made = tuple(reader.controller(name, one) for name, one in chosen.items())
    except RecursionError:
        raise ContractError("controllers", "its types refer to each other too deeply") from None
    types.name_all(reserved)
    return Model(made, tuple(types.definitions), tuple(dict.fromkeys(types.warnings)))


class _Reader:
    """Reads controllers; the first time only arriving values, so that these are named first."""

    def __init__(self, types: Types, callee: bool) -> None:
        self._types = types
        self._callee = callee
        self.arriving_only = True

    def controller(self, name: Any, described: Any) -> Controller:
        path = f"controllers.{name}"
        methods = object_in(described, path, "methods")
        if not isinstance(name, str) or pascal_case(name) == "T":
            raise ContractError(path, "a controller's name must have a letter in it")
        return Controller(
            name,
            text_in(described, path),
            tuple(self.method(f"{path}.methods.{key}", key, one) for key, one in methods.items()),
        )

    def method(self, path: str, name: str, described: Any) -> Method:
        identifier(name, path, "method")
        kind = described.get("kind") if isinstance(described, Mapping) else None
        if kind not in ("unary", "stream", "notify"):
            raise ContractError(path, "its kind must be unary, stream or notify")
        params = object_in(described, path, "params", optional=True)
        tracked = described.get("tracked") is True
        item = described.get("item", True) if kind == "stream" else None
        if tracked and isinstance(item, Mapping):
            item = _tracked_value(item, f"{path}.item")
        errors = described.get("errors", [])
        if not isinstance(errors, list):
            raise ContractError(f"{path}.errors", "it must be a list")
        timeout = described.get("timeout")
        if timeout is not None and (type(timeout) is not int or not 0 < timeout < 2**53):
            raise ContractError(
                f"{path}.timeout", "it must be milliseconds, a whole number above 0"
            )
        return Method(
            name,
            kind,
            text_in(described, path),
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
            timeout if type(timeout) is int else None,
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
            text_in(described, path),
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
        """The type of a value that the callee sends: it leaves in the callee's code."""
        return self._of(schema, path, self._callee)

    def argument(self, schema: Any, path: str) -> Type:
        """The type of a value that the caller sends: it leaves in the caller's code."""
        return self._of(schema, path, not self._callee)

    def _of(self, schema: Any, path: str, leaving: bool) -> Type:
        if leaving and self.arriving_only:
            return Scalar("any")
        defs = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        if not isinstance(defs, Mapping):
            raise ContractError(f"{path}.$defs", "it must be an object")
        return self._types.root(schema, Place(path, defs, leaving, 0))


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
