"""Single values: what travels, and how many calls share one connection."""

from __future__ import annotations

import asyncio
import enum
import gc
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

import anyio
import anyio.abc
import pytest
from anyio.lowlevel import checkpoint
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import wsrpc
from tests.support import Codec, Wire, error_of, pair, served, soon, turns, until

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Person(BaseModel):
    name: str
    age: int = Field(ge=0)
    friends: list[Person] = []


class Blob(BaseModel):
    data: bytes


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    verbose: bool
    tags: list[str]


Shape = Person | Point | Literal["none"] | None


class Echo:
    """Takes and returns one value of each kind of type."""

    @wsrpc.method
    async def model(self, value: Person) -> Person:
        return value

    @wsrpc.method
    async def dataclass(self, value: Point) -> Point:
        return value

    @wsrpc.method
    async def typed_dict(self, value: Options) -> Options:
        return value

    @wsrpc.method
    async def union(self, value: Shape) -> Shape:
        return value

    @wsrpc.method
    async def enum(self, value: Colour) -> Colour:
        return value

    @wsrpc.method
    async def date(self, value: date) -> date:
        return value

    @wsrpc.method
    async def datetime(self, value: datetime) -> datetime:
        return value

    @wsrpc.method
    async def timedelta(self, value: timedelta) -> timedelta:
        return value

    @wsrpc.method
    async def decimal(self, value: Decimal) -> Decimal:
        return value

    @wsrpc.method
    async def uuid(self, value: UUID) -> UUID:
        return value

    @wsrpc.method
    async def bytes(self, value: bytes) -> bytes:
        return value

    @wsrpc.method
    async def bytes_inside(self, value: Blob) -> Blob:
        return value

    @wsrpc.method
    async def generic(self, value: Box[list[int]]) -> Box[list[int]]:
        return value

    @wsrpc.method
    async def collections(
        self, value: dict[str, tuple[int, ...]], unique: frozenset[int]
    ) -> tuple[dict[str, tuple[int, ...]], frozenset[int]]:
        return value, unique

    @wsrpc.method
    async def none(self, value: None) -> None:
        return value

    @wsrpc.method
    async def number(self, value: float) -> float:
        return value

    @wsrpc.method
    async def integer(self, value: int) -> int:
        return value

    @wsrpc.method
    async def text(self, value: str) -> str:
        return value

    @wsrpc.method
    async def anything(self, value: object) -> object:
        return value


VALUES = [
    ("model", Person(name="Ann", age=3, friends=[Person(name="Bob", age=4)])),
    ("dataclass", Point(1.5, -2.0)),
    ("typed_dict", Options(verbose=True, tags=["a"])),
    ("typed_dict", Options()),
    ("union", Person(name="Ann", age=0)),
    ("union", Point(1, 2)),
    ("union", "none"),
    ("union", None),
    ("enum", Colour.BLUE),
    ("date", date(2024, 2, 29)),
    ("datetime", datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)),
    ("timedelta", timedelta(days=2, seconds=3, microseconds=5)),
    ("decimal", Decimal("1234567890.123456789")),
    ("uuid", UUID("12345678-1234-5678-1234-567812345678")),
    ("bytes", bytes(range(256))),
    ("bytes", b""),
    ("bytes_inside", Blob(data=b"\xff\xfe>>??")),
    ("generic", Box[list[int]](content=[1, 2])),
    ("none", None),
    ("number", -0.5),
    ("number", 5e-324),
    ("integer", -(2**63)),
    ("integer", 2**64 - 1),
    ("text", ""),
    ("text", 'line\nbreak, "quotes", \u2028, \U0001f600, \x00'),
    ("anything", {"isError": True, "nested": [1, None, {"": []}]}),
    ("anything", []),
    ("anything", False),
]


@pytest.mark.rule("VALUE-6")
@pytest.mark.parametrize(("method", "value"), VALUES, ids=[name for name, _ in VALUES])
async def test_a_value_comes_back_as_it_was_sent(codec: Codec, method: str, value: Any) -> None:
    async with pair([Echo()], codec=codec) as (_, client):
        echoed = await getattr(client.clientize(Echo), method)(value)
    assert echoed == value
    assert type(echoed) is type(value)


async def test_collections_keep_their_types(codec: Codec) -> None:
    async with pair([Echo()], codec=codec) as (_, client):
        echoed = await client.clientize(Echo).collections({"a": (1, 2)}, frozenset({3}))
    assert echoed == ({"a": (1, 2)}, frozenset({3}))


@pytest.mark.rule("VALUE-5")
async def test_bytes_are_base64url_in_json_and_native_in_msgpack(codec: Codec, wire: Wire) -> None:
    async with pair([Echo()], codec=codec) as (_, client):
        await client.clientize(Echo).bytes(b"\xff\xfe>>")
    (result,) = wire.frames("result")
    assert result[2] == ("__4-Pg==" if codec == "json" else b"\xff\xfe>>")


class Hello:
    def __init__(self) -> None:
        self.calls: list[str] = []

    @wsrpc.method
    async def greet(self, name: str, greeting: str = "Hello", *, mark: str = "!") -> str:
        self.calls.append(name)
        return f"{greeting}, {name}{mark}"

    @wsrpc.method
    async def first(self, name: str, /, rest: int = 1) -> str:
        return name * rest

    @wsrpc.method
    async def young(self, person: Person) -> bool:
        return person.age < 30

    @wsrpc.method
    async def wrong(self) -> int:
        nonsense: Any = "seven"
        answer: int = nonsense
        return answer

    @wsrpc.method
    async def nan(self) -> float:
        return math.nan

    @wsrpc.method
    async def nan_inside(self) -> object:
        return {"deep": [math.inf]}

    @wsrpc.method
    async def person(self) -> Person:
        return Person(name="Ann", age=3)

    @wsrpc.method
    async def unannotated(self):  # type: ignore[no-untyped-def]
        return {"anything": 1}

    @wsrpc.method(oneway=True)
    async def log(self, line: str) -> None:
        self.calls.append(line)
        if line == "bad":
            raise ValueError(line)


async def test_positional_and_keyword_arguments_and_defaults_bind_as_in_python() -> None:
    async with pair([Hello()]) as (_, client):
        hello = client.clientize(Hello)
        assert await hello.greet("Ann") == "Hello, Ann!"
        assert await hello.greet("Ann", "Hi") == "Hi, Ann!"
        assert await hello.greet(greeting="Hi", name="Ann", mark="?") == "Hi, Ann?"
        assert await hello.first("ab", 2) == "abab"
        assert await hello.first("ab", rest=3) == "ababab"


@pytest.mark.rule("CALL-3")
async def test_arguments_travel_by_name_and_defaults_stay_with_the_callee(wire: Wire) -> None:
    async with pair([Hello()]) as (_, client):
        await client.clientize(Hello).greet("Ann", mark="?")
    (call,) = wire.frames("call")
    assert call[2:4] == ["Hello.greet", {"name": "Ann", "mark": "?"}]


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing 1 required argument: 'name'"),
        (("Ann", "Hi", "!"), {}, "takes 2 positional arguments but 3 were given"),
        (("Ann",), {"name": "Bob"}, "multiple values for argument 'name'"),
        (("Ann",), {"geeting": "Hi"}, "did you mean 'greeting'"),
    ],
)
async def test_arguments_that_do_not_bind_are_a_type_error_and_nothing_is_sent(
    args: tuple[Any, ...], kwargs: dict[str, Any], says: str, wire: Wire
) -> None:
    async with pair([Hello()]) as (_, client):
        greet: Any = client.clientize(Hello).greet
        with pytest.raises(TypeError, match=says):
            greet(*args, **kwargs)
    assert not wire.frames("call")


async def test_an_argument_of_the_wrong_type_fails_before_it_is_sent(wire: Wire) -> None:
    async with pair([Hello()]) as (_, client):
        greet: Any = client.clientize(Hello).greet
        with error_of("invalid_argument"):
            await greet(7)
    assert not wire.frames("call")


@pytest.mark.rule("ERROR-4", "CALL-3")
async def test_a_wrong_argument_is_answered_with_place_message_and_type_but_not_the_input(
    codec: Codec,
) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        with error_of("invalid_argument") as caught:
            await client.clientize("Hello").young(person={"name": "secret-name", "age": -1})
    data = caught.value.data
    assert data["total"] == 1
    (error,) = data["errors"]
    assert error["loc"] == ["person", "age"]
    assert error["type"] == "greater_than_equal"
    assert set(error) == {"loc", "msg", "type"}
    assert "secret-name" not in repr(caught.value)
    assert not caught.value.not_started


@pytest.mark.rule("ERROR-4")
async def test_many_wrong_arguments_are_counted_but_only_eight_are_told(codec: Codec) -> None:
    friends = [{"name": n, "age": -1} for n in range(20)]
    async with pair([Hello()], codec=codec) as (_, client):
        with error_of("invalid_argument") as caught:
            await client.clientize("Hello").young(
                person={"name": "Ann", "age": 1, "friends": friends}
            )
    assert caught.value.data["total"] == 40
    assert len(caught.value.data["errors"]) == 8


@pytest.mark.rule("CALL-3")
async def test_unknown_and_missing_arguments_are_named(codec: Codec) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        with error_of("invalid_argument") as caught:
            await client.clientize("Hello").greet(nam="Ann")
    found = {tuple(one["loc"]): one["type"] for one in caught.value.data["errors"]}
    assert found == {("name",): "missing", ("nam",): "extra_forbidden"}


@pytest.mark.rule("VALUE-3")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_numbers_that_are_not_finite_do_not_leave_the_caller(
    codec: Codec, value: float, wire: Wire
) -> None:
    async with pair([Echo()], codec=codec) as (_, client):
        with error_of("invalid_argument"):
            await client.clientize(Echo).number(value)
        with error_of("invalid_argument"):
            await client.clientize(Echo).anything([{"deep": value}])
        with error_of("invalid_argument"):
            await client.clientize(Echo, validate="none").dataclass(Point(value))
    assert not wire.frames("call")


@pytest.mark.rule("VALUE-3", "ERROR-3")
@pytest.mark.parametrize("method", ["nan", "nan_inside", "wrong"])
async def test_a_result_that_must_not_leave_is_the_handlers_internal_error(
    codec: Codec, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        with error_of("internal") as caught:
            await getattr(client.clientize(Hello), method)()
        assert await client.clientize(Hello).greet("Ann") == "Hello, Ann!"
    assert caught.value.error_id
    assert caught.value.error_id in caplog.text


async def test_a_result_without_an_annotation_is_any_value() -> None:
    async with pair([Hello()]) as (_, client):
        unannotated: Any = client.clientize(Hello).unannotated
        assert await unannotated() == {"anything": 1}


async def test_validate_arrival_leaves_the_check_of_arguments_to_the_callee(wire: Wire) -> None:
    async with pair([Hello()]) as (_, client):
        greet: Any = client.clientize(Hello, validate="arrival").greet
        with error_of("invalid_argument") as caught:
            await greet(7)
        assert caught.value.data["errors"][0]["loc"] == ["name"]
        assert isinstance(await client.clientize(Hello, validate="arrival").person(), Person)
    assert len(wire.frames("call")) == 2


async def test_validate_none_takes_results_as_plain_values(codec: Codec) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        person: Any = await client.clientize(Hello, validate="none").person()
    assert person == {"name": "Ann", "age": 3, "friends": []}


async def test_a_server_that_does_not_validate_results_leaves_that_to_the_caller() -> None:
    async with served([Hello()], validate="none") as listener:
        async with wsrpc.connect(listener.url) as session:
            with error_of("internal") as caught:
                await session.clientize(Hello).wrong()
            assert "does not validate" in caught.value.message
            wrong: Any = await session.clientize(Hello, validate="none").wrong()
            assert wrong == "seven"


async def test_validate_must_be_one_of_three() -> None:
    async with pair([Hello()]) as (_, client):
        mode: Any = "sometimes"
        with pytest.raises(ValueError, match="'both', 'arrival' or 'none'"):
            client.clientize(Hello, validate=mode)
        with pytest.raises(ValueError, match="'both', 'arrival' or 'none'"):
            wsrpc.Server([Hello()], validate=mode)


# ------------------------------------------------------------------------------------ many at once


class Gate:
    """Calls that wait for a word."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.running = 0
        self.peak = 0

    @wsrpc.method
    async def wait(self) -> str:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.open.wait()
        finally:
            self.running -= 1
        return "through"

    @wsrpc.method
    async def quick(self, n: int) -> int:
        return n


@pytest.mark.rule("CALL-6")
async def test_a_slow_call_delays_none_of_the_others(codec: Codec) -> None:
    gate = Gate()
    done: list[str] = []
    async with pair([gate], codec=codec) as (_, client):
        proxy = client.clientize(Gate)

        async def slow() -> None:
            done.append(await proxy.wait())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(slow)
            await until(lambda: gate.running == 3)
            assert [await proxy.quick(n) for n in range(50)] == list(range(50))
            assert not done
            gate.open.set()
    assert done == ["through"] * 3


@pytest.mark.rule("CALL-5")
async def test_many_calls_at_a_time_each_get_their_own_answer(codec: Codec, wire: Wire) -> None:
    answers: dict[int, int] = {}
    async with pair([Gate()], codec=codec) as (_, client):
        proxy = client.clientize(Gate)

        async def one(n: int) -> None:
            answers[n] = await proxy.quick(n)

        async with anyio.create_task_group() as group:
            for n in range(600):
                group.start_soon(one, n)
    assert answers == {n: n for n in range(600)}
    wire.assert_one_terminal_each()


class Nest:
    """Calls its caller's `Nest` and so on down."""

    @wsrpc.method
    async def nested(self, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + await wsrpc.current().session.clientize(Nest).nested(depth - 1)


@pytest.mark.rule("SLOT-3", "INTEROP-2")
async def test_calls_nested_fifty_deep_in_both_directions_eight_at_a_time_do_not_deadlock(
    codec: Codec,
) -> None:
    results: list[int] = []
    async with pair([Nest()], [Nest()], codec=codec) as (server, client):

        async def down(session: wsrpc.Session) -> None:
            results.append(await session.clientize(Nest).nested(50))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(down, client)
                group.start_soon(down, server)
    assert results == [50] * 8


async def test_the_server_calls_a_client_out_of_the_blue() -> None:
    class Worker:
        @wsrpc.method
        async def work(self, n: int) -> int:
            return n * 2

    with soon():
        server = wsrpc.Server([Gate()])
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, controllers=[Worker()]) as session:
                assert set(server.sessions) == {session.id}
                assert await server.sessions[session.id].clientize(Worker).work(21) == 42
            await until(lambda: not server.sessions)


async def test_a_handler_calls_its_caller_back(codec: Codec) -> None:
    class Guest:
        @wsrpc.method
        async def name(self) -> str:
            return "Ann"

    class Host:
        @wsrpc.method
        async def introduce(self) -> str:
            return f"Hello, {await wsrpc.current().session.clientize(Guest).name()}!"

    async with pair([Host()], [Guest()], codec=codec) as (_, client):
        assert await client.clientize(Host).introduce() == "Hello, Ann!"


# ------------------------------------------------------------------------------------ one way


@pytest.mark.rule("NOTIFY-1")
async def test_a_notification_returns_when_it_is_queued_and_is_delivered_in_order(
    wire: Wire,
) -> None:
    hello = Hello()
    async with pair([hello]) as (_, client):
        proxy = client.clientize(Hello)
        for n in range(5):
            await proxy.log(str(n))
        assert hello.calls == []
        await until(lambda: len(hello.calls) == 5)
        await until(lambda: len(wire.frames("end")) == 5)
    assert sorted(hello.calls) == ["0", "1", "2", "3", "4"]
    assert len(wire.frames("notify")) == 5
    wire.assert_one_terminal_each()


@pytest.mark.rule("NOTIFY-1")
async def test_what_a_notified_method_raises_stays_where_it_was_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pair([Hello()]) as (_, client):
        await client.clientize(Hello).log("bad")
        await until(lambda: "ValueError" in caplog.text)
        assert await client.clientize(Hello).greet("Ann") == "Hello, Ann!"


@pytest.mark.rule("NOTIFY-3")
async def test_a_notified_method_that_is_called_answers_none() -> None:
    hello = Hello()
    async with pair([hello]) as (_, client):
        assert await client.clientize("Hello").log(line="x") is None
        assert hello.calls == ["x"]


# ------------------------------------------------------------------------------------ the call itself


async def test_a_call_is_a_coroutine_to_task_groups() -> None:
    hello = Hello()
    async with pair([hello]) as (_, client):
        proxy = client.clientize(Hello)
        async with anyio.create_task_group() as group:
            group.start_soon(proxy.greet, "Ann")
            group.start_soon(proxy.greet, "Bob", "Hi")
    assert sorted(hello.calls) == ["Ann", "Bob"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_is_a_coroutine_to_asyncio() -> None:
    async with pair([Hello()]) as (_, client):
        proxy = client.clientize(Hello)
        task = asyncio.create_task(proxy.greet("Ann"))
        bob, ann = await asyncio.gather(proxy.greet("Bob"), task)
        assert (bob, ann) == ("Hello, Bob!", "Hello, Ann!")
        assert await asyncio.wait_for(proxy.greet("Cid"), 5) == "Hello, Cid!"


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_call_is_a_coroutine_to_trio() -> None:
    import trio

    hello = Hello()
    async with pair([hello]) as (_, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.clientize(Hello).greet, "Ann")
    assert hello.calls == ["Ann"]


async def test_a_call_that_is_not_awaited_sends_nothing(wire: Wire) -> None:
    async with pair([Hello()]) as (_, client):
        call: Any = client.clientize(Hello).greet("Ann")
        await turns()
        call.close()
    assert not wire.frames("call")


async def test_a_proxy_can_be_made_from_a_bare_name_a_contract_and_a_protocol() -> None:
    from abc import ABC, abstractmethod
    from typing import Protocol

    class HelloProtocol(Protocol):
        controller_name: ClassVar[str] = "Hello"

        @wsrpc.method
        async def greet(self, name: str, greeting: str = "Hello", *, mark: str = "!") -> str: ...

    class HelloInterface(ABC):
        controller_name = "Hello"

        @wsrpc.method
        @abstractmethod
        async def greet(self, name: str) -> str: ...

    contract = wsrpc.Server([Hello()]).contract()["controllers"]["Hello"]
    async with pair([Hello()]) as (_, client):
        assert await client.clientize("Hello").greet(name="Ann") == "Hello, Ann!"
        assert await client.clientize(contract).greet("Ann", "Hi") == "Hi, Ann!"
        assert await client.clientize(HelloProtocol).greet("Ann", mark="?") == "Hello, Ann?"
        assert await client.clientize(HelloInterface).greet("Ann") == "Hello, Ann!"


async def test_a_contract_catches_unknown_methods_and_arguments_before_anything_is_sent(
    wire: Wire,
) -> None:
    contract = wsrpc.Server([Hello()]).contract()["controllers"]["Hello"]
    async with pair([Hello()]) as (_, client):
        hello = client.clientize(contract)
        with pytest.raises(AttributeError, match="did you mean greet"):
            hello.gret  # noqa: B018
        with pytest.raises(TypeError, match="nam"):
            hello.greet(nam="Ann")
        with pytest.raises(TypeError, match="missing"):
            hello.greet()
    assert not wire.frames("call")


async def test_a_call_by_bare_name_is_decided_by_its_use() -> None:
    class Mixed:
        @wsrpc.method
        async def value(self) -> int:
            return 1

        @wsrpc.method
        async def items(self, upto: int) -> AsyncIterator[int]:
            for n in range(upto):
                yield n

        @wsrpc.method
        async def total(self, numbers: AsyncIterator[int]) -> int:
            return sum([n async for n in numbers])

    async with pair([Mixed()]) as (_, client):
        mixed = client.clientize("Mixed")
        assert await mixed.value() == 1
        assert [n async for n in mixed.items(upto=3)] == [0, 1, 2]
        assert await mixed.items(upto=3).collect() == [0, 1, 2]
        assert await mixed.total(numbers=wsrpc.stream_of([1, 2, 3])) == 6


async def test_a_bare_name_takes_arguments_by_keyword_only() -> None:
    async with pair([Hello()]) as (_, client):
        with pytest.raises(TypeError, match="keyword arguments only"):
            client.clientize("Hello").greet("Ann")


async def test_proxies_refuse_private_names() -> None:
    async with pair([Hello()]) as (_, client):
        with pytest.raises(AttributeError):
            client.clientize("Hello")._private  # noqa: B018
        assert not hasattr(client.clientize(Hello), "__wrapped__")


@pytest.mark.rule("REFLECT-1")
async def test_reflection_describes_what_is_exposed(codec: Codec) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        contract = await client.clientize("wsrpc.reflection").describe()
    assert set(contract["controllers"]) == {"Hello"}
    assert contract["controllers"]["Hello"]["methods"]["log"]["kind"] == "notify"


@pytest.mark.rule("CANCEL-1")
async def test_a_call_inside_a_cancelled_scope_is_not_sent_and_harms_nobody(wire: Wire) -> None:
    hello = Hello()
    async with pair([hello]) as (_, client):
        proxy = client.clientize(Hello)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await proxy.greet("Ann")
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await proxy.log("late")
            await checkpoint()
        assert await proxy.greet("Bob") == "Hello, Bob!"


_: Any = anyio.abc


async def test_calls_leave_no_cycles_for_the_garbage_collector() -> None:
    """A cycle a call would have the collector run a hundred times as often."""
    async with pair([Echo()]) as (_, client):
        echo = client.clientize(Echo, timeout=1)
        await echo.model(Person(name="Ann", age=1))
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                await echo.model(Person(name="Ann", age=1))
            unreachable = gc.collect()
        finally:
            gc.enable()
    assert unreachable < 100
