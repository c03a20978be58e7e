"""TypeScript and Python from a contract: what is written, and that nothing in a contract can run."""

from __future__ import annotations

import ast
import json
import re
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import wsrpc
from wsrpc.gen import ContractError, generate

from .nasty import controllers

CONTRACT: dict[str, Any] = json.loads(json.dumps(wsrpc.Server(controllers).contract()))


def one_method(**described: Any) -> dict[str, Any]:
    """A contract of one controller with one method."""
    method = {"kind": "unary", "doc": "", "params": {}, **described}
    return {
        "version": 1,
        "controllers": {"Hello": {"name": "Hello", "doc": "", "methods": {"greet": method}}},
    }


def returning(schema: Any) -> str:
    """What TypeScript says of a method's result."""
    text = generate(one_method(result=schema), "ts")
    found = re.search(r"greet\(.*\): Promise<(.*)>;", text)
    assert found, text
    return found[1]


def taking(schema: Any, required: bool = True) -> str:
    """What TypeScript says of a parameter."""
    params = {"value": {"kind": "value", "required": required, "schema": schema}}
    text = generate(one_method(params=params, result={"type": "null"}), "ts")
    found = re.search(r"^    value(.*);$", text, re.M)
    assert found, text
    return found[1]


# -------------------------------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, "unknown"),
        ({}, "unknown"),
        ({"title": "Whatever"}, "unknown"),
        ({"type": "null"}, "void"),
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "string"),
        ({"type": "integer"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "string", "format": "base64url"}, "Uint8Array"),
        ({"anyOf": [{"type": "string", "format": "base64url"}, {"type": "null"}]}, "Uint8Array | null"),
        ({"type": "array", "items": {"type": "string", "format": "base64url"}}, "Bytes[]"),
        ({"const": "a"}, '"a"'),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}, {"type": "integer"}]}, "number | null"),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}, "(string | number)[]"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "minItems": 0, "maxItems": 1}, "[string?]"),
        (
            {"type": "array", "prefixItems": [{"type": "string"}], "minItems": 1, "items": {"type": "integer"}},
            "[string, ...number[]]",
        ),
        ({"type": "array", "maxItems": 0}, "[]"),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "{ [key: string]: number }"),
        (
            {"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "integer"}},
            '{ [key in "a"]?: number }',
        ),
        ({"allOf": [{"enum": ["a", "b"]}, {"type": "string"}]}, '("a" | "b") & string'),
    ],
)  # fmt: skip
def test_what_arrives_has_the_type_of_its_schema(schema: Any, expected: str) -> None:
    assert returning(schema) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, ": number | bigint"),
        ({"type": "string", "format": "date-time"}, ": string | Date"),
        ({"type": "string", "format": "base64url"}, ": BytesIn"),
        ({"type": "array", "items": {"type": "string"}}, ": readonly string[]"),
        (
            {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
            ": readonly string[] | ReadonlySet<string>",
        ),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, ": number | string"),
    ],
)
def test_what_leaves_may_be_given_in_more_ways(schema: Any, expected: str) -> None:
    assert taking(schema) == expected


def test_what_may_be_left_out_may_be_undefined_too() -> None:
    assert taking({"type": "string"}, required=False) == "?: string | undefined"


def test_a_default_is_present_where_it_arrives_and_optional_where_it_leaves() -> None:
    text = generate(CONTRACT, "ts")
    assert 'export interface Cat {\n  kind: "cat";\n  lives: number;\n}' in text
    assert "  lives?: number | bigint | undefined;" in text


def test_members_of_a_union_that_leave_say_what_tells_them_apart() -> None:
    text = generate(CONTRACT, "ts")
    assert '(CatInput & { kind: "cat" }) | (DogInput & { kind: "dog" })' in text


def test_equal_definitions_have_one_name_and_different_ones_under_a_name_two() -> None:
    text = generate(CONTRACT, "ts")
    assert text.count("export interface Cat ") == 1
    assert "export type Level = 1 | 2;" in text
    assert "LevelInput" not in text
    first = {"title": "Thing", "type": "object", "properties": {"a": {"type": "string"}}}
    second = {"title": "Thing", "type": "object", "properties": {"b": {"type": "string"}}}
    both = {"type": "array", "prefixItems": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    text = generate(one_method(result={**both, "$defs": {"A": first, "B": second}}), "ts")
    assert "export interface Thing {" in text
    assert "export interface Thing2 {" in text


def test_the_name_of_a_model_that_says_who_it_is_does_not_depend_on_the_order_of_methods() -> None:
    def thing(module: str, field: str) -> dict[str, Any]:
        properties = {field: {"type": "string"}}
        return {
            "title": "Thing",
            "type": "object",
            "properties": properties,
            "x-type": f"{module}:Thing",
        }

    first, second = thing("a", "of_a"), thing("b", "of_b")
    texts = set()
    for results in ([first, second], [second, first]):
        contract = one_method(result=results[0])
        methods = contract["controllers"]["Hello"]["methods"]
        methods["other"] = {"kind": "unary", "doc": "", "params": {}, "result": results[1]}
        text = generate(contract, "ts")
        found = re.search(r"export interface Thing \{\n  (\w+)", text)
        assert found
        texts.add(found[1])
    assert texts == {"of_a"}


def test_a_recursive_definition_is_named_once() -> None:
    assert generate(CONTRACT, "ts").count("export interface Tree ") == 1


def test_typed_extras_fit_beside_the_properties() -> None:
    schema = {
        "title": "More",
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": {"type": "string"},
    }
    assert "  [key: string]: string | number;\n" in generate(one_method(result=schema), "ts")


def test_a_type_that_is_not_known_is_named_with_what_it_becomes() -> None:
    said: list[str] = []
    text = generate(one_method(result={"type": "decimal128"}), "ts", warn=said.append)
    assert "Promise<unknown>" in text
    assert said == [
        'controllers.Hello.methods.greet.result: the type "decimal128" is not known here; it becomes '
        "any value"
    ]


# -------------------------------------------------------------------------------------- methods


def test_a_language_that_is_not_known_is_refused() -> None:
    unknown: Any = "typescript"
    with pytest.raises(ValueError, match="language must be 'ts' or 'py', not 'typescript'"):
        generate({"version": 1, "controllers": {}}, unknown)


def test_methods_are_spelled_as_the_language_does_and_the_constant_has_the_wire_name() -> None:
    text = generate(CONTRACT, "ts")
    assert 'streamTokens: { kind: "stream", wire: "stream_tokens" }' in text
    assert "stream_tokens(" in generate(CONTRACT, "ts", case="exact")


def test_two_methods_that_would_have_one_name_keep_their_own() -> None:
    contract = one_method()
    methods = contract["controllers"]["Hello"]["methods"]
    methods["a_b"] = methods["aB"] = methods.pop("greet")
    said: list[str] = []
    text = generate(contract, "ts", warn=said.append)
    assert "  a_b(" in text
    assert "  aB(" in text
    assert len(said) == 2


def test_a_method_that_would_make_the_proxy_a_promise_is_renamed() -> None:
    assert 'then_: { kind: "unary", wire: "then" }' in generate(CONTRACT, "ts")


def test_a_method_that_a_client_in_javascript_never_has_is_renamed() -> None:
    client = (files("wsrpc.web") / "static" / "wsrpc.js").read_text("utf-8")
    (never,) = re.findall(r'^const RESERVED = words\("(.*)"\)', client, re.MULTILINE)
    contract = one_method()
    methods = contract["controllers"]["Hello"]["methods"]
    greet = methods["greet"]
    names = [name for name in never.split() if name.isidentifier()]
    methods.update(dict.fromkeys(names, greet))
    for case in ("camel", "exact"):
        text = generate(contract, "ts", case=case)
        for name in names:
            assert f'  {name}_: {{ kind: "unary", wire: "{name}" }}' in text


def test_two_controllers_that_would_have_one_name_keep_their_own() -> None:
    contract = one_method()
    hello = contract["controllers"]["Hello"]
    contract["controllers"] = {name: {**hello, "name": name} for name in ("my_api", "MyApi")}
    text = generate(contract, "ts")
    assert "export interface my_api " in text
    assert "export interface MyApi " in text


def test_handlers_take_what_arrives_and_give_what_leaves() -> None:
    text = generate(CONTRACT, "ts", side="callee")
    assert "export interface NastyHandlers {" in text
    assert "Controller<" not in text
    assert "ctx: CallContext): AsyncIterable<string>;" in text
    assert "file: AsyncIterable<Uint8Array>;" in text


def test_a_declaration_file_has_no_constants() -> None:
    assert "export const" not in generate(CONTRACT, "ts", constants=False)


def test_only_some_controllers_are_written() -> None:
    text = generate(CONTRACT, "ts", only=("Other",))
    assert "Nasty" not in text
    with pytest.raises(ContractError, match=r"there is no 'Nope'; there are: Nasty, Other"):
        generate(CONTRACT, "ts", only=("Nope",))


def test_documented_errors_are_types() -> None:
    errors = [{"type": "Quota", "code": "resource_exhausted", "data": {"type": "integer"}}]
    contract = one_method(errors=errors, result={"type": "string"})
    text = generate(contract, "ts")
    assert (
        'readonly type: "Quota"; readonly code: "resource_exhausted"; readonly data: number' in text
    )
    assert "@throws {Quota} resource_exhausted" in text
    assert "class Quota(wsrpc.RpcError[int], replace=True):" in generate(contract, "py")


def test_a_methods_timeout_is_documented_and_generated_clients_wait_as_long() -> None:
    contract = one_method(timeout=2500)
    text = generate(contract, "ts")
    assert 'greet: { kind: "unary", timeout: 2500 }' in text
    assert "@remarks Cancelled after 2500 ms." in text
    assert "@wsrpc.method(timeout=2.5)" in generate(contract, "py")
    assert "timeout" not in generate(one_method(), "py")


def test_the_output_is_a_function_of_the_contract() -> None:
    again = json.loads(json.dumps(CONTRACT))
    for language in ("ts", "py"):
        assert generate(CONTRACT, language) == generate(again, language)


# ------------------------------------------------------------------------------ hostile contracts

NASTY_TEXT = st.sampled_from(
    [
        "*/ alert(1) /*",
        '"""\nimport os\n"""',
        "'; import os #",
        "\\",
        "a\nb",
        "\u2028x",
        "\u202ex",
        "`${x}`",
        "\x00",
        "</script>",
        '"',
        "x\r// y",
    ]
) | st.text(max_size=12)


def name_like(name: str) -> st.SearchStrategy[str]:
    """Mostly the name, so that most contracts get past it."""
    return st.integers(0, 19).flatmap(lambda n: NASTY_TEXT if n == 19 else st.just(name))


@st.composite
def hostile_schema(draw: st.DrawFn) -> Any:
    text = draw(NASTY_TEXT)
    return draw(
        st.sampled_from(
            [
                {"type": "string", "format": text, "description": text, "default": text},
                {"const": text},
                {"enum": [text, "b"]},
                {"type": text},
                {"title": text, "type": "object", "properties": {text: {"type": "string"}}},
                {
                    "title": text,
                    "type": "object",
                    "description": text,
                    "properties": {
                        text: {"type": "string", "default": text, "description": text},
                        "b": {"type": "integer", "format": text},
                    },
                    "required": [text],
                    "x-type": text,
                },
                {"anyOf": [{"type": "string"}], "discriminator": {"propertyName": text}},
                {"$ref": f"#/$defs/{text}", "$defs": {text: {"enum": [text]}}},
                {"type": "object", "propertyNames": {"enum": [text]}},
            ]
        )
    )


@given(st.data())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_nothing_in_a_hostile_contract_runs_in_generated_code(data: st.DataObject) -> None:
    draw = data.draw
    params = {
        draw(name_like("name")): {
            "kind": draw(st.sampled_from(["value", "upload", "callback"])),
            "required": draw(st.booleans()),
            "schema": draw(hostile_schema()),
            "doc": draw(NASTY_TEXT),
            "default": draw(NASTY_TEXT),
            "arguments": [draw(hostile_schema())],
            "names": [draw(NASTY_TEXT)],
        }
    }
    method = {
        "kind": draw(st.sampled_from(["unary", "stream", "notify"])),
        "doc": draw(NASTY_TEXT),
        "details": draw(NASTY_TEXT),
        "params": params,
        "result": draw(hostile_schema()),
        "item": draw(hostile_schema()),
        "errors": [{"type": draw(name_like("Quota")), "code": "aborted", "data": True}]
        if draw(st.booleans())
        else [],
    }
    controller = draw(name_like("Hello"))
    name = draw(name_like("greet"))
    contract = {
        "version": 1,
        "controllers": {controller: {"doc": draw(NASTY_TEXT), "methods": {name: method}}},
    }
    try:
        typescript = generate(contract, "ts")
        callee = generate(contract, "ts", side="callee")
        python = generate(contract, "py")
    except ContractError as error:
        event(str(error).partition(": ")[2][:24])
        return
    event("written")
    for text in (typescript, callee):
        bare = without_comments_and_strings(text)
        assert not set(bare) & set("`\\#@\u2028\u2029"), bare
        assert "alert" not in bare
        assert "import os" not in bare
        assert bare.count("/") == 0
    assert_declares_only(python)


def without_comments_and_strings(text: str) -> str:
    """TypeScript without its comments and strings, which each end where they should."""
    tokens = r"""/\*(?:[^*]|\*(?!/))*\*/|"(?:[^"\\\n]|\\.)*\""""
    bare = re.sub(tokens, "", text)
    return re.sub(r"^// Made by .*$", "", bare, flags=re.M)


def assert_declares_only(text: str) -> None:
    tree = ast.parse(text)
    assert {type(node) for node in tree.body} <= {
        ast.Expr,
        ast.ImportFrom,
        ast.Import,
        ast.ClassDef,
        ast.AnnAssign,
        ast.Assign,
    }
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert "os" not in imported


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (None, "the contract: it needs 'controllers', an object"),
        ({"controllers": []}, "the contract: it needs 'controllers', an object"),
        ({"controllers": {"A": {}}}, "controllers.A: it needs 'methods', an object"),
        ({"controllers": {"A": {"methods": {"f": {"kind": "x"}}}}}, "controllers.A.methods.f: its kind must be"),
        ({"controllers": {"A": {"methods": {"a b": {"kind": "unary"}}}}}, 'the method "a b" is no identifier'),
        ({"controllers": {"A": {"methods": {"__init__": {"kind": "unary"}}}}}, "is no identifier"),
        (one_method(params={"x y": {}}), 'the parameter "x y" is no identifier'),
        (one_method(result={"$ref": "#/$defs/Gone"}), "it refers to \"#/$defs/Gone\", not in $defs"),
        (one_method(result={"$ref": "http://elsewhere/x"}), "not in $defs"),
        (one_method(result={"enum": []}), "enum must be a list with something in it"),
        (one_method(timeout="1"), "it must be milliseconds, a whole number above 0"),
        (one_method(timeout=0), "it must be milliseconds, a whole number above 0"),
        (one_method(result=7), "a schema must be an object, true or false"),
    ],
)  # fmt: skip
def test_a_broken_contract_is_refused_with_the_place(contract: Any, said: str) -> None:
    for language in ("ts", "py"):
        with pytest.raises(ContractError) as caught:
            generate(contract, language)
        assert said in str(caught.value)


@pytest.mark.parametrize("language", ["ts", "py"])
def test_a_contract_nested_too_deep_is_refused(language: Any) -> None:
    schema: Any = {"type": "string"}
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ContractError, match=r"nested more than 64 deep"):
        generate(one_method(result=schema), language)
