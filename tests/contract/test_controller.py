"""Controllers: what the decorator makes of a method, and what of a class is exposed."""

from __future__ import annotations

import abc
import functools
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import pytest
from pydantic import BaseModel

from wsrpc.contract.controller import interface
from wsrpc.contract.decorator import method
from wsrpc.contract.expose import expose, expose_all
from wsrpc.contract.signature import MethodOptions
from wsrpc.errors import RegistrationError
from wsrpc.stream import Final, Stream

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers

T = TypeVar("T")
K = TypeVar("K")


class Token(BaseModel):
    text: str


class HelloController:
    """Greets people.

    At length.
    """

    def __init__(self, greeting: str = "Hello") -> None:
        self.greeting = greeting

    @method
    async def greet(self, name: str) -> str:
        """Greets one."""
        return f"{self.greeting}, {name}"

    @method
    def shout(self, name: str) -> str:
        return f"{self.greeting}, {name}".upper()

    @method
    async def stream_tokens(self, hello: str) -> AsyncIterator[Token]:
        for text in (self.greeting, hello):
            yield Token(text=text)

    @method
    def letters(self) -> Iterator[str | Final[int]]:
        yield from self.greeting
        yield Final(len(self.greeting))

    @method
    async def looked_up(self) -> AsyncIterator[str]:
        return self.hidden()

    @method
    def forwarded(self) -> AsyncIterator[str]:
        return self.hidden()

    @method(oneway=True)
    async def note(self, text: str) -> None: ...

    @method(idempotent=True, on_disconnect="cancel")
    async def twice(self, n: int) -> int:
        return n * 2

    @method
    @staticmethod
    async def static_inner(n: int) -> int:
        return n

    @staticmethod
    @method
    async def static_outer(n: int) -> int:
        return n

    @method
    @classmethod
    async def class_inner(cls) -> str:
        return cls.__name__

    @classmethod
    @method
    async def class_outer(cls) -> str:
        return cls.__name__

    @method
    async def later(self, thing: Later) -> Later:
        return thing

    async def hidden(self) -> AsyncIterator[str]:
        yield "hidden"


class Later(BaseModel):
    x: int


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(RegistrationError) as caught:
        make()
    return str(caught.value)


# --- Locally ---------------------------------------------------------------------------------------


async def test_a_controller_is_called_locally_as_it_is_remotely() -> None:
    hello = HelloController()
    assert await hello.greet("Ann") == "Hello, Ann"
    assert await hello.shout("Ann") == "HELLO, ANN"
    assert await hello.stream_tokens(hello="x").collect() == [Token(text="Hello"), Token(text="x")]
    assert await hello.looked_up().collect() == ["hidden"]
    assert await hello.forwarded().collect() == ["hidden"]
    assert await hello.twice(2) == 4
    await hello.note("x")
    assert await hello.later(Later(x=1)) == Later(x=1)


async def test_static_and_class_methods_work_in_either_order() -> None:
    for controller in (HelloController(), HelloController):
        assert await controller.static_outer(1) == 1
        assert await controller.class_outer() == "HelloController"
        # Checkers take a method above these for one of the instance; see tests/typing.
        untyped: Any = controller
        assert await untyped.static_inner(1) == 1
        assert await untyped.class_inner() == "HelloController"


async def test_a_local_stream_has_all_that_a_remote_one_has() -> None:
    stream = HelloController("Hi").letters()
    assert isinstance(stream, Stream)
    assert repr(stream) == "<LocalStream HelloController.letters>"
    async with stream:
        assert [letter async for letter in stream] == ["H", "i"]
    assert stream.final == 2


def test_a_coroutine_function_stays_one_and_all_keep_name_and_doc() -> None:
    assert inspect.iscoroutinefunction(HelloController.greet)
    assert HelloController.greet.__doc__ == "Greets one."
    for name in ("greet", "shout", "stream_tokens", "letters", "note"):
        assert getattr(HelloController, name).__name__ == name


# --- The interface ---------------------------------------------------------------------------------


def test_only_decorated_methods_are_exposed_under_the_class_name() -> None:
    described = interface(HelloController)
    assert described.name == "HelloController"
    assert described.doc == "Greets people."
    assert "hidden" not in described.specs
    assert "__init__" not in described.specs
    assert {name: spec.kind for name, spec in described.specs.items()} == {
        "greet": "unary",
        "shout": "unary",
        "stream_tokens": "stream",
        "letters": "stream",
        "looked_up": "stream",
        "forwarded": "stream",
        "note": "notify",
        "twice": "unary",
        "static_inner": "unary",
        "static_outer": "unary",
        "class_inner": "unary",
        "class_outer": "unary",
        "later": "unary",
    }


def test_options_are_kept() -> None:
    specs = interface(HelloController).specs
    assert specs["greet"].options == MethodOptions()
    assert specs["note"].options == MethodOptions(oneway=True)
    assert specs["twice"].options == MethodOptions(idempotent=True, on_disconnect="cancel")


async def test_dispatch_calls_the_undecorated_function() -> None:
    specs = interface(HelloController).specs
    hello = HelloController()
    assert specs["shout"].target(hello)(name="Ann") == "HELLO, ANN"
    assert inspect.isasyncgen(specs["stream_tokens"].target(hello)(hello="x"))
    assert await specs["static_inner"].target(hello)(n=1) == 1
    assert await specs["static_outer"].target(hello)(n=1) == 1
    assert await specs["class_inner"].target(hello)() == "HelloController"
    assert await specs["class_outer"].target(hello)() == "HelloController"


def test_an_interface_is_read_once_and_goes_with_its_class() -> None:
    class Brief:
        @method
        async def ping(self) -> None: ...

    assert interface(Brief) is interface(Brief)
    gone = weakref.ref(interface(Brief))
    del Brief
    gc.collect()
    assert gone() is None


def test_controller_name_renames_and_is_inherited() -> None:
    class Renamed(HelloController):
        controller_name = "Hello"

    class Further(Renamed): ...

    assert interface(Renamed).name == interface(Further).name == "Hello"


def test_a_controller_name_with_a_dot_is_refused() -> None:
    class Dotted(HelloController):
        controller_name = "a.b"

    assert "a string without dots, not 'a.b'" in refusal(lambda: interface(Dotted))


def test_methods_are_inherited_and_overridden() -> None:
    class Loud(HelloController):
        @method
        async def greet(self, name: str, marks: int = 1) -> str:
            return f"{await super().greet(name)}{'!' * marks}"

        @method
        async def more(self) -> None: ...

    specs = interface(Loud).specs
    assert set(specs) == {*interface(HelloController).specs, "more"}
    assert set(specs["greet"].params) == {"name", "marks"}


def test_an_override_left_undecorated_is_refused() -> None:
    class Careless(HelloController):
        async def greet(self, name: str) -> str:
            return name

    assert refusal(lambda: interface(Careless)) == (
        "Careless.greet overrides a method of HelloController without a decorator of its own; put "
        "@wsrpc.method above it"
    )


def passing(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return inner


def test_a_decorator_above_method_is_refused_and_one_below_is_fine() -> None:
    class Above:
        @passing
        @method
        async def greet(self, name: str) -> str:
            return name

    class Below:
        @method
        @passing
        async def greet(self, name: str) -> str:
            return name

    assert "Above.greet has a decorator above @wsrpc.method" in refusal(lambda: interface(Above))
    assert set(interface(Below).specs["greet"].params) == {"name"}


def test_a_class_without_methods_is_refused() -> None:
    class Empty:
        async def greet(self) -> None: ...

    assert "Empty has no method decorated with @wsrpc.method" in refusal(lambda: interface(Empty))
    assert "a controller is a class, not" in refusal(lambda: interface(5))


def test_what_is_no_function_is_refused_by_the_decorator() -> None:
    decorate: Any = method
    for wrong in (5, property(lambda self: 1), HelloController, functools.partial(print)):
        assert "decorates functions, not" in refusal(functools.partial(decorate, wrong))
    assert "twice" in refusal(lambda: decorate(HelloController.greet))
    with pytest.raises(ValueError, match="on_disconnect must be"):
        decorate(on_disconnect="never")


def test_a_refusal_names_controller_method_and_parameter() -> None:
    class Bad:
        @method
        async def greet(self, name) -> str:  # type: ignore[no-untyped-def]
            return str(name)

    assert refusal(lambda: interface(Bad)).startswith("Bad.greet: parameter 'name'")


# --- Annotations -----------------------------------------------------------------------------------


def test_names_local_to_a_function_are_found() -> None:
    class Local(BaseModel):
        x: int

    class Controller:
        class Inner(BaseModel):
            y: int

        @method
        async def swap(self, thing: Local) -> Inner:
            return self.Inner(y=thing.x)

        @method
        def stream(self, thing: Local) -> Iterator[Inner]:
            yield self.Inner(y=thing.x)

    specs = interface(Controller).specs
    assert specs["swap"].params["thing"].annotation is Local
    assert specs["swap"].result is not None
    assert specs["swap"].result.annotation is Controller.Inner
    assert specs["stream"].kind == "stream"


def test_a_frame_is_not_kept_alive_for_its_names() -> None:
    class Big: ...

    def define() -> tuple[type, weakref.ref[Big]]:
        big = Big()

        class Controller:
            @method
            async def ping(self, n: int) -> None: ...

        return Controller, weakref.ref(big)

    _controller, big = define()
    gc.collect()
    assert big() is None


def test_a_name_imported_for_checkers_only_is_refused_naming_it() -> None:
    class Careless:
        @method
        async def pay(self, sum: OnlyForCheckers) -> None: ...

    message = refusal(lambda: interface(Careless))
    assert "Careless.pay: the annotation of parameter 'sum' names 'OnlyForCheckers'" in message
    assert "outside of `if TYPE_CHECKING`" in message


# --- Generic controllers ---------------------------------------------------------------------------


class Repo(Generic[T]):
    def __init__(self) -> None:
        self.kept: list[T] = []

    @method
    async def put(self, item: T) -> int:
        self.kept.append(item)
        return len(self.kept)

    @method
    async def all(self) -> AsyncIterator[T]:
        for item in self.kept:
            yield item


class KeyedRepo(Repo[T], Generic[K, T]):
    @method
    async def get(self, key: K) -> T | None: ...


class TokenRepo(KeyedRepo[str, Token]): ...


def test_a_generic_controller_takes_the_arguments_of_its_alias() -> None:
    numbers, tokens = interface(Repo[int]), interface(Repo[Token])
    assert numbers.name == "Repo"
    assert numbers is interface(Repo[int])
    assert numbers.specs["put"].params["item"].annotation is int
    assert tokens.specs["put"].params["item"].annotation is Token
    item = tokens.specs["all"].item
    assert item is not None
    assert item.annotation is Token


def test_a_subclass_of_a_generic_controller_takes_the_arguments_of_its_bases() -> None:
    specs = interface(TokenRepo).specs
    assert specs["put"].params["item"].annotation is Token
    assert specs["get"].params["key"].annotation is str
    assert specs["get"].result is not None
    assert specs["get"].result.annotation == Token | None


def test_a_generic_controller_without_arguments_is_refused() -> None:
    assert "stands for nothing here" in refusal(lambda: interface(Repo))
    assert "Repo[int]" in refusal(lambda: interface(Repo))


def test_an_instance_remembers_the_alias_that_made_it() -> None:
    assert expose(Repo[int]()).interface is interface(Repo[int])


# --- Protocols and ABCs ----------------------------------------------------------------------------


@runtime_checkable
class HelloApi(Protocol):
    """What can be asked."""

    @method
    async def greet(self, name: str) -> str: ...
    @method
    def tokens(self) -> AsyncIterator[Token]: ...
    @method
    async def count(
        self, lines: AsyncIterator[str], tell: Callable[[int], Awaitable[None]] | None = None
    ) -> int: ...


class AbstractHello(abc.ABC):
    @method
    @abc.abstractmethod
    async def greet(self, name: str) -> str: ...


def test_an_interface_may_be_a_protocol_or_an_abc() -> None:
    assert {name: spec.kind for name, spec in interface(HelloApi).specs.items()} == {
        "greet": "unary",
        "tokens": "stream",
        "count": "unary",
    }
    assert set(interface(AbstractHello).specs) == {"greet"}


def test_reading_a_protocol_adds_no_member_to_it() -> None:
    class Whole:
        async def greet(self, name: str) -> str:
            return name

        def tokens(self) -> AsyncIterator[Token]:
            raise NotImplementedError

        async def count(self, lines: object, tell: object = None) -> int:
            return 0

    interface(HelloApi)
    assert isinstance(Whole(), HelloApi)


def test_an_interface_cannot_be_exposed_itself() -> None:
    assert "implements it" in refusal(lambda: expose(HelloApi))
    assert "implements it" in refusal(lambda: expose(AbstractHello))


# --- Exposing --------------------------------------------------------------------------------------


def test_an_instance_serves_every_session() -> None:
    hello = HelloController()
    exposed = expose(hello)
    assert (exposed.name, exposed.per_session) == ("HelloController", False)
    assert exposed.instance("a") is exposed.instance("b") is hello


def make_hello() -> HelloController:
    return HelloController("made")


class Container:
    def make(self) -> HelloController:
        return HelloController("contained")


@pytest.mark.parametrize(
    "factory",
    [
        HelloController,
        make_hello,
        Container().make,
        functools.partial(HelloController, "partial"),
        functools.partial(make_hello),
    ],
)
def test_a_class_or_factory_makes_one_for_each_session(factory: Any) -> None:
    exposed = expose(factory)
    assert (exposed.name, exposed.per_session) == ("HelloController", True)
    one, other = exposed.instance("a"), exposed.instance("b")
    assert isinstance(one, HelloController)
    assert one is not other


def test_a_factory_with_a_session_parameter_gets_the_session() -> None:
    class Mine(HelloController):
        def __init__(self, session: object) -> None:
            super().__init__(str(session))

    made = expose(Mine).instance("the session")
    assert isinstance(made, Mine)
    assert made.greeting == "the session"


def test_a_generic_class_with_its_argument_is_a_factory() -> None:
    exposed = expose(Repo[int])
    assert exposed.interface is interface(Repo[int])
    assert isinstance(exposed.instance(None), Repo)


class NeedsMore(HelloController):
    def __init__(self, database: str) -> None:
        super().__init__(database)


async def make_async() -> HelloController:
    return HelloController()


def make_untold():  # type: ignore[no-untyped-def]
    return HelloController()


def make_unknown() -> OnlyForCheckers:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("controller", "words"),
    [
        (NeedsMore, "missing a required argument: 'database'"),
        (make_async, "make_async is async; a controller factory is a plain function"),
        (make_untold, "a factory is annotated with the class that it returns"),
        (make_unknown, "names 'OnlyForCheckers', which is not there at run time"),
        (5, "int has no method decorated"),
    ],
)
def test_what_cannot_be_exposed_is_refused_saying_why(controller: Any, words: str) -> None:
    assert words in refusal(lambda: expose(controller))


def test_controllers_are_exposed_by_name() -> None:
    assert set(expose_all([HelloController(), Repo[int]])) == {"HelloController", "Repo"}


def test_two_controllers_of_one_name_are_refused_naming_both_classes() -> None:
    class Other(HelloController):
        controller_name = "HelloController"

    message = refusal(lambda: expose_all([HelloController(), Other()]))
    assert "test_controller.HelloController and " in message
    assert "Other are both called 'HelloController'" in message


def test_names_that_begin_with_wsrpc_are_reserved() -> None:
    class Mine(HelloController):
        controller_name = "wsrpcish"

    assert "'wsrpcish'" in refusal(lambda: expose_all([Mine()]))
    assert set(expose_all([], builtin=[Mine()])) == {"wsrpcish"}


def test_a_single_controller_without_a_list_is_refused() -> None:
    not_a_list: Any = HelloController()
    assert "controllers must be a list" in refusal(lambda: expose_all(not_a_list))


# --- Tags ------------------------------------------------------------------------------------------


class Tagged:
    tags = {"shop"}

    @method(tags={"reader"})
    async def look(self) -> int:
        return 1

    @method
    async def enter(self) -> int:
        return 1


class TaggedBelow(Tagged):
    tags = {"branch"}
    controller_name = "Elsewhere"

    @method
    async def look(self) -> int:
        return 2

    @method(tags={"admin"})
    async def enter(self) -> int:
        return 2


def test_roles_without_a_table() -> None:
    specs = interface(Tagged).specs
    assert specs["look"].tags == {"shop", "reader"}
    assert specs["enter"].tags == {"shop"}


def test_a_subclass_keeps_the_tags_of_what_it_overrides() -> None:
    specs = interface(TaggedBelow).specs
    assert specs["look"].tags == {"shop", "branch", "reader"}
    assert specs["enter"].tags == {"shop", "branch", "admin"}


def test_a_method_called_tags_is_none() -> None:
    class Blog:
        @method
        async def tags(self) -> list[str]:
            return []

    assert interface(Blog).specs["tags"].tags == frozenset()


@pytest.mark.parametrize("wrong", ["admin", {"admin": True}, [1], {""}, 5])
def test_tags_that_are_no_set_of_strings_are_refused(wrong: Any) -> None:
    assert "tags must be" in refusal(lambda: method(tags=wrong))

    class Wrong:
        tags = wrong

        @method
        async def look(self) -> int:
            return 1

    assert refusal(lambda: interface(Wrong)).startswith("Wrong.tags: ")


@pytest.mark.parametrize("wrong", ["Quota", RegistrationError, [ValueError], [1], 5])
def test_what_is_no_error_class_cannot_be_raised_by_a_method(wrong: Any) -> None:
    assert "raises must" in refusal(lambda: method(raises=wrong))
