"""Who may call what: a role a method, and one function that decides about every call.

`authorize=` is asked before each call begins, on new and resumed sessions alike. What a method needs
stands where the method is; how it is looked up is up to you, and this is one way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

import wsrpc

F = TypeVar("F", bound=Callable[..., Any])

_needed: dict[str, str] = {}


def requires(role: str) -> Callable[[F], F]:
    """Decorate a method with the role that its callers must have."""

    def remember(fn: F) -> F:
        _needed[fn.__qualname__] = role
        return fn

    return remember


@dataclass(frozen=True)
class User:
    name: str
    roles: frozenset[str]


USERS = {
    "ann's token": User("ann", frozenset({"reader", "admin"})),
    "bob's token": User("bob", frozenset({"reader"})),
}


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
    """Who comes in, and for how long; what is not in the table raises, which refuses."""
    return wsrpc.Grant(USERS[auth], expires_in=3600)


async def authorize(call: wsrpc.CallContext) -> bool:
    """Methods that need nothing are for everybody who came in."""
    role = _needed.get(f"{call.controller}.{call.method}")
    return role is None or role in call.principal.roles


class Shop:
    def __init__(self) -> None:
        self.prices = {"apple": 3}

    @wsrpc.method
    async def price(self, fruit: str) -> int:
        return self.prices[fruit]

    @wsrpc.method
    @requires("admin")
    async def set_price(self, fruit: str, price: int) -> None:
        self.prices[fruit] = price


async def main() -> list[str]:
    """Returns what came of each attempt to change a price."""
    seen: list[str] = []
    server = wsrpc.Server([Shop()], authenticate=authenticate, authorize=authorize)
    async with server.listen() as listener:
        for token, user in USERS.items():
            async with wsrpc.connect(listener.url, auth=token) as session:
                shop = session.clientize(Shop)
                try:
                    await shop.set_price("apple", len(seen))
                    seen.append("changed")
                except wsrpc.RpcError as error:
                    seen.append(error.code)
                print(f"{user.name}: {seen[-1]}; an apple is {await shop.price('apple')}")
    return seen


if __name__ == "__main__":
    anyio.run(main)
