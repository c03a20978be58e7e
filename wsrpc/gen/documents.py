"""A contract in other formats: AsyncAPI 3, and tools for language models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .names import ContractError

__all__ = ["asyncapi", "tools"]

Part = Mapping[str, Any]

# Characters that providers of models do not take in a tool's name.
_TOOL_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_TOOL_NAME = 64


def _methods(contract: Any) -> Iterator[tuple[str, str, Part, Part]]:
    """The names and the parts of each controller and method."""
    controllers = contract.get("controllers") if isinstance(contract, Mapping) else None
    if not isinstance(controllers, Mapping):
        raise ContractError("", "it has no 'controllers'; `wsrpc schema` writes a contract")
    for name, controller in controllers.items():
        methods = controller.get("methods") if isinstance(controller, Mapping) else None
        if not isinstance(methods, Mapping):
            raise ContractError(f"controllers.{name}", "it needs 'methods', an object")
        for key, method in methods.items():
            if not isinstance(method, Mapping):
                raise ContractError(f"controllers.{name}.methods.{key}", "it must be an object")
            yield str(name), str(key), controller, method


def _text(part: Part) -> str:
    doc, details = str(part.get("doc", "")), str(part.get("details", ""))
    return f"{doc}\n\n{details}" if doc and details else doc or details


class _Shared:
    """The definitions of many schemas in one place, each under a name of its own.

    Args:
        prefix: The path of the place in references.
        draft_7: Whether to write tuples and discriminators as in AsyncAPI, whose schemas are of
            draft 7.
    """

    def __init__(self, prefix: str, *, draft_7: bool = False) -> None:
        self._draft_7 = draft_7
        self.schemas: dict[str, Any] = {}
        self._prefix = prefix
        self._as_written: dict[str, Any] = {}

    def moved(self, schema: Any) -> Any:
        """A schema whose `$defs` have gone to the shared place."""
        if not isinstance(schema, Mapping):
            return {"not": {}} if schema is False else {}
        own = schema.get("$defs", {})
        names = self._names(own if isinstance(own, Mapping) else {})
        for name, made in names.items():
            if made not in self.schemas:
                self._as_written[made] = own[name]
                self.schemas[made] = self._rewritten(own[name], names)
        return self._rewritten(schema, names)

    def _names(self, own: Mapping[str, Any]) -> dict[str, str]:
        """The name of each definition; all get a number if one name is taken by another type."""
        number = 1
        while True:
            names = {str(name): f"{name}{number if number > 1 else ''}" for name in own}
            if all(
                made not in self._as_written or self._as_written[made] == own[name]
                for name, made in names.items()
            ):
                return names
            number += 1

    def _rewritten(self, node: Any, names: Mapping[str, str]) -> Any:
        if isinstance(node, list):
            return [self._rewritten(one, names) for one in node]
        if not isinstance(node, Mapping):
            return node
        copy = {key: self._rewritten(one, names) for key, one in node.items() if key != "$defs"}
        reference = copy.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            name = reference.removeprefix("#/$defs/")
            copy["$ref"] = f"{self._prefix}{names.get(name, name)}"
        discriminator = copy.get("discriminator")
        if isinstance(discriminator, Mapping):
            copy["discriminator"] = self._discriminator(discriminator, names)
        if self._draft_7 and "prefixItems" in copy:
            copy["additionalItems"] = copy.pop("items", True)
            copy["items"] = copy.pop("prefixItems")
        return copy

    def _discriminator(self, discriminator: Part, names: Mapping[str, str]) -> Any:
        if self._draft_7:
            # AsyncAPI has only the property's name; each choice has its constant anyway.
            return str(discriminator.get("propertyName", ""))
        mapping = discriminator.get("mapping")
        if not isinstance(mapping, Mapping):
            return discriminator
        targets = {
            value: f"{self._prefix}{names.get(name, name)}"
            for value, target in mapping.items()
            for name in [str(target).removeprefix("#/$defs/")]
        }
        return {**discriminator, "mapping": targets}


# --- Tools ------------------------------------------------------------------------------------------


def tools(contract: Any) -> list[dict[str, Any]]:
    """Tool definitions for language models: one for each method whose arguments are plain values.

    A stream is a tool as well, whose result is the items. Methods with uploads or callbacks are
    left out, since no model can call them.

    Args:
        contract: As `wsrpc schema` writes it.

    Raises:
        ContractError: It is no contract, or two tools would have one name.
    """
    found: dict[str, dict[str, Any]] = {}
    for controller, key, _, method in _methods(contract):
        params = method.get("params", {})
        if any(param.get("kind", "value") != "value" for param in params.values()):
            continue
        name = _TOOL_NAME.sub("_", f"{controller}_{key}")[:MAX_TOOL_NAME]
        if name in found:
            raise ContractError(
                f"controllers.{controller}.methods.{key}", f"two tools are {name!r}"
            )
        found[name] = {
            "name": name,
            "description": _text(method) or f"{controller}.{key}",
            "input_schema": _arguments(params),
            "method": f"{controller}.{key}",
        }
    return list(found.values())


def _arguments(params: Mapping[str, Part]) -> dict[str, Any]:
    shared = _Shared("#/$defs/")
    properties: dict[str, Any] = {}
    for name, param in params.items():
        described = shared.moved(param.get("schema", True))
        if param.get("doc") and "description" not in described:
            described = {**described, "description": param["doc"]}
        if "default" in param:
            described = {**described, "default": param["default"]}
        properties[name] = described
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [name for name, one in params.items() if one.get("required", True)],
        "additionalProperties": False,
    }
    return {**schema, "$defs": shared.schemas} if shared.schemas else schema


# --- AsyncAPI ---------------------------------------------------------------------------------------


def asyncapi(
    contract: Any, *, title: str | None = None, version: str | None = None
) -> dict[str, Any]:
    """An AsyncAPI 3.0 document: a channel for each method, with its messages both ways.

    The document describes values, not the frames that carry them, which protocol.md describes.

    Args:
        contract: As `wsrpc schema` writes it.
        title: The service's name; None: the name in the contract, if it has one.
        version: The service's version; None: the version in the contract, if it has one.

    Raises:
        ContractError: It is no contract.
    """
    shared = _Shared("#/components/schemas/", draft_7=True)
    server = contract.get("server") if isinstance(contract, Mapping) else None
    about = server if isinstance(server, Mapping) else {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for controller, key, described, method in _methods(contract):
        name = f"{controller}.{key}"
        tags.setdefault(controller, _text(described))
        messages = {"arguments": _message(f"{name} arguments", _call(method, shared))}
        reply = "item" if method.get("kind") == "stream" else "result"
        if method.get("kind") != "notify":
            for part in (reply, "final"):
                if part in method or part == reply:
                    schema = shared.moved(method.get(part, True))
                    messages[part] = _message(f"{name} {part}", schema)
        channels[name] = {"address": name, "title": name, "messages": messages}
        if _text(method):
            channels[name]["description"] = _text(method)
        operations[name] = _operation(controller, name, method, messages)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title or str(about.get("name") or "wsrpc service"),
            "version": version or str(about.get("version") or "1"),
            "tags": [
                {"name": name, **({"description": text} if text else {})}
                for name, text in tags.items()
            ],
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": shared.schemas},
    }


def _message(name: str, payload: Any) -> dict[str, Any]:
    return {"name": name, "title": name, "payload": payload}


def _call(method: Part, shared: _Shared) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, param in method.get("params", {}).items():
        kind = param.get("kind", "value")
        schema = shared.moved(param.get("schema", True))
        if kind != "value":
            said = "a stream of these" if kind == "upload" else "a function that is called back"
            schema = {"description": said, "x-wsrpc-kind": kind, **schema}
        if param.get("doc"):
            schema = {**schema, "description": param["doc"]}
        if "default" in param:
            schema = {**schema, "default": param["default"]}
        properties[name] = schema
    required = [name for name, one in method.get("params", {}).items() if one.get("required", True)]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _operation(
    controller: str, name: str, method: Part, messages: Mapping[str, Any]
) -> dict[str, Any]:
    channel = f"#/channels/{_pointer(name)}"
    operation: dict[str, Any] = {
        "action": "receive",
        "channel": {"$ref": channel},
        "summary": str(method.get("doc", "")) or name,
        "tags": [{"name": controller}, *({"name": str(tag)} for tag in method.get("tags", ()))],
        "messages": [{"$ref": f"{channel}/messages/arguments"}],
        "x-wsrpc-kind": method.get("kind"),
    }
    answers = [part for part in messages if part != "arguments"]
    if answers:
        operation["reply"] = {
            "channel": {"$ref": channel},
            "messages": [{"$ref": f"{channel}/messages/{part}"} for part in answers],
        }
    for fact in ("idempotent", "tracked", "deprecated"):
        if method.get(fact):
            operation[f"x-wsrpc-{fact}"] = True
    if method.get("timeout") is not None:
        operation["x-wsrpc-timeout"] = method["timeout"]
    if method.get("errors"):
        operation["x-wsrpc-errors"] = json.loads(json.dumps(method["errors"]))
    return operation


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
