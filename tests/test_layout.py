"""A room stands above what it imports; arrows never run back up."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wsrpc"

# From the ground up. A module may import what stands in a row below its own, or beside it in the
# same row; what runs only for type checkers does not count.
ROWS = (
    ("errors", "limits", "context", "version", "stats", "runtime"),
    ("plain", "deadlines", "protocol", "transport"),
    ("coreschema",),
    ("values", "call"),
    ("signature",),
    ("interceptor", "controller"),
    ("fetcher", "contract"),
    ("shell",),
    ("caller",),
    ("inbox",),
    ("proxy", "dispatch"),
    ("session",),
    ("client", "server", "testing"),
    ("__init__",),
    ("interop", "cli"),
    ("__main__",),
)

RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}

# The core's own house, from the ground up.
CORE = ("frames", "codec", "window", "calls", "events", "outbox", "endpoint")

# What the core may use besides the standard library and its own rooms.
CORE_MAY_USE = {"msgspec", "wsrpc.errors", "wsrpc.limits"}

# What would make the core impure: I/O, clocks, randomness, logging, event loops.
IMPURE = {"asyncio", "logging", "os", "random", "secrets", "socket", "threading", "time", "trio"}


def modules() -> list[str]:
    return sorted(
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
    )


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imports(module: str) -> set[str]:
    """The full names that a module imports at run time."""
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    package = module.split(".")[:-1]
    found: set[str] = set()
    for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(".".join([*base, name]) for name in names)
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", modules())
def test_no_import_runs_up(module: str) -> None:
    rank = RANK[room(module)]
    ours = [name for name in imports(module) if name.split(".")[0] == "wsrpc"]
    up = [name for name in ours if RANK[room(name)] > rank]
    assert not up, f"{module} imports {', '.join(up)}, which stands above it"


def test_every_room_stands_in_a_row() -> None:
    assert {room(module) for module in modules()} == set(RANK)


@pytest.mark.parametrize("module", [one for one in modules() if room(one) == "protocol"])
def test_the_core_is_pure(module: str) -> None:
    for name in imports(module):
        top = name.split(".")[0]
        assert top not in IMPURE, f"{module} imports {name}"
        if name.startswith("wsrpc.protocol"):
            continue
        assert name in CORE_MAY_USE or top in CORE_MAY_USE or top in sys.stdlib_module_names, name


@pytest.mark.parametrize("module", [f"wsrpc.protocol.{name}" for name in CORE])
def test_inside_the_core_no_import_runs_up(module: str) -> None:
    own = CORE.index(module.rsplit(".", 1)[1])
    for name in imports(module):
        if name.startswith("wsrpc.protocol."):
            assert CORE.index(name.rsplit(".", 1)[1]) < own, f"{module} imports {name}"
