"""Checks of the public docstrings: each parameter is explained, and each quantity has a unit."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import wsrpc
import wsrpc.cluster
import wsrpc.telemetry.access
import wsrpc.telemetry.otel
import wsrpc.telemetry.prometheus
import wsrpc.testing

MODULES = [
    wsrpc,
    wsrpc.cluster,
    wsrpc.telemetry.access,
    wsrpc.telemetry.otel,
    wsrpc.telemetry.prometheus,
    wsrpc.testing,
]

# The first words of the texts of quantities.
UNITS = {
    "Attempts", "Bytes", "Calls", "Characters", "Connections", "Copies", "Credit", "Frames",
    "Gaps", "Groups", "Handlers", "Items", "Links", "Members", "Messages", "Nodes", "Pings",
    "Pools", "Resumptions", "Seconds", "Sessions", "Streams", "Threads", "Tokens", "Topics",
    "Tunnels", "Watchers", "Workers",
}  # fmt: skip

# Numbers without a unit, such as codes, ports and shares.
NO_QUANTITIES = frozenset(
    {
        *("address", "bus_generation", "call_id", "rate", "seed", "close_code", "code", "id"),
        *("port", "status"),
    }
)

# Classes whose objects only this package makes, so that their constructors are no interface.
MADE_HERE = {
    "CallContext", "Group", "Listener", "Pool", "Presence", "Producer", "Stream", "Topic",
    "UnaryCall", "UntypedCall",
}  # fmt: skip

SECTION = re.compile(r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^    \*{0,2}(\w+): (\S+)", re.MULTILINE)
# A docstring that refers to another one for its parameters.
ELSEWHERE = re.compile(r"^See `|arguments\s+are\s+(the\s+same\s+as\s+)?those\s+of\s+`")


def own(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that no base has, nor its own docstring."""
    for name, value in vars(kind).items():
        function = getattr(value, "fget", value)
        function = getattr(function, "__func__", function)
        inherited = any(hasattr(base, name) for base in kind.__mro__[1:])
        told = isinstance(value, property) and name in explained(kind)
        if not (name.startswith("_") or inherited or told) and inspect.isfunction(function):
            yield name, function


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public classes and functions of a module, and the methods of its classes."""
    for name in module.__all__:
        thing = getattr(module, name)
        if str(getattr(thing, "__module__", "")).partition(".")[0] != "wsrpc":
            continue
        if inspect.isclass(thing):
            yield f"{module.__name__}.{name}", thing
            for method, function in own(thing):
                yield f"{module.__name__}.{name}.{method}", function
        elif inspect.isfunction(thing):
            yield f"{module.__name__}.{name}", thing


def explained(thing: Any) -> dict[str, str]:
    """The names in the sections Args and Attributes, each with the first word of its text."""
    text = (inspect.getdoc(thing) or "") + "\n"
    return {name: word for body in SECTION.findall(text) for name, word in ENTRY.findall(body)}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a caller may give."""
    found = inspect.signature(function).parameters
    return {
        name: one for name, one in found.items() if name not in ("self", "cls") and name[0] != "_"
    }


def is_made_by_users(kind: type) -> bool:
    if issubclass(kind, BaseException) or getattr(kind, "_is_protocol", False):
        return False
    return kind.__name__ not in MADE_HERE and (
        "__init__" in vars(kind) or hasattr(kind, "__dataclass_fields__")
    )


PUBLIC = [pytest.param(thing, id=name) for module in MODULES for name, thing in public(module)]


@pytest.mark.parametrize("thing", PUBLIC)
def test_every_public_name_has_a_docstring(thing: Any) -> None:
    assert (thing.__doc__ or "").strip()


@pytest.mark.parametrize("thing", PUBLIC)
def test_every_parameter_of_a_public_name_is_explained(thing: Any) -> None:
    if inspect.isclass(thing) and not is_made_by_users(thing):
        return
    if not ELSEWHERE.search(inspect.getdoc(thing) or ""):
        assert not set(parameters(thing)) - set(explained(thing))


@pytest.mark.parametrize("thing", PUBLIC)
def test_the_text_of_a_quantity_begins_with_its_unit(thing: Any) -> None:
    types = dict(getattr(thing, "__annotations__", {}))
    if inspect.isfunction(thing) or "__init__" in vars(thing):
        types.update({name: one.annotation for name, one in parameters(thing).items()})
    for name, word in explained(thing).items():
        kind = str(types.get(name, "")).replace(" | None", "")
        if kind in ("int", "float") and name not in NO_QUANTITIES:
            assert word.rstrip(".,;:") in UNITS, f"{name}: {word}"


def test_the_reference_reads_the_type_of_on_state_as_it_is_written() -> None:
    """On Python 3.11 a name in quotes inside a `Callable` makes it another type."""
    hints = typing.get_type_hints(wsrpc.connect.__init__)
    assert hints["on_state"] == Callable[[wsrpc.Session, wsrpc.StateChange], None] | None
