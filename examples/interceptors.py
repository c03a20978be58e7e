"""Code around calls: permissions, translated errors, durations.

An interceptor is an async function of a request and the way on. One type fits both ends, single
values and streams; a server, a controller, a session and a proxy each take a list of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from typing import Any

import anyio

import wsrpc

ROLES = {"ann's token": {"reader", "admin"}, "bob's token": {"reader"}}


async def check_role(request: wsrpc.Request, call_next: wsrpc.Next, /) -> Any:
    """Most interceptors are as short as this: look, then go on or raise."""
    if not request.tags & request.session.principal:
        # This also refuses a method without tags, such as one whose tags were forgotten.
        roles = " or ".join(f"{tag}s" for tag in sorted(request.tags)) or "nobody"
        raise wsrpc.RpcError("permission_denied", f"{request.method} is for {roles}")
    return await call_next(request)


def around(guard: Callable[[wsrpc.Request], AbstractContextManager[None]]) -> wsrpc.Interceptor:
    """Make an interceptor of a context manager: it is entered around each call.

    For a stream, `call_next` returns an async iterator that has not begun: that one is wrapped.
    """

    async def interceptor(request: wsrpc.Request, call_next: wsrpc.Next, /) -> Any:
        if request.kind == "stream":
            return guarded(request, await call_next(request))
        with guard(request):
            return await call_next(request)

    async def guarded(request: wsrpc.Request, items: Any) -> AsyncIterator[Any]:
        with guard(request):
            async with aclosing(items):
                async for item in items:
                    yield item

    return interceptor


@around
@contextmanager
def map_errors(request: wsrpc.Request) -> Iterator[None]:
    """Exceptions of methods become errors that callers can act on."""
    try:
        yield
    except KeyError as error:
        raise wsrpc.RpcError("not_found", f"there is no {error}") from error


@around
@contextmanager
def timing(request: wsrpc.Request) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        milliseconds = 1000 * (time.perf_counter() - begin)
        print(f"  {request.direction} {request.method}: {milliseconds:.2f} ms")


class Shop:
    interceptors = [map_errors]
    prices = {"apple": 3, "pear": 4}

    @wsrpc.method(tags={"reader"})
    async def price(self, fruit: str) -> int:
        return self.prices[fruit]

    @wsrpc.method(tags={"reader"})
    async def price_list(self, fruits: list[str]) -> AsyncIterator[int]:
        for fruit in fruits:
            yield self.prices[fruit]

    @wsrpc.method(tags={"admin"})
    async def set_price(self, fruit: str, price: int) -> None:
        self.prices = {**self.prices, fruit: price}


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> set[str]:
    """A client shows a token; the result is the session's principal."""
    return ROLES[auth]


async def main() -> list[str]:
    """Returns the errors that the clients met."""
    seen: list[str] = []
    server = wsrpc.Server([Shop()], authenticate=authenticate, interceptors=[timing, check_role])
    async with server.listen() as listener:
        for token in ROLES:
            async with wsrpc.connect(listener.url, auth=token, interceptors=[timing]) as session:
                shop = session.clientize(Shop)
                try:
                    print(f"with {token}:")
                    await shop.set_price("plum", 2)
                    async for price in shop.price_list(["pear", "plum", "melon"]):
                        print(f"  one for {price}")
                except wsrpc.RpcError as error:
                    print(f"  {error}")
                    seen.append(str(error))
    return seen


if __name__ == "__main__":
    anyio.run(main)
