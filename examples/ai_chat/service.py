"""The server's side: users, their roles, and the chat itself."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from pydantic import BaseModel

import wsrpc

# Seconds for which a token holds.
LIFETIME = 60.0

# Cents that a token of the model costs.
PRICE = 0.002

# ------------------------------------------------------------------------- users


@dataclass(frozen=True)
class User:
    """A person with an account.

    Attributes:
        name: The person's name.
        roles: The tags of methods that the person may call.
    """

    name: str
    roles: frozenset[str]


USERS = {
    "ann": User("ann", frozenset({"chat", "admin"})),
    "bob": User("bob", frozenset({"chat"})),
}

SECRET = secrets.token_bytes(32)


class Tokens:
    """Makes tokens, and knows its own again; an application would use a library for JWT.

    Args:
        lifetime: Seconds for which a token holds.
    """

    def __init__(self, lifetime: float = LIFETIME) -> None:
        self.lifetime = lifetime

    def for_page(self, query: Mapping[str, str]) -> dict[str, Any] | None:
        """The answer to `GET /token?as=ann`; a real page would ask for a password once."""
        name = query.get("as", "ann")
        if name not in USERS:
            return None
        text = f"{name}.{time.time() + self.lifetime}"
        return {"token": f"{text}.{_signature(text)}", "expires_in": self.lifetime}

    async def authenticate(self, handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
        """Asked for each connection, and for fresh tokens that come over one."""
        text, _, signature = auth.rpartition(".") if isinstance(auth, str) else ("", "", "")
        if not hmac.compare_digest(signature, _signature(text)):
            raise wsrpc.RpcError("unauthenticated", "no token of ours")
        name, _, until = text.partition(".")
        left = float(until) - time.time()
        if left <= 0:
            raise wsrpc.RpcError("unauthenticated", "the token has expired")
        return wsrpc.Grant(USERS[name], expires_in=left, key=name)


def _signature(text: str) -> str:
    return hmac.digest(SECRET, text.encode(), hashlib.sha256).hex()


async def authorize(call: wsrpc.CallContext[User]) -> bool:
    """The tags of a method are the roles that it needs."""
    return call.tags <= call.principal.roles


# ---------------------------------------------------------------- the chat


class Token(BaseModel):
    """A piece of an answer."""

    text: str


class Usage(BaseModel):
    """The cost of an answer.

    Attributes:
        tokens: Tokens that the model has made.
        cents: Their cost.
    """

    tokens: int
    cents: float


class Person:
    """The methods that pages and terminals offer to the server."""

    @wsrpc.method
    async def approve(self, action: str) -> bool:
        """Whether the person allows an action."""
        raise NotImplementedError


class Assistant:
    """The chat. One of these serves each session.

    Args:
        bill: Tokens by user, of all sessions.
    """

    def __init__(self, bill: dict[str, int]) -> None:
        self._bill = bill

    @wsrpc.method(tags={"chat"})
    async def ask(self, question: str) -> AsyncIterator[Token | wsrpc.Final[Usage]]:
        """Answer, a token at a time; the final value is the cost of the answer."""
        user = wsrpc.current(User).principal
        person = wsrpc.current().session.clientize(Person, timeout=None)
        answer = Model(question)
        try:
            async for piece in answer:
                if isinstance(piece, Action):
                    answer.allowed = await person.approve(piece.what)
                else:
                    yield Token(text=piece)
        finally:
            # This runs after Stop too: the tokens that the model has made are paid for.
            self._bill[user.name] = self._bill.get(user.name, 0) + answer.made
            print(f"{user.name}: {answer.made} tokens", flush=True)
        yield wsrpc.Final(Usage(tokens=answer.made, cents=answer.made * PRICE))

    @wsrpc.method(tags={"admin"}, idempotent=True)
    async def bill(self) -> dict[str, int]:
        """Tokens by user; for administrators."""
        return self._bill


# ------------------------------------------------------------------------------ the model


@dataclass(frozen=True)
class Action:
    """An action that the model wants to take, and may not take without asking."""

    what: str


LONG = (
    "I read what you wrote, and I take my time to answer it, a word after another, so that you can "
    "press Stop whenever you like: the loop on the server ends at once, and no word is made that "
    "nobody reads"
)


class Model:
    """Makes words, slowly.

    Attributes:
        made: The number of words so far.
        allowed: Whether it may take the action that it asked for.
    """

    def __init__(self, question: str) -> None:
        self.question = question
        self.made = 0
        self.allowed = False

    async def __aiter__(self) -> AsyncIterator[str | Action]:
        _, mail, receiver = self.question.partition("mail to ")
        if not mail:
            async for word in self._say(f"{LONG}."):
                yield word
            return
        async for word in self._say(f"I will write to {receiver} that lunch is at noon."):
            yield word
        yield Action(f"send a mail to {receiver}")
        async for word in self._say(" It is sent." if self.allowed else " Then I do not."):
            yield word

    async def _say(self, text: str) -> AsyncIterator[str]:
        for word in text.split(" "):
            await anyio.sleep(0.05)
            self.made += 1
            yield f"{word} "


def create_server(tokens: Tokens, origins: list[str]) -> wsrpc.Server:
    """The server.

    Args:
        tokens: Knows the tokens of users that may connect.
        origins: The origins of pages that may connect.
    """
    bill: dict[str, int] = {}

    def assistant() -> Assistant:
        return Assistant(bill)

    return wsrpc.Server(
        [assistant], authenticate=tokens.authenticate, authorize=authorize, origins=origins
    )
