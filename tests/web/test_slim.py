"""JavaScript as it travels runs as it was written."""

from __future__ import annotations

import gzip
import re

import pytest

from wsrpc.web import Pages
from wsrpc.web.pages import EXPLORER, OF_EXPLORER
from wsrpc.web.slim import join, parts, shorten, slim, slim_css

from .node import STATIC, run_script


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/** doc */ const a = 1; // why", "let a=1;"),
        (
            "const { b, c: [d] } = a.const [0], [e] = { const: 1 };",
            "let{b,c:[d]}=a.const[0],[e]={const:1};",
        ),
        ("a = b + +c - -d + c++ + ++e", "a=b+ +c- -d+c++ + ++e"),
        ("a = '// no comment' + \"/* nor this */\"", "a='// no comment'+\"/* nor this */\""),
        ("a = `x  ${ b /* gone? */ }  // y`", "a=`x  ${b}  // y`"),
        ("a = `${f(`}`, { b: 1 })} c`;", "a=`${f(`}`,{b:1})} c`;"),
        ("`\\${ a  b } \\` ${ /\\}  /.test( c ) }`", "`\\${ a  b } \\` ${/\\}  /.test(c)}`"),
        ("`${ (a / 2) /* b */ / 3 } c` + ` / ${d}`", "`${(a/2)/3} c`+` / ${d}`"),
        ("a = b / c / d", "a=b/c/d"),
        ("x.replace( /[/*]  \"\\//g , '' )", "x.replace(/[/*]  \"\\//g,'')"),
        ("return  /a b/ .test (c)", "return/a b/.test(c)"),
        ("one\n\n   // two\n\n   three", "one\nthree"),
        ("class A {\n  #b = 1\n  c = 2\n  *d() {}\n}", "class A{#b=1\nc=2\n*d(){}}"),
        ("f(\n  a,\n  b\n)\n", "f(a,b)"),
        ("x = a\n  ? b\n  : c\ny = 1", "x=a?b:c\ny=1"),
        ("a = b\n++c\nd\n(e)\nf\n[g]\n`h`", "a=b\n++c\nd\n(e)\nf\n[g]\n`h`"),
        ("a\n  .b()\n  /* c */\n  .d()", "a.b().d()"),
        ("f = () => { if (a) b; return 'c'; };\n{ d[e]; }", "f=()=>{if(a)b;return'c'};{d[e]}"),
        (
            "{ if (a); } { while (b()); } { c(); } { if (a) b; else ; }",
            "{if(a);}{while(b());}{c()}{if(a)b;else;}",
        ),
        ("if (a) return\nb", "if(a)return\nb"),
        ('case "x": return', 'case"x":return'),
        ("f((a) => b, async (c) => d); return (e) => g;", "f(a=>b,async c=>d);return e=>g;"),
        ("((a, b) => c)(...(d) => e); (f) >= g; () => h", "((a,b)=>c)(...d=>e);(f)>=g;()=>h"),
        ("f(a, { b, c, }, [d, ], [e, , ],);", "f(a,{b,c},[d],[e,,]);"),
        (
            "{ a(b); } { for (c; d; e(f)); } { if (g) h(i); } { do j; while (k); }",
            "{a(b)}{for(c;d;e(f));}{if(g)h(i)}{do j;while(k);}",
        ),
        (
            "const a = () => { let b; const [c] = d; };\nlet e; f(); let g;\nexport let h; let i;",
            "let a=()=>{let b,[c]=d},e;f();let g;export let h;let i;",
        ),
        (
            "let a = 1\nb();\nlet c; if (d) e; let f; for (let g; h; i) { const j = 1; let k; }",
            "let a=1\nb();let c;if(d)e;let f;for(let g;h;i){let j=1,k}",
        ),
        (
            "class A { let = 1; const = 2; } x = { let: a, const: b }; y.let; let z;",
            "class A{let=1;const=2}x={let:a,const:b};y.let;let z;",
        ),
    ],
)
def test_text_stays_and_what_is_around_it_goes(source: str, expected: str) -> None:
    assert slim(source) == f"{expected}\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("const first = 1; f(first, 'first');", "const a = 1; f(a, 'first');"),
        ("const first = 1; x.first = first;", None),
        ("const first = 1; x?.first;", None),
        ("const first = 1; x = { first };", None),
        ("const first = 1; x = { y: 1, first };", None),
        ("const { first } = x; first();", None),
        ("let first; x = { first: 1 };", None),
        ("let first = [...first, a];", "let b = [...b, a];"),
        ("function first(second) { return second; }", "function a(second) { return second; }"),
        ("f(2 * first);", None),
        ("let from; let open;", None),
        (
            "let first; `first ${first + `${first} first`} \\${first}`",
            "let a; `first ${a+`${a} first`} \\${first}`",
        ),
        ("let first; x = /first/; // first", "let a; x = /first/; // first"),
        ("class First {} class Second extends First {}", "class a {} class b extends a {}"),
    ],
)
def test_variables_get_shorter_names_in_all_places_alike(source: str, expected: str | None) -> None:
    assert shorten(source) == (source if expected is None else expected)


@pytest.mark.parametrize(("name", "most"), [("wsrpc.js", 20_000), ("wsrpc-msgpack.js", 2_500)])
def test_the_client_is_small(name: str, most: int) -> None:
    page = Pages(explorer=False).answer("GET", f"/{name}", {"accept-encoding": "gzip"})
    assert page is not None
    assert ("Content-Encoding", "gzip") in page.headers
    assert len(page.body) <= most, f"{name} travels as {len(page.body)} bytes"
    assert gzip.decompress(page.body).decode() == slim((STATIC / name).read_text("utf-8"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (".a , .b > c + d { color : red ; }", ".a,.b>c + d{color :red}"),
        (
            "/* why */ a { b: c; d: e }\n\n@media (x: y) {\n  f { g: h }\n}",
            "a{b:c;d:e}@media (x:y){f{g:h}}",
        ),
        ('a::after { content: "; }  /* x */" }', 'a::after{content:"; }  /* x */"}'),
        ("nav :hover { width: calc(1px - 2px) }", "nav :hover{width:calc(1px - 2px)}"),
    ],
)
def test_of_styles_white_space_and_comments_go(source: str, expected: str) -> None:
    assert slim_css(source) == f"{expected}\n"


@pytest.mark.parametrize("name", sorted(one.name for one in STATIC.glob("*.js")))
def test_what_is_slim_stays_as_it_is(name: str) -> None:
    once = slim((STATIC / name).read_text("utf-8"))
    assert slim(once) == once


def test_modules_travel_as_one_with_what_they_import_from_others_once() -> None:
    texts = {
        "x.js": 'import { a } from "./y.js";\nimport { b, c } from "./x-1.js";\nb(c);\n',
        "x-1.js": 'import { d, a } from "./y.js";\nimport { c } from "./x-2.js";\nexport const b = d;\n',
        "x-2.js": "export function c() {}\nlet d2;\n",
    }
    assert parts("x.js", texts.__getitem__, "x-") == ["x-2.js", "x-1.js", "x.js"]
    assert join("x.js", texts.__getitem__, "x-") == (
        'import { a, d } from "./y.js";\nfunction c() {}\nlet d2;\nconst b = d;\nb(c);\n'
    )


def test_names_of_the_explorers_modules_do_not_collide() -> None:
    names: list[str] = []
    for one in parts(EXPLORER, lambda name: (STATIC / name).read_text("utf-8"), OF_EXPLORER):
        text = (STATIC / one).read_text("utf-8")
        assert " as " not in "".join(re.findall(r"^import .*", text, re.MULTILINE)), one
        names += re.findall(
            r"^(?:export )?(?:async )?(?:const|let|function\*?|class) +([\w$]+)", text, re.MULTILINE
        )
    assert sorted(names) == sorted(set(names))


def test_the_explorer_does_not_grow_unseen() -> None:
    """Bytes of all that it is made of, as it travels; a full minifier would leave 27,400 of them."""
    sizes = {}
    for name in ("", *(one.name for one in STATIC.iterdir() if one.name.startswith("explorer"))):
        page = Pages(explorer=True).answer("GET", f"/{name}", {"accept-encoding": "gzip"})
        assert page is not None
        if page.status == 200:
            sizes[name or "the page"] = len(page.body)
    assert set(sizes) >= {"the page", "explorer.js", "explorer.css"}
    assert sum(sizes.values()) <= 30_000, sizes


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
