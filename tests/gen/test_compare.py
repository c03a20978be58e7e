"""`wsrpc diff`: what changed, for whom it breaks, and that what is called compatible can be called."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal, NotRequired

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

import wsrpc
from tests.values.test_travel import types
from wsrpc.contract.description import describe
from wsrpc.contract.expose import expose_all
from wsrpc.contract.signature import MethodSpec, read
from wsrpc.gen import ContractError
from wsrpc.gen.compare import Change, compare, is_compatible
from wsrpc.gen.subtypes import problems
from wsrpc.protocol.codec import CODECS
from wsrpc.testing import connected_pair
from wsrpc.values.adapter import Adapter

# --- A table of changes ----------------------------------------------------------------------------


def method(kind: str = "unary", **described: Any) -> dict[str, Any]:
    return {"kind": kind, "doc": "", "params": {}, **described}


def value(schema: Any, required: bool = True, **more: Any) -> dict[str, Any]:
    return {"kind": "value", "required": required, "schema": schema, **more}


def contract(buy: Any = None, **controllers: Any) -> dict[str, Any]:
    shop = {"Shop": {"name": "Shop", "doc": "", "methods": {"buy": buy or method()}}}
    return {"version": 1, "controllers": {**shop, **controllers}}


def upload(schema: Any) -> dict[str, Any]:
    return {"kind": "upload", "required": True, "schema": schema}


def callback(arguments: list[Any], result: Any = True, **more: Any) -> dict[str, Any]:
    return {"kind": "callback", "required": True, "arguments": arguments, "result": result, **more}


def model(required: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    named = list(fields) if required is None else required
    return {"title": "Cat", "type": "object", "properties": fields, "required": named}


INT, STR, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}
NUMBER = {"type": "number"}
ANY: dict[str, Any] = {}
DATE = {"type": "string", "format": "date"}
BYTES = {"type": "string", "format": "base64url"}
MAYBE = {"anyOf": [INT, NULL]}
AB, ABC = {"enum": ["a", "b"], "type": "string"}, {"enum": ["a", "b", "c"], "type": "string"}
OTHER: dict[str, Any] = {"Other": {"methods": {}}}
QUOTA = {"type": "Quota", "code": "aborted", "data": model(limit=INT)}

BREAKS, FITS = True, False


def taking(**params: Any) -> dict[str, Any]:
    return contract(method(params=params))


def giving(schema: Any) -> dict[str, Any]:
    return contract(method(result=schema))


ROWS: list[tuple[str, Any, Any, str, str, bool, bool]] = [
    # what, old, new, path, change, callers, handlers
    ("controller gone", contract(**OTHER), contract(), "Other", "removed", BREAKS, FITS),
    ("controller new", contract(), contract(**OTHER), "Other", "added", FITS, BREAKS),
    ("method gone", contract(Z={"methods": {"a": method()}}), contract(Z={"methods": {}}), "Z.a", "removed", BREAKS, FITS),
    ("method new", contract(Z={"methods": {}}), contract(Z={"methods": {"a": method()}}), "Z.a", "added", FITS, BREAKS),
    ("kind", contract(method(result=INT)), contract(method("stream", item=INT)), "Shop.buy", "kind", BREAKS, BREAKS),
    ("one way", contract(method(result=NULL)), contract(method("notify")), "Shop.buy", "kind", BREAKS, BREAKS),
    ("parameter gone", taking(a=value(INT)), taking(), "Shop.buy(a)", "removed", BREAKS, BREAKS),
    ("optional parameter gone", taking(a=value(INT, False)), taking(), "Shop.buy(a)", "removed", BREAKS, FITS),
    ("new required parameter", taking(), taking(a=value(INT)), "Shop.buy(a)", "added", BREAKS, BREAKS),
    ("new optional parameter", taking(), taking(a=value(INT, False)), "Shop.buy(a)", "added", FITS, BREAKS),
    ("now required", taking(a=value(INT, False)), taking(a=value(INT)), "Shop.buy(a)", "required", BREAKS, FITS),
    ("now optional", taking(a=value(INT)), taking(a=value(INT, False)), "Shop.buy(a)", "optional", FITS, BREAKS),
    ("narrowed parameter", taking(a=value(MAYBE)), taking(a=value(INT)), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("widened parameter", taking(a=value(INT)), taking(a=value(MAYBE)), "Shop.buy(a)", "widened", FITS, BREAKS),
    ("another type", taking(a=value(INT)), taking(a=value(STR)), "Shop.buy(a)", "type", BREAKS, BREAKS),
    ("integer to number", taking(a=value(INT)), taking(a=value(NUMBER)), "Shop.buy(a)", "widened", FITS, BREAKS),
    ("fewer choices", taking(a=value(ABC)), taking(a=value(AB)), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("more choices", taking(a=value(AB)), taking(a=value(ABC)), "Shop.buy(a)", "widened", FITS, BREAKS),
    ("a bound", taking(a=value(INT)), taking(a=value({**INT, "minimum": 1})), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("a looser bound", taking(a=value({**INT, "minimum": 1})), taking(a=value({**INT, "minimum": 0})), "Shop.buy(a)", "widened", FITS, BREAKS),
    ("a pattern", taking(a=value(STR)), taking(a=value({**STR, "pattern": "^a"})), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("a format", taking(a=value(STR)), taking(a=value(DATE)), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("text to bytes", taking(a=value(STR)), taking(a=value(BYTES)), "Shop.buy(a)", "type", BREAKS, BREAKS),
    ("bytes to text", taking(a=value(BYTES)), taking(a=value(STR)), "Shop.buy(a)", "type", BREAKS, BREAKS),
    ("any to one", taking(a=value(ANY)), taking(a=value(INT)), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("new required field of a parameter", taking(a=value(model(x=INT))), taking(a=value(model(x=INT, y=INT))), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("new optional field of a parameter", taking(a=value(model(x=INT))), taking(a=value(model(["x"], x=INT, y=INT))), "Shop.buy(a)", "type", FITS, FITS),
    ("optional field of a parameter gone", taking(a=value(model(["x"], x=INT, y=INT))), taking(a=value(model(x=INT))), "Shop.buy(a)", "type", FITS, FITS),
    ("default of a field", taking(a=value(model([], x={**INT, "default": 1}))), taking(a=value(model([], x={**INT, "default": 2}))), "Shop.buy(a)", "default", FITS, FITS),
    ("documentation of a field", giving(model(x=INT)), giving(model(x={**INT, "description": "how many"})), "Shop.buy -> result", "documentation", FITS, FITS),
    ("choices in another order", giving(MAYBE), giving({"anyOf": [NULL, INT]}), "Shop.buy -> result", "type", FITS, FITS),
    ("list items", taking(a=value({"type": "array", "items": INT})), taking(a=value({"type": "array", "items": STR})), "Shop.buy(a)", "type", BREAKS, BREAKS),
    ("list to set", taking(a=value({"type": "array", "items": INT})), taking(a=value({"type": "array", "items": INT, "uniqueItems": True})), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("parameter's kind", taking(a=value(INT)), taking(a=upload(INT)), "Shop.buy(a)", "kind", BREAKS, BREAKS),
    ("an upload's items", taking(a=upload(MAYBE)), taking(a=upload(INT)), "Shop.buy(a)", "narrowed", BREAKS, FITS),
    ("a default", taking(a=value(INT, False, default=1)), taking(a=value(INT, False, default=2)), "Shop.buy(a)", "default", FITS, FITS),
    ("order", taking(a=value(INT), b=value(INT)), taking(b=value(INT), a=value(INT)), "Shop.buy", "order", FITS, FITS),
    ("narrowed result", giving(MAYBE), giving(INT), "Shop.buy -> result", "narrowed", FITS, BREAKS),
    ("widened result", giving(INT), giving(MAYBE), "Shop.buy -> result", "widened", BREAKS, FITS),
    ("new field of a result", giving(model(x=INT)), giving(model(x=INT, y=INT)), "Shop.buy -> result", "narrowed", FITS, BREAKS),
    ("field of a result gone", giving(model(x=INT, y=INT)), giving(model(x=INT)), "Shop.buy -> result", "widened", BREAKS, FITS),
    ("field of a result required now", giving(model([], x=INT)), giving(model(x=INT)), "Shop.buy -> result", "narrowed", FITS, BREAKS),
    ("more choices in a result", giving(AB), giving(ABC), "Shop.buy -> result", "widened", BREAKS, FITS),
    ("widened items", contract(method("stream", item=INT)), contract(method("stream", item=MAYBE)), "Shop.buy -> item", "widened", BREAKS, FITS),
    ("a final value", contract(method("stream", item=INT)), contract(method("stream", item=INT, final=INT)), "Shop.buy -> final", "added", BREAKS, BREAKS),
    ("no final value", contract(method("stream", item=INT, final=INT)), contract(method("stream", item=INT)), "Shop.buy -> final", "removed", BREAKS, FITS),
    ("tracked", contract(method("stream", item=INT)), contract(method("stream", item=INT, tracked=True)), "Shop.buy", "tracked", BREAKS, BREAKS),
    ("not idempotent", contract(method(idempotent=True)), contract(method()), "Shop.buy", "idempotent", BREAKS, FITS),
    ("idempotent", contract(method()), contract(method(idempotent=True)), "Shop.buy", "idempotent", FITS, BREAKS),
    ("callback's arguments", taking(a=callback([INT])), taking(a=callback([INT, INT])), "Shop.buy(a)", "arguments", BREAKS, BREAKS),
    ("callback's argument wider", taking(a=callback([INT])), taking(a=callback([MAYBE])), "Shop.buy(a): argument 1", "widened", BREAKS, FITS),
    ("callback's argument narrower", taking(a=callback([MAYBE])), taking(a=callback([INT])), "Shop.buy(a): argument 1", "narrowed", FITS, BREAKS),
    ("callback's result narrower", taking(a=callback([], MAYBE)), taking(a=callback([], INT)), "Shop.buy(a) -> result", "narrowed", BREAKS, FITS),
    ("callback's names", taking(a=callback([INT], names=["x"])), taking(a=callback([INT], names=["y"])), "Shop.buy(a)", "names", FITS, FITS),
    ("tags", contract(method()), contract(method(tags=["admin"])), "Shop.buy", "tags", FITS, FITS),
    ("deprecated", contract(method()), contract(method(deprecated=True)), "Shop.buy", "deprecated", FITS, FITS),
    ("documentation", contract(method(doc="a")), contract(method(doc="b")), "Shop.buy", "documentation", FITS, FITS),
    ("parameter's documentation", taking(a=value(INT, doc="a")), taking(a=value(INT, doc="b")), "Shop.buy(a)", "documentation", FITS, FITS),
    ("on_disconnect", contract(method()), contract(method(on_disconnect="cancel")), "Shop.buy", "on_disconnect", FITS, FITS),
    ("timeout", contract(method()), contract(method(timeout=500)), "Shop.buy", "timeout", FITS, FITS),
    ("a new error", contract(method()), contract(method(errors=[QUOTA])), "Shop.buy raises Quota", "added", FITS, FITS),
    ("an error less", contract(method(errors=[QUOTA])), contract(method()), "Shop.buy raises Quota", "removed", FITS, FITS),
    ("an error's code", contract(method(errors=[QUOTA])), contract(method(errors=[{**QUOTA, "code": "internal"}])), "Shop.buy raises Quota", "code", BREAKS, BREAKS),
    ("an error's data", contract(method(errors=[QUOTA])), contract(method(errors=[{**QUOTA, "data": model(limit=STR)}])), "Shop.buy raises Quota: data", "type", BREAKS, BREAKS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "path", "change", "callers", "handlers"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_each_change_is_named_and_judged_for_callers_and_for_handlers(
    old: Any, new: Any, path: str, change: str, callers: bool, handlers: bool
) -> None:
    found = compare(old, new)
    assert [(one.path, one.change, one.callers, one.handlers) for one in found] == [
        (path, change, callers, handlers)
    ]
    assert found[0].message
    assert is_compatible(found) is not callers
    assert is_compatible(found, "handlers") is not handlers
    assert is_compatible(found, "both") is not (callers or handlers)
    assert json.loads(json.dumps(found[0].as_json()))["callers"] == (
        "breaking" if callers else "compatible"
    )


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_contract_is_what_it_is(row: Any) -> None:
    assert compare(row[1], row[1]) == []
    assert compare(row[2], row[2]) == []


def test_a_change_deep_inside_is_named() -> None:
    inner = {
        "$defs": {"In": model(y=INT)},
        **model(x={"type": "array", "items": {"$ref": "#/$defs/In"}}),
    }
    other = {
        "$defs": {"In": model(y=STR)},
        **model(x={"type": "array", "items": {"$ref": "#/$defs/In"}}),
    }
    (change,) = compare(giving(inner), giving(other))
    assert change.message.startswith("x[].y may be string where integer is expected")


def test_a_compatible_change_deep_inside_is_named_once() -> None:
    def trees(**more: Any) -> dict[str, Any]:
        many = {"type": "array", "items": {"$ref": "#/$defs/Node"}}
        return {**many, "$defs": {"Node": model(["kids"], kids=many, **more)}}

    (change,) = compare(giving(trees()), giving(trees(y=INT)))
    assert (change.change, change.message) == ("type", "[].y is new")
    # Other names of classes are no change.
    named, elsewhere = {**model(x=INT), "title": "A"}, {**model(x=INT), "x-type": "b:B"}
    assert compare(giving(named), giving(elsewhere)) == []


def test_a_recursive_type_is_compared_once() -> None:
    def tree(leaf: Any) -> dict[str, Any]:
        node = model(leaf=leaf, kids={"type": "array", "items": {"$ref": "#/$defs/Node"}})
        return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}

    assert compare(giving(tree(INT)), giving(tree(INT))) == []
    assert [one.change for one in compare(giving(tree(INT)), giving(tree(MAYBE)))] == ["widened"]


@pytest.mark.parametrize("wrong", [None, [], {}, {"controllers": []}, {"controllers": {"A": 1}},
    {"controllers": {"A": {"methods": {"b": {"kind": "other"}}}}},
    {"controllers": {"A": {"methods": {"b": {"kind": "unary", "params": [1]}}}}}])  # fmt: skip
def test_what_is_no_contract_is_refused(wrong: Any) -> None:
    with pytest.raises(ContractError):
        compare(wrong, contract())
    with pytest.raises(ContractError):
        compare(contract(), wrong)


# --- What is called compatible can be called -------------------------------------------------------


def spec_of(annotation: Any, *, result: bool = False) -> MethodSpec:
    async def buy(self: Any, what: Any) -> Any: ...

    buy.__annotations__ = {"what": int if result else annotation, "return": annotation}
    if not result:
        buy.__annotations__["return"] = type(None)
    return read("Shop", "buy", buy)


def described(annotation: Any, *, result: bool) -> dict[str, Any]:
    one = Adapter(annotation, where="x")
    if result:
        return giving(one.json_schema("serialization"))
    return taking(what=value(one.json_schema("validation")))


class Cat(BaseModel):
    lives: int
    name: str = "Tom"


class MoreCat(BaseModel):
    lives: int | None
    name: str = "Tom"
    age: int = 0


class ClosedCat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lives: int


class AliasedCat(BaseModel):
    lives: int = Field(alias="Lives")


class TypedCat(TypedDict):
    lives: int
    name: NotRequired[str]


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = "light"


class Level(enum.IntEnum):
    LOW = 1


TYPES: list[Any] = [
    int, float, bool, str, bytes, None, Any, dt.date, dt.datetime, dt.timedelta, uuid.UUID,
    decimal.Decimal, complex, Shade, Level, Literal["dark"], Literal["dark", "a"], Literal[1, 2],
    Cat, MoreCat, ClosedCat, AliasedCat, TypedCat, int | None, str | None, int | str, Cat | None,
    list[int], list[int | None], list[Cat], set[int], tuple[int, str], tuple[int, ...],
    dict[str, int], dict[int, int], dict[uuid.UUID, int], dict[Shade, int], dict[bool, int],
    dict[str, Any], dict[dt.date, int], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0, le=9)],
    Annotated[str, Field(max_length=3)], Annotated[str, Field(min_length=1, pattern="^a")],
    Annotated[list[int], Field(max_length=1)], list[dict[str, int | None]],
]  # fmt: skip

SAMPLES: list[Any] = [
    0, 1, 5, -1, 10**6, 1.5, 2.0, True, "", "a", "abcd", "dark", "light", "5", "2020-01-02", b"", b"\xff",
    None, dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 3), dt.timedelta(days=1), uuid.UUID(int=5),
    decimal.Decimal("1.5"), 1 + 2j, Shade.DARK, Level.LOW, Cat(lives=1), MoreCat(lives=None),
    MoreCat(lives=2), ClosedCat(lives=3), AliasedCat(Lives=4), {"lives": 5}, {"lives": 6, "name": "x"},
    [], [1], [1, None], [1, 2, 1], [Cat(lives=1)], {1}, (1, "a"), (1, 2), {}, {"a": 1}, {1: 1},
    {uuid.UUID(int=5): 1}, {Shade.DARK: 1}, {True: 1}, {"a": [1]}, {dt.date(2020, 1, 2): 1},
    [{"a": None}],
]  # fmt: skip


@pytest.mark.parametrize("result", [False, True], ids=["argument", "result"])
def test_whatever_diff_calls_compatible_an_old_client_can_really_call(result: bool) -> None:
    """Every pair of types: where no change breaks callers, every value of the one gets through."""
    compatible = 0
    schemas = [described(one, result=result) for one in TYPES]
    specs = [spec_of(one, result=result) for one in TYPES]
    for old, old_spec in zip(schemas, specs, strict=True):
        for new, new_spec in zip(schemas, specs, strict=True):
            if not is_compatible(compare(old, new)):
                continue
            compatible += 1
            gets_through(old_spec, new_spec, SAMPLES, result=result)
    assert compatible >= len(TYPES) + 10


def gets_through(old: MethodSpec, new: MethodSpec, samples: list[Any], *, result: bool) -> None:
    for sample in samples:
        for codec in CODECS.values():
            if result:
                assert old.result is not None
                assert new.result is not None
                try:
                    data = new.result.dump(sample, codec)
                except Exception:  # noqa: BLE001 - no value of the type
                    continue
                old.result.load(data, codec)
            else:
                try:
                    data = old.dump_args({"what": sample}, codec)
                except Exception:  # noqa: BLE001 - no value of the type
                    continue
                new.load_args(data, codec)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
@given(types, types, st.booleans(), st.data())
def test_the_same_for_types_that_nobody_thought_of(
    first: Any, second: Any, same: bool, data: st.DataObject
) -> None:
    if same:
        second = first
    try:
        specs = [spec_of(one[0], result=True) for one in (first, second)]
    except wsrpc.RegistrationError:
        return
    schemas = [described(one[0], result=True) for one in (first, second)]
    if is_compatible(compare(schemas[0], schemas[1])):
        gets_through(specs[0], specs[1], [data.draw(second[1])], result=True)
    schemas = [described(one[0], result=False) for one in (first, second)]
    if is_compatible(compare(schemas[0], schemas[1])):
        old, new = (spec_of(one[0]) for one in (first, second))
        gets_through(old, new, [data.draw(first[1])], result=False)


class OldShop:
    controller_name = "Shop"

    @wsrpc.method
    async def buy(self, cat: Cat, n: int, tell: Callable[[int | None], Awaitable[int]]) -> MoreCat:
        raise NotImplementedError

    @wsrpc.method
    async def watch(
        self, lines: AsyncIterator[int]
    ) -> AsyncIterator[int | wsrpc.Final[int | None] | None]:
        raise NotImplementedError
        yield


class NewShop:
    controller_name = "Shop"

    @wsrpc.method
    async def buy(
        self,
        cat: MoreCat,
        n: int | None,
        tell: Callable[[int], Awaitable[int | None]],
        wrap: bool = False,
    ) -> Cat:
        """Buy one."""
        return Cat(lives=(await tell(cat.lives or 0)) or 0)

    @wsrpc.method
    async def watch(
        self, lines: AsyncIterator[int | None]
    ) -> AsyncIterator[int | wsrpc.Final[int]]:
        async for line in lines:
            yield line or 0
        yield wsrpc.Final(5)

    @wsrpc.method
    async def more(self) -> None: ...


async def test_an_old_client_calls_a_new_server_that_diff_calls_compatible() -> None:
    old, new = (describe(expose_all([one()])) for one in (OldShop, NewShop))
    changes = compare(old, new)
    # A result's model that lacks a field with a default: the old client fills it in.
    assert [one for one in changes if one.callers] == []
    assert len(changes) >= 6

    async def tell(n: int | None) -> int:
        return (n or 0) + 1

    for codec in ("json", "msgpack"):
        async with connected_pair([NewShop()], codec=codec) as (_, client):
            shop = client.clientize(OldShop)
            assert await shop.buy(Cat(lives=3), 1, tell) == MoreCat(lives=4)
            stream = shop.watch(wsrpc.stream_of([1, 2]))
            assert await stream.collect() == [1, 2]
            assert stream.final == 5


def test_changes_are_values() -> None:
    assert Change("a", "b", True, False, "c") == Change("a", "b", True, False, "c")
    assert problems(INT, INT) == []
    assert create_model("M", a=(int, ...)) is not None
