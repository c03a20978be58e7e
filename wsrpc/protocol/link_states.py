"""The life of an endpoint over its links.

`LINK` is the state table of an endpoint. An event that a row does not name cannot happen in that
state.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["LINK", "LinkState"]

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
