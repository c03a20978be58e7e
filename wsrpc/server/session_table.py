"""The sessions of a server: by id for people, by token for peers that come back."""

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
        """Call `fn`, which must not raise, once the caller is through."""

    def end(self, code: int, reason: str) -> None:
        """End the session; it has no link."""


S = TypeVar("S", bound=Kept)


class SessionTable(Mapping[str, S]):
    """All sessions of a server, those without a link included, which are bounded.

    Tokens are kept hashed: who reads the server's memory cannot resume its sessions. Of each
    session the token that its peer came with and the one given out last are good (RESUME-5).
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_id: dict[str, S] = {}
        self._by_token: dict[bytes, S] = {}
        self._tokens: dict[S, list[bytes]] = {}
        # Those without a link, first lost first, each with the bytes that it holds; and their sum.
        self._detached: dict[S, int] = {}
        self._held = 0

    def __getitem__(self, id: str) -> S:
        return self._by_id[id]

    # Whoever goes through them may wait in between, while sessions come and go.

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
        """How many have no link."""
        return len(self._detached)

    def add(self, session: S) -> None:
        """A session has begun."""
        self._by_id[session.id] = session
        self._tokens[session] = []

    def remove(self, session: S) -> None:
        """A session has ended."""
        self._by_id.pop(session.id, None)
        self.attach(session)
        for digest in self._tokens.pop(session, ()):
            del self._by_token[digest]

    def find(self, token: str, who: Identity) -> S | None:
        """The session that a token is good for, if it is this principal's."""
        digest = _digest(token)
        session = self._by_token.get(digest)
        if (
            session is None
            or session.closed
            or not who.is_same(session.principal, session.principal_key)
        ):
            return None
        # The look-up by hash tells an attacker by its duration nothing that helps to find a token;
        # the comparison that decides takes the same time for all.
        good = [hmac.compare_digest(digest, known) for known in self._tokens[session]]
        return session if any(good) else None

    def knows(self, token: str) -> bool:
        """Whether there is a session for a token, whosever it is."""
        session = self._by_token.get(_digest(token))
        return session is not None and not session.closed

    @staticmethod
    def new_token() -> str:
        """A token that nobody can guess."""
        return secrets.token_urlsafe(TOKEN_BYTES)

    def issued(self, session: S, token: str, presented: str | None = None) -> None:
        """A session's peer was given a token.

        Args:
            session: Whose.
            token: The new one.
            presented: The one with which it came, which stays good until the new one is confirmed;
                no other does.
        """
        kept = [] if presented is None else [_digest(presented)]
        self._replace(session, [*kept, _digest(token)])

    def confirmed(self, session: S) -> None:
        """The peer has the newest token: the one before it is void."""
        self._replace(session, self._tokens[session][-1:])

    def _replace(self, session: S, digests: list[bytes]) -> None:
        for digest in self._tokens[session]:
            del self._by_token[digest]
        self._tokens[session] = digests
        for digest in digests:
            self._by_token[digest] = session

    def attach(self, session: S) -> None:
        """A session has a link, or has ended."""
        self._held -= self._detached.pop(session, 0)

    def detach(self, session: S) -> None:
        """A session has lost its link; where there are too many of those, one has to end."""
        if session in self._tokens:
            self._detached[session] = 0
            self._weigh(session)
        self._evict(session)

    def grown(self, session: S) -> None:
        """A session without a link may have more to send; where all hold too much, one has to end."""
        if session in self._detached:
            self._weigh(session)
            if self._too_many():
                # Later: whoever has something to send is in the midst of it.
                session.soon(partial(self._evict, session))

    def _weigh(self, session: S) -> None:
        held = session.held
        self._held += held - self._detached[session]
        self._detached[session] = held

    def _evict(self, session: S) -> None:
        """Let sessions end until there is room: those of whoever holds most (RESUME-8).

        Whoever comes with many never costs another one a session, who has few.
        """
        while self._detached and self._too_many():
            crowd = len(self._detached) > self._limits.max_detached
            held: Counter[Hashable] = Counter()
            for one, size in self._detached.items():
                held[holder_of(one)] += 1 if crowd else size
            most = max(held.values())
            theirs = [one for one in self._detached if held[holder_of(one)] == most]
            # The first lost comes back least likely.
            victim = theirs[0] if crowd else max(theirs, key=self._detached.__getitem__)
            self.attach(victim)
            victim.end(
                CloseCode.TRY_AGAIN_LATER, "the server keeps too many sessions without a connection"
            )

    def _too_many(self) -> bool:
        limits = self._limits
        return len(self._detached) > limits.max_detached or self._held > limits.max_detached_bytes


def holder_of(session: Kept) -> Hashable:
    """Whose a session is, for the count; without a principal, whose address it has."""
    if session.principal_key is not None:
        return "principal", session.principal_key
    if session.principal is None:
        return "address", bucket_of(session.handshake.address)
    try:
        hash(session.principal)
    except TypeError:
        # One that nobody can compare in time.
        return "object", id(session.principal)
    return type(session.principal), session.principal


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
