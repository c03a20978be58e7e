"""The sessions of a server, found by id or by resume token."""

from __future__ import annotations

import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Hashable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from ..admission.forwarded import bucket_of
from ..admission.principals import Identity
from ..close_codes import CloseCode
from ..interfaces import Handshake
from ..limits import Limits

__all__ = ["Kept", "SessionTable", "holder_of"]

# Bytes of a token from the system's random source (RESUME-5).
TOKEN_BYTES = 32


class Kept(Protocol):
    """The part of a session that the table needs."""

    id: str
    principal: Any
    principal_key: str | None
    handshake: Handshake

    @property
    def closed(self) -> bool: ...

    @property
    def held(self) -> int:
        """Bytes that it holds for its peer."""
        ...

    def soon(self, fn: Callable[[], None]) -> None:
        """Call `fn`, which must not raise, after the current callback."""

    def end(self, code: int, reason: str) -> None:
        """End the session, which has no link."""


S = TypeVar("S", bound=Kept)


class SessionTable(Mapping[str, S]):
    """All sessions of a server; those without a link are bounded.

    Tokens are kept hashed, so that a reader of the server's memory cannot resume its sessions. Two
    tokens of each session are good: the one that its peer came with, and the one given out last
    (RESUME-5).
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_id: dict[str, S] = {}
        self._by_token: dict[bytes, S] = {}
        self._tokens: dict[S, list[bytes]] = {}
        # The sessions without a link, first lost first, each with the bytes that it holds; and the
        # sum.
        self._detached: dict[S, int] = {}
        self._held = 0

    def __getitem__(self, id: str) -> S:
        return self._by_id[id]

    # Code that iterates may await in between, while sessions come and go.

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_id))

    def keys(self) -> KeysView[str]:
        return self._by_id.copy().keys()

    def values(self) -> ValuesView[S]:
        return self._by_id.copy().values()

    def items(self) -> ItemsView[str, S]:
        return self._by_id.copy().items()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def detached(self) -> int:
        """The number of sessions without a link."""
        return len(self._detached)

    def add(self, session: S) -> None:
        """Add a session that has begun."""
        self._by_id[session.id] = session
        self._tokens[session] = []

    def remove(self, session: S) -> None:
        """Remove a session that has ended."""
        self._by_id.pop(session.id, None)
        self.attach(session)
        for digest in self._tokens.pop(session, ()):
            del self._by_token[digest]

    def find(self, token: str, who: Identity) -> S | None:
        """The session for which a token is good, if it is this principal's."""
        digest = _digest(token)
        session = self._by_token.get(digest)
        if (
            session is None
            or session.closed
            or not who.is_same(session.principal, session.principal_key)
        ):
            return None
        # The duration of the look-up by hash tells an attacker nothing that helps to find a token.
        # The comparison that decides takes the same time for all tokens.
        good = [hmac.compare_digest(digest, known) for known in self._tokens[session]]
        return session if any(good) else None

    def knows(self, token: str) -> bool:
        """Whether there is a session for a token, of any principal."""
        session = self._by_token.get(_digest(token))
        return session is not None and not session.closed

    @staticmethod
    def new_token() -> str:
        """A random token that cannot be guessed."""
        return secrets.token_urlsafe(TOKEN_BYTES)

    def issued(self, session: S, token: str, presented: str | None = None) -> None:
        """Note that a session's peer was given a token.

        Args:
            session: The session.
            token: The new one.
            presented: The token with which it came. That one stays good until the new one is
                confirmed; no other does.
        """
        kept = [] if presented is None else [_digest(presented)]
        self._replace(session, [*kept, _digest(token)])

    def confirmed(self, session: S) -> None:
        """Void the token before the newest, which the peer has."""
        self._replace(session, self._tokens[session][-1:])

    def _replace(self, session: S, digests: list[bytes]) -> None:
        for digest in self._tokens[session]:
            del self._by_token[digest]
        self._tokens[session] = digests
        for digest in digests:
            self._by_token[digest] = session

    def attach(self, session: S) -> None:
        """Note that a session has a link, or has ended."""
        self._held -= self._detached.pop(session, 0)

    def detach(self, session: S) -> None:
        """Note that a session has lost its link, and end one if too many have none."""
        if session in self._tokens:
            self._detached[session] = 0
            self._weigh(session)
        self._evict(session)

    def grown(self, session: S) -> None:
        """Count a session without a link anew, and end one if all together hold too much."""
        if session in self._detached:
            self._weigh(session)
            if self._too_many():
                # The end comes later, since the session is just about to queue a frame.
                session.soon(partial(self._evict, session))

    def _weigh(self, session: S) -> None:
        held = session.held
        self._held += held - self._detached[session]
        self._detached[session] = held

    def _evict(self, session: S) -> None:
        """End sessions of the holder with the most, until there is room (RESUME-8).

        A peer with many sessions never costs a peer with few sessions a session.
        """
        while self._detached and self._too_many():
            crowd = len(self._detached) > self._limits.max_detached
            held: Counter[Hashable] = Counter()
            for one, size in self._detached.items():
                held[holder_of(one)] += 1 if crowd else size
            most = max(held.values())
            theirs = [one for one in self._detached if held[holder_of(one)] == most]
            # The session that lost its link first is the least likely to come back.
            victim = theirs[0] if crowd else max(theirs, key=self._detached.__getitem__)
            self.attach(victim)
            victim.end(
                CloseCode.TRY_AGAIN_LATER, "the server keeps too many sessions without a connection"
            )

    def _too_many(self) -> bool:
        limits = self._limits
        return len(self._detached) > limits.max_detached or self._held > limits.max_detached_bytes


def holder_of(session: Kept) -> Hashable:
    """The holder of a session: its principal, or its address if it has no principal."""
    if session.principal_key is not None:
        return "principal", session.principal_key
    if session.principal is None:
        return "address", bucket_of(session.handshake.address)
    who = Identity.known(session.principal, None)
    # Other principals could not be compared quickly.
    return who if who.hashable else ("object", id(session.principal))


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
