"""What can be exposed, under which names, and that nothing else can be called."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import pytest

import wsrpc
from tests.support import Codec, bare_client, error_of, pair, served, soon, turns, until

T = TypeVar("T")


class Plain:
    secret = "not a method"

    def __init__(self, answer: int = 42) -> None:
        self.answer = answer
        self._private = "hidden"

    @wsrpc.method
    async def ask(self) -> int:
        return self.answer

    async def undecorated(self) -> str:
        return "never"

    @property
    def prop(self) -> str:
        raise AssertionError("looked up")


class Renamed:
    controller_name = "Other"

    @wsrpc.method
    async def ask(self) -> str:
        return "renamed"


class Base:
    @wsrpc.method
    async def inherited(self) -> str:
        return f"base of {type(self).__name__}"

    @wsrpc.method
    async def overridden(self, x: int) -> str:
        return "base"


class Derived(Base):
    @wsrpc.method
    async def overridden(self, x: int) -> str:
        return f"derived, then {await super().overridden(x)}"


@pytest.mark.rule("CALL-2")
async def test_several_controllers_are_told_apart_by_name(codec: Codec) -> None:
    async with pair([Plain(), Renamed(), Derived()], codec=codec) as (_, client):
        assert await client.clientize(Plain).ask() == 42
        assert await client.clientize(Renamed).ask() == "renamed"
        assert await client.clientize("Other").ask() == "renamed"


async def test_methods_are_inherited_and_overridden_as_in_python() -> None:
    async with pair([Derived()]) as (_, client):
        derived = client.clientize(Derived)
        assert await derived.inherited() == "base of Derived"
        assert await derived.overridden(1) == "derived, then base"


async def test_both_sides_expose_controllers() -> None:
    async with pair([Plain(1)], [Plain(2)]) as (server, client):
        assert await client.clientize(Plain).ask() == 1
        assert await server.clientize(Plain).ask() == 2


class Counter:
    """Counts the calls of one instance."""

    made = 0

    def __init__(self) -> None:
        Counter.made += 1
        self.n = 0

    @wsrpc.method
    async def up(self) -> int:
        self.n += 1
        return self.n


async def test_one_instance_serves_all_sessions() -> None:
    async with served([Counter()]) as listener:
        async with wsrpc.connect(listener.url) as one, wsrpc.connect(listener.url) as two:
            assert await one.clientize(Counter).up() == 1
            assert await two.clientize(Counter).up() == 2
            assert await one.clientize(Counter).up() == 3


def make_counter() -> Counter:
    return Counter()


@pytest.mark.parametrize("factory", [Counter, make_counter, functools.partial(Counter)])
async def test_a_class_or_factory_makes_an_instance_for_each_session(factory: Any) -> None:
    async with served([factory]) as listener:
        async with wsrpc.connect(listener.url) as one, wsrpc.connect(listener.url) as two:
            assert await one.clientize(Counter).up() == 1
            assert await two.clientize(Counter).up() == 1
            assert await one.clientize(Counter).up() == 2
            assert await two.clientize(Counter).up() == 2


async def test_a_factory_may_ask_for_the_session() -> None:
    class Knows:
        def __init__(self, session: wsrpc.Session) -> None:
            self.session = session

        @wsrpc.method
        async def session_id(self) -> str:
            assert self.session is wsrpc.current().session
            return self.session.id

    async with served([Knows]) as listener:
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Knows).session_id() == session.id


async def test_a_factory_that_fails_fails_the_call_and_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts: list[int] = []

    def make() -> Counter:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("no database")
        return Counter()

    async with pair([make]) as (_, client):
        with error_of("internal"):
            await client.clientize(Counter).up()
        assert await client.clientize(Counter).up() == 1
    assert "no database" in caplog.text


async def test_static_and_class_methods_can_be_called() -> None:
    class Tools:
        name = "tools"

        @staticmethod
        @wsrpc.method
        async def double(x: int) -> int:
            return 2 * x

        @wsrpc.method
        @staticmethod
        async def triple(x: int) -> int:
            return 3 * x

        @classmethod
        @wsrpc.method
        async def own_name(cls) -> str:
            return cls.name

        @wsrpc.method
        @staticmethod
        def sync(x: int) -> int:
            return -x

    async with pair([Tools()]) as (_, client):
        tools: Any = client.clientize(Tools)
        assert await tools.double(2) == 4
        assert await tools.triple(2) == 6
        assert await tools.own_name() == "tools"
        assert await tools.sync(2) == -2


async def test_a_generic_controller_is_exposed_with_its_argument() -> None:
    class Repo(Generic[T]):
        def __init__(self, items: list[T]) -> None:
            self.items = items

        @wsrpc.method
        async def get(self, index: int) -> T:
            return self.items[index]

    async with pair([Repo[int]([7, 8])]) as (_, client):
        assert await client.clientize(Repo[int]).get(1) == 8


# ------------------------------------------------------------------------------------ threads


class Sync:
    def __init__(self) -> None:
        self.go = threading.Event()

    @wsrpc.method
    def thread(self) -> int:
        return threading.get_ident()

    @wsrpc.method
    def block(self) -> str:
        assert self.go.wait(10)
        return "went"

    @wsrpc.method
    async def let_go(self) -> None:
        self.go.set()

    @wsrpc.method
    def numbers(self, n: int) -> Iterator[int]:
        for i in range(n):
            yield threading.get_ident() if i == 0 else i

    @wsrpc.method
    def ready_made(self, n: int) -> Iterator[int]:
        return iter([threading.get_ident(), *range(1, n)])

    @wsrpc.method
    def who(self) -> str:
        context = wsrpc.current()
        return f"{context.controller}.{context.method}"

    @wsrpc.method
    def through_the_caller(self, n: int) -> int:
        remote = wsrpc.current().session.clientize(Doubler)
        return anyio.from_thread.run(remote.double, n)


class Doubler:
    @wsrpc.method
    async def double(self, n: int) -> int:
        return 2 * n


async def test_a_sync_method_runs_in_a_worker_thread() -> None:
    async with pair([Sync()]) as (_, client):
        assert await client.clientize(Sync).thread() != threading.get_ident()


@pytest.mark.rule("CALL-6")
async def test_a_sync_method_that_blocks_delays_nobody() -> None:
    async with pair([Sync()]) as (_, client):
        sync = client.clientize(Sync)
        answers: list[str] = []

        async def wait() -> None:
            answers.append(await sync.block())

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await sync.let_go()
        assert answers == ["went"]


@pytest.mark.parametrize("method", ["numbers", "ready_made"])
async def test_a_sync_stream_runs_in_a_worker_thread(codec: Codec, method: str) -> None:
    async with pair([Sync()], codec=codec) as (_, client):
        first, *rest = await getattr(client.clientize(Sync), method)(500).collect()
    assert first != threading.get_ident()
    assert rest == list(range(1, 500))


async def test_an_item_of_a_sync_stream_is_not_held_back_by_the_next_one() -> None:
    class Slow:
        @wsrpc.method
        def report(self) -> Iterator[str]:
            yield "starting"
            yield "working"
            assert go.wait(10)
            yield "done"

    go = threading.Event()
    async with pair([Slow()]) as (_, client):
        stream = client.clientize(Slow).report()
        assert await anext(stream) == "starting"
        assert await anext(stream) == "working"
        go.set()
        assert await stream.collect() == ["done"]


@pytest.mark.rule("CREDIT-2")
async def test_a_sync_stream_never_runs_ahead_of_its_consumer_by_more_than_its_credit() -> None:

    class Fast:
        produced = 0

        @wsrpc.method
        def numbers(self) -> Iterator[int]:
            while True:
                yield self.produced
                self.produced += 1

    fast = Fast()
    async with pair([fast], limits=wsrpc.Limits(window=8)) as (_, client):
        async with client.clientize(Fast).numbers() as stream:
            assert await anext(stream) == 0
            await until(lambda: fast.produced == 7)
            await turns(50)
            assert fast.produced == 7
            assert [await anext(stream) for _ in range(100)] == list(range(1, 101))


@pytest.mark.rule("ERROR-2")
async def test_an_error_of_a_sync_stream_comes_after_its_items() -> None:

    class Fails:
        @wsrpc.method
        def after(self, n: int) -> Iterator[int]:
            yield from range(n)
            raise wsrpc.RpcError("aborted", "enough")

    async with pair([Fails()]) as (_, client):
        for n in (0, 1, 32, 100):
            got: list[int] = []
            with error_of("aborted"):
                async for item in client.clientize(Fails).after(n):
                    got.append(item)
            assert got == list(range(n))


async def test_a_sync_method_knows_its_call_and_can_call_back() -> None:
    async with pair([Sync()], [Doubler()]) as (_, client):
        assert await client.clientize(Sync).who() == "Sync.who"
        assert await client.clientize(Sync).through_the_caller(21) == 42


# ------------------------------------------------------------------------------------ names


STRANGE = [
    "Plain.undecorated",
    "Plain._private",
    "Plain.secret",
    "Plain.prop",
    "Plain.answer",
    "Plain.__class__",
    "Plain.__init__",
    "Plain.ask.__call__",
    "Plain.ask.",
    ".ask",
    "Plain.",
    "Plain",
    ".",
    "",
    "plain.ask",
    "Plain.ask ",
    "Hello.__init__",
    "wsrpc.reflection.x",
    "wsrpc.reflection.__class__",
    "wsrpc.reflection._describe",
    "wsrpc.describe",
    "Renamed.ask",
    "a" * 10_000,
    "\u0000.\U0001f600",
]


@pytest.mark.rule("CALL-2", "ERROR-5")
@pytest.mark.parametrize("name", STRANGE, ids=lambda name: repr(name)[:30])
async def test_only_what_is_decorated_can_be_called(codec: Codec, name: str) -> None:
    async with bare_client(wsrpc.Server([Plain(), Renamed()]), codec) as peer:
        await peer.send(["call", 1, name, {}])
        _, id, body = await peer.expect("error")
        assert (id, body["code"]) == (1, "unimplemented")
        assert len(body["data"]["near"]) <= 3
        assert not body.get("not_started")
        await peer.send(["call", 3, "Plain.ask", {}])
        assert await peer.expect("result") == ["result", 3, 42]


@pytest.mark.rule("ERROR-5")
async def test_an_unknown_method_is_answered_with_near_names() -> None:
    async with pair([Plain(), Derived()]) as (_, client):
        with error_of("unimplemented") as caught:
            await client.clientize("Derived").inherrited()
        assert caught.value.data["near"][0] == "Derived.inherited"
        said = caught.value.message
        assert said.startswith(
            "there is no method 'Derived.inherrited' here; did you mean Derived."
        )
        with error_of("unimplemented") as caught:
            await client.clientize("Plan").ask()
        assert caught.value.data["near"] == ["Plain.ask"]
        assert caught.value.message == "there is no method 'Plan.ask' here; did you mean Plain.ask?"
        with error_of("unimplemented") as caught:
            await client.clientize("Zzz").qqq()
        assert caught.value.data["near"] == []
        assert caught.value.message == "there is no method 'Zzz.qqq' here"


@pytest.mark.rule("REFLECT-3")
async def test_reflection_can_be_turned_off() -> None:
    async with served([Plain()], reflection=False) as listener:
        async with wsrpc.connect(listener.url) as session:
            with error_of("unimplemented"):
                await session.clientize("wsrpc.reflection").describe()
            assert await session.clientize(Plain).ask() == 42


async def test_the_client_tells_its_contract_too() -> None:
    with soon():
        server = wsrpc.Server([])
        async with server.listen() as listener:
            async with wsrpc.connect(listener.url, controllers=[Plain()]) as session:
                peer = server.sessions[session.id]
                contract = await peer.clientize("wsrpc.reflection").describe()
                assert set(contract["controllers"]) == {"Plain"}


# ------------------------------------------------------------------------------------ refusals


def test_two_controllers_of_one_name_are_refused() -> None:
    class Also:
        controller_name = "Plain"

        @wsrpc.method
        async def ask(self) -> int:
            return 1

    with pytest.raises(wsrpc.RegistrationError, match="both called 'Plain'"):
        wsrpc.Server([Plain(), Also()])


@pytest.mark.rule("REFLECT-2")
@pytest.mark.parametrize("name", ["wsrpc", "wsrpc.mine", "wsrpcish"])
def test_reserved_names_are_refused(name: str) -> None:

    class Mine:
        controller_name = name

        @wsrpc.method
        async def ask(self) -> int:
            return 1

    with pytest.raises(wsrpc.RegistrationError, match="reserved"):
        wsrpc.Server([Mine()])
    with pytest.raises(wsrpc.RegistrationError, match="reserved"):
        wsrpc.connect("ws://localhost", controllers=[Mine()])


def test_a_parameter_without_annotation_is_refused_by_name() -> None:
    class Bad:
        @wsrpc.method
        async def ask(self, what) -> int:  # type: ignore[no-untyped-def]
            return 1

    with pytest.raises(wsrpc.RegistrationError, match=r"Bad\.ask: parameter 'what'"):
        wsrpc.Server([Bad()])


def test_a_class_without_methods_is_refused() -> None:
    class Empty:
        async def ask(self) -> int:
            return 1

    with pytest.raises(wsrpc.RegistrationError, match="no method decorated"):
        wsrpc.Server([Empty()])


def test_something_that_is_no_list_of_controllers_is_refused() -> None:
    single: Any = Plain()
    with pytest.raises(wsrpc.RegistrationError, match="list of controllers"):
        wsrpc.Server(single)


def test_a_model_that_encodes_bytes_in_its_own_way_is_refused_naming_the_field() -> None:
    from pydantic import BaseModel, ConfigDict

    class Odd(BaseModel):
        model_config = ConfigDict(ser_json_bytes="hex")
        payload: bytes

    class Bad:
        @wsrpc.method
        async def ask(self, odd: Odd) -> None: ...

    with pytest.raises(wsrpc.RegistrationError, match="payload"):
        wsrpc.Server([Bad()])


# ------------------------------------------------------------------------------------ locally


async def test_a_controller_can_be_called_locally_as_it_is_called_remotely() -> None:
    class Local:
        @wsrpc.method
        def plain(self, x: int) -> int:
            return x + 1

        @wsrpc.method
        async def items(self) -> AsyncIterator[int]:
            yield 1
            yield 2

        @wsrpc.method
        def sync_items(self) -> Iterator[int]:
            yield 3

    local = Local()
    assert await local.plain(1) == 2
    assert await local.items().collect() == [1, 2]
    async with local.sync_items() as stream:
        assert [item async for item in stream] == [3]


_: Any = time
