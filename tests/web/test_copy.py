"""What the explorer quotes, each reader reads back as it was: Python, JavaScript and a shell."""

from __future__ import annotations

import ast
import json
import random
import subprocess
from typing import Any

import pytest

from .node import STATIC, missing, nodes

pytestmark = pytest.mark.web

# Texts that are known to end a string too early.
NASTY = [
    *"\"'`\\$!#%&;|<>*?~(){}[]\n\r\t\b\x00\x7f\x85 =:-",
    *"\u2028\u2029\u202e\u200b\ufeff\xa0é😀",
    "${", "$(", "*/", "//", "--", "<!--", "]]>", "</script>", "\\u0027", "'\\''", "%s", "__proto__",
]  # fmt: skip

SCRIPT = """
import * as copy from "./explorer-copy.js";
let text = "";
for await (const piece of process.stdin) text += piece;
const run = (source) => (0, eval)(`(${source})`);
console.log(JSON.stringify(JSON.parse(text).map((value) => {
  const js = copy.jsLiteral(value);
  return {
    sh: typeof value === "string" ? copy.shQuote(value) : null, py: copy.pyLiteral(value), js,
    same: JSON.stringify(run(js)) === JSON.stringify(value),
    programs: copy.programs({ url: "ws://127.0.0.1:1/", controller: String(value), name: "m", kind: "stream",
      args: { [String(value)]: value }, attached: { file: "file", up: "upload", on_x: "callback" } }),
  };
})));
"""


def values() -> list[Any]:
    dice = random.Random(20)
    texts = ["".join(dice.choices(NASTY, k=dice.randrange(12))) for _ in range(400)]
    structures = [
        {one: [other, {"__proto__": one}, None, True, 1.5, -3]}
        for one, other in zip(texts[:100], texts[100:], strict=False)
    ]
    return [*NASTY, *texts, *structures]


@pytest.fixture(scope="module")
def quoted() -> list[tuple[Any, dict[str, Any]]]:
    if not nodes():
        missing("no Node: the explorer's quoters are not tried")
    node = nodes()[max(nodes())]
    done = subprocess.run(
        [node, "--input-type=module", "-e", SCRIPT],
        input=json.dumps(values()),
        capture_output=True,
        encoding="utf-8",
        cwd=STATIC,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return list(zip(values(), json.loads(done.stdout), strict=True))


def test_python_reads_back_what_was_quoted(quoted: list[tuple[Any, dict[str, Any]]]) -> None:
    for value, made in quoted:
        assert ast.literal_eval(made["py"]) == value
        assert made["py"].isprintable() or not made["py"].isascii()


def test_javascript_reads_back_what_was_quoted(quoted: list[tuple[Any, dict[str, Any]]]) -> None:
    for value, made in quoted:
        assert made["same"], (value, made["js"])


def test_a_shell_reads_back_what_was_quoted(quoted: list[tuple[Any, dict[str, Any]]]) -> None:
    texts = [(value, made["sh"]) for value, made in quoted if isinstance(value, str)]
    script = "printf '%s\\0' " + " ".join(word for _, word in texts)
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=60)
    read = done.stdout.decode().split("\0")[:-1]
    # No word of a command line can hold the character 0.
    assert read == [value.replace("\0", "") for value, _ in texts]


def test_programs_are_programs_whatever_stands_in_them(
    quoted: list[tuple[Any, dict[str, Any]]],
) -> None:
    for value, made in quoted:
        python, javascript, command = (text for _, text in made["programs"])
        tree = ast.parse(python)
        called = [ast.unparse(one.func) for one in ast.walk(tree) if isinstance(one, ast.Call)]
        assert not {"eval", "exec", "__import__"} & set(called)
        constants = {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant)}
        assert str(value) in constants or not isinstance(value, str)
        assert javascript.count("\n") == 6, javascript
        assert command.count("\n") == 1, command
