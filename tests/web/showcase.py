"""What the explorer's tests explore: each kind of method, each kind of form.

By hand: `python -m wsrpc serve tests.web.showcase:server`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Literal

import anyio
from pydantic import BaseModel, Field

import wsrpc
from wsrpc.interop.service import Interop

WORDS = (
    "The tide comes in slowly over the flats, and with it a thin light. Gulls stand about as if "
    "waiting for a ferry. Nothing is in a hurry. A boy with a bucket counts what he finds, aloud, "
    "to nobody."
)
TEXT = [f"{word} " for word in WORDS.split()]


class Token(BaseModel):
    """One piece of text."""

    index: int
    text: str


class Prompt(BaseModel):
    """What to write about."""

    topic: str = Field(description="What to write about.", examples=["the sea at dawn"])
    tone: Literal["calm", "curious", "grand"] = "calm"
    words: Annotated[int, Field(ge=1, le=500)] = 60
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    seed: int | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Node(BaseModel):
    """A tree."""

    name: str
    left: Node | None = None
    children: list[Node] = []


class Login(BaseModel):
    user: str
    password: Annotated[str, Field(json_schema_extra={"format": "password", "writeOnly": True})]


class Page:
    """What the server may ask of the page."""

    @wsrpc.method
    async def ask(self, question: str) -> bool:
        """Whether it may."""
        raise NotImplementedError

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        """Tell the page something."""


class Writer:
    """Writes, streams and asks back."""

    @wsrpc.method
    async def greet(self, name: str) -> str:
        """Greet one person by name.

        The greeting is in English, whoever asks.
        """
        return f"Hello, {name}!"

    @wsrpc.method
    async def stream_tokens(self, prompt: Prompt) -> AsyncIterator[Token]:
        """Write about a topic, a word at a time. Stop it whenever you like."""
        for i in range(prompt.words):
            yield Token(index=i, text=TEXT[i % len(TEXT)])
            await anyio.sleep(0.06)

    @wsrpc.method
    async def import_file(
        self, file: AsyncIterator[bytes], on_progress: Callable[[int], Awaitable[None]]
    ) -> dict[str, int | str]:
        """Take a file in pieces; tells how much has come."""
        digest, n = hashlib.sha256(), 0
        async for piece in file:
            digest.update(piece)
            n += len(piece)
            await on_progress(n)
        return {"bytes": n, "sha256": digest.hexdigest()}

    @wsrpc.method
    async def delete_everything(self) -> str:
        """Asks the page first whether it may."""
        page = wsrpc.current().session.clientize(Page)
        return "deleted" if await page.ask("Delete everything?") else "kept"

    @wsrpc.method
    async def tell(self, text: str) -> None:
        """Tells the page something, without waiting for an answer."""
        await wsrpc.current().session.clientize(Page).note(text)

    @wsrpc.method
    async def quota(self, user: str) -> int:
        """Always fails, with data."""
        raise wsrpc.RpcError("resource_exhausted", "the disk is full", {"free": 0, "user": user})


class Forms:
    """Each kind of form."""

    @wsrpc.method
    async def pets(self, pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]) -> int:
        """A list of one of two."""
        return len(pets)

    @wsrpc.method
    async def tree(self, root: Node) -> Node:
        """A model that holds itself."""
        return root

    @wsrpc.method
    async def scores(self, scores: dict[str, int], strict: bool = True) -> dict[str, int]:
        """By name."""
        return scores if strict else {}

    @wsrpc.method
    async def point(self, at: tuple[int, int], note: str | None = None) -> str:
        """A pair, and a note that may be null."""
        return f"{at} {note!r}"

    @wsrpc.method
    async def login(self, login: Login) -> str:
        """A secret."""
        return f"{login.user}: {len(login.password)} characters"

    @wsrpc.method
    async def logins(self, logins: list[Login | None]) -> int:
        """Many secrets."""
        return len(logins)

    @wsrpc.method
    async def digest(self, data: bytes) -> str:
        """Bytes as an argument."""
        return hashlib.sha256(data).hexdigest()[:8]

    @wsrpc.method
    async def anything(self, value: object) -> object:
        """Any JSON value."""
        return value

    @wsrpc.method
    async def large(self, n: int = 1000) -> list[dict[str, int]]:
        """Many lines."""
        return [{"line": i, "square": i * i} for i in range(n)]

    @wsrpc.method
    async def picture(self, size: int = 300) -> bytes:
        """Bytes."""
        return bytes(i % 256 for i in range(size))


server = wsrpc.Server([Writer(), Forms(), Interop()])
