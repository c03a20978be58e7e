"""Every command that the README and the docs name is there, with the options that they name."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import wsrpc
from tests.docs.pages import ROOT
from wsrpc.cli.app import app

TEXTS = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "llms.txt",
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]

INLINE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```(?:sh|console|)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def commands_in(path: Path) -> Iterator[str]:
    """What a reader would type: whole lines of blocks, and commands within sentences."""
    text = path.read_text(encoding="utf-8")
    for block in BLOCK.findall(text):
        yield from (line.removeprefix("$ ") for line in block.splitlines())
    for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines():
        yield from INLINE.findall(line)


def words_of(command: str) -> list[str]:
    try:
        words = shlex.split(command.split(" | ")[0].split(" > ")[0], comments=True)
    except ValueError:
        return []
    while words and "=" in words[0] and not words[0].startswith("-"):
        words = words[1:]
    return words


def check_wsrpc(words: list[str]) -> None:
    """The command is there, and so are its options."""
    found: Any = typer.main.get_command(app)
    rest = words
    while rest and not rest[0].startswith("-") and hasattr(found, "commands"):
        name = rest[0]
        if name == "NAME" or not name.isascii():
            return
        assert name in found.commands, f"there is no `wsrpc {name}`"
        found, rest = found.commands[name], rest[1:]
    options = {one for param in found.params for one in (*param.opts, *param.secondary_opts)}
    options |= {"--help", "-h"}
    for word in rest:
        if word.startswith("--"):
            for option in word.split("|"):
                assert option.partition("=")[0] in options, f"{found.name} has no {option}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_commands_that_a_text_names_are_there(path: Path) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    for command in commands_in(path):
        words = words_of(command)
        match words:
            case ["wsrpc", *rest]:
                check_wsrpc(rest)
            case ["make", target, *_] if re.fullmatch(r"[a-z-]+", target):
                assert target in targets, f"there is no `make {target}`"
            case ["python", "-m", module, *_] if module.partition(".")[0] in (
                *("wsrpc", "tests", "examples", "benchmarks"),
            ):
                assert importlib.util.find_spec(module) is not None, command
            case ["python", file, *_] if file.startswith("examples/"):
                assert (ROOT / file).exists(), command
            case _:
                pass


def test_a_command_or_option_that_is_not_there_is_found() -> None:
    check_wsrpc(["serve", "app:server", "--port", "0"])
    check_wsrpc(["gen", "ts", "app:server"])
    with pytest.raises(AssertionError, match="no `wsrpc sreve`"):
        check_wsrpc(["sreve", "app:server"])
    with pytest.raises(AssertionError, match="serve has no --prot"):
        check_wsrpc(["serve", "app:server", "--prot", "0"])


def test_the_modules_of_the_reference_are_there() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^REFERENCE := ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert found is not None
    modules = found[1].replace("\\\n", " ").split()
    assert "wsrpc" in modules
    for module in modules:
        assert importlib.util.find_spec(module) is not None, module
    # The page of the package is the first that a reader sees, and lists the others.
    assert re.findall(r"^- `([\w.]+)`", wsrpc.__doc__ or "", re.MULTILINE) == modules[1:]


def test_the_page_of_examples_has_all_of_them() -> None:
    text = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    examples = ROOT / "examples"
    for path in examples.glob("[!_]*.py"):
        assert f"`python examples/{path.name}`" in text, path.name
    for path in examples.glob("*/__main__.py"):
        assert f"`python -m examples.{path.parent.name}`" in text, path.parent.name
