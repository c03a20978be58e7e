"""Cases: each is a sentence, the rules that it tests, and a function that raises or returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import anyio

from ..client import connect
from ..interfaces import Session
from .bare_peer import Bare, Codec, Failed, open_bare, same, short
from .service import Interop, Partner, Stats

__all__ = ["PATIENCE", "Case", "Cases", "Failed", "Ground", "equal", "raises", "require"]

# Seconds within which a case is through, or has failed.
PATIENCE = 30.0

# Seconds between two looks at the server's counts.
INTERVAL = 0.01

E = TypeVar("E", bound=Exception)
Run: TypeAlias = Callable[["Ground"], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One thing that holds for every server.

    Attributes:
        title: The behaviour, as a sentence.
        rules: The ids of the rules in protocol.md that say so.
        codec: The only codec for which it makes sense, or None.
        auth: Whether it makes sense only where the server wants credentials.
        run: Raises `Failed`, or anything else, where it does not hold.
    """

    title: str
    rules: tuple[str, ...]
    codec: Codec | None
    auth: bool
    run: Run


class Cases(list[Case]):
    """A list of cases; `@cases("CALL-5")` above a function adds it, titled by its docstring."""

    def __call__(
        self, *rules: str, codec: Codec | None = None, auth: bool = False
    ) -> Callable[[Run], Run]:
        def add(run: Run) -> Run:
            title = " ".join((run.__doc__ or "").split())
            self.append(Case(title, rules, codec, auth, run))
            return run

        return add

    def fitting(self, codec: Codec, auth: str | None) -> list[Case]:
        """The cases that make sense for a codec, and for a server that wants credentials or not."""
        return [
            case
            for case in self
            if case.codec in (None, codec) and (auth is not None or not case.auth)
        ]


class Ground:
    """The server and the connections of a case.

    Attributes:
        url: The server.
        codec: The codec to use.
        auth: The credentials to give, or None.
        session: An open session, on which this side exposes a `Partner`.
        interop: The service, over that session.
        one_session: Whether the service answers in the session in which it is called. Where calls
            are passed on to another session, there is no `parent`: it names a call of its own.
    """

    def __init__(
        self,
        url: str,
        codec: Codec,
        auth: str | None,
        session: Session,
        *,
        one_session: bool = True,
    ) -> None:
        self.one_session = one_session
        self.url = url
        self.codec: Codec = codec
        self.auth = auth
        self.session = session
        self.interop = session.clientize(Interop)

    def parent(self, id: int) -> int | None:
        """The `parent` of a call that the service makes while it handles the call of this id."""
        return id if self.one_session else None

    def connect(self, **options: Any) -> connect:
        """A session of the case's own, like the shared one but for `options`."""
        return connect_as(self.url, self.codec, self.auth, **options)

    def link(self, *, subprotocols: list[str] | None = None) -> Any:
        """A WebSocket on which nothing has been said yet: `async with ….link() as bare`."""
        return open_bare(self.url, self.codec, subprotocols=subprotocols)

    @asynccontextmanager
    async def bare(self, *more: list[Any], **fields: Any) -> AsyncIterator[Bare]:
        """A WebSocket on which both have said hello.

        Args:
            more: Frames to send right after the hello.
            fields: Further fields of the hello.
        """
        async with open_bare(self.url, self.codec) as bare:
            await bare.hello(*more, auth=self.auth, **fields)
            yield bare

    async def stats(self) -> Stats:
        """The server's present counts."""
        return await self.interop.stats()

    async def until(self, holds: Callable[[Stats], bool], what: str) -> None:
        """Wait until the server's counts are as they should be."""
        with anyio.move_on_after(PATIENCE / 2):
            while not holds(await self.stats()):  # noqa: ASYNC110  (the event is in another process)
                await anyio.sleep(INTERVAL)
            return
        raise Failed(f"the server's stats never showed that {what}: {await self.stats()}")


def connect_as(url: str, codec: Codec, auth: str | None, **options: Any) -> connect:
    """A connection as this driver makes it."""
    return connect(url, controllers=[Partner()], codec=codec, auth=auth, reconnect=False, **options)


def require(holds: bool, otherwise: str) -> None:
    """Fail unless something holds."""
    if not holds:
        raise Failed(otherwise)


def equal(actual: Any, expected: Any, what: str = "the answer") -> None:
    """Fail unless two values are the same."""
    if not same(actual, expected):
        raise Failed(f"{what} is {short(actual)}, not {short(expected)}")


@contextmanager
def raises(kind: type[E], what: str) -> Iterator[list[E]]:
    """Fail unless the block raises an exception of this kind, which becomes the list's only item.

    Args:
        kind: The kind.
        what: The trial, for the message.
    """
    caught: list[E] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        return
    raise Failed(f"{what} raised nothing")
