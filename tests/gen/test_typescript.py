"""What is generated under the TypeScript compiler: right uses pass, each wrong use is flagged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.web.node import STATIC, run, typescript
from wsrpc.gen import generate

from .test_generate import CONTRACT, one_method

pytestmark = [pytest.mark.web, pytest.mark.slow]

HERE = Path(__file__).parent

STRICT = [
    "--strict",
    "--exactOptionalPropertyTypes",
    "--noUncheckedIndexedAccess",
    "--verbatimModuleSyntax",
    "--noEmit",
    "--ignoreConfig",
    "--target", "es2023",
    "--module", "nodenext",
    "--lib", "es2023,dom,esnext.disposable",
    "--types", "",
]  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def project(folder: Path, **files: str) -> None:
    """A folder in which generated modules find the client's types."""
    (folder / "package.json").write_text('{"type": "module"}')
    for types in STATIC.glob("wsrpc*.d.ts"):
        shutil.copy(types, folder)
    for name, text in files.items():
        (folder / f"{name}.ts").write_text(text, encoding="utf-8")


async def compiled(folder: Path, *names: str) -> tuple[int, str]:
    return await run(*typescript(), *STRICT, *(str(folder / f"{name}.ts") for name in names))


@pytest.mark.parametrize("name", ["consumer", "wrong"])
async def test_right_uses_pass_and_each_wrong_one_is_flagged(name: str, tmp_path: Path) -> None:
    project(
        tmp_path,
        nasty=generate(CONTRACT, "ts"),
        **{name: (HERE / f"{name}.ts").read_text(encoding="utf-8")},
    )
    code, said = await compiled(tmp_path, name)
    assert code == 0, said


async def test_handlers_and_declarations_pass_the_strict_compiler(tmp_path: Path) -> None:
    project(
        tmp_path,
        handlers=generate(CONTRACT, "ts", side="callee"),
        exact=generate(CONTRACT, "ts", case="exact", bytes="uint8array"),
        declared=generate(CONTRACT, "ts", constants=False),
    )
    code, said = await compiled(tmp_path, "handlers", "exact", "declared")
    assert code == 0, said


async def test_methods_arguments_and_fields_may_have_any_name(tmp_path: Path) -> None:
    inherited = (
        "constructor hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString "
        "valueOf arguments await class default delete enum eval function import in let new null "
        "prototype static super this typeof undefined var void with yield any never type größe 名前"
    )
    names = inherited.split()
    fields = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    params = {name: {"kind": "value", "required": True, "schema": fields} for name in names}
    contract = one_method(params=params, result=fields)
    simple = one_method()["controllers"]["Hello"]["methods"]["greet"]
    contract["controllers"]["Hello"]["methods"].update(dict.fromkeys(names, simple))
    project(tmp_path, camel=generate(contract, "ts"), exact=generate(contract, "ts", case="exact"))
    code, said = await compiled(tmp_path, "camel", "exact")
    assert code == 0, said


LEAVES: st.SearchStrategy[Any] = st.sampled_from([int, str, float, bool, bytes, type(None)])
TYPES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(list.__class_getitem__),
        inner.map(lambda one: dict.__class_getitem__((str, one))),
        st.tuples(inner, inner).map(tuple.__class_getitem__),
        inner.map(lambda one: one | None),
    ),
    max_leaves=6,
)


async def test_random_types_give_text_that_the_compiler_parses(tmp_path: Path) -> None:
    found: list[str] = []

    @given(TYPES)
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def collect(kind: Any) -> None:
        schema = TypeAdapter(kind).json_schema()
        params = {"value": {"kind": "value", "required": True, "schema": schema}}
        found.append(generate(one_method(params=params, result=schema), "ts"))

    collect()
    project(tmp_path, **{f"made{number}": text for number, text in enumerate(found)})
    code, said = await compiled(tmp_path, *(f"made{number}" for number in range(len(found))))
    assert code == 0, said
