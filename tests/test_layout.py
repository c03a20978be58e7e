"""A room stands above what it imports; arrows never run back up."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsrpc

ROOT = Path(wsrpc.__file__).parent

# From the ground up. A module may import, at run time, what stands before it. A folder's name
# stands for all modules in it; what they import of each other is their own affair.
ROOMS = [
    # the ground floor
    "version",
    "limits",
    "stats",
    "errors",
    "context",
    # the pure core
    "protocol.frames",
    "protocol.window",
    "protocol.splice",
    "protocol.chunks",
    "protocol.codec",
    "protocol.link",
    "protocol.heartbeat",
    "protocol.drain",
    "protocol.hello",
    "protocol.outbox",
    "protocol.replay",
    "protocol.patience",
    "protocol.calls",
    "protocol.events",
    "protocol.continuity",
    "protocol.endpoint",
    "logs",
    # the event loop and the links
    "runtime",
    "deadlines",
    "threads",
    "backoff",
    "retry",
    "transport.base",
    "transport.forwarded",
    "transport.pending",
    "transport.faults",
    "transport.memory",
    "transport.opening",
    "transport.calm",
    "transport.origins",
    "transport.door",
    "transport.framing",
    "transport.direct",
    "transport.trio_connections",
    "transport.websocket",
    "transport.picows",
    "transport.choice",
    # values and signatures
    "plain",
    "coreschema",
    "values",
    "call",
    "tracked",
    "signature",
    "interceptor",
    "fetcher",
    # the waiting around the core
    "shell",
    "driver",
    "feed",
    "extras",
    "caller",
    "inbox",
    "overflow",
    # what is exposed
    "controller",
    "contract",
    # calls out, calls in, both
    "proxy",
    "handler",
    "dispatch",
    "wire",
    "session",
    "keeper",
    "client",
    "sessions",
    "admission",
    "server",
    "testing",
    # the package as users see it
    "",
    "interop",
    "cli",
    "__main__",
]

GROUND = {"version", "limits", "stats", "errors", "context"}
CORE_MAY_USE = {"errors", "limits"}

FILES = sorted(ROOT.rglob("*.py"))


def name_of(file: Path) -> str:
    """A file's module inside the package, "" for the package itself."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room in the list that a module is or belongs to."""
    while module and module not in ROOMS:
        module = module.rpartition(".")[0]
        if not module:
            return None
    return module


def is_type_checking(node: ast.If) -> bool:
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports_in(node: ast.AST, package: list[str]) -> Iterator[str]:
    """What is imported at run time, in functions too, by full name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from imports_in(other, package)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else []
            origin = ".".join([*base, *([child.module] if child.module else [])])
            for alias in child.names:
                full = f"{origin}.{alias.name}"
                place = ROOT.parent / full.replace(".", "/")
                yield full if place.with_suffix(".py").exists() or place.is_dir() else origin
        else:
            yield from imports_in(child, package)


def imports_of(file: Path) -> set[str]:
    package = ["wsrpc", *file.relative_to(ROOT).parent.parts]
    return set(imports_in(ast.parse(file.read_text()), package))


@pytest.mark.parametrize("file", FILES, ids=lambda file: name_of(file) or "wsrpc")
def test_no_import_runs_up(file: Path) -> None:
    module = name_of(file)
    if file.name == "__init__.py" and module and room_of(module) is None:
        assert not imports_of(file) - {"__future__"}, "the front door of a folder is empty"
        return
    room = room_of(module)
    assert room is not None, f"{module} has no place in the house; give it one in ROOMS"
    for imported in imports_of(file):
        if imported != "wsrpc" and not imported.startswith("wsrpc."):
            continue
        below = room_of(imported.removeprefix("wsrpc").removeprefix("."))
        assert below is not None, f"{module} imports {imported}, which has no place in the house"
        if below == room:
            assert (ROOT / room.replace(".", "/")).is_dir(), f"{module} imports itself"
        else:
            assert ROOMS.index(below) < ROOMS.index(room), f"{module} imports {imported} above it"


def test_every_room_exists() -> None:
    rooms = {room_of(name_of(file)) for file in FILES}
    assert set(ROOMS) <= rooms


@pytest.mark.parametrize(
    "file", [file for file in FILES if name_of(file).startswith("protocol")], ids=name_of
)
def test_the_core_imports_nothing_but_the_standard_library_its_codec_and_the_ground_floor(
    file: Path,
) -> None:
    for imported in imports_of(file):
        if imported.startswith("wsrpc"):
            inside = imported.removeprefix("wsrpc.")
            assert inside in CORE_MAY_USE or inside.startswith("protocol."), imported
        else:
            top = imported.partition(".")[0]
            assert top in sys.stdlib_module_names or top == "msgspec", imported
    # No I/O, clock, randomness or logging inside.
    forbidden = {"asyncio", "anyio", "socket", "time", "random", "secrets", "logging", "threading"}
    assert not {name.partition(".")[0] for name in imports_of(file)} & forbidden


@pytest.mark.parametrize("module", sorted(GROUND))
def test_the_ground_floor_stands_on_nothing_but_itself(module: str) -> None:
    for imported in imports_of(ROOT / f"{module}.py"):
        top = imported.partition(".")[0]
        if top == "wsrpc":
            assert imported.removeprefix("wsrpc.") in GROUND
        else:
            assert top in sys.stdlib_module_names or top == "typing_extensions", imported


def test_websockets_is_known_in_the_transports_only() -> None:
    users = {
        name_of(file)
        for file in FILES
        if any(name.partition(".")[0] == "websockets" for name in imports_of(file))
        and not name_of(file).startswith(("cli", "interop"))
    }
    assert users == {
        "transport.direct",
        "transport.framing",
        "transport.trio_connections",
        "transport.websocket",
        # For the rules of the opening handshake.
        "transport.picows.accepting",
        "transport.picows.connecting",
    }


def test_picows_is_known_in_its_transport_only() -> None:
    users = {
        name_of(file)
        for file in FILES
        if any(name.partition(".")[0] == "picows" for name in imports_of(file))
    }
    assert users == {
        "transport.picows.accepting",
        "transport.picows.connecting",
        "transport.picows.link",
    }


def test_trio_and_asyncio_are_known_at_the_seams_only() -> None:
    users = {
        name_of(file)
        for file in FILES
        if {"trio", "asyncio"} & {name.partition(".")[0] for name in imports_of(file)}
        and not name_of(file).startswith(("cli", "interop"))
    }
    assert users == {
        "runtime",
        "runtime.on_asyncio",
        "transport.direct",
        "transport.picows.accepting",
        "transport.picows.connecting",
        "transport.picows.link",
        "transport.trio_connections",
        "transport.websocket",
    }
