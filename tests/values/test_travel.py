"""A type either travels unchanged in both codecs or is refused, naming the field and the cure."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import math
import os
import pathlib
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pydantic.dataclasses
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AnyUrl,
    Base64Bytes,
    Base64Str,
    Base64UrlBytes,
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    ImportString,
    Json,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SkipValidation,
    Strict,
    Tag,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema
from typing_extensions import TypedDict

from wsrpc.errors import RegistrationError
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.values.adapter import Adapter, Unencodable


def adapter(annotation: Any) -> Adapter:
    return Adapter(annotation, where="Shop.buy: parameter 'x'")


def is_equal(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple, collections.deque)):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, dict):
        keys = {(type(key), key) for key in one} == {(type(key), key) for key in other}
        return keys and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, BaseModel):
        return is_equal(one.__dict__, other.__dict__)
    if dataclasses.is_dataclass(one):
        return is_equal(vars(one), vars(other))
    return bool(one == other)


def travels(annotation: Any, value: Any) -> None:
    one = adapter(annotation)
    for codec in CODECS.values():
        got = one.load(one.dump(value, codec), codec)
        assert is_equal(got, value), f"{annotation}: {value!r} arrived as {got!r}"


# --- What is refused -------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Other(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Spot(enum.Enum):
    HERE = (1, 2)


class Odd(enum.Enum):
    ONE = fractions.Fraction(1, 2)


class Thin(BaseModel):
    x: int


class Wide(BaseModel):
    x: int
    y: int = 0


class Loud(BaseModel):
    model_config = ConfigDict(extra="allow")
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Upper(BaseModel):
    name: str

    @field_serializer("name")
    def write(self, name: str) -> str:
        return name.upper()


class Growing(BaseModel):
    n: int

    @model_validator(mode="after")
    def grow(self) -> Growing:
        self.n += 1
        return self


class Summary(BaseModel):
    a: int
    b: int

    @model_serializer
    def write(self) -> dict[str, int]:
        return {"a": self.a + self.b, "b": 0}


class Milliseconds(BaseModel):
    model_config = ConfigDict(ser_json_temporal="milliseconds")
    when: dt.datetime


@dataclasses.dataclass
class Late:
    n: int
    total: int = dataclasses.field(init=False, default=0)


@pydantic.dataclasses.dataclass
class LatePydantic:
    n: int
    total: int = Field(init=False, default=0)


@dataclasses.dataclass(frozen=True)
class Derived:
    n: int
    double: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", self.n * 2)


@dataclasses.dataclass(frozen=True)
class Numbered:
    n: int
    key: str = dataclasses.field(init=False, default_factory=lambda: uuid.uuid4().hex)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int


@dataclasses.dataclass
class Counted:
    n: int

    def __post_init__(self) -> None:
        self.n += 1


class Twice(BaseModel):
    one: int = Field(serialization_alias="n")
    two: int = Field(serialization_alias="n")


def double(n: int) -> int:
    return n * 2 + 1


class Custom:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def parse(value: Any) -> Custom:
    if isinstance(value, Custom):
        return value
    if not isinstance(value, str):
        raise ValueError("a text is wanted")
    return Custom(value)


Exclaimed = Annotated[Custom, PlainValidator(parse), PlainSerializer(lambda one: one.text + "!")]


class OneWay:
    """A type of one's own as many are written: no value of it passes its own validator."""

    def __init__(self, n: int) -> None:
        self.n = n

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.int_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda one: one.n),
        )


class Broken:
    """A type of one's own whose description fails."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise KeyError("no such thing")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Worse:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise Unspeakable


REFUSED: list[tuple[Any, str]] = [
    # no type at all
    (list[Broken], "pydantic made no schema of it: KeyError: 'no such thing'"),
    (Worse, "Unspeakable: <exception str() failed>"),
    (Annotated[Literal["a"], Strict()], "Unable to apply constraint 'strict'"),
    (Annotated[str, Field(gt=3)], "the constraint 'gt', which is for other types"),
    (list[Annotated[int, Field(max_length=3)]], "the constraint 'max_length'"),
    # strict beside Any
    (tuple[Any, Annotated[pathlib.PurePath, Strict()]], "drop strict"),
    (tuple[Any, Annotated[fractions.Fraction, Strict()]], "drop strict"),
    (tuple[Any, Annotated[collections.Counter[str], Strict()]], "drop strict"),
    # masked
    (SecretStr, "asterisks would arrive; declare str"),
    (SecretBytes, "declare str or bytes"),
    (Secret[int], "masked"),
    # keys
    (dict[str | None, int], "None among the keys"),
    (dict[Level, int], "Level as the keys"),
    (dict[Literal[1, 2], int], "Literal as the keys"),
    (dict[Literal["a", 1], int], "as the keys"),
    (dict[tuple[int, int], int], "tuple as the keys"),
    (dict[frozenset[int], int], "frozenset as the keys"),
    (dict[int | str, int], "keys of more than one type"),
    (dict[Spot, int], "as the keys"),
    (collections.Counter[Level], "as the keys"),
    (dict[Frozen, int], "the type has Frozen as the keys"),
    (collections.Counter[str] | dict[str, int], "a union of Counter and dict"),
    (AnyUrl | str, "a union of AnyUrl and str"),
    (collections.defaultdict[str, Frozen], "Field(default_factory=...)"),
    (Iterator[int], "declare list[…], or AsyncIterator[…] for a stream"),
    (collections.defaultdict[int | str, list[int]], "keys of more than one type"),
    # unions whose forms overlap
    (str | dt.datetime, "is a union of str and datetime, which are both strings in JSON"),
    (dt.date | str | None, "both strings"),
    (dt.date | dt.datetime, "both strings"),
    (uuid.UUID | str, "UUID and str"),
    (uuid.UUID | bytes, "both strings"),
    (decimal.Decimal | str, "Decimal and str"),
    (pathlib.Path | str, "both strings"),
    (Color | str, "Color and str"),
    (Color | Other, "both strings"),
    (Level | int, "Level and int, which are both integers"),
    (Literal[1] | bool, "arrives as"),
    (list[int] | tuple[int, ...], "both arrays"),
    (set[int] | list[int], "both arrays"),
    (list[str] | list[dt.date], "both arrays"),
    (dict[str, int] | Thin, "both objects"),
    (Wide | Thin, "write Field(discriminator='kind')"),
    (dict[str, str] | dict[str, dt.date], "both objects"),
    (dict[int, str] | dict[str, str], "both objects"),
    (Any | dt.date, "Any and date"),
    (Annotated[int | str, Field(union_mode="left_to_right")], "is a union of"),
    # what does not come back
    (Literal[Color.RED], "Literal of enum members"),
    (Spot, "would not arrive"),
    (Odd, "would not arrive"),
    (Json[int], "declare the type of the value"),
    (Json, "declare the type of the value"),
    (Base64Bytes, "declare bytes"),
    (Base64UrlBytes, "declare bytes"),
    (Base64Str, "declare str"),
    (re.Pattern[str], "declare str"),
    (ImportString, "look the name up"),
    (SkipValidation[dt.date], "SkipValidation"),
    (set[list[int]], "write list"),
    (set[Thin], "write list"),
    (Loud, "the computed field 'area' and extra='allow'"),
    (Milliseconds, "ser_json_temporal"),
    (Twice, "two fields under the name 'n'"),
    # functions of one's own
    (Upper, "arrives as"),
    (Growing, "arrives as"),
    (Summary, "arrives as"),
    (Counted, "arrives as"),
    (Late, "Late has the field 'total' with init=False"),
    (LatePydantic, "make the dataclass frozen"),
    (Numbered, "arrives as Numbered"),
    (Annotated[str, PlainSerializer(str.upper)], "its serializer must write a form"),
    (Annotated[int, PlainSerializer(lambda n: f"no. {n}")], "is refused by its own type"),
    (
        Annotated[int, AfterValidator(double)],
        "must not change a value that it has already accepted",
    ),
    (Annotated[dt.date, PlainSerializer(lambda day: day.isoformat()[:7])], "its own type"),
    (Exclaimed, "arrives as Custom"),
    (OneWay, "must also take a value that it has made"),
    # classes for which pydantic has no schema, and what stands for them
    (bytearray, "declare bytes"),
    (list[memoryview], "declare bytes"),
    (range, "declare list[int]"),
    (ipaddress.IPv4Address | ipaddress.IPv4Network, "a union of IPv4Address and IPv4Network"),
    (create_model("Hidden", a=(int, Field(exclude=True))), "Hidden.a is excluded"),
    (
        create_model("Maybe", a=(int | None, Field(None, exclude_if=lambda a: a is None))),
        "Maybe.a is excluded",
    ),
]


def shown(one: object) -> str:
    """A parameter as it stands in a test's name: the same in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(one))[:50]


@pytest.mark.parametrize(("annotation", "words"), REFUSED, ids=shown)
def test_a_type_that_would_change_on_the_way_is_refused_with_the_cure(
    annotation: Any, words: str
) -> None:
    with pytest.raises(RegistrationError) as caught:
        adapter(annotation)
    message = str(caught.value)
    assert re.match(r"Shop\.buy: parameter 'x'(: | is strict)", message)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "annotation", [SecretStr, dict[str | None, int], str | dt.date, Literal[Color.RED], Json[int]]
)
def test_the_refusal_names_the_field_however_deep_it_is(annotation: Any) -> None:
    inner = create_model("Inner", bad=(annotation, ...))
    outer = create_model("Outer", inner=(list[inner], ...))  # type: ignore[valid-type]
    with pytest.raises(RegistrationError, match=r"Shop\.buy: parameter 'x': Inner\.bad "):
        adapter(dict[str, outer])  # type: ignore[valid-type]


# --- What is not -----------------------------------------------------------------------------------


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: bytes = b""


class Trimmed(BaseModel):
    name: str
    tags: list[str] = []

    @field_validator("name")
    @classmethod
    def trim(cls, name: str) -> str:
        return name.strip()

    @field_validator("tags", mode="before")
    @classmethod
    def split(cls, tags: Any) -> Any:
        return tags.split(",") if isinstance(tags, str) else tags


class Checked(BaseModel):
    """Each field has a validator, a serializer, and a kind of schema that is tried by itself."""

    n: int
    union: int | str = 0
    member: Color | None = None
    listed: Literal[1, 2] = 1

    @field_validator("n", "union")
    @classmethod
    def check(cls, value: Any) -> Any:
        return value

    @field_serializer("n", "union", "member", "listed")
    def write(self, value: Any) -> Any:
        return value


class Renamed(BaseModel):
    one: int = Field(1, alias="two")
    two: int = Field(2, alias="one")
    three: int = Field(3, validation_alias=AliasChoices("a", "b"), serialization_alias="c")


class Lines(TypedDict):
    text: str
    note: NotRequired[str]


class Named(NamedTuple):
    left: int
    right: str


def kind_of(value: Any) -> str:
    return str(value["kind"] if isinstance(value, dict) else value.kind)


TRAVELS: list[tuple[Any, Any]] = [
    (Trimmed, Trimmed(name="a", tags=["x"])),
    (Renamed, Renamed.model_validate({"one": 5, "two": 6, "a": 7})),
    (Cat | Dog, Dog(name=b"\xff")),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Cat()),
    (
        Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(kind_of)],
        Dog(),
    ),
    (Thin | Wide, Wide(x=1)),
    (Thin | Wide, Thin(x=1)),
    (list[int] | list[str], ["5"]),
    (list[int] | dict[str, int] | None, {"a": 1}),
    (decimal.Decimal | int, decimal.Decimal("5")),
    (uuid.UUID | dt.date, uuid.UUID(int=1)),
    (Color | int, Color.RED),
    (Level | str, "1"),
    (str | Literal[5], 5),
    (Any | None, [1, {"a": None}]),
    (bytes | int, 5),
    (bytes | int, b"\xd7m\xf8"),
    (dict[Color, int], {Color.RED: 1}),
    (dict[Literal["a"], int], {"a": 1}),
    (dict[bool, int], {True: 1}),
    (dict[ipaddress.IPv4Address, int], {ipaddress.IPv4Address("1.2.3.4"): 1}),
    (dict, {"a": 1}),
    (ByteSize, ByteSize(5)),
    (fractions.Fraction, fractions.Fraction(1, 3)),
    (Annotated[int, PlainSerializer(str)], 5),
    (Lines, {"text": "a"}),
    (Annotated[Custom, PlainValidator(parse), PlainSerializer(lambda one: one.text)], Custom("a")),
    (set[tuple[int, ...]], {(1, 2)}),
    (Derived, Derived(2)),
    (Checked, Checked(n=3, union="3", member=Color.RED, listed=2)),
    (dict[Annotated[int, Strict()], int], {5: 1}),
    (dict[Annotated[float, Strict()], int], {1.5: 1}),
    (dict[Annotated[bool, Strict()], int], {True: 1}),
    (dict[Annotated[dt.date, Strict()], int], {dt.date(2020, 1, 1): 1}),
    (dict[Annotated[bytes, Strict()], int], {b"\xff": 1}),
    (collections.defaultdict[Annotated[int, Strict()], int], collections.defaultdict(int, {5: 1})),
    (dict[Annotated[int, Strict()], Any], {5: 1}),
]


@pytest.mark.parametrize(("annotation", "value"), TRAVELS, ids=shown)
def test_a_type_that_comes_back_as_it_went_is_taken(annotation: Any, value: Any) -> None:
    travels(annotation, value)


class Meeting(BaseModel):
    when: dt.datetime


class Party(BaseModel):
    kind: Literal["party"] = "party"
    when: dt.datetime


class Visit(BaseModel):
    kind: Literal["visit"] = "visit"
    number: int


AMSTERDAM = dt.timezone(dt.timedelta(minutes=19, seconds=32))
"""The offset of Amsterdam until 1937."""


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize(
    ("type_", "make"),
    [
        (dt.datetime, lambda when: when),
        (dt.time, lambda when: when.timetz()),
        (list[dt.datetime], lambda when: [when]),
        (dt.datetime | None, lambda when: when),
        (dict[str, dt.datetime], lambda when: {"a": when}),
        (Meeting, lambda when: Meeting(when=when)),
        (tuple[Meeting, int], lambda when: (Meeting(when=when), 1)),
        (dict[dt.datetime, int], lambda when: {when: 1}),
        (int | dt.datetime, lambda when: when),
        (int | dt.time | None, lambda when: when.timetz()),
        (list[int | dt.datetime], lambda when: [1, when]),
        (int | dict[str, list[dt.datetime]], lambda when: {"a": [when]}),
        (Meeting | int, lambda when: Meeting(when=when)),
        (Annotated[Party | Visit, Field(discriminator="kind")], lambda when: Party(when=when)),
        (dict[str, Party | Visit], lambda when: {"a": Party(when=when)}),
        (tuple[Any, Meeting], lambda when: (1, Meeting(when=when))),
    ],
    ids=[
        "datetime", "time", "list", "optional", "dict", "model", "tuple", "keys", "union",
        "union_of_time", "list_of_unions", "containers_in_union", "model_in_union", "tagged_union",
        "union_of_models", "beside_any",
    ],
)  # fmt: skip
def test_a_moment_travels_as_it_is_or_is_refused_with_the_cure(
    codec: Codec, check: bool, type_: Any, make: Callable[[dt.datetime], Any]
) -> None:
    adapter = Adapter(type_, where="C.m")
    for offset in (dt.timedelta(), dt.timedelta(hours=-9, minutes=-30), dt.timedelta(minutes=1)):
        value = make(dt.datetime(1900, 1, 1, 12, 0, 0, 5, tzinfo=dt.timezone(offset)))
        assert adapter.load(adapter.dump(value, codec, check=check), codec) == value
    with pytest.raises(Unencodable, match=r"has seconds.*astimezone"):
        adapter.dump(make(dt.datetime(1900, 1, 1, 12, tzinfo=AMSTERDAM)), codec, check=check)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class OpenDict(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize(
    ("type_", "make"),
    [
        (Any, lambda when: when),
        (Any, lambda when: when.timetz()),
        (Any, lambda when: {"a": [1, {"b": when}]}),
        (Any, lambda when: {when: 1}),
        (Any, lambda when: Meeting(when=when)),
        (dict[str, Any], lambda when: {"a": when}),
        (list[Any] | int, lambda when: [when]),
        (Open, lambda when: Open.model_validate({"a": when})),
        (Open | int, lambda when: Open.model_validate({"a": [when]})),
        (OpenDict, lambda when: {"a": when}),
    ],
    ids=[
        "datetime", "time", "nested", "key", "model", "dict_of_any", "union", "extra",
        "extra_in_union", "typed_dict",
    ],
)  # fmt: skip
def test_a_moment_in_a_value_of_any_type_is_refused_if_its_text_would_be_another(
    codec: Codec, check: bool, type_: Any, make: Callable[[dt.datetime], Any]
) -> None:
    adapter = Adapter(type_, where="C.m")
    for offset in (dt.timedelta(), dt.timedelta(hours=-9, minutes=-30), dt.timedelta(minutes=1)):
        adapter.dump(make(dt.datetime(1900, 1, 1, 12, tzinfo=dt.timezone(offset))), codec)
    # Offsets of less than half a minute would be written as that of UTC.
    short = [dt.timezone(dt.timedelta(seconds=seconds)) for seconds in (20, -20, 0.5)]
    for zone in (AMSTERDAM, *short):
        for fraction in (0, 5):
            with pytest.raises(Unencodable, match=r"has seconds.*astimezone"):
                when = dt.datetime(1900, 1, 1, 12, 0, 0, fraction, tzinfo=zone)
                adapter.dump(make(when), codec, check=check)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("whole", [Open, OpenDict, Open | int, list[Open]])
def test_extra_fields_travel_as_values_of_any_type(codec: Codec, check: bool, whole: Any) -> None:
    adapter = Adapter(whole, where="C.m")

    def made(extra: Any) -> Any:
        one = {"a": extra} if whole is OpenDict else Open.model_validate({"a": extra})
        return [one] if whole == list[Open] else one

    values = [1, "x", {"b": [1.5, None, {"c": True}]}]
    # In JSON, bytes without a declared type arrive as their text.
    for value in values if codec.text else [*values, b"\xff", {"b": [b"\xff"]}]:
        assert adapter.load(adapter.dump(made(value), codec, check=check), codec) == made(value)
    for odd, why in ((float("nan"), "NaN and Infinity"), (2**70, r"64"), ([2**70], r"64")):
        with pytest.raises(Unencodable, match=why):
            adapter.dump(made(odd), codec, check=check)


def test_a_dataclass_that_would_lose_further_fields_is_refused() -> None:
    @pydantic.dataclasses.dataclass(config=ConfigDict(extra="allow"))
    class Loose:
        a: int

    with pytest.raises(RegistrationError, match=r"Loose is a dataclass with extra='allow'.*BaseM"):
        Adapter(list[Loose], where="C.m")


class Unknown(enum.Enum):
    KNOWN = "known"
    UNKNOWN = None


class Perhaps(RootModel[int | None]):
    pass


class Holder(BaseModel):
    state: Unknown | int | None = None


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Unknown | None, "Unknown or None.*null in JSON.*another value"),
        (list[Unknown | None], "Unknown or None.*null in JSON.*another value"),
        (Holder, r"Holder\.state is Unknown or None.*null in JSON.*another value"),
        (Perhaps | None, "Perhaps or None.*null in JSON.*drop one None"),
        (BaseModel, "BaseModel itself"),
        (dict[str, BaseModel], "BaseModel itself"),
        (tuple[int, *tuple[str, ...]], "any length"),
        (list[tuple[*tuple[str, ...], int]], "any length"),
    ],
)
def test_two_nones_fields_of_no_model_and_open_tuples_are_refused(
    annotation: Any, why: str
) -> None:
    with pytest.raises(RegistrationError, match=why):
        Adapter(annotation, where="C.m")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Unknown, Unknown.UNKNOWN),
        (Perhaps, Perhaps(None)),
        (Literal["x", None] | None, None),
        (JsonValue | None, None),
        (list[int | None] | None, [None]),
    ],
)
def test_one_none_travels(annotation: Any, value: Any) -> None:
    travels(annotation, value)


def test_a_dict_of_any_keys_takes_strings_only() -> None:
    for codec in CODECS.values():
        with pytest.raises(Unencodable, match="valid string"):
            adapter(dict[Any, int]).dump({1: 2}, codec)
        held = create_model("Held", held=(dict, ...))
        with pytest.raises(Unencodable, match="keys of a dict are strings"):
            adapter(held).dump(held(held={1: 2}), codec)


def test_a_validator_that_is_surprised_by_the_values_tried_refuses_nothing() -> None:
    def only(value: str) -> str:
        if value != "the only one":
            raise KeyError(value)
        return value

    travels(Annotated[str, AfterValidator(only)], "the only one")


# --- A grammar of types ----------------------------------------------------------------------------

# More by hand: WSRPC_EXAMPLES=20000.
EXAMPLES = int(os.environ.get("WSRPC_EXAMPLES", "300"))

# A type, and the values that it may have.
Typed = tuple[Any, st.SearchStrategy[Any]]

texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["5", "true", "1.5", "2020-01-01", "red", "null", "NaN", "YWI=", "P1D"]
)
integers = st.integers(-(2**63), 2**64 - 1) | st.integers(-3, 3)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1.0, -0.0])
plain_json = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
zones = st.just(dt.UTC) | st.none()

SCALARS: list[Typed] = [
    (int, integers),
    (float, floats),
    (bool, st.booleans()),
    (str, texts),
    (bytes, st.binary(max_size=6)),
    (None, st.none()),
    (Any, plain_json),
    (JsonValue, plain_json),
    (dt.datetime, st.datetimes(timezones=zones)),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (
        pathlib.PurePosixPath,
        st.sampled_from([pathlib.PurePosixPath("/a"), pathlib.PurePosixPath("5")]),
    ),
    (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    (complex, st.complex_numbers(allow_nan=False, allow_infinity=False)),
    (fractions.Fraction, st.fractions()),
    (Color, st.sampled_from(Color)),
    (Other, st.sampled_from(Other)),
    (Level, st.sampled_from(Level)),
    (Spot, st.sampled_from(Spot)),
    (Literal["a", "red", "2020-01-01"], st.sampled_from(["a", "red", "2020-01-01"])),
    (Literal[0, 1], st.sampled_from([0, 1])),
    (Literal[Color.RED], st.just(Color.RED)),
    (SecretStr, texts.map(SecretStr)),
    (Json[int], integers),
    (Base64Bytes, st.binary(max_size=4)),
    (Annotated[str, PlainSerializer(str.upper)], texts),
    (Annotated[int, PlainSerializer(str)], integers),
    (Annotated[int, AfterValidator(double)], st.integers(-5, 5)),
    (Cat, st.builds(Cat, lives=st.integers(0, 9))),
    (Dog, st.builds(Dog, name=st.binary(max_size=4))),
    (Thin, st.builds(Thin, x=st.integers(0, 9))),
    (Wide, st.builds(Wide, x=st.integers(0, 9), y=st.integers(0, 9))),
    (Trimmed, st.builds(Trimmed, name=st.just("a"), tags=st.lists(texts, max_size=2))),
    (
        Renamed,
        st.builds(lambda a, b: Renamed.model_validate({"one": a, "two": b}), integers, integers),
    ),
    (Lines, st.fixed_dictionaries({"text": texts}, optional={"note": texts})),
    (Named, st.builds(Named, integers, texts)),
]


def make_model(fields: list[tuple[Typed, bool]]) -> Typed:
    """A model of a few fields, some of which may be left out."""
    declared: dict[str, Any] = {
        f"f{n}": (annotation, None) if optional else (annotation, ...)
        for n, ((annotation, _), optional) in enumerate(fields)
    }
    for name, (annotation, default) in declared.items():
        if default is None:
            declared[name] = (annotation | None if annotation is not None else None, None)
    made = create_model("Made", **declared)
    values = st.fixed_dictionaries({f"f{n}": part[1] for n, (part, _) in enumerate(fields)})
    return made, values.map(lambda given: instance(made, given))


def instance(model: type[BaseModel], given: dict[str, Any]) -> Any:
    try:
        return model(**given)
    except ValueError:
        # What the type itself refuses is none of its values.
        return REFUSED_VALUE


REFUSED_VALUE = object()


def of(origin: Any, *arguments: Any) -> Any:
    return origin[arguments if len(arguments) != 1 else arguments[0]]


def make_union(parts: list[Typed]) -> Typed:
    annotation: Any = parts[0][0]
    for other, _ in parts[1:]:
        annotation = either(annotation, other)
    return annotation, st.one_of([values for _, values in parts])


def either(one: Any, other: Any) -> Any:
    return one | other if one is not None else other | one if other is not None else None


def make_dict(key: Typed, value: Typed) -> Typed:
    # Keys of any type are strings; another one does not leave.
    keys = texts if key[0] in (Any, JsonValue) else key[1].filter(is_hashable)
    return of(dict, key[0], value[0]), st.dictionaries(keys, value[1], max_size=2)


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def make_tuple(parts: list[Typed]) -> Typed:
    return of(tuple, *(one for one, _ in parts)), st.tuples(*(values for _, values in parts))


def deeper(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return (
        inner.map(lambda one: (of(list, one[0]), st.lists(one[1], max_size=3)))
        | inner.map(lambda one: (of(set, one[0]), st.sets(one[1].filter(is_hashable), max_size=3)))
        | inner.map(lambda one: (of(tuple, one[0], ...), st.lists(one[1], max_size=3).map(tuple)))
        | st.lists(inner, min_size=1, max_size=2).map(make_tuple)
        | st.builds(make_dict, inner, inner)
        | st.lists(inner, min_size=2, max_size=3).map(make_union)
        | st.lists(st.tuples(inner, st.booleans()), min_size=1, max_size=3).map(make_model)
    )


types: st.SearchStrategy[Typed] = st.recursive(st.sampled_from(SCALARS), deeper, max_leaves=5)


def fits(one: Adapter, value: Any) -> bool:
    """Whether a value is one of a type's own: validation gives it back as it is."""
    try:
        return is_equal(one._validate_python(value), value)
    except Exception:  # noqa: BLE001 - whatever says no
        return False


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
@given(types, st.data())
def test_a_type_either_travels_unchanged_in_both_codecs_or_is_refused_at_registration_naming_the_field_and_what_to_write_instead(
    typed: Typed, data: st.DataObject
) -> None:
    annotation, values = typed
    try:
        one = adapter(annotation)
    except RegistrationError:
        return
    value = data.draw(values)
    if not fits(one, value) or holds_negative_zero(value):
        return
    for codec in CODECS.values():
        got = one.load(one.dump(value, codec), codec)
        assert is_equal(got, value), f"{annotation}: {value!r} arrived as {got!r}"


def holds_negative_zero(value: Any) -> bool:
    return isinstance(value, float) and value == 0 and math.copysign(1, value) < 0


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
@given(st.lists(st.sampled_from(SCALARS), min_size=2, max_size=3).map(make_union), st.data())
def test_each_value_of_a_union_that_is_taken_arrives_as_what_it_was(
    typed: Typed, data: st.DataObject
) -> None:
    annotation, values = typed
    try:
        one = adapter(annotation)
    except RegistrationError:
        return
    value = data.draw(values)
    if fits(one, value):
        for codec in CODECS.values():
            got = one.load(one.dump(value, codec), codec)
            assert is_equal(got, value), f"{annotation}: {value!r} arrived as {got!r}"


def test_most_types_without_unions_are_taken() -> None:
    """A grammar that is refused as a whole would prove nothing."""
    taken = 0
    for annotation, _ in SCALARS:
        for whole in (annotation, of(list, annotation), of(dict, str, annotation)):
            try:
                adapter(whole)
            except RegistrationError:
                continue
            taken += 1
    assert taken >= 3 * (len(SCALARS) - 7)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("annotation", [Any, list[Any], dict[str, Any], object])
@pytest.mark.parametrize(
    "lossy",
    [
        {1: "a", "1": "b"},
        {1.5: "a", "1.5": "b"},
        {dt.date(2020, 1, 1): "a", "2020-01-01": "b"},
        {"a": [({-1: 0, "-1": 1},)]},
    ],
)
def test_two_keys_of_one_text_are_refused_and_no_entry_is_lost(
    annotation: Any, lossy: Any, codec: Codec
) -> None:
    value = [lossy] if annotation == list[Any] else {"in": lossy}
    with pytest.raises(Unencodable, match="Two keys of an object are the same text in JSON"):
        adapter(annotation).dump(value, codec)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_keys_that_are_numbers_travel_as_their_texts_where_no_type_is_declared(
    codec: Codec,
) -> None:
    data = adapter(Any).dump({1: {2.5: "a", "2": "b"}, "x": 3}, codec)
    assert adapter(Any).load(bytes(data), codec) == {"1": {"2.5": "a", "2": "b"}, "x": 3}
