"""Values: what a type lets through, in both codecs, and what it refuses, with which words."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import gc
import ipaddress
import json
import math
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    TypeVar,
    cast,
)

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from pydantic import (
    AliasChoices,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    RootModel,
    SerializeAsAny,
    WrapSerializer,
    computed_field,
    create_model,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from wsrpc.errors import RegistrationError, RpcError
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.values import adapter as values
from wsrpc.values import checks as plain
from wsrpc.values.adapter import Adapter, InvalidValue, Unencodable
from wsrpc.values.core import _cores as cores

JSON = CODECS["json"]
MSGPACK = CODECS["msgpack"]

T = TypeVar("T")


@pytest.fixture(params=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


def adapter(annotation: Any) -> Adapter:
    return Adapter(annotation, where="Hello.greet: parameter 'x'")


def refusal(annotation: Any) -> str:
    with pytest.raises(RegistrationError) as caught:
        adapter(annotation)
    return str(caught.value)


# --- The types -------------------------------------------------------------------------------------


class Point(BaseModel):
    x: int
    y: float
    label: str = ""


class Blob(BaseModel):
    name: str
    data: bytes
    more: list[bytes] = []


class Node(BaseModel):
    data: bytes = b""
    kids: list[Node] = []


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: T | None = None


@dataclasses.dataclass
class Visit:
    when: dt.date
    where: Point | None = None


@pydantic_dataclass
class Packet:
    body: bytes
    weight: float = 0.5


class Header(TypedDict, total=False):
    size: Required[int]
    seal: bytes


class Pair(NamedTuple):
    left: int
    right: bytes


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tag: bytes


class Names(BaseModel):
    from_: int = Field(alias="from")
    written: int = Field(1, serialization_alias="w")
    read: int = Field(2, validation_alias="r")
    both: int = Field(3, validation_alias=AliasChoices("b1", "b2"), serialization_alias="b3")


class Area(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class StrictArea(Area):
    model_config = ConfigDict(extra="forbid")


class Chunks(RootModel[list[bytes]]):
    pass


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    when: dt.datetime
    who: uuid.UUID
    color: Color
    pair: tuple[int, ...]
    some: set[int]
    cost: decimal.Decimal


class Holder(BaseModel):
    held: Any = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int


UTC = dt.UTC

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 5),
    (int, -(2**63)),
    (int, 2**64 - 1),
    (float, 1.5),
    (bool, True),
    (None, None),
    (str, ""),
    (str, 'é😀\n"\\ NaN Infinity'),
    (bytes, b""),
    (bytes, b"\xff\xfb\x00"),
    (Point, Point(x=1, y=2.5, label="NaN")),
    (Blob, Blob(name="b", data=b"\xff\xfb", more=[b"", b"\x80"])),
    (Node, Node(kids=[Node(data=b"\xff", kids=[Node()])])),
    (Page[Point], Page[Point](items=[Point(x=1, y=0)])),
    (Page[bytes], Page[bytes](items=[b"\xff"], next=b"\xfe")),
    (Visit, Visit(dt.date(2020, 1, 2), Point(x=1, y=0))),
    (Packet, Packet(b"\xff")),
    (Header, {"size": 1, "seal": b"\xfe"}),
    (Pair, Pair(1, b"\xff")),
    (Color, Color.BLUE),
    (Level, Level.LOW),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(tag=b"\xff")),
    (Cat | Dog, Dog(tag=b"\xff")),
    (Literal["a", 1, None], 1),
    (dt.datetime, dt.datetime(2020, 1, 2, 3, 4, 5, 678901, UTC)),
    (dt.datetime, dt.datetime(2020, 1, 2)),
    (dt.date, dt.date(2020, 1, 2)),
    (dt.time, dt.time(1, 2, 3)),
    (dt.timedelta, dt.timedelta(days=1, microseconds=3)),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (uuid.UUID, uuid.UUID(int=7)),
    (pathlib.Path, pathlib.Path("/x")),
    (ipaddress.IPv4Address, ipaddress.IPv4Address("1.2.3.4")),
    (AnyUrl, AnyUrl("http://a.example/")),
    (complex, 1 + 2j),
    (list[int], [1, 2]),
    (tuple[int, str], (1, "a")),
    (tuple[bytes, ...], (b"\xff",)),
    (set[int], {1, 2}),
    (frozenset[int], frozenset({1, 2})),
    (dict[str, bytes], {"a": b"\xff"}),
    (dict[int, str], {1: "a"}),
    (dict[uuid.UUID, bytes], {uuid.UUID(int=1): b"\xff"}),
    (dict[bytes, int], {b"\xff\xfe": 1}),
    (dict[dt.date, int], {dt.date(2020, 1, 1): 1}),
    (collections.deque[int], collections.deque([1])),
    (collections.defaultdict[str, list[int]], collections.defaultdict(list, a=[1])),
    (collections.Counter[str], collections.Counter("aab")),
    (Sequence[bytes], [b"\xff"]),
    (Mapping[str, int], {"a": 1}),
    (int | str | None, "5"),
    (int | str | None, 5),
    (dt.date | Literal["tomorrow"], "tomorrow"),
    (dt.date | Literal["tomorrow"], dt.date(2020, 1, 1)),
    (dt.date | int, dt.date(2020, 1, 1)),
    (bytes | int, 5),
    (bytes | int, b"\xff"),
    (Names, Names(**{"from": 4, "w": 5, "r": 6, "b1": 7})),
    (Area, Area(side=3)),
    (StrictArea, StrictArea(side=3)),
    (Chunks, Chunks([b"\xff", b""])),
    (
        Strict,
        Strict(
            when=dt.datetime(2020, 1, 1),
            who=uuid.UUID(int=1),
            color=Color.RED,
            pair=(1, 2),
            some={1},
            cost=decimal.Decimal("1.5"),
        ),
    ),
    (Open, Open.model_validate({"a": 1, "b": [1]})),
    (Any, {"a": [1, 2.5, None, True, "x", {}], "b": []}),
    (object, [1, [2, [3]]]),
    (JsonValue, {"a": [1, {"b": None}]}),
    (Holder, Holder(held={"k": [1, "x"]})),
    (list[Any], [1, "a", None]),
    (dict[str, Any], {"a": {"b": 1}}),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=lambda one: str(one)[:40])
def test_a_value_arrives_equal_and_of_the_same_type(
    annotation: Any, value: Any, codec: Codec
) -> None:
    one = adapter(annotation)
    raw = bytes(one.dump(value, codec))
    loaded = one.load(Raw(raw), codec)
    assert loaded == value
    assert type(loaded) is type(value)
    assert one.load_many(codec.join([raw, raw]), codec) == [value, value]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=lambda one: str(one)[:40])
def test_an_unchecked_value_is_encoded_like_a_checked_one(
    annotation: Any, value: Any, codec: Codec
) -> None:
    one = adapter(annotation)
    assert one.dump(value, codec, check=False) == one.dump(value, codec)


@pytest.mark.rule("VALUE-6")
@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=lambda one: str(one)[:40])
def test_what_one_codec_carries_is_the_other_with_bytes_in_base64(
    annotation: Any, value: Any
) -> None:
    if annotation in (set[int], frozenset[int]):
        pytest.skip("the order of a set is its own")
    one = adapter(annotation)
    native = MSGPACK.load(one.dump(value, MSGPACK))
    assert JSON.load(one.dump(value, JSON)) == JSON.load(JSON.dump_value(native))


def test_a_value_is_turned_into_its_declared_type_before_it_leaves(codec: Codec) -> None:
    assert codec.load(adapter(int).dump("5", codec)) == 5
    assert codec.load(adapter(Point).dump({"x": 1, "y": 2}, codec)) == {
        "x": 1,
        "y": 2.0,
        "label": "",
    }


def test_an_unchecked_value_leaves_as_it_is(codec: Codec) -> None:
    raw = adapter(Point).dump({"x": "no point"}, codec, check=False)
    assert codec.load(raw) == {"x": "no point"}
    assert adapter(Point).load(raw, codec, check=False) == {"x": "no point"}


def test_fields_may_be_named_like_the_parts_of_a_schema(codec: Codec) -> None:
    parts = ("type", "default", "metadata", "expected", "members", "ref", "cls", "config", "steps")
    odd = create_model("Odd", **dict.fromkeys(parts, (bytes, ...)))  # type: ignore[call-overload]
    one = adapter(odd)
    value = odd(**dict.fromkeys(parts, b"\xff"))
    assert one.load(one.dump(value, codec), codec) == value
    assert JSON.load(one.dump(value, JSON)) == dict.fromkeys(parts, "_w==")


def test_fields_travel_under_their_aliases_and_are_taken_under_their_names_too(
    codec: Codec,
) -> None:
    one = adapter(Names)
    assert set(codec.load(one.dump(Names(**{"from": 4}), codec))) == {"from", "w", "read", "b3"}
    by_name = codec.dump({"from_": 4, "written": 5, "read": 6, "both": 7})
    assert one.load(by_name, codec) == Names(**{"from": 4, "written": 5, "r": 6, "b1": 7})


# --- Bytes -----------------------------------------------------------------------------------------


@pytest.mark.rule("VALUE-5")
def test_bytes_are_base64url_with_padding_in_json() -> None:
    assert adapter(bytes).dump(b"\xff\xfb", JSON) == b'"__s="'
    assert adapter(Blob).dump(Blob(name="", data=b"\xff"), JSON) == (
        b'{"name":"","data":"_w==","more":[]}'
    )
    assert adapter(Any).dump([b"\xff\xfb"], JSON) == b'["__s="]'


@pytest.mark.rule("VALUE-5")
def test_bytes_in_json_are_taken_in_both_alphabets() -> None:
    for raw in (b'"__s="', b'"//s="'):
        assert adapter(bytes).load(raw, JSON) == b"\xff\xfb"
    assert adapter(Page[bytes]).load(b'{"items":["//s="]}', JSON).items == [b"\xff\xfb"]


def test_bytes_are_native_in_messagepack() -> None:
    assert adapter(bytes).dump(b"\xff", MSGPACK) == b"\xc4\x01\xff"
    assert MSGPACK.load(adapter(Blob).dump(Blob(name="", data=b"\xff"), MSGPACK)) == {
        "name": "",
        "data": b"\xff",
        "more": [],
    }
    held = {"k": [b"\xff", Blob(name="", data=b"\xfe"), bytearray(b"\xfd")]}
    assert adapter(Any).load(adapter(Any).dump(held, MSGPACK), MSGPACK) == {
        "k": [b"\xff", {"name": "", "data": b"\xfe", "more": []}, b"\xfd"]
    }
    assert (
        adapter(Holder)
        .load(adapter(Holder).dump(Holder(held=held), MSGPACK), MSGPACK)
        .held["k"][1]["data"]
        == b"\xfe"
    )


@pytest.mark.parametrize("value", [b"\xff", bytearray(b"\xff"), memoryview(b"\xff")])
def test_anything_like_bytes_can_leave_as_bytes(value: Any, codec: Codec) -> None:
    assert adapter(bytes).load(adapter(bytes).dump(value, codec), codec) == b"\xff"
    assert codec.load(adapter(Any).dump(value, codec)) in (b"\xff", "_w==")


def test_a_string_that_looks_like_a_stand_in_for_bytes_stays_refused() -> None:
    with pytest.raises(Unencodable):
        adapter(Blob).dump(Blob.model_construct(name="\udc80abc", data=b""), JSON)
    with pytest.raises(Unencodable):
        adapter(str).dump("\udc80abc", MSGPACK)


def test_bytes_of_values_within_values_come_back_each_in_its_place(codec: Codec) -> None:
    """Bytes wait aside while pydantic serialises; what is converted on the way has its own."""

    class Outer(BaseModel):
        before: bytes
        inner: Any
        after: bytes

    value = Outer(before=b"1", inner=[b"2", Blob(name="n", data=b"3"), {"k": b"4"}], after=b"5")
    loaded = adapter(Outer).load(adapter(Outer).dump(value, codec), codec)
    assert (loaded.before, loaded.after) == (b"1", b"5")
    assert codec.text or [loaded.inner[0], loaded.inner[1]["data"], loaded.inner[2]["k"]] == [
        b"2",
        b"3",
        b"4",
    ]


def test_a_value_that_fails_half_way_leaves_no_bytes_behind() -> None:
    with pytest.raises(Unencodable):
        adapter(Any).dump(Blob.model_construct(name=object(), data=b"lost", more=[b"too"]), MSGPACK)
    assert plain._aside.values == []


class Record(TypedDict):
    name: str
    number: int
    sure: NotRequired[bool]


@given(
    st.one_of(
        st.tuples(st.just(str), st.text()),
        st.tuples(st.just(int), st.integers(-(2**63), 2**64 - 1)),
        st.tuples(
            st.just(Record),
            st.fixed_dictionaries(
                {"number": st.integers(-(2**63), 2**64 - 1), "name": st.text()},
                optional={"sure": st.booleans()},
            ),
        ),
    )
)
def test_what_goes_the_short_way_to_json_looks_as_on_the_long_one(case: tuple[Any, Any]) -> None:
    annotation, value = case
    short = adapter(annotation)
    assert short._encode is values._encode
    assert short.dump(value, JSON) == short._to_json(short._validate_python(value))


def test_every_character_looks_the_same_on_both_ways() -> None:
    short = adapter(str)
    for plane in range(17):
        text = "".join(
            chr(code)
            for code in range(plane << 16, (plane + 1) << 16)
            if not 0xD800 <= code < 0xE000
        )
        assert short.dump(text, JSON) == short._to_json(text)


class Called(TypedDict):
    name: Annotated[str, Field(serialization_alias="called")]


class Quoted(TypedDict):
    size: Annotated[int, PlainSerializer(str)]


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Called, {"name": "a"}, b'{"called":"a"}'),
        (Quoted, {"size": 5}, b'{"size":"5"}'),
        (float, 1e16, None),
        (Annotated[int, PlainSerializer(str)], 5, b'"5"'),
        (enum.Enum("Hue", {"RED": "r"}), "r", b'"r"'),
    ],
)
def test_what_pydantic_writes_its_own_way_goes_the_long_one(
    annotation: Any, value: Any, text: bytes | None
) -> None:
    long = adapter(annotation)
    assert long._encode is not values._encode
    assert text is None or long.dump(value, JSON) == text


class Letter(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    text: str
    number: int = 0
    kind: Literal["a", "b"] = "a"
    hue: Level | None = None
    sure: bool | None = None


LONG = "line\n" * 4000


@pytest.mark.parametrize(
    ("annotation", "textual"),
    [
        (str, True),
        (Letter, True),
        (Record, True),
        (Point, False),
        (list[str], False),
        (Blob, False),
    ],
)
def test_which_long_texts_go_through_msgspec(annotation: Any, textual: bool) -> None:
    assert adapter(annotation)._facts.textual is textual


@given(
    st.dictionaries(
        st.sampled_from(["text", "name", "number", "kind", "hue", "sure", "other"]),
        st.sampled_from(
            [LONG, "a", "b", 1, 1.0, 1.5, "1", 2**64, -(2**63), True, "yes", None, [], {"x": 1}]
        ),
    ),
    st.sampled_from([Letter, Record]),
    st.sampled_from(["", '"\\ud800"', "NaN", "1e999", "[" * 150 + "]" * 150, "x"]),
)
def test_a_long_text_arrives_the_same_whichever_way_it_is_decoded(
    value: dict[str, Any], annotation: Any, raw: str
) -> None:
    """The short way and pydantic's own agree on every value, and on what is wrong with it."""
    both = adapter(annotation)
    data = json.dumps({**value, "text": LONG}).encode()
    if raw:
        data = data[:-1] + b', "raw": ' + raw.encode() + b"}"

    def outcome(load: Callable[[bytes], Any]) -> Any:
        try:
            return load(data)
        except InvalidValue as invalid:
            return (invalid.errors, invalid.total)

    def long_way(data: bytes) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(both._facts, "textual", False)
            return both.load(data, JSON)

    short = outcome(lambda data: both.load(data, JSON))
    assert short == outcome(long_way)
    assert repr(short) == repr(outcome(long_way))


class Initial(str):
    def __str__(self) -> str:
        return self[:1]


class Height(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(str, Initial("abc")), (int, Height.HIGH), (int, True), (str, "\ud800")],
)
def test_subclasses_and_bad_text_fare_the_same_on_both_ways(annotation: Any, value: Any) -> None:
    short = adapter(annotation)
    try:
        long = short._to_json(short._validate_python(value))
    except Exception:  # noqa: BLE001  (whatever it is, it must not leave)
        with pytest.raises(Unencodable):
            short.dump(value, JSON)
    else:
        assert short.dump(value, JSON) == long


def test_in_messagepack_a_string_is_no_bytes_and_bytes_are_no_number() -> None:
    with pytest.raises(InvalidValue):
        adapter(bytes).load(MSGPACK.dump("YWJj"), MSGPACK)
    with pytest.raises(InvalidValue):
        adapter(int).load(MSGPACK.dump(b"5"), MSGPACK)
    with pytest.raises(InvalidValue):
        adapter(uuid.UUID).load(MSGPACK.dump(bytes(16)), MSGPACK)


def test_a_subclass_serialised_as_itself_keeps_to_the_wire_too(codec: Codec) -> None:
    class Base(BaseModel):
        pass

    class Derived(Base):
        data: bytes = b"\xff"
        weight: float = 1.0

    class Around(BaseModel):
        item: SerializeAsAny[Base]

    raw = adapter(Around).dump(Around(item=Derived()), codec)
    data = "_w==" if codec is JSON else b"\xff"
    assert codec.load(raw) == {"item": {"data": data, "weight": 1.0}}
    with pytest.raises(Unencodable):
        adapter(Around).dump(Around(item=Derived(weight=math.nan)), codec)


def test_a_custom_serialiser_may_give_bytes(codec: Codec) -> None:
    plain = PlainSerializer(lambda value: bytes(value))
    wrapped = WrapSerializer(lambda value, inner: inner(value))
    for annotation in (Annotated[bytes, plain], Annotated[bytes, wrapped]):
        one = adapter(annotation)
        assert one.load(one.dump(b"\xff\xfb", codec), codec) == b"\xff\xfb"


@pytest.mark.parametrize("key", ["ser_json_bytes", "val_json_bytes"])
def test_a_model_that_writes_bytes_its_own_way_is_refused_naming_the_field(key: str) -> None:
    class Odd(BaseModel):
        model_config = cast(ConfigDict, {key: "hex"})
        fine: int
        parts: list[bytes]

    class Around(BaseModel):
        odd: Odd | None

    message = refusal(Around)
    assert message.startswith("Hello.greet: parameter 'x': Odd.parts holds bytes")
    assert f"{key}='hex'" in message


def test_a_bytes_setting_without_bytes_does_no_harm() -> None:
    class Fine(BaseModel):
        model_config = ConfigDict(ser_json_bytes="hex")
        x: int

    assert adapter(Fine).dump(Fine(x=1), JSON) == b'{"x":1}'


# --- The value space -------------------------------------------------------------------------------

NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.rule("VALUE-1", "VALUE-3")
@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize(
    ("annotation", "wrap"),
    [
        (float, lambda number: number),
        (Any, lambda number: [number]),
        (list[float], lambda number: [1.0, number]),
        (Point, lambda number: Point(x=1, y=number)),
        (Page[Point], lambda number: Page(items=[Point(x=1, y=number)])),
        (Holder, lambda number: Holder(held={"deep": [number]})),
        (Any, lambda number: {"model": Point(x=1, y=number)}),
        (Packet, lambda number: Packet(b"", number)),
        (JsonValue, lambda number: {"a": number}),
    ],
)
def test_a_number_that_is_not_finite_never_leaves(
    annotation: Any, wrap: Callable[[float], Any], number: float, codec: Codec
) -> None:
    with pytest.raises(Unencodable):
        adapter(annotation).dump(wrap(number), codec)


@pytest.mark.rule("VALUE-1", "VALUE-4")
@pytest.mark.parametrize(
    "annotation", [float, Any, float | str | None, float | None, JsonValue, object]
)
def test_a_number_that_is_not_finite_is_refused_on_arrival(annotation: Any) -> None:
    for raw in (b"1e999", b"-1E+400"):
        with pytest.raises(InvalidValue):
            adapter(annotation).load(raw, JSON)
        with pytest.raises(InvalidValue):
            adapter(list[annotation]).load(b"[%b]" % raw, JSON)
    for number in NOT_FINITE:
        with pytest.raises(InvalidValue):
            adapter(annotation).load(MSGPACK.dump(number), MSGPACK)
        with pytest.raises(InvalidValue):
            adapter(list[annotation]).load(MSGPACK.dump([number]), MSGPACK)


@pytest.mark.rule("VALUE-1", "VALUE-3", "VALUE-4")
@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40])
@pytest.mark.parametrize("annotation", [int, Any, int | str, JsonValue, list[int], list[Any]])
def test_an_integer_of_more_than_64_bits_neither_leaves_nor_arrives(
    annotation: Any, number: int
) -> None:
    is_list = str(annotation).startswith("list")
    value: Any = [number] if is_list else number
    for codec in (JSON, MSGPACK):
        with pytest.raises(Unencodable):
            adapter(annotation).dump(value, codec)
    if annotation != (int | str):
        with pytest.raises(InvalidValue):
            adapter(annotation).load(json.dumps(value).encode(), JSON)


def test_bounds_of_ones_own_are_kept_within_those_of_the_wire() -> None:
    one = adapter(Annotated[int, Field(gt=3, le=2**70)])
    assert one.load(b"4", JSON) == 4
    for raw in (b"3", b"18446744073709551616"):
        with pytest.raises(InvalidValue):
            one.load(raw, JSON)


@pytest.mark.rule("VALUE-1", "VALUE-3", "VALUE-4")
def test_a_lone_surrogate_neither_leaves_nor_arrives(codec: Codec) -> None:
    for annotation in (str, Any, list[Any], dict[str, int]):
        for value in ("a\ud800", ["\ud800"], {"\ud800": 1}):
            with pytest.raises(Unencodable):
                adapter(annotation).dump(value, codec)
    fine = {"\ufffd": 1}
    assert codec.load(adapter(dict[str, int]).dump(fine, codec)) == fine
    raw = b'"\\ud800"' if codec is JSON else b"\xa3\xed\xa0\x80"
    for annotation in (str, Any):
        with pytest.raises(InvalidValue):
            adapter(annotation).load(raw, codec)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.rule("VALUE-2")
def test_values_nest_a_hundred_deep_and_no_deeper(codec: Codec) -> None:
    one = adapter(Any)
    assert one.load(one.dump(nested(100), codec), codec) == nested(100)
    assert one.load_many(codec.join([codec.dump(nested(100))]), codec) == [nested(100)]
    for depth in (101, 150, 400, 2000):
        with pytest.raises(Unencodable, match="100 deep"):
            one.dump(nested(depth), codec)
    for depth in (101, 150, 400, 20_000):
        raw = b"[" * depth + b"]" * depth if codec is JSON else b"\x91" * depth + b"\xc0"
        with pytest.raises(InvalidValue, match="100 deep"):
            one.load(raw, codec)
        with pytest.raises(InvalidValue, match="100 deep"):
            one.load_many(codec.join([raw]), codec)


@pytest.mark.rule("VALUE-2")
def test_models_nest_a_hundred_deep_and_no_deeper(codec: Codec) -> None:
    node = Node()
    for _ in range(49):
        node = Node(kids=[node])
    one = adapter(Node)
    assert one.load(one.dump(node, codec), codec) == node
    with pytest.raises(Unencodable, match="100 deep"):
        one.dump(Node(kids=[node]), codec)
    with pytest.raises(InvalidValue, match="100 deep"):
        one.load(codec.dump(Node(kids=[node]).model_dump()), codec)


def test_brackets_within_strings_are_no_depth() -> None:
    one = adapter(Any)
    for text in ("[" * 500, '\\"' * 3 + "{" * 500, "]" * 500 + "["):
        assert one.load(one.dump([text, {}, [[]]], JSON), JSON) == [text, {}, [[]]]


def test_closing_brackets_within_strings_hide_no_depth() -> None:
    raw = b'["]]]]",' * 101 + b"0" + b"]" * 101
    with pytest.raises(InvalidValue, match="100 deep"):
        adapter(Any).load(raw, JSON)
    raw = b'["\\\\\\"]",' * 101 + b"0" + b"]" * 101
    with pytest.raises(InvalidValue, match="100 deep"):
        adapter(Any).load(raw, JSON)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8") | st.sampled_from('[]{}"\\')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab"[\\', max_size=3), inner),
    max_leaves=40,
)


@given(json_values, st.integers(0, 12))
def test_the_depth_of_a_json_text_is_what_its_value_says(value: Any, limit: int) -> None:
    def depth(one: Any) -> int:
        if not isinstance(one, (list, dict)):
            return 0
        inner = one.values() if isinstance(one, dict) else one
        return 1 + max(map(depth, inner), default=0)

    one = Adapter(Any, where="x", depth=limit)
    raw = json.dumps(value).encode()
    if depth(value) <= limit:
        assert one.load(raw, JSON) == value
    else:
        with pytest.raises(InvalidValue):
            one.load(raw, JSON)


@given(json_values)
def test_any_json_value_arrives_as_it_left(value: Any) -> None:
    for annotation in (Any, JsonValue):
        one = adapter(annotation)
        for codec in (JSON, MSGPACK):
            assert one.load(one.dump(value, codec), codec) == value


class Mixed(BaseModel):
    number: int = 0
    share: float | None = None
    day: dt.date | int | None = None
    tags: set[str] | None = None
    pair: tuple[int, str] | None = None
    level: Level | None = None
    kept: dict[int, list[decimal.Decimal]] = {}


SHAPES: list[Any] = [
    Mixed, int, float, str, bool, list[int], dict[str, float], Strict, int | str | None, Color,
    tuple[int, ...], dt.datetime, uuid.UUID, Visit, Pair, Cat | Dog | None,
]  # fmt: skip

wire_values = json_values | st.fixed_dictionaries(
    {},
    optional={
        "number": st.sampled_from([1, 1.0, 1.5, "1", True, None]),
        "share": st.sampled_from([1, "1.5", None, "x"]),
        "day": st.sampled_from(["2020-01-01", "x", 5, None]),
        "tags": st.sampled_from([["a"], [], "a", [1]]),
        "pair": st.sampled_from([[1, "a"], ["1", "a"], [1], {}]),
        "level": st.sampled_from([1, "1", 2, None]),
        "kept": st.sampled_from([{"1": [1.5]}, {"x": []}, {"2": ["1"]}, {}]),
        "when": st.sampled_from(["2020-01-01", 5, "x"]),
    },
)


@pytest.mark.rule("VALUE-6")
@given(wire_values, st.sampled_from(SHAPES))
def test_both_codecs_take_the_same_values_with_the_same_result(value: Any, shape: Any) -> None:

    def outcome(codec: Codec) -> Any:
        try:
            return adapter(shape).load(codec.dump(value), codec)
        except InvalidValue as error:
            return [one["type"] for one in error.errors]

    assert outcome(JSON) == outcome(MSGPACK)


@given(st.binary(max_size=60))
def test_whatever_bytes_arrive_the_outcome_is_a_value_or_invalid_value(raw: bytes) -> None:
    for annotation in (Any, Node, int | str, list[Blob], dict[int, float]):
        for codec in (JSON, MSGPACK):
            with contextlib.suppress(InvalidValue):
                adapter(annotation).load(raw, codec)


@pytest.mark.rule("VALUE-1")
@pytest.mark.parametrize(
    "raw",
    [b"\x81\x01\x02", b"\x81\xc0\x02", b"\x81\xc4\x01a\x02", b"\xd4\x01\x00", b"\xd6\xff\0\0\0\0"],
)
def test_what_only_messagepack_can_say_is_refused(raw: bytes) -> None:
    for annotation in (Any, object, JsonValue, dict[int, int], dict[str, Any]):
        with pytest.raises(InvalidValue):
            adapter(annotation).load(raw, MSGPACK)


def test_a_value_that_holds_itself_is_refused(codec: Codec) -> None:
    circle: list[Any] = []
    circle.append(circle)
    holder = Holder()
    holder.held = holder
    node = Node()
    node.kids.append(node)
    for annotation, value in (
        (Any, circle),
        (Holder, holder),
        (Any, holder),
        (Node, node),
        (Any, node),
        (JsonValue, circle),
    ):
        with pytest.raises(Unencodable):
            adapter(annotation).dump(value, codec)


# --- Any -------------------------------------------------------------------------------------------


def test_any_takes_whatever_has_a_json_form(codec: Codec) -> None:
    value = {
        "model": Names(**{"from": 1}),
        "dataclass": Visit(dt.date(2020, 1, 2)),
        "set": {1},
        "tuple": (1, Color.RED),
        "when": dt.datetime(2020, 1, 2, tzinfo=UTC),
        "cost": decimal.Decimal("1.10"),
        "path": pathlib.Path("/x"),
        "keys": {1: "a", uuid.UUID(int=1): "b", Color.RED: "c"},
        "deque": collections.deque([1]),
    }
    assert codec.load(adapter(Any).dump(value, codec)) == {
        "model": {"from": 1, "w": 1, "read": 2, "b3": 3},
        "dataclass": {"when": "2020-01-02", "where": None},
        "set": [1],
        "tuple": [1, "red"],
        "when": "2020-01-02T00:00:00Z",
        "cost": "1.10",
        "path": "/x",
        "keys": {"1": "a", "00000000-0000-0000-0000-000000000001": "b", "red": "c"},
        "deque": [1],
    }


def test_any_refuses_what_has_no_json_form_saying_what_and_where(codec: Codec) -> None:
    for value in (object(), [lambda: None], {"x": RpcError("internal")}):
        with pytest.raises(Unencodable, match=r"^Hello\.greet: parameter 'x': .*type"):
            adapter(Any).dump(value, codec)


# --- Words for what is wrong -----------------------------------------------------------------------


def test_errors_say_where_what_and_which_kind_without_the_input(codec: Codec) -> None:
    with pytest.raises(InvalidValue) as caught:
        adapter(list[Point]).load(codec.dump([{"x": "secret", "y": 1}, {"x": 1}]), codec)
    assert caught.value.errors == [
        {
            "loc": [0, "x"],
            "msg": "Input should be a valid integer, unable to parse string as an integer",
            "type": "int_parsing",
        },
        {"loc": [1, "y"], "msg": "Field required", "type": "missing"},
    ]
    assert caught.value.data() == {"errors": caught.value.errors, "total": 2}
    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith("0.x: Input should be")


def test_at_most_eight_errors_are_told_and_all_are_counted(codec: Codec) -> None:
    with pytest.raises(InvalidValue) as caught:
        adapter(list[int]).load(codec.dump(["x"] * 100), codec)
    assert len(caught.value.data()["errors"]) == 8
    assert caught.value.data()["total"] == 100
    assert str(caught.value).endswith("; and 92 more")


def test_errors_fit_4_kib_whatever_the_peer_sends() -> None:
    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid")

    raw = json.dumps({"\x01é" * 5000 + str(n): 1 for n in range(20)}).encode()
    with pytest.raises(InvalidValue) as caught:
        adapter(dict[str, dict[str, Closed]]).load(b'{"k":{"l":%b}}' % raw, JSON)
    data = caught.value.data()
    assert len(msgspec.json.encode(data)) <= 4096
    assert data["total"] == 20
    assert data["errors"]


def test_a_large_list_of_wrong_elements_is_given_up_at_the_first() -> None:
    raw = b"[" + b",".join([b'"x"'] * 100_000) + b"]"
    with pytest.raises(InvalidValue) as caught:
        adapter(list[int]).load(raw, JSON)
    assert [error["loc"] for error in caught.value.errors] == [[0]]
    with pytest.raises(InvalidValue) as caught:
        adapter(int).load_many(JSON.join([b'"x"'] * 100_000), JSON)
    assert [error["loc"] for error in caught.value.errors] == [[0]]


def test_more_errors_than_can_be_listed_are_only_counted() -> None:
    raw = json.dumps({str(n): "x" for n in range(20_000)}).encode()
    with pytest.raises(InvalidValue, match=r"^20000 errors, too many to list$") as caught:
        adapter(dict[str, int]).load(raw, JSON)
    assert caught.value.data()["total"] == 20_000


def test_what_is_no_encoding_at_all_is_an_invalid_value(codec: Codec) -> None:
    for raw in (b"", b"\xc1", b"\x91", b'{"a":1}x'):
        for annotation in (Any, Point, bytes, int):
            for check in (True, False):
                with pytest.raises(InvalidValue):
                    adapter(annotation).load(raw, codec, check=check)


def test_one_wrong_item_of_many_is_found_by_its_index(codec: Codec) -> None:
    raws = [codec.dump({"x": 1, "y": 1}), codec.dump({"x": 1, "y": "far"})]
    with pytest.raises(InvalidValue) as caught:
        adapter(Point).load_many(codec.join(raws), codec)
    assert caught.value.errors[0]["loc"] == [1, "y"]


def test_what_must_not_leave_is_named_with_place_and_field(codec: Codec) -> None:
    with pytest.raises(Unencodable) as caught:
        adapter(Point).dump({"x": 1, "y": "far"}, codec)
    assert str(caught.value) == (
        "Hello.greet: parameter 'x': y: Input should be a valid number, unable to parse string "
        "as a number"
    )


def test_an_instance_that_was_changed_against_its_type_does_not_leave(codec: Codec) -> None:
    changed = Point(x=1, y=2)
    changed.x = "five"  # type: ignore[assignment]
    with pytest.raises(Unencodable, match="Expected `int`"):
        adapter(Point).dump(changed, codec)


@pytest.mark.filterwarnings("ignore")
def test_that_does_not_depend_on_warnings_being_shown(codec: Codec) -> None:
    with pytest.raises(Unencodable, match="Expected `int`"):
        adapter(Point).dump(Point.model_construct(x="five", y=2.0, label=""), codec)


# --- Registration ----------------------------------------------------------------------------------


class Ape(BaseModel):
    next: Ape | Bee


class Bee(BaseModel):
    next: Ape | Bee | None = None


class Tree(BaseModel):
    kids: list[Tree] | Tree | str | None = None


class Tagged(BaseModel):
    kind: Literal["tagged"] = "tagged"
    next: Annotated[Tagged | Other, Field(discriminator="kind")] | None = None


class Other(BaseModel):
    kind: Literal["other"] = "other"
    next: Annotated[Tagged | Other, Field(discriminator="kind")] | None = None


Ape.model_rebuild()
Tagged.model_rebuild()


def test_a_recursive_union_without_discriminator_is_refused_naming_the_field() -> None:
    for annotation in (Ape, Bee, list[Ape], Ape | None):
        message = refusal(annotation)
        assert "is a recursive union without a discriminator" in message
        assert "Ape.next" in message or "Bee.next" in message


def test_recursion_that_cannot_explode_is_fine(codec: Codec) -> None:
    tree = Tree(kids=[Tree(kids=Tree(kids="leaf"))])
    assert adapter(Tree).load(adapter(Tree).dump(tree, codec), codec) == tree
    tagged = Tagged(next=Other(next=Tagged()))
    assert adapter(Tagged).load(adapter(Tagged).dump(tagged, codec), codec) == tagged


class SomeClass:
    pass


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (SomeClass, "use a model, dataclass or TypedDict"),
        (list[SomeClass], "use a model, dataclass or TypedDict"),
        (Callable[[int], int], "a function cannot travel"),
        (dict[str, Iterable[int]], "AsyncIterator"),
        (type[int], "a class cannot travel"),
        ("Unknown", "Unknown"),
        (5, "5"),
    ],
)
def test_a_type_that_cannot_travel_is_refused_saying_why(annotation: Any, words: str) -> None:
    message = refusal(annotation)
    assert message.startswith("Hello.greet: parameter 'x': ")
    assert words in message


class ByteEnum(enum.Enum):
    ONE = b"1"


@pytest.mark.parametrize(
    "annotation",
    [str | bytes, str | bytes | None, Annotated[str, Field(max_length=3)] | bytes],
)
def test_a_union_of_str_and_bytes_is_refused(annotation: Any) -> None:
    either = create_model("Either", one=(annotation, ...))
    assert "Either.one is a union of str and bytes" in refusal(either)


@pytest.mark.parametrize("annotation", [Literal["a", b"b"], ByteEnum])
def test_bytes_among_choices_are_refused(annotation: Any) -> None:
    assert "bytes among its choices" in refusal(annotation)


def test_a_strict_field_beside_any_is_refused_naming_it() -> None:
    class Both(BaseModel):
        anything: Any
        when: Annotated[dt.date, Field(strict=True)]

    assert "Both.when is strict" in refusal(Both)


def test_a_class_that_takes_arbitrary_types_is_refused_naming_the_field() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: SomeClass

    assert "Loose.thing: pydantic has no JSON form of this class" in refusal(Loose)


# --- JSON Schema -----------------------------------------------------------------------------------


def test_the_json_schema_describes_what_travels() -> None:
    assert adapter(bytes).json_schema("validation") == {
        "type": "string",
        "format": "base64url",
        "contentEncoding": "base64url",
    }
    assert adapter(int).json_schema("validation") == {"type": "integer"}
    described = adapter(Names).json_schema("serialization")
    assert set(described["properties"]) == {"from", "w", "read", "b3"}


# --- Cost ------------------------------------------------------------------------------------------


def test_adapters_for_one_type_share_what_is_compiled() -> None:
    assert adapter(list[Point])._core is adapter(list[Point])._core
    assert adapter(int | str)._core is not adapter(str | int)._core


def test_a_type_that_nobody_uses_any_more_is_forgotten() -> None:
    class Brief(BaseModel):
        x: int

    one = adapter(Brief)
    assert any(key[0] is Brief for key in list(cores))
    del one
    gc.collect()
    assert not any(key[0] is Brief for key in list(cores))
