"""The output of `ls` and `describe`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from .failures import Failure, did_you_mean
from .remote_contract import Contract, Controller, Method, Param, split_path
from .schemas import ModelField, bounds_of, fields_of, type_text, without_parameters
from .text import printable, to_json

__all__ = ["entries", "listing", "page", "part"]

NAME, TYPE, DIM = "bold cyan", "green", "dim"

# Characters.
LONGEST_DEFAULT = 30


def listing(contract: Contract) -> Iterator[Text]:
    """A line for each method: its signature and its doc line."""
    for name, controller in contract.controllers.items():
        for key, method in controller.methods.items():
            line = signature(f"{name}.{key}", method)
            if method.doc:
                line.append(f"  # {printable(method.doc)}", DIM)
            yield line


def entries(contract: Contract) -> list[dict[str, str]]:
    """The methods as JSON, for programs."""
    return [
        {
            "method": f"{name}.{key}",
            "kind": method.kind,
            "signature": signature(f"{name}.{key}", method).plain,
            "doc": method.doc,
        }
        for name, controller in contract.controllers.items()
        for key, method in controller.methods.items()
    ]


def page(contract: Contract, path: str) -> Iterator[Text]:
    """The page about one controller, one method, or, for an empty path, about all."""
    if not path:
        for number, (name, controller) in enumerate(contract.controllers.items()):
            if number:
                yield Text()
            yield from _controller(name, controller)
        return
    name, method = _find(contract, path)
    if method:
        yield from _method(path, contract.method(name, method))
    else:
        yield from _controller(name, contract.controller(name))


def part(contract: Contract, path: str) -> Any:
    """The part of the contract that `page` shows."""
    if not path:
        return contract.document
    name, method = _find(contract, path)
    controller = contract.for_clientize(name)
    return controller["methods"][method] if method else controller


def _find(contract: Contract, path: str) -> tuple[str, str]:
    """Controller and method that a path names.

    Raises:
        Failure: There is no such controller or method; the message names similar ones.
    """
    name, method = split_path(path)
    if method:
        contract.method(name, method)
    elif name not in contract.controllers:
        homes = contract.homes_of(name)
        hint = f"; did you mean {' or '.join(homes)}?" if homes else ""
        hint = hint or did_you_mean(name, contract.controllers)
        raise Failure(f"the server has no controller {name!r}{hint}")
    return name, method


def signature(path: str, method: Method) -> Text:
    """A method on one line: `Chat.say(text: string, to?: string) -> Receipt`."""
    text = Text(printable(path), NAME)
    text.append("(", DIM)
    for number, (name, param) in enumerate(method.params.items()):
        if number:
            text.append(", ", DIM)
        text.append(f"{printable(name)}{'' if param.required else '?'}", "default")
        text.append(": ", DIM)
        text.append(_param_type(param), TYPE)
    text.append(")", DIM)
    if method.kind == "notify":
        return text.append(" one way", DIM)
    text.append(" -> ", DIM)
    return text.append(_answer(method), TYPE)


def _short(value: Any) -> str:
    text = printable(to_json(value))
    return text if len(text) <= LONGEST_DEFAULT else f"{text[: LONGEST_DEFAULT - 1]}…"


def _param_type(param: Param) -> str:
    if param.kind == "upload":
        return f"stream[{printable(type_text(param.json_schema))}]"
    if param.kind == "callback":
        inner = ", ".join(type_text(one) for one in param.arguments)
        result = type_text(param.result)
        answer = "" if result in ("null", "any") else f" -> {result}"
        return printable(f"callback({inner}){answer}")
    return printable(type_text(param.json_schema))


def _answer(method: Method) -> str:
    if method.kind != "stream":
        return printable(type_text(method.result))
    final = "" if method.final is None else f", final {type_text(method.final)}"
    return printable(f"stream[{type_text(method.item)}{final}]")


def _controller(name: str, controller: Controller) -> Iterator[Text]:
    yield Text(printable(name), "bold")
    for paragraph in _paragraphs(controller.doc, controller.details):
        yield Text(f"  {paragraph}".rstrip())
    for key, method in controller.methods.items():
        yield Text()
        for line in _method(f"{name}.{key}", method):
            yield Text("  ").append_text(line) if line else line


def _method(path: str, method: Method) -> Iterator[Text]:
    yield signature(path, method)
    for line in _paragraphs(method.doc, without_parameters(method.details)):
        yield Text(f"  {line}".rstrip())
    for facts in _facts(method):
        yield Text(f"  {facts}", DIM)
    for name, param in method.params.items():
        rest = [f"= {_short(param.default)}"] if param.has_default else []
        rest += [printable(bounds_of(param.json_schema)), printable(param.doc)]
        said = "; ".join(filter(None, rest))
        if said:
            yield Text(f"    {printable(name)}").append(f"  {said}", DIM)
    for name, fields in _models(method).items():
        yield Text(f"  {printable(name)}", "bold")
        for field in fields:
            shown = Text(f"    {printable(field.name)}{'' if field.required else '?'}")
            shown.append(": ", DIM).append(printable(field.type), TYPE)
            yield shown.append(f"  {printable(field.note)}", DIM) if field.note else shown


def _paragraphs(doc: str, details: str) -> Iterator[str]:
    """Documentation, line by line, its control characters escaped."""
    if doc:
        yield printable(doc)
    if details:
        yield ""
        yield from map(printable, details.split("\n"))


def _facts(method: Method) -> Iterator[str]:
    if method.deprecated:
        yield f"deprecated{': ' if method.deprecated_doc else ''}{printable(method.deprecated_doc)}"
    if method.tags:
        yield f"tags: {printable(', '.join(method.tags))}"
    if method.idempotent:
        yield "idempotent: it may be called twice"
    if method.on_disconnect == "cancel":
        yield "cancelled when the connection is lost"
    if method.timeout is not None:
        yield f"cancelled after {method.timeout / 1000:g} s"
    for error in method.errors:
        data = "" if error.data is True or error.data == {} else f", data {type_text(error.data)}"
        doc = f": {error.doc}" if error.doc else ""
        yield printable(f"raises {error.type} ({error.code}{data}){doc}")


def _models(method: Method) -> dict[str, list[ModelField]]:
    found: dict[str, list[ModelField]] = {}
    schemas: list[Any] = []
    for param in method.params.values():
        schemas += [param.json_schema, *param.arguments, param.result]
    schemas += [error.data for error in method.errors]
    for schema in (*schemas, method.result, method.item, method.final):
        for name, fields in fields_of(schema):
            found.setdefault(name, fields)
    return found
