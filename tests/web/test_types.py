"""wsrpc.js under `tsc --strict`, its types as they are committed, and what users write with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .node import ROOT, STATIC, run, typescript

pytestmark = [pytest.mark.web, pytest.mark.slow]

CONFIG = str(ROOT / "tests" / "web" / "tsconfig.json")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_client_passes_the_strict_compiler_and_its_types_are_those_committed(
    tmp_path: Path,
) -> None:
    code, said = await run(*typescript(), "-p", CONFIG, "--outDir", str(tmp_path))
    assert code == 0, said
    for name in ("wsrpc.d.ts", "wsrpc-msgpack.d.ts"):
        written = (tmp_path / name).read_text()
        assert written == (STATIC / name).read_text(), (
            f"{name} is not what tsc writes: run tsc -p tests/web/tsconfig.json --outDir DIR, "
            f"and copy DIR/{name} to {STATIC.relative_to(ROOT)}"
        )


async def test_types_hold_for_those_who_use_the_client(tmp_path: Path) -> None:
    for path in [*STATIC.glob("wsrpc*.d.ts"), *(ROOT / "tests" / "web").glob("*.ts")]:
        shutil.copy(path, tmp_path)
    strict = [
        "--strict",
        "--exactOptionalPropertyTypes",
        "--noEmit",
        "--module",
        "esnext",
        "--ignoreConfig",
    ]
    lib = ["--moduleResolution", "bundler", "--target", "es2023", "--types", ""]
    libraries = ["--lib", "es2023,dom,esnext.disposable"]
    for name in ("consumer.ts", "wrong.ts"):
        code, said = await run(*typescript(), *strict, *lib, *libraries, str(tmp_path / name))
        assert code == 0, said
