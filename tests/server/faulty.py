"""A server in a process of its own, whose code raises what it is told to, where it is told to.

`python -m tests.server.faulty BACKEND HOW PORT`, where HOW is "listen" or "serve".
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import anyio
from pydantic import BeforeValidator, PlainSerializer

import wsrpc


class Exotic(BaseException):
    """No `Exception`, as some libraries have."""


KINDS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "Exotic": Exotic,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "Group": lambda: BaseExceptionGroup("several", [SystemExit(3), ValueError("another")]),
}

# Where the code raises now, and what.
armed: dict[str, str] = {}


def reach(where: str) -> None:
    """Raise here, once, if that is wanted."""
    kind = armed.pop(where, None)
    if kind is not None:
        raise KINDS[kind]()


def validated(value: Any) -> Any:
    reach("validator")
    return value


def serialized(value: str) -> str:
    reach("serializer")
    return value


Checked = Annotated[str, BeforeValidator(validated)]
Written = Annotated[str, PlainSerializer(serialized)]


async def around(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
    reach("interceptor")
    outcome = await call_next(request)
    reach("interceptor_after")
    return outcome


class Switch:
    """What everybody else uses."""

    @wsrpc.method
    async def arm(self, where: str, kind: str) -> None:
        armed[where] = kind

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"

    @wsrpc.method
    async def ticks(self) -> AsyncIterator[int]:
        n = 0
        while True:
            yield n
            n += 1
            await anyio.sleep(0.02)


class Made:
    """One for each session."""

    def __init__(self) -> None:
        reach("factory")

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"


class Faulty:
    interceptors = (around,)

    @wsrpc.method
    async def coroutine(self) -> str:
        reach("coroutine")
        return "pong"

    @wsrpc.method
    def thread(self) -> str:
        reach("thread")
        return "pong"

    @wsrpc.method
    async def child(self) -> str:
        async def work() -> None:
            reach("child")

        async with anyio.create_task_group() as group:
            group.start_soon(work)
        return "pong"

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        try:
            yield 1
            reach("items")
        finally:
            reach("cleanup")

    @wsrpc.method
    def generator(self) -> Iterator[int]:
        try:
            yield 1
            reach("generator")
        finally:
            reach("generator_cleanup")

    @wsrpc.method
    async def endless(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await anyio.sleep(0.01)
        finally:
            reach("cancelled_cleanup")

    @wsrpc.method
    async def text(self, value: Checked) -> Written:
        return value

    @wsrpc.method
    async def ask(self, fn: Callable[[], Awaitable[str]]) -> str:
        answer = await fn()
        reach("after_callback")
        return answer

    @wsrpc.method
    async def take(self, items: AsyncIterator[int]) -> int:
        async for _ in items:
            reach("upload")
        return 1

    @wsrpc.method
    async def notified(self) -> None:
        reach("notified")

    @wsrpc.method
    def notified_in_thread(self) -> None:
        reach("notified_in_thread")


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
    reach("authenticate")
    return auth


async def authorize(context: wsrpc.CallContext) -> bool:
    if context.controller == "Faulty":
        reach("authorize")
    return True


def on_state(session: wsrpc.Session, change: wsrpc.StateChange) -> None:
    reach(f"on_state_{change.state}")


async def on_connect(session: wsrpc.Session) -> None:
    reach("on_connect")


async def on_disconnect(session: wsrpc.Session) -> None:
    reach("on_disconnect")


class Watching(wsrpc.Observer):
    def call_started(self, call: Any) -> None:
        if call.controller == "Faulty":
            reach("call_started")

    def call_ended(self, call: Any, end: Any) -> None:
        if call.controller == "Faulty":
            reach("call_ended")

    def call_refused(self, call: Any, end: Any) -> None:
        reach("call_refused")

    def items(self, call: Any, direction: Any, count: int) -> None:
        if call.controller == "Faulty":
            reach("observed_items")

    def link_opened(self, handshake: Any) -> None:
        reach("link_opened")

    def link_closed(self, handshake: Any, code: int, reason: str) -> None:
        reach("link_closed")


async def main(how: str, port: int) -> None:
    server = wsrpc.Server(
        [Switch(), Faulty(), Made],
        authenticate=authenticate,
        authorize=authorize,
        on_state=on_state,
        on_connect=on_connect,
        on_disconnect=on_disconnect,
        observers=[Watching()],
        limits=wsrpc.Limits(drain_grace=0.5),
    )
    if how == "serve":
        await server.serve("127.0.0.1", port)
    else:
        async with server.listen("127.0.0.1", port):
            await server.drained_on_signal()


if __name__ == "__main__":
    anyio.run(main, sys.argv[2], int(sys.argv[3]), backend=sys.argv[1])
