"""Which sessions without a link a server keeps, and which has to go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wsrpc.admission.principals import Identity
from wsrpc.interfaces import Handshake
from wsrpc.limits import Limits
from wsrpc.server.session_table import SessionTable


@dataclass(eq=False)
class Session:
    """What a table needs of a session."""

    id: str
    held: int = 0
    principal: str | None = None
    principal_key: str | None = None
    handshake: Handshake = field(default_factory=Handshake)
    closed: bool = False
    table: SessionTable[Session] | None = None

    def soon(self, fn: Callable[[], None]) -> None:
        fn()

    def end(self, code: int, reason: str) -> None:
        self.closed = True
        assert self.table is not None
        self.table.remove(self)


def table_of(*sessions: Session, max_bytes: int) -> SessionTable[Session]:
    table: SessionTable[Session] = SessionTable(Limits(max_detached_bytes=max_bytes))
    for session in sessions:
        session.table = table
        table.add(session)
    return table


@pytest.mark.rule("RESUME-8")
@pytest.mark.parametrize("how", ["comes back", "ends"])
def test_what_a_session_held_without_a_link_is_given_back(how: str) -> None:
    first, second = Session("1", held=60), Session("2", held=60)
    table = table_of(first, second, max_bytes=100)
    table.detach(first)
    if how == "comes back":
        table.attach(first)
    else:
        table.remove(first)
    table.detach(second)
    assert not second.closed
    assert not (first.closed and how == "comes back")
    assert table.detached == 1


@pytest.mark.rule("RESUME-8")
def test_what_it_holds_more_later_counts_once() -> None:
    first, second = Session("1", held=10), Session("2", held=30)
    table = table_of(first, second, max_bytes=100)
    table.detach(first)
    for held in (20, 40, 60, 60):
        first.held = held
        table.grown(first)
    table.detach(second)
    assert not first.closed
    first.held = 80
    table.grown(first)
    assert first.closed
    assert not second.closed


@pytest.mark.rule("RESUME-5")
def test_of_a_sessions_tokens_the_one_presented_and_the_one_issued_are_good() -> None:
    session = Session("1")
    table = table_of(session, max_bytes=100)
    anybody = Identity(None)
    table.issued(session, "one")
    table.issued(session, "two", "one")
    assert [table.find(token, anybody) for token in ("one", "two")] == [session, session]
    table.confirmed(session)
    assert [table.find(token, anybody) for token in ("one", "two")] == [None, session]
