"""What both type checkers must infer. Read by test_typing.py, and never run."""

from __future__ import annotations

import abc
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, assert_type

import anyio
from pydantic import BaseModel, JsonValue

import wsrpc
from wsrpc import Final, Session, Stream, Tracked, method, stream_of

T = TypeVar("T")


class Token(BaseModel):
    message: str


@dataclass
class Usage:
    tokens: int


class HelloController:
    def __init__(self, greeting: str = "Hello") -> None:
        self.greeting = greeting

    # Streams that go on.

    @method
    async def tracked(self) -> AsyncIterator[Tracked[Token]]:
        yield Tracked("1", Token(message=""))

    @method(idempotent=True)
    async def tracked_final(self) -> AsyncIterator[Tracked[int] | Final[Usage]]:
        yield Tracked("1", 1)

    # One value.

    @method
    async def greet(self, name: str, times: int = 1) -> Token:
        raise NotImplementedError

    @method
    async def nothing(self) -> None:
        raise NotImplementedError

    @method
    async def optional(self) -> Token | None:
        raise NotImplementedError

    @method
    async def anything(self) -> object:
        raise NotImplementedError

    @method
    async def keyed(self, given: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    @method
    async def listed(self) -> list[Token]:
        raise NotImplementedError

    @method
    def sync(self, n: int) -> str:
        raise NotImplementedError

    @method
    def sync_list(self) -> list[int]:
        raise NotImplementedError

    @method
    def sync_none(self) -> None:
        raise NotImplementedError

    @method
    def awaitable(self) -> Coroutine[Any, Any, Token]:
        raise NotImplementedError

    # Streams.

    @method
    async def tokens(self, hello: str) -> AsyncIterator[Token]:
        yield Token(message=hello)

    @method
    async def full_generator(self) -> AsyncGenerator[Token, None]:
        yield Token(message="")

    @method
    def iterable(self) -> AsyncIterable[Token]:
        raise NotImplementedError

    @method
    async def awaited(self) -> AsyncIterator[Token]:
        return stream_of([Token(message="")])

    @method
    def sync_tokens(self) -> Iterator[Token]:
        yield Token(message="")

    @method
    def sync_generator(self) -> Generator[int, None, None]:
        yield 1

    @method
    async def falsy(self) -> AsyncIterator[Token | str | None]:
        yield None

    # Streams that end with a value.

    @method
    async def with_final(self) -> AsyncIterator[Token | Final[Usage]]:
        yield Final(Usage(1))

    @method
    async def awaited_final(self) -> AsyncIterator[Token | Final[Usage]]:
        return self.with_final_inner()

    @method
    def sync_final(self) -> Iterator[int | Final[str]]:
        yield Final("")

    async def with_final_inner(self) -> AsyncIterator[Token | Final[Usage]]:
        yield Final(Usage(1))

    # Uploads, both ways, callbacks.

    @method
    async def count(self, lines: AsyncIterator[str]) -> int:
        raise NotImplementedError

    @method
    async def chat(self, said: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in said:
            yield line

    @method
    async def maybe(self, lines: AsyncIterator[str] | None = None) -> int:
        raise NotImplementedError

    @method
    async def build(self, on_progress: Callable[[Usage], Awaitable[None]]) -> Token:
        raise NotImplementedError

    # Options.

    @method(oneway=True)
    async def note(self, text: str) -> None:
        raise NotImplementedError

    @method(oneway=True)
    def sync_note(self, text: str) -> None:
        raise NotImplementedError

    @method(idempotent=True)
    async def twice(self, n: int) -> int:
        raise NotImplementedError

    @method(on_disconnect="cancel")
    async def watched(self) -> AsyncIterator[int]:
        yield 1

    @method(idempotent=True, on_disconnect="detach")
    async def watched_final(self) -> AsyncIterator[int | Final[str]]:
        yield 1

    @method(idempotent=True)
    def sync_options(self) -> int:
        raise NotImplementedError

    # Not of an instance.

    @staticmethod
    @method
    async def static(n: int) -> int:
        raise NotImplementedError

    @classmethod
    @method
    async def of_class(cls, n: int) -> str:
        raise NotImplementedError

    @staticmethod
    @method
    async def static_stream(n: int) -> AsyncIterator[int]:
        yield n


async def values(session: Session) -> None:
    hello = session.clientize(HelloController)
    assert_type(hello, HelloController)
    assert_type(await hello.greet("Ann"), Token)
    assert_type(await hello.greet(name="Ann", times=2), Token)
    assert_type(await hello.nothing(), None)
    assert_type(await hello.optional(), Token | None)
    assert_type(await hello.anything(), object)
    assert_type(await hello.keyed({}), dict[str, Any])
    assert_type(await hello.listed(), list[Token])
    assert_type(await hello.sync(1), str)
    assert_type(await hello.sync_list(), list[int])
    assert_type(await hello.sync_none(), None)
    assert_type(await hello.awaitable(), Token)


async def streams(session: Session) -> None:
    hello = session.clientize(HelloController)
    assert_type(hello.tokens("x"), Stream[Token])
    async for token in hello.tokens(hello="x"):
        assert_type(token, Token)
    async with hello.tokens("x") as stream:
        assert_type(stream, Stream[Token])
        assert_type(await anext(stream), Token)
    assert_type(await hello.tokens("x").collect(), list[Token])
    async for tracked in hello.tracked():
        assert_type(tracked, Tracked[Token])
        assert_type(tracked.id, str)
        assert_type(tracked.value, Token)
    assert_type(hello.tracked_final(), Stream[Tracked[int], Usage])
    assert_type(hello.tokens("x").final, None)
    hello.tokens("x").cancel()
    await hello.tokens("x").aclose()
    assert_type(hello.full_generator(), Stream[Token])
    assert_type(hello.iterable(), Stream[Token])
    assert_type(hello.awaited(), Stream[Token])
    assert_type(hello.sync_tokens(), Stream[Token])
    assert_type(hello.sync_generator(), Stream[int])
    assert_type(hello.falsy(), Stream[Token | str | None])


async def final_values(session: Session) -> None:
    hello = session.clientize(HelloController)
    stream = hello.with_final()
    assert_type(stream, Stream[Token, Usage])
    async for token in stream:
        assert_type(token, Token)
    assert_type(stream.final, Usage)
    assert_type(hello.awaited_final(), Stream[Token, Usage])
    assert_type(hello.sync_final(), Stream[int, str])


async def uploads_and_callbacks(session: Session) -> None:
    hello = session.clientize(HelloController)

    async def progress(usage: Usage) -> None: ...

    assert_type(await hello.count(stream_of(["a"])), int)
    assert_type(hello.chat(stream_of(["a"])), Stream[str])
    assert_type(await hello.maybe(), int)
    assert_type(await hello.maybe(lines=None), int)
    assert_type(await hello.count(hello.chat(stream_of(["a"]))), int)
    assert_type(await hello.build(progress), Token)


async def options(session: Session) -> None:
    hello = session.clientize(HelloController, timeout=None, metadata={"a": "b"})
    assert_type(await hello.note("x"), None)
    assert_type(await hello.sync_note("x"), None)
    assert_type(await hello.twice(2), int)
    assert_type(hello.watched(), Stream[int])
    assert_type(hello.watched_final(), Stream[int, str])
    assert_type(await hello.sync_options(), int)


async def of_no_instance(session: Session) -> None:
    hello = session.clientize(HelloController)
    assert_type(await hello.static(1), int)
    assert_type(await hello.of_class(1), str)
    assert_type(hello.static_stream(1), Stream[int])
    assert_type(await HelloController.static(1), int)
    assert_type(await HelloController.of_class(1), str)


async def tasks(session: Session) -> None:
    hello = session.clientize(HelloController)
    async with anyio.create_task_group() as group:
        group.start_soon(hello.greet, "Ann")
        group.start_soon(hello.sync, 1)


async def locally() -> None:
    hello = HelloController()
    assert_type(await hello.greet("Ann"), Token)
    assert_type(await hello.sync(1), str)
    assert_type(hello.tokens("x"), Stream[Token])
    assert_type(hello.sync_final().final, str)


# --- Interfaces ------------------------------------------------------------------------------------


class HelloProtocol(Protocol):
    @method
    async def greet(self, name: str) -> Token: ...
    @method
    def tokens(self, hello: str) -> AsyncIterator[Token]: ...


class HelloAbc(abc.ABC):
    @method
    @abc.abstractmethod
    async def greet(self, name: str) -> Token: ...


class Implementation(HelloProtocol):
    @method
    async def greet(self, name: str) -> Token:
        return Token(message=name)

    @method
    async def tokens(self, hello: str) -> AsyncIterator[Token]:
        yield Token(message=hello)


class Narrower(HelloController):
    @method
    async def greet(self, name: str, times: int = 1, loud: bool = False) -> Token:
        return await super().greet(name, times)

    @method
    def tokens(self, hello: str) -> Iterator[Token]:
        yield Token(message=hello)


async def interfaces(session: Session) -> None:
    by_protocol = session.clientize(HelloProtocol)
    assert_type(by_protocol, HelloProtocol)
    assert_type(await by_protocol.greet("x"), Token)
    assert_type(by_protocol.tokens("x"), Stream[Token])
    by_abc = session.clientize(HelloAbc)
    assert_type(await by_abc.greet("x"), Token)
    implementation: HelloProtocol = Implementation()
    assert_type(implementation.tokens("x"), Stream[Token])


class Repo(Generic[T]):
    @method
    async def put(self, item: T) -> int:
        raise NotImplementedError

    @method
    async def all(self) -> AsyncIterator[T]:
        raise NotImplementedError
        yield


async def generics(session: Session) -> None:
    repo = session.clientize(Repo[Token])
    assert_type(repo, Repo[Token])
    assert_type(await repo.put(Token(message="")), int)
    assert_type(repo.all(), Stream[Token])


class Values(Protocol):
    @method
    async def echo(self, value: JsonValue) -> JsonValue: ...
    @method
    def many(self, value: object) -> AsyncIterator[object]: ...


async def overflow(session: Session) -> None:
    hello = session.clientize(HelloController, overflow="latest", window=8)
    assert_type(hello, HelloController)
    stream = hello.tokens("x")
    assert_type((stream.lag, stream.dropped), tuple[int, int])
    session.clientize(HelloController, overflow="block")
    session.clientize(HelloProtocol, overflow="drop_oldest")
    assert_type(session.clientize("HelloController", overflow="fail"), Any)


async def open_types(session: Session, contract: Mapping[str, Any]) -> None:
    values = session.clientize(Values)
    assert_type(values.many(1), Stream[object])
    assert_type(session.clientize("HelloController"), Any)
    assert_type(session.clientize(contract), Any)


class User:
    name: str = ""


async def principals() -> None:
    assert_type(wsrpc.current().principal, Any)
    assert_type(wsrpc.current(User).principal, User)
    assert_type(wsrpc.current(User).principal.name, str)
    assert_type(wsrpc.current().tags, frozenset[str])


class Quota(wsrpc.RpcError[int], replace=True):
    pass


class Documented:
    tags = {"shop"}

    @method(tags={"admin"}, raises=[Quota], deprecated="use b")
    async def a(self, n: int) -> str:
        return ""

    @method(tags=["admin"], oneway=True)
    async def b(self, n: int) -> None: ...


async def documented(session: Session) -> None:
    proxy = session.clientize(Documented)
    assert_type(await proxy.a(1), str)
    assert_type(await proxy.b(1), None)
