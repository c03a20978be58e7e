"""Every import runs down, those under TYPE_CHECKING too, and no file imports its own importer."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsrpc

ROOT = Path(wsrpc.__file__).parent

# From the ground up. A module may import what stands before its own folder. A folder's name stands
# for all modules in it.
FOLDERS = [
    "version",
    "limits",
    "close_codes",
    "options",
    "errors",
    "backoff",
    "protocol",
    "runtime",
    "stream",
    "unary",
    "values",
    "interfaces",
    "contract",
    "context",
    "telemetry",
    "transport",
    "engine",
    "streams",
    "calling",
    "handling",
    "session",
    "web",
    "admission",
    "client",
    "server",
    # the package as users see it
    "",
    "gen",
    "cluster",
    "testing",
    "interop",
    "cli",
    "__main__",
]

# Folders whose front door is public, and those that offer one interface over several modules.
FRONT_DOORS = {"", "cluster", "gen", "interop", "runtime", "testing", "web"}

GROUND = {"version", "limits", "close_codes", "errors", "backoff"}
CORE_MAY_USE = {"errors", "limits", "close_codes"}

FILES = sorted(ROOT.rglob("*.py"))


def name_of(file: Path) -> str:
    """A file's module inside the package, "" for the package itself."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    """The entry of the list that a module belongs to."""
    return module.partition(".")[0]


def imports_in(node: ast.AST, package: list[str]) -> Iterator[str]:
    """The full names of all that is imported, in functions and under TYPE_CHECKING too."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else []
            origin = ".".join([*base, *([child.module] if child.module else [])])
            for alias in child.names:
                full = f"{origin}.{alias.name}"
                place = ROOT.parent / full.replace(".", "/")
                yield full if place.with_suffix(".py").exists() or place.is_dir() else origin


@functools.cache
def imports_of(file: Path) -> frozenset[str]:
    package = ["wsrpc", *file.relative_to(ROOT).parent.parts]
    return frozenset(imports_in(ast.parse(file.read_text(encoding="utf-8")), package))


def own_imports(file: Path) -> set[str]:
    """The modules of this package that a file imports, without the package's name."""
    return {
        imported.removeprefix("wsrpc").removeprefix(".")
        for imported in imports_of(file)
        if imported.partition(".")[0] == "wsrpc"
    }


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for below in sorted(arrows.get(module, ())):
            if below not in index:
                visit(below)
                low[module] = min(low[module], low[below])
            elif below in stack:
                low[module] = min(low[module], index[below])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for module in sorted(arrows):
        if module not in index:
            visit(module)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: name_of(file) or "wsrpc")
def test_no_import_runs_up(file: Path) -> None:
    module = name_of(file)
    folder = folder_of(module)
    assert folder in FOLDERS, f"{module} stands in no folder of the list; give it one in FOLDERS"
    for imported in own_imports(file):
        below = folder_of(imported)
        assert below in FOLDERS, f"{module} imports {imported}, which stands in no folder"
        assert FOLDERS.index(below) <= FOLDERS.index(folder), f"{module} imports {imported}"


def test_no_file_imports_its_own_importer() -> None:
    found = circles({name_of(file): own_imports(file) for file in FILES})
    assert not found, found


def test_every_folder_of_the_list_has_one_entry() -> None:
    assert len(FOLDERS) == len(set(FOLDERS))
    assert {folder_of(name_of(file)) for file in FILES} <= set(FOLDERS)


def test_at_most_fourteen_files_lie_at_the_root() -> None:
    # Data that the package carries counts as well: whoever looks for something sees it.
    assert len([file for file in ROOT.iterdir() if file.is_file()]) <= 14


def test_no_module_has_more_than_600_lines() -> None:
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name_of(file): count for file, count in lines.items() if count > 600} == {}


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.name == "__init__.py"],
    ids=lambda file: name_of(file) or "wsrpc",
)
def test_the_front_door_of_a_folder_is_empty_where_it_is_not_public(file: Path) -> None:
    if name_of(file) not in FRONT_DOORS:
        assert not imports_of(file) - {"__future__"}


@pytest.mark.parametrize(
    "file", [file for file in FILES if name_of(file).startswith("protocol")], ids=name_of
)
def test_the_core_imports_nothing_but_the_standard_library_its_codec_and_the_ground_floor(
    file: Path,
) -> None:
    for imported in imports_of(file):
        if imported.startswith("wsrpc"):
            inside = imported.removeprefix("wsrpc.")
            assert inside in CORE_MAY_USE or inside.partition(".")[0] == "protocol", imported
        else:
            top = imported.partition(".")[0]
            assert top in sys.stdlib_module_names or top == "msgspec", imported
    # No I/O, clock, randomness or logging inside.
    forbidden = {"asyncio", "anyio", "socket", "time", "random", "secrets", "logging", "threading"}
    assert not {name.partition(".")[0] for name in imports_of(file)} & forbidden


@pytest.mark.parametrize("module", sorted(GROUND))
def test_the_ground_floor_stands_on_nothing_but_itself(module: str) -> None:
    file = ROOT / f"{module}.py"
    if not file.exists():
        pytest.fail(f"{module} is on the ground floor by the list, but is no file")
    for imported in imports_of(file):
        top = imported.partition(".")[0]
        if top == "wsrpc":
            assert imported.removeprefix("wsrpc.") in GROUND
        else:
            assert top in sys.stdlib_module_names or top == "typing_extensions", imported


def users_of(*libraries: str) -> set[str]:
    """The modules that import one of these libraries, the command and the interop service aside."""
    return {
        name_of(file)
        for file in FILES
        if set(libraries) & {name.partition(".")[0] for name in imports_of(file)}
        and folder_of(name_of(file)) not in ("cli", "interop")
    }


def test_websockets_is_known_in_the_transports_only() -> None:
    assert users_of("websockets") == {
        "transport.websockets.accepting",
        "transport.websockets.connecting",
        "transport.websockets.direct",
        "transport.websockets.framing",
        "transport.websockets.link",
        "transport.websockets.on_trio",
        # For the rules of the opening handshake.
        "transport.picows.accepting",
        "transport.picows.connecting",
    }


def test_picows_is_known_in_its_transport_only() -> None:
    assert users_of("picows") == {
        "transport.picows.accepting",
        "transport.picows.connecting",
        "transport.picows.link",
    }


def test_trio_and_asyncio_are_known_at_the_seams_only() -> None:
    assert users_of("trio", "asyncio") == {
        "cluster.bus.connection",
        "cluster.bus.nats",
        "cluster.publishing",
        "runtime",
        "runtime.by_hand",
        "runtime.containing",
        "runtime.on_anyio",
        "runtime.on_asyncio",
        "testing.virtual_time",
        "transport.listening",
        "transport.picows.accepting",
        "transport.picows.connecting",
        "transport.picows.link",
        "transport.websockets.accepting",
        "transport.websockets.connecting",
        "transport.websockets.direct",
        "transport.websockets.link",
        "transport.websockets.on_trio",
    }


# Reads of a lane's inside, which only the core may make, and all writes to a lane.
INSIDE_OF_A_LANE = re.compile(
    r"""\b_?(?:lane|call|upload|reader|offer|target)\.(?:
        (?:state|credit|value|items(?!\()|terminal|pool|debt|pending_bytes|queued|credit_due)\b
        | window\.(?:most|queued|balance|size)\b
        | (?!owner\b)\w+\ [-+]?=\ (?!=)
        | id\ (?:==|!=)\ 0
    )""",
    re.VERBOSE,
)


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if folder_of(name_of(file)) not in ("protocol", "interop", "cli")],
    ids=lambda file: name_of(file) or "wsrpc",
)
def test_nobody_outside_of_the_core_reaches_into_a_lane(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line.strip() for line in lines if INSIDE_OF_A_LANE.search(line)] == []
