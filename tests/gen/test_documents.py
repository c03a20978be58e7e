"""AsyncAPI documents and tool definitions, made from a contract."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import wsrpc
from tests.web.node import missing
from wsrpc.gen import ContractError
from wsrpc.gen.documents import asyncapi, tools

from .nasty import controllers

NASTY: dict[str, Any] = json.loads(json.dumps(wsrpc.Server(controllers).contract()))


class Cat(BaseModel):
    lives: int
    friend: Cat | None = None


class Shop:
    """Sells."""

    @wsrpc.method(tags={"open"})
    async def buy(self, cat: Cat, n: int = 1) -> Cat:
        """Buy one.

        At length.

        Args:
            n: How many.
        """
        raise NotImplementedError

    @wsrpc.method
    async def watch(self) -> AsyncIterator[Cat | wsrpc.Final[int]]:
        raise NotImplementedError
        yield

    @wsrpc.method
    async def count(self, lines: AsyncIterator[int]) -> int:
        raise NotImplementedError

    @wsrpc.method(oneway=True)
    async def ring(self) -> None: ...


SHOP: dict[str, Any] = wsrpc.Server([Shop()]).contract()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for one in node:
            yield from references(one)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for one in node.values():
            yield from references(one)


def found(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    node = document
    for step in reference[2:].split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


# --- Tools ------------------------------------------------------------------------------------------


def test_a_tool_has_a_name_a_description_and_a_schema_of_its_arguments() -> None:
    by_name = {one["name"]: one for one in tools(SHOP)}
    assert list(by_name) == ["Shop_buy", "Shop_watch", "Shop_ring"]
    buy = by_name["Shop_buy"]
    assert buy["method"] == "Shop.buy"
    assert buy["description"].startswith("Buy one.\n\nAt length.")
    schema = buy["input_schema"]
    assert schema["required"] == ["cat"]
    assert schema["properties"]["n"] == {
        "type": "integer",
        "default": 1,
        "description": "How many.",
    }
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]) == {"Cat"}


@pytest.mark.parametrize("contract", [SHOP, NASTY], ids=["shop", "nasty"])
def test_tools_are_complete_and_named_as_providers_take_it(contract: Any) -> None:
    made = tools(contract)
    assert made
    assert len({one["name"] for one in made}) == len(made)
    for one in made:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one["name"])
        for reference in references(one["input_schema"]):
            found(one["input_schema"], reference)
    assert json.loads(json.dumps(made)) == made


def test_two_tools_of_one_name_are_refused() -> None:
    method = {"kind": "unary", "params": {}}
    contract = {
        "controllers": {"A": {"methods": {"b_c": method}}, "A_b": {"methods": {"c": method}}}
    }
    with pytest.raises(ContractError, match="two tools"):
        tools(contract)


# --- AsyncAPI ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [SHOP, NASTY], ids=["shop", "nasty"])
def test_an_asyncapi_document_has_a_channel_and_an_operation_for_each_method(contract: Any) -> None:
    document = asyncapi(contract)
    methods = {
        f"{name}.{key}"
        for name, controller in contract["controllers"].items()
        for key in controller["methods"]
    }
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == set(document["operations"]) == methods
    assert "$defs" not in json.dumps(document)
    for reference in references(document):
        found(document, reference)


def test_what_goes_each_way_is_told() -> None:
    document = asyncapi(SHOP, title="Shop", version="2")
    assert document["info"]["title"] == "Shop"
    assert set(document["channels"]["Shop.watch"]["messages"]) == {"arguments", "item", "final"}
    assert set(document["channels"]["Shop.ring"]["messages"]) == {"arguments"}
    assert "reply" not in document["operations"]["Shop.ring"]
    lines = document["channels"]["Shop.count"]["messages"]["arguments"]["payload"]["properties"]
    assert lines["lines"]["x-wsrpc-kind"] == "upload"
    assert [one["name"] for one in document["operations"]["Shop.buy"]["tags"]] == ["Shop", "open"]
    # What arrives and what leaves differ in what is required.
    assert set(document["components"]["schemas"]) == {"Cat", "Cat2"}


PARSER = """
import { Parser } from '@asyncapi/parser';
import { readFileSync } from 'node:fs';
const { diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
const errors = diagnostics.filter((one) => one.severity === 0);
for (const one of errors) console.log(one.path.join('.'), one.message);
process.exit(errors.length ? 1 : 0);
"""


@pytest.mark.slow
@pytest.mark.parametrize("contract", [SHOP, NASTY], ids=["shop", "nasty"])
def test_the_official_parser_accepts_it(contract: Any, tmp_path: Path) -> None:
    modules = Path(__file__).parents[2] / ".web" / "node_modules"
    node = shutil.which("node")
    if node is None or not (modules / "@asyncapi" / "parser").is_dir():
        missing("no @asyncapi/parser: npm install --no-package-lock --prefix .web @asyncapi/parser")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "parse.mjs").write_text(PARSER)
    (tmp_path / "api.json").write_text(json.dumps(asyncapi(contract)))
    done = subprocess.run(
        [node, "parse.mjs", "api.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("wrong", [None, {}, {"controllers": {"A": {}}}])
def test_what_is_no_contract_is_refused(wrong: Any) -> None:
    with pytest.raises(ContractError):
        tools(wrong)
    with pytest.raises(ContractError):
        asyncapi(wrong)
