"""JavaScript as it travels runs as it was written."""

from __future__ import annotations

import gzip
import re

import pytest

from wsrpc.web import Pages
from wsrpc.web.slim import slim

from .node import STATIC, run_script


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/** doc */ const a = 1; // why", "const a=1;"),
        ("a = b + +c - -d + c++ + ++e", "a=b+ +c- -d+c++ + ++e"),
        ("a = '// no comment' + \"/* nor this */\"", "a='// no comment'+\"/* nor this */\""),
        ("a = `x  ${ b /* gone? */ }  // y`", "a=`x  ${ b /* gone? */ }  // y`"),
        ("a = `${f(`}`, { b: 1 })} c`;", "a=`${f(`}`, { b: 1 })} c`;"),
        ("a = b / c / d", "a=b/c/d"),
        ("x.replace( /[/*]  \"\\//g , '' )", "x.replace(/[/*]  \"\\//g,'')"),
        ("return  /a b/ .test (c)", "return/a b/.test(c)"),
        ("one\n\n   // two\n\n   three", "one\nthree"),
        ("class A {\n  #b = 1 ;\n}", "class A{\n#b=1;\n}"),
        ('case "x": return', 'case"x":return'),
    ],
)
def test_text_stays_and_what_is_around_it_goes(source: str, expected: str) -> None:
    assert slim(source) == f"{expected}\n"


@pytest.mark.parametrize(("name", "most"), [("wsrpc.js", 20_000), ("wsrpc-msgpack.js", 2_500)])
def test_the_client_is_small(name: str, most: int) -> None:
    page = Pages(explorer=False).answer("GET", f"/{name}", {"accept-encoding": "gzip"})
    assert page is not None
    assert ("Content-Encoding", "gzip") in page.headers
    assert len(page.body) <= most, f"{name} travels as {len(page.body)} bytes"
    assert gzip.decompress(page.body).decode() == slim((STATIC / name).read_text("utf-8"))


def test_the_explorer_does_not_grow_unseen() -> None:
    """Bytes of all its files, as they travel."""
    names = [one.name for one in STATIC.iterdir() if one.name.startswith("explorer")]
    sizes = {}
    for name in ("", *names):
        page = Pages(explorer=True).answer("GET", f"/{name}", {"accept-encoding": "gzip"})
        assert page is not None
        sizes[name or "the page"] = len(page.body)
    assert sum(sizes.values()) <= 33_000, sizes


@pytest.mark.parametrize("name", sorted(one.name for one in STATIC.iterdir()))
def test_no_file_names_another_host(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?:https?|wss?)://(?!host:port)", text)


@pytest.mark.parametrize("name", ["wsrpc.js", "wsrpc-msgpack.js", "wsrpc.d.ts"])
def test_the_client_names_no_other_host(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?|wss?)://(?!host:port)", text)


@pytest.mark.web
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_client_has_the_same_functions_as_it_was_written(anyio_backend: str) -> None:
    slimmed = slim((STATIC / "wsrpc.js").read_text("utf-8"))
    source = f"""
        const text = {slimmed!r};
        const slim = await import("data:text/javascript," + encodeURIComponent(text));
        const names = Object.keys(client);
        console.log(names.join() === Object.keys(slim).join() && new slim.RpcError("aborted", "a  b").message === "a  b");
    """
    assert (await run_script(source)).strip() == "true"
