"""The life of an endpoint over its links, and what the end of one means for the session.

`LINK` is the state table of an endpoint. What a row does not name cannot happen in that state.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["LINK", "LinkState", "may_reconnect", "may_resume"]

LinkState: TypeAlias = Literal["new", "greeting", "open", "detached", "closed"]

# fmt: off
LINK: dict[LinkState, dict[str, LinkState]] = {
    # no link yet
    "new":      {"connect": "greeting", "accept": "open", "close": "closed"},
    # the connecting side has said hello and awaits the other's
    "greeting": {"hello": "open", "detach": "detached", "close": "closed"},
    # both hellos are through; a newer link may take over (RESUME-3)
    "open":     {"detach": "detached", "resume": "open", "close": "closed"},
    # between two links
    "detached": {"connect": "greeting", "resume": "open", "detach": "detached", "close": "closed"},
    # the session is over
    "closed":   {"detach": "closed", "close": "closed"},
}
# fmt: on

CANNOT_RESUME = 4010
DETACHING = frozenset((1001, 1005, 1006, *range(1011, 1016), *range(4000, 4500)))


def may_resume(code: int) -> bool:
    """Whether a session may outlive a link that ended with this close code (CLOSE-1, CLOSE-2)."""
    return code in DETACHING and code != CANNOT_RESUME


def may_reconnect(code: int) -> bool:
    """Whether the connecting side comes back after this close code, if as a new session."""
    return code in DETACHING
