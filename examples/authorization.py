"""Permissions: tags on methods, and one function that decides about every call.

`authorize=` is asked before each call begins, on new and resumed sessions alike. A method names its
roles as tags. A method without tags is closed, so that a forgotten one lets no caller in, and a
subclass keeps the tags of methods that it overrides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio

import wsrpc


@dataclass(frozen=True)
class User:
    name: str
    roles: frozenset[str]


USERS = {
    "ann's token": User("ann", frozenset({"reader", "admin"})),
    "bob's token": User("bob", frozenset({"reader"})),
}


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
    """The principal of a token, and its expiry; raises for an unknown token, to refuse it."""
    return wsrpc.Grant(USERS[auth], expires_in=3600)


async def authorize(call: wsrpc.CallContext) -> bool:
    """A caller needs one of the roles that the method names; "anyone" is for all callers."""
    return "anyone" in call.tags or bool(call.tags & call.principal.roles)


class Shop:
    def __init__(self) -> None:
        self.prices = {"apple": 3}

    @wsrpc.method(tags={"anyone"})
    async def price(self, fruit: str) -> int:
        return self.prices[fruit]

    @wsrpc.method(tags={"admin"})
    async def set_price(self, fruit: str, price: int) -> None:
        user = wsrpc.current(User).principal
        print(f"{user.name} sets the price of {fruit}")
        self.prices[fruit] = price


async def main() -> list[str]:
    """Returns the outcome of each attempt to change a price."""
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
