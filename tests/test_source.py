"""What the package's source does not do: run what came over a wire, or look it up on an object."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsrpc

ROOT = Path(wsrpc.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Modules that run, or make objects of, what they are given; or that reach around Python.
FORBIDDEN_MODULES = {
    "cloudpickle", "code", "codeop", "cPickle", "ctypes", "dbm", "dill", "jsonpickle", "marshal",
    "pickle", "pty", "runpy", "shelve", "subprocess", "yaml",
}  # fmt: skip

# `wsrpc bench --self` starts Python with arguments of its own; the cluster starts the `nats-server`
# of its wheel for demo and tests.
STARTS_PROCESSES = {"cli/processes.py", "cluster/bus/embedded.py"}

FORBIDDEN_CALLS = {"__import__", "delattr", "eval", "exec", "globals", "input", "locals"}

ATTRIBUTES = {"getattr", "hasattr", "setattr"}

# Where a name that is no literal is looked up on an object, how often, and whose name it is.
BY_NAME = {
    # The names of this class's own fields.
    "limits.py": 1,
    # "schema", "item", "result": this module's own.
    "contract/description.py": 1,
    # Marks of this module's own, on methods and classes that are exposed.
    "contract/controller.py": 1,
    "contract/decorator.py": 1,
    # The names of this class's own fields.
    "cluster/limits.py": 1,
    # What the application wrote: the class of `Worker.square`, and that method of a proxy.
    "cluster/methods.py": 3,
    # The fields of a value that was made here, to compare it with what arrives of it.
    "values/trial.py": 2,
    # The parts of anyio that the fast path needs, by this module's own list.
    "runtime/on_asyncio.py": 1,
    # What the person at the terminal typed: a method of a proxy, whose every name is a call.
    "cli/call_command.py": 1,
    # What the person at the terminal typed: `module:object`.
    "cli/loading.py": 1,
    # The parts of `websockets` that the short way needs, by this module's own list.
    "transport/websockets/direct.py": 1,
}

# Where source is compiled: the annotations of controllers, for the names in them. It is not run.
COMPILES = {"contract/annotations.py"}

# Where modules are imported by name: the command's `module:object`, and the one optional transport.
IMPORTS = {"cli/loading.py", "transport/registry.py"}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                yield called.id, node
            elif isinstance(called, ast.Attribute):
                yield called.attr, node


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_is_run_or_unpickled_or_looked_up_by_a_name_of_the_wire(file: Path) -> None:
    name = name_of(file)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    allowed = {"subprocess"} if name in STARTS_PROCESSES else set[str]()
    assert not set(imported(tree)) & (FORBIDDEN_MODULES - allowed)
    looked_up = 0
    for called, node in calls(tree):
        builtin = isinstance(node.func, ast.Name)
        assert not (builtin and called in FORBIDDEN_CALLS), f"{name}:{node.lineno} calls {called}"
        if builtin and called == "compile":
            assert name in COMPILES, f"{name}:{node.lineno} compiles"
        if called == "import_module":
            assert name in IMPORTS, f"{name}:{node.lineno} imports by name"
        assert called not in ("popen", "spawnl", "spawnv", "system"), f"{name}:{node.lineno}"
        if builtin and called in ATTRIBUTES:
            looked_up += not isinstance(node.args[1], ast.Constant)
        # A getter made of a name, which is the same by another way.
        assert called not in ("attrgetter", "methodcaller"), f"{name}:{node.lineno}"
    assert looked_up == BY_NAME.get(name, 0), f"{name}: names that are no literals"


def test_the_exceptions_are_there() -> None:
    names = set(map(name_of, FILES))
    assert {*BY_NAME, *COMPILES, *IMPORTS, *STARTS_PROCESSES} <= names


# Where a private attribute of another object is read or set, and why it has to be.
PRIVATE = {
    # A constructor of this class's own fills in what it has made.
    "cli/remote_contract.py": {"_document"},
    # The one way to leave a process whose event loop hangs.
    "cli/running.py": {"_exit"},
    # The frame in which a decorator stands, for the names in its annotations.
    "contract/decorator.py": {"_getframe"},
    # anyio's table of tasks: what is needed of it is looked for first, and done without.
    "runtime/on_asyncio.py": {
        "_deadline", "_parent_scope", "_task_states", "_tasks",
    },
    # The two ends of one pair, which are of one class.
    "transport/memory.py": {"_arrived", "_closed", "_peer", "_queue", "_side", "_taken"},
}  # fmt: skip


def private_reads(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Private attributes of other objects than the one whose method it is, and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
            called = owner.func if isinstance(owner, ast.Call) else None
            above = isinstance(called, ast.Name) and called.id == "super"
            if not own and not above and not node.attr.endswith("__"):
                yield node.attr, node.lineno


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_code_reads_a_private_attribute_of_another_object(file: Path) -> None:
    name = name_of(file)
    found = [
        f"{name}:{line} {attribute}"
        for attribute, line in private_reads(ast.parse(file.read_text(encoding="utf-8")))
        if attribute not in PRIVATE.get(name, ())
    ]
    assert not found
