"""The words that a shell offers for TAB, remote methods among them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

import pytest

from tests.support import full_only
from wsrpc.cli.completion import ARGUMENT, NAME, UNSAFE, mend_words

from .conftest import COMMAND, PATIENCE, ROOT

# A process for each word.
EACH_SHELL = pytest.mark.parametrize("shell", ["bash", *full_only("zsh", "fish")])


def offered(words: Sequence[str], shell: str) -> list[str]:
    """The words offered for the last word of a command line."""
    if shell == "bash":
        # It breaks words at colons.
        broken: list[str] = []
        for word in words:
            parts = word.replace(":", "\n:\n").split("\n")
            broken += [part for part in parts if part] or [""]
        extra = {"COMP_WORDS": "\n".join(broken), "COMP_CWORD": str(len(broken) - 1)}
    else:
        extra = {
            "_TYPER_COMPLETE_ARGS": " ".join(words),
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
    return completed({"_WSRPC_COMPLETE": f"complete_{shell}", **extra})


def completed(environ: Mapping[str, str]) -> list[str]:
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "shell", ["bash", *(pytest.param(shell, marks=pytest.mark.slow) for shell in ("zsh", "fish"))]
)
def test_shell_completion_includes_remote_method_names(url: str, shell: str) -> None:
    found = offered(["wsrpc", "call", url, "Desk.gr"], shell)
    assert (
        found
        == {
            "bash": ["Desk.greet"],
            "zsh": ['_arguments \'*: :(("Desk.greet":"Greet one person."))\''],
            "fish": ["Desk.greet\tGreet one person."],
        }[shell]
    )
    assert any("Desk.tokens" in line for line in offered(["wsrpc", "call", url, ""], shell))
    found = offered(["wsrpc", "health", url, "--service", ""], shell)
    assert any("Desk" in line for line in found)
    found = offered(["wsrpc", "describe", url, "De"], shell)
    assert any("Desk.count" in line for line in found)


@pytest.mark.slow
@EACH_SHELL
def test_the_parameters_of_the_method_are_offered_with_their_signs(url: str, shell: str) -> None:
    found = "\n".join(offered(["wsrpc", "call", url, "Desk.greet", "na"], shell))
    assert "name=" in found
    assert "name@" in found
    assert "times" not in found
    # A parameter that has its argument is not offered again; one that takes no text is JSON.
    found = "\n".join(offered(["wsrpc", "call", url, "Desk.greet", "name=x", ""], shell))
    assert "name" not in found
    assert "times:=" in found.replace("\\", "")
    found = "\n".join(offered(["wsrpc", "call", url, "Desk.count", ""], shell))
    assert "lines:=" in found.replace("\\", "")
    # A callback is answered by an option.
    assert "on_step" not in "\n".join(offered(["wsrpc", "call", url, "Desk.build", ""], shell))
    for other in ("Desk.nothing", "greet", "Desk"):
        found = "\n".join(offered(["wsrpc", "call", url, other, ""], shell))
        assert found in ("", "_files")


@EACH_SHELL
def test_where_no_server_tells_nothing_is_offered_and_nothing_said(
    silent_url: str, shell: str
) -> None:
    for url in (silent_url, "ws://127.0.0.1:1", "nonsense"):
        assert offered(["wsrpc", "call", url, "De"], shell) in ([], [""], ["_files"])


def test_commands_and_options_are_offered_too() -> None:
    assert offered(["wsrpc", "descr"], "bash") == ["describe"]
    assert offered(["wsrpc", "call", "--cac"], "bash") == ["--cacert"]


def test_a_shell_evaluates_nothing_that_a_server_says_of_its_methods() -> None:
    for name in ("a$(id).b", "a`id`", "a'b", 'a"b', "a;b", "a b.c", "a\nb", "a\\b", "a.b\n"):
        assert not NAME.fullmatch(name)
        assert not ARGUMENT.fullmatch(f"{name}=")
    assert NAME.fullmatch("Desk.greet_2")
    assert UNSAFE.sub(" ", r"""x\$(id)`id`'"!%:[b]""" + "\n\x1b[2J") == "x id id b 2J"


@pytest.mark.parametrize(
    ("words", "at", "mended", "mended_at"),
    [
        (["wsrpc", "ca"], 1, ["wsrpc", "ca"], 1),
        (
            ["wsrpc", "call", "ws", ":", "//h", ":", "1", "De"],
            7,
            ["wsrpc", "call", "ws://h:1", "De"],
            3,
        ),
        (["wsrpc", "call", "ws", ":", "//h", ""], 5, ["wsrpc", "call", "ws://h", ""], 3),
        (["wsrpc", "call", "ws", ":"], 3, ["wsrpc", "call", "ws:"], 2),
        (["w", "a", ":=", "1", "b", "@", "f", "c"], 7, ["w", "a:=1", "b@f", "c"], 3),
        (["w", "x", "--h", "=", "y"], 1, ["w", "x", "--h=y"], 1),
    ],
)
def test_words_that_bash_has_broken_are_put_together(
    words: list[str], at: int, mended: list[str], mended_at: int
) -> None:
    environ = {
        "_WSRPC_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(at),
    }
    mend_words(environ)
    assert environ["COMP_WORDS"].split("\n") == mended
    assert environ["COMP_CWORD"] == str(mended_at)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    found = "\n".join(completed({"_WSRPC_COMPLETE": f"source_{shell}"}))
    assert f"_WSRPC_COMPLETE=complete_{shell}" in found
