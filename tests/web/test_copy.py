"""What the explorer quotes, each reader reads back as it was: Python, JavaScript and a shell."""

from __future__ import annotations

import ast
import json
import random
import shlex
import subprocess
import sys
from typing import Any

import anyio
import pytest

import wsrpc

from .node import STATIC, missing, nodes, run, run_script

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


# Names at which spelling in camelCase, clients and languages stumble.
ODD: tuple[str, ...] = (
    "to_string", "a_1", "a__b", "getHTML", "HTML", "get_URL", "then", "inspect", "constructor",
    "delete", "café", "greet", "stream_tokens", "catch_", "value_of",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_each_copied_program_calls_the_method_that_it_was_copied_from(
    anyio_backend: str,
) -> None:
    called: list[str] = []

    def method(name: str) -> Any:
        async def fn(self: Any, lambda_: str, to: int = 0) -> str:
            called.append(f"{name} {lambda_} {to}")
            return name

        fn.__name__ = name
        return wsrpc.method(fn)

    controller = type("Odd", (), {name: method(name) for name in ODD})()
    with anyio.fail_after(240):
        async with wsrpc.Server([controller]).listen() as listener:
            wanted = json.dumps([listener.url + "/", ODD, (STATIC / "wsrpc.js").as_uri()])
            script = f"""
                const {{ programs }} = await import({(STATIC / "explorer-copy.js").as_uri()!r});
                const [url, names, at] = {wanted};
                const made = names.map((name) => programs({{ url, controller: "Odd", name, kind: "unary",
                    args: {{ lambda_: "it's", to: 3 }}, attached: {{}} }}).map(([, text]) => text));
                for (const [, text] of made) await import("data:text/javascript," + encodeURIComponent(
                    text.replace(/"http:.*?wsrpc.js"/, JSON.stringify(at)).replace(/console.log/, "")));
                console.log(JSON.stringify(made.map(([python, , command]) => [python, command])));
            """
            others = json.loads(await run_script(script))
            assert called == [f"{name} it's 3" for name in ODD]
            called.clear()
            python = "".join(text for text, _ in others)
            code, said = await run(sys.executable, "-c", python)
            assert code == 0, said
            assert called == [f"{name} it's 3" for name in ODD]
            called.clear()
            command = "".join(text for _, text in others)
            head = f'set -e; wsrpc() {{ {shlex.quote(sys.executable)} -m wsrpc "$@"; }}\n'
            code, said = await run("bash", "-c", head + command)
            assert code == 0, said
            assert called == [f"{name} it's 3" for name in ODD]
