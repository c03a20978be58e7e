"""Signatures: what a function's annotations say travels, and what they may not say.

Annotations are objects in this file, and strings in test_controller.py.
"""

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, OnErrorOmit
from typing_extensions import TypeAliasType

from wsrpc.contract.annotations import substitute
from wsrpc.contract.binding import near
from wsrpc.contract.signature import MethodOptions, MethodSpec, read
from wsrpc.errors import RegistrationError
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.stream import Final, Stream
from wsrpc.values.adapter import InvalidValue, Unencodable

T = TypeVar("T")
U = TypeVar("U")


class Token(BaseModel):
    text: str


class Usage(BaseModel):
    total: int


@pytest.fixture(params=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


def spec_of(fn: Callable[..., Any], **options: Any) -> MethodSpec:
    return read("Hello", fn.__name__, fn, binding="static", options=MethodOptions(**options))


def refusal(fn: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(RegistrationError) as caught:
        spec_of(fn, **options)
    message = str(caught.value)
    assert message.startswith(f"Hello.{fn.__name__}")
    return message


def annotation_of(adapter: Any) -> Any:
    return None if adapter is None else adapter.annotation


# --- What a method gives ---------------------------------------------------------------------------


async def coroutine() -> Token: ...  # type: ignore[empty-body]
def sync() -> Token: ...  # type: ignore[empty-body]
async def async_generator() -> AsyncIterator[Token]:
    yield Token(text="")


async def full_generator() -> AsyncGenerator[Token, None]:
    yield Token(text="")


def gives_iterator() -> AsyncIterator[Token]: ...  # type: ignore[empty-body]
def gives_iterable() -> AsyncIterable[Token]: ...  # type: ignore[empty-body]
def gives_stream() -> Stream[Token, Usage]: ...  # type: ignore[empty-body]
async def awaited_iterator() -> AsyncIterator[Token]: ...  # type: ignore[empty-body]
def awaitable_value() -> Awaitable[Token]: ...  # type: ignore[empty-body]
def coroutine_value() -> Coroutine[Any, Any, Token]: ...  # type: ignore[empty-body]
def awaitable_iterator() -> Awaitable[AsyncIterator[Token]]: ...  # type: ignore[empty-body]
def generator() -> Iterator[Token]:
    yield Token(text="")


def full_sync_generator() -> Generator[Token, None, None]:
    yield Token(text="")


def sync_iterator() -> Iterator[Token]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("fn", "kind", "flavor"),
    [
        (coroutine, "unary", "coroutine"),
        (sync, "unary", "sync"),
        (awaitable_value, "unary", "coroutine"),
        (coroutine_value, "unary", "coroutine"),
        (async_generator, "stream", "async_iterator"),
        (full_generator, "stream", "async_iterator"),
        (gives_iterator, "stream", "async_iterator"),
        (gives_iterable, "stream", "async_iterator"),
        (gives_stream, "stream", "async_iterator"),
        (awaited_iterator, "stream", "awaited_iterator"),
        (awaitable_iterator, "stream", "awaited_iterator"),
        (generator, "stream", "sync_iterator"),
        (full_sync_generator, "stream", "sync_iterator"),
        (sync_iterator, "stream", "sync_iterator"),
    ],
)
def test_the_annotation_decides_what_a_method_gives(
    fn: Callable[..., Any], kind: str, flavor: str
) -> None:
    spec = spec_of(fn)
    assert (spec.kind, spec.flavor) == (kind, flavor)
    assert annotation_of(spec.result) == (Token if kind == "unary" else None)
    assert annotation_of(spec.item) == (Token if kind == "stream" else None)


def test_what_can_be_iterated_is_still_one_value() -> None:
    async def lists() -> list[int]:
        return [1]

    async def text() -> str:
        return ""

    assert spec_of(lists).kind == spec_of(text).kind == "unary"


def test_a_final_value_is_split_from_the_items() -> None:
    async def both() -> AsyncIterator[Token | Final[Usage] | None]:
        yield Final(Usage(total=1))

    def inside() -> Iterator[Annotated[int | Final[str], "note"]]:
        yield 1

    spec = spec_of(both)
    assert annotation_of(spec.item) == Token | None
    assert annotation_of(spec.final) == Usage
    assert annotation_of(spec_of(inside).item) is int
    assert annotation_of(spec_of(inside).final) is str
    assert annotation_of(spec_of(gives_stream).final) == Usage
    assert spec_of(async_generator).final is None


def test_a_stream_of_nothing_but_a_final_value_is_refused() -> None:
    async def only() -> AsyncIterator[Final[int]]:
        yield Final(1)

    assert "return the value instead" in refusal(only)


def test_a_missing_return_annotation_means_any_value() -> None:
    async def free():  # type: ignore[no-untyped-def]
        return 1

    assert annotation_of(spec_of(free).result) is Any


Tokens = TypeAliasType("Tokens", AsyncIterator[Token])


def test_a_type_alias_is_looked_through() -> None:
    async def aliased(lines: Tokens) -> Tokens:
        yield Token(text="")

    spec = spec_of(aliased)
    assert spec.kind == "stream"
    assert annotation_of(spec.item) is Token
    assert spec.params["lines"].kind == "upload"


def test_a_oneway_method_is_a_notification() -> None:
    async def note(text: str) -> None: ...

    spec = spec_of(note, oneway=True)
    assert (spec.kind, spec.result) == ("notify", None)


def test_a_oneway_method_that_gives_something_is_refused() -> None:
    async def value() -> int:
        return 1

    async def upload(lines: AsyncIterator[str]) -> None: ...

    async def callback(tell: Callable[[int], Awaitable[None]]) -> None: ...

    assert "nobody gets its result" in refusal(value, oneway=True)
    assert "drop oneway=True" in refusal(async_generator, oneway=True)
    assert "'lines' is an upload" in refusal(upload, oneway=True)
    assert "'tell' is a callback" in refusal(callback, oneway=True)


def test_the_doc_is_the_first_paragraph() -> None:
    async def told() -> None:
        """Says a thing
        in two lines.

        And more.
        """  # noqa: D205

    assert spec_of(told).doc == "Says a thing in two lines."


# --- What a method takes ---------------------------------------------------------------------------


async def takes(
    name: str,
    /,
    lines: AsyncIterator[str],
    more: AsyncIterable[int] | None = None,
    tell: Callable[[int, Token], Awaitable[Usage]] | None = None,
    *,
    count: Annotated[int, Field(gt=0)] = 3,
    stream: Optional[Stream[Token]] = None,  # noqa: UP045
) -> None: ...


def test_parameters_are_values_uploads_and_callbacks() -> None:
    params = spec_of(takes).params
    assert {name: (param.kind, param.required) for name, param in params.items()} == {
        "name": ("value", True),
        "lines": ("upload", True),
        "more": ("upload", False),
        "tell": ("callback", False),
        "count": ("value", False),
        "stream": ("upload", False),
    }
    assert annotation_of(params["lines"].item) is str
    assert annotation_of(params["more"].item) is int
    assert annotation_of(params["stream"].item) is Token
    assert [one.annotation for one in params["tell"].arguments] == [int, Token]
    assert annotation_of(params["tell"].result) is Usage
    assert [name for name, param in params.items() if param.optional_stream] == [
        "more",
        "tell",
        "stream",
    ]


async def lines() -> AsyncIterator[str]:
    yield ""


def test_arguments_are_bound_as_python_binds_them() -> None:
    spec = spec_of(takes)
    upload = lines()

    async def tell(n: int, token: Token) -> Usage:
        return Usage(total=n)

    assert spec.bind(("Ann", upload), {"count": 2, "tell": tell}) == (
        {"name": "Ann", "count": 2},
        {"lines": upload},
        {"tell": tell},
    )


def test_defaults_are_left_to_the_callee() -> None:
    async def greet(name: str = "you", times: int = 1) -> None: ...

    assert spec_of(greet).bind((), {}) == ({}, {}, {})
    assert spec_of(greet).bind(("Ann",), {}) == ({"name": "Ann"}, {}, {})


def test_an_optional_upload_or_callback_given_none_is_left_out() -> None:
    upload = lines()
    assert spec_of(takes).bind(("Ann", upload, None, None), {"stream": None}) == (
        {"name": "Ann"},
        {"lines": upload},
        {},
    )


async def greet(name: str, times: int = 1, *, loud: bool = False) -> None: ...
async def three(a: int, b: int, c: int) -> None: ...


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "message"),
    [
        (greet, (), {}, "greet() missing 1 required argument: 'name'"),
        (three, (), {"b": 1}, "three() missing 2 required arguments: 'a' and 'c'"),
        (three, (), {}, "three() missing 3 required arguments: 'a', 'b', and 'c'"),
        (
            greet,
            ("a",),
            {"nam": 1},
            "greet() got an unexpected keyword argument 'nam'; did you mean 'name'?",
        ),
        (greet, (), {"zzz": 1}, "greet() got an unexpected keyword argument 'zzz'"),
        (greet, ("a",), {"name": "b"}, "greet() got multiple values for argument 'name'"),
        (
            greet,
            ("a", 1, True),
            {},
            "greet() takes 2 positional arguments but 3 were given",
        ),
        (coroutine, (1,), {}, "coroutine() takes 0 positional arguments but 1 was given"),
        (
            takes,
            (),
            {"name": "Ann"},
            "takes() got some positional-only arguments passed as keyword arguments: 'name'",
        ),
        (
            takes,
            ("Ann", ["a"]),
            {},
            "takes() argument 'lines' is a stream and takes an async iterator, not list: pass "
            "wsrpc.stream_of(…)",
        ),
        (
            takes,
            ("Ann", None),
            {},
            "takes() argument 'lines' is a stream and takes an async iterator, not NoneType: pass "
            "wsrpc.stream_of(…)",
        ),
    ],
)
def test_a_wrong_call_fails_here_in_the_words_of_python(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        spec_of(fn).bind(args, kwargs)
    assert str(caught.value) == message


async def many(a: int, /, b: int, c: int = 0, *, d: int, e: int = 0) -> None: ...


@given(
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from("abcdez"), st.integers(), max_size=5),
)
def test_arguments_are_bound_exactly_where_python_binds_them(
    args: list[int], kwargs: dict[str, int]
) -> None:
    try:
        bound = inspect.signature(many).bind(*args, **kwargs).arguments
    except TypeError:
        with pytest.raises(TypeError):
            spec_of(many).bind(tuple(args), kwargs)
    else:
        assert spec_of(many).bind(tuple(args), kwargs) == (bound, {}, {})


def test_a_list_passed_for_an_upload_is_refused_naming_it() -> None:
    with pytest.raises(TypeError, match=r"'lines' .*wsrpc\.stream_of"):
        spec_of(takes).bind(("Ann",), {"lines": ["a"]})


def test_a_value_passed_for_a_callback_is_refused_naming_it() -> None:
    with pytest.raises(TypeError, match="'tell' is a callback and takes an async function"):
        spec_of(takes).bind(("Ann", lines()), {"tell": 5})


# --- How arguments travel --------------------------------------------------------------------------


async def draw(token: Token, times: Annotated[int, Field(gt=0)], data: bytes = b"") -> None: ...


def test_arguments_travel_by_name(codec: Codec) -> None:
    spec = spec_of(draw)
    values, _, _ = spec.bind((Token(text="a"), 2), {})
    raw = spec.dump_args(values, codec)
    assert codec.load(raw) == {"token": {"text": "a"}, "times": 2}
    assert spec.load_args(raw, codec) == {"token": Token(text="a"), "times": 2}
    raw = spec.dump_args({**values, "data": b"\xff"}, codec)
    assert spec.load_args(raw, codec)["data"] == b"\xff"


def test_no_arguments_are_an_empty_object(codec: Codec) -> None:
    spec = spec_of(coroutine)
    assert codec.load(spec.dump_args({}, codec)) == {}
    assert spec.load_args(codec.dump({}), codec) == {}


def test_a_wrong_argument_does_not_leave_and_is_named() -> None:
    with pytest.raises(Unencodable, match=r"^Hello\.draw: times: Input should be greater than 0"):
        spec_of(draw).dump_args({"token": {"text": "a"}, "times": 0}, CODECS["json"])


def test_an_unchecked_argument_leaves_as_it_is(codec: Codec) -> None:
    raw = spec_of(draw).dump_args({"token": {}, "times": "x"}, codec, check=False)
    assert codec.load(raw) == {"token": {}, "times": "x"}


def test_wrong_missing_and_unknown_arguments_are_told_by_name(codec: Codec) -> None:
    with pytest.raises(InvalidValue) as caught:
        spec_of(draw).load_args(codec.dump({"token": {"text": 5}, "extra": 1}), codec)
    assert [(error["loc"], error["type"]) for error in caught.value.errors] == [
        (["token", "text"], "string_type"),
        (["times"], "missing"),
        (["extra"], "extra_forbidden"),
    ]


def test_arguments_that_are_no_object_are_invalid(codec: Codec) -> None:
    values: tuple[Any, ...] = ([], 5, None, "x")
    for value in values:
        with pytest.raises(InvalidValue):
            spec_of(draw).load_args(codec.dump(value), codec)


def test_an_argument_may_be_nested_as_deep_as_any_value(codec: Codec) -> None:
    async def echo(value: Any) -> Any: ...

    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    spec = spec_of(echo)
    assert spec.load_args(spec.dump_args({"value": deep}, codec), codec) == {"value": deep}
    with pytest.raises(Unencodable):
        spec.dump_args({"value": [deep]}, codec)


def test_a_parameter_may_bear_any_name(codec: Codec) -> None:
    async def odd(_hidden: int, model_config: int, cls: int, fields: int) -> None: ...

    spec = spec_of(odd)
    values = {"_hidden": 1, "model_config": 2, "cls": 3, "fields": 4}
    assert spec.load_args(spec.dump_args(values, codec), codec) == values


# --- How the function is called --------------------------------------------------------------------


class Multiplier:
    factor = 3

    def scaled(self, a: int, /, b: int = 1, *, c: int = 1) -> int:
        return self.factor * a * b * c

    def by_default(self, a: int = 2, b: int = 5, /) -> int:
        return self.factor * a + b


def test_a_method_is_called_with_its_arguments_by_name() -> None:
    spec = read("Multiplier", "scaled", Multiplier.scaled)
    assert spec.target(Multiplier())(a=2, c=5) == 30


def test_a_positional_only_default_is_filled_in_where_a_later_one_is_given() -> None:
    target = read("Multiplier", "by_default", Multiplier.by_default).target(Multiplier())
    assert (target(), target(b=1), target(a=1)) == (11, 7, 8)


# --- What is refused -------------------------------------------------------------------------------


def test_an_unannotated_parameter_is_refused_naming_it() -> None:
    async def bare(name) -> None: ...  # type: ignore[no-untyped-def]

    assert refusal(bare) == (
        "Hello.bare: parameter 'name' has no annotation; write its type, or object for any"
    )


def test_star_parameters_are_refused_mentioning_wraps() -> None:
    async def args(*names: str) -> None: ...
    async def kwargs(**names: str) -> None: ...

    assert "*names cannot travel" in refusal(args)
    assert "**names cannot travel" in refusal(kwargs)

    def careless(fn: Callable[..., Any]) -> Callable[..., Any]:
        async def inner(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return inner

    with pytest.raises(RegistrationError, match=r"functools\.wraps"):
        read("Hello", "greet", careless(greet))


def test_a_decorator_that_wraps_keeps_the_signature() -> None:
    def careful(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return inner

    def collecting(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        async def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return inner

    assert set(spec_of(careful(greet)).params) == {"name", "times", "loud"}
    assert spec_of(careful(greet)).flavor == "coroutine"
    assert spec_of(careful(async_generator)).flavor == "async_iterator"
    assert spec_of(careful(generator)).flavor == "sync_iterator"
    assert spec_of(collecting(async_generator)).flavor == "awaited_iterator"


def test_a_method_without_self_is_refused() -> None:
    async def selfless() -> None: ...

    with pytest.raises(RegistrationError, match="takes no self"):
        read("Hello", "selfless", selfless)


def yields_unannotated():  # type: ignore[no-untyped-def]
    yield 1


async def yields_async_unannotated():  # type: ignore[no-untyped-def]
    yield 1


def returns_iterable() -> Iterable[int]:
    return [1]


def yields_iterable() -> Iterable[int]:
    yield 1


async def returns_iterator() -> Iterator[int]:
    return iter([1])


async def takes_iterator(items: Iterator[int]) -> None: ...
async def takes_iterable(items: Iterable[int] | None) -> None: ...
async def takes_sync_callback(tell: Callable[[int], None]) -> None: ...
async def takes_any_callback(tell: Callable[..., Awaitable[None]]) -> None: ...
async def takes_bare_callback(tell: Callable) -> None: ...  # type: ignore[type-arg]
async def upload_default(items: AsyncIterator[int] = lines()) -> None: ...  # type: ignore[assignment]  # noqa: B008
async def takes_class(thing: type[int]) -> None: ...
async def returns_stream_or_none() -> AsyncIterator[int] | None: ...
async def takes_streams(items: list[AsyncIterator[int]]) -> None: ...


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (yields_unannotated, "has no return annotation; write Iterator"),
        (yields_async_unannotated, "has no return annotation; write AsyncIterator"),
        (returns_iterable, "write Iterator[…] to stream it, or list[…] for one value"),
        (yields_iterable, "annotated to return collections.abc.Iterable[int]; write Iterator"),
        (returns_iterator, "async and returns an Iterator: write AsyncIterator"),
        (takes_iterator, "'items' is an Iterator: write list[…] for a value, or AsyncIterator"),
        (takes_iterable, "'items' is an Iterable: write list[…] for a value, or AsyncIterator"),
        (takes_sync_callback, "not awaited; write Callable[[T], Awaitable[R]]"),
        (takes_any_callback, "unknown arguments; write Callable[[T], Awaitable[R]]"),
        (takes_bare_callback, "unknown arguments; write Callable[[T], Awaitable[R]]"),
        (upload_default, "'items' is a stream or callback: its default can only be None"),
        (takes_class, "'thing': a class cannot travel"),
        (returns_stream_or_none, "result"),
        (takes_streams, "'items'"),
    ],
)
def test_what_cannot_travel_is_refused_saying_what_to_write(
    fn: Callable[..., Any], words: str
) -> None:
    assert words in refusal(fn)


async def yields_list() -> list[int]:  # type: ignore[misc]
    yield 1  # pyright: ignore[reportReturnType]


def test_a_generator_annotated_as_something_else_is_refused() -> None:
    assert "yields, but is annotated to return list[int]; write AsyncIterator" in refusal(
        yields_list
    )


async def names_nothing(thing: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def gives_nothing() -> "Nowhere | None": ...  # type: ignore[name-defined]  # noqa: F821
async def says_nonsense(thing: "int[") -> None: ...  # type: ignore[valid-type]  # noqa: F722


def test_a_name_that_is_not_there_at_run_time_is_refused_naming_it() -> None:
    assert "the annotation of parameter 'thing' names 'Nowhere'" in refusal(names_nothing)
    assert "the annotation of its result names 'Nowhere'" in refusal(gives_nothing)
    assert "TYPE_CHECKING" in refusal(gives_nothing)
    assert "cannot be evaluated" in refusal(says_nonsense)


# --- Type variables --------------------------------------------------------------------------------


class Page(BaseModel, Generic[T]):
    items: list[T]


class Twin(Generic[T, U]): ...


def shapes(
    bare: T,
    listed: list[T],
    optional: T | None,
    nested: dict[str, list[T | U]],
    model: Page[T],
    models: list[Page[T]],
    noted: Annotated[list[T], "x"],
    callback: Callable[[T], Awaitable[U]],
    stream: AsyncIterator[T | Final[U]],
    pair: tuple[T, ...],
    twin: Twin[T, U],
    literal: Literal["T"],
    plain: int,
) -> None: ...


def test_type_variables_are_substituted_wherever_they_stand() -> None:
    hints = get_type_hints(shapes, include_extras=True)
    assert {name: substitute(hint, {T: int, U: str}, "x") for name, hint in hints.items()} == {
        "bare": int,
        "listed": list[int],
        "optional": int | None,
        "nested": dict[str, list[int | str]],
        "model": Page[int],
        "models": list[Page[int]],
        "noted": Annotated[list[int], "x"],
        "callback": Callable[[int], Awaitable[str]],
        "stream": AsyncIterator[int | Final[str]],
        "pair": tuple[int, ...],
        "twin": Twin[int, str],
        "literal": Literal["T"],
        "plain": int,
        "return": type(None),
    }
    assert substitute(Page, {}, "x") is Page


def test_a_type_variable_that_stands_for_nothing_is_refused() -> None:
    async def echo(value: T) -> T:
        return value

    assert "stands for nothing here" in refusal(echo)


# --- Near names ------------------------------------------------------------------------------------


def test_near_names_are_found_whatever_their_case() -> None:
    assert near("gret", ["greet", "great", "other"]) == ["greet", "great"]
    assert near("GREET", ["greet"]) == ["greet"]
    assert near("x", ["greet"]) == []
    assert len(near("aaaa", ["aaab", "aaac", "aaad", "aaae"])) == 3


def test_a_parameter_of_which_pydantic_can_make_no_argument_is_refused_with_its_reason() -> None:
    async def take(n: OnErrorOmit[int]) -> None: ...

    assert "'on_error = omit' cannot be set for required fields" in refusal(take)
