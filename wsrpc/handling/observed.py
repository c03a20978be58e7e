"""Calls of the peer as observers see them."""

from __future__ import annotations

from typing import Literal

from ..interfaces import ObservedCall, Session
from ..protocol.lanes import InCall

__all__ = ["inbound"]

# Characters of a method's name that a peer made up.
LONGEST = 200


def inbound(
    session: Session,
    call: InCall,
    controller: str,
    method: str,
    kind: Literal["unary", "stream", "notify", "callback"],
    tags: frozenset[str] = frozenset(),
    *,
    known: bool = True,
) -> ObservedCall:
    """A call of the peer, for observers."""
    return ObservedCall(
        controller[:LONGEST],
        method[:LONGEST],
        kind,
        "inbound",
        session,
        session.id,
        session.principal,
        session.handshake.remote,
        call.id,
        tags,
        call.options.metadata or {},
        known,
    )
