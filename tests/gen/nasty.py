"""Controllers with everything that a contract may hold."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

from pydantic import AnyUrl, BaseModel, ConfigDict, Field, JsonValue, RootModel
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

import wsrpc

T = TypeVar("T")


class Color(enum.StrEnum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str
    tricks: list[str] = []


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Tree(BaseModel):
    value: int
    children: list[Tree] = []
    parent_note: str | None = None


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None = Field(default=None, description="Cursor */ of the next page.\nSecond line.")


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)
    user_name: str


class Entry(TypedDict):
    a: int
    b: NotRequired[str]


@dataclass
class Point:
    x: float
    y: float = 0


class Pair(NamedTuple):
    x: int
    y: str = "a"


class Matrix(RootModel[list[list[float]]]):
    pass


class Odd(BaseModel):
    class_: int = Field(alias="class")
    dashed: str = Field(alias="a-b")
    when: dt.datetime
    day: dt.date
    for_: dt.timedelta = Field(alias="for")
    id: uuid.UUID
    money: decimal.Decimal
    url: AnyUrl
    blob: bytes
    maybe: bytes | None = None
    anything: Any = None
    json_: JsonValue = None
    fixed: tuple[int, str]
    open: tuple[int, ...]
    by_id: dict[uuid.UUID, Color]
    by_color: dict[Color, int]
    free: dict[str, Any]
    uniq: set[int]
    level: Level
    either: int | str | None
    lit: Literal["a", 1, True, None]
    text: Annotated[str, Field(pattern="^a", min_length=1)] = "a"
    real: float = 1.0


class Nasty:
    """All of it."""

    @wsrpc.method
    async def hello(self, name: str = "world", *, loud: bool = False) -> str:
        """Greet.

        Args:
            name: The person to greet.
        """
        return name.upper() if loud else name

    @wsrpc.method
    async def pets(self, pet: Pet, many: list[Pet] | None = None) -> Pet | None:
        return pet

    @wsrpc.method
    async def tree(self, tree: Tree) -> Tree:
        return tree

    @wsrpc.method
    async def page(self, size: int) -> Page[Cat]:
        return Page[Cat](items=[Cat()] * size)

    @wsrpc.method
    async def page_of_pages(self) -> Page[Page[int]]:
        return Page[Page[int]](items=[])

    @wsrpc.method
    async def odd(self, odd: Odd) -> Odd:
        return odd

    @wsrpc.method
    async def shapes(
        self, entry: Entry, point: Point, pair: Pair, matrix: Matrix, extra: Extra, strict: Strict
    ) -> Strict:
        return strict

    @wsrpc.method
    async def stream_tokens(self, hello: str) -> AsyncIterator[str]:
        yield hello

    @wsrpc.method
    async def with_final(self, n: int) -> AsyncIterator[Entry | wsrpc.Final[Tree]]:
        yield {"a": n}
        yield wsrpc.Final(Tree(value=n))

    @wsrpc.method
    async def feed(self) -> AsyncIterator[wsrpc.Tracked[Cat]]:
        yield wsrpc.Tracked("1", Cat())

    @wsrpc.method
    async def upload(
        self,
        file: AsyncIterator[bytes],
        on_progress: Callable[[int, Color], Awaitable[bool]],
        more: AsyncIterator[Pet] | None = None,
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None: ...

    @wsrpc.method
    async def download(self, path: str) -> AsyncIterator[bytes]:
        yield path.encode()

    @wsrpc.method(oneway=True)
    async def log(self, line: str) -> None: ...

    @wsrpc.method(idempotent=True)
    async def getURL2(self) -> bytes:
        return b"\x00"

    @wsrpc.method
    async def maybe_bytes(self) -> bytes | None:
        return None

    @wsrpc.method
    async def v2_list_x1(self, then: int = 3) -> list[Color]:
        return [Color.RED] * then

    @wsrpc.method
    async def then(self) -> int:
        return 1


class Other:
    @wsrpc.method
    async def color(self) -> Color:
        return Color.RED


controllers = [Nasty(), Other()]
