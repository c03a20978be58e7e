"""The state tables of the code and those of protocol.md are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wsrpc.protocol.lane_states import RECEIVED, SENT

TEXT = (Path(__file__).parents[2] / "protocol.md").read_text(encoding="utf-8")

# What the text calls a state, and the states of the code that stand for it. The text tells calls,
# notifies and calls of callbacks apart by a word in the row; the code has states for each.
CALLER = {
    "open": ["calling", "invoking"],
    "streaming": ["streaming"],
    "cancelling": ["cancelling", "invoking, cancelled"],
    "notified": ["notifying", "notifying, cancelled"],
}
CALLEE = {
    "running": ["running", "notified", "invoked"],
    "streaming": ["yielding"],
    "cancelled": ["cancelled"],
}
UPLOAD_SENDER = {"open": ["uploading", "withdrawn"], "stopping": ["stopping"]}
UPLOAD_RECEIVER = {"open": ["reading"], "stopping": ["stopped reading"]}

# What no row says, since it is said elsewhere (CALL, NOTIFY, CB, UP-3).
IMPOSSIBLE = {
    "received": {
        ("invoking", "message"), ("invoking", "end"),
        ("invoking, cancelled", "message"), ("invoking, cancelled", "end"),
    },
    "sent": {
        ("invoking", "credit"),
        ("notified", "message"), ("notified", "result"),
        ("invoked", "message"), ("invoked", "end"),
        ("withdrawn", "message"), ("withdrawn", "end"),
        # Allowed and of no effect, so this side leaves it.
        ("cancelling", "credit"), ("cancelling", "cancel"),
        ("invoking, cancelled", "credit"), ("invoking, cancelled", "cancel"),
        ("notifying", "credit"), ("notifying, cancelled", "credit"),
        ("notifying, cancelled", "cancel"),
    },
}  # fmt: skip


def tables() -> list[list[list[str]]]:
    chapter = TEXT[TEXT.index("## Life of a call") : TEXT.index("## Uploads")]
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", chapter, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in
                block.splitlines()]  # fmt: skip
        found.append(rows[2:])
    return found


def moves(
    rows: list[list[str]], names: dict[str, list[str]], direction: str
) -> set[tuple[str, str]]:
    """Every (state, frame) that the rows allow in one direction."""
    allowed = set()
    verb = {"received": "take", "sent": "(send|handler ends)"}[direction]
    for states, event, target, _ in rows:
        if target.startswith("closed") or target == "(none)":
            continue
        if not re.search(rf"\b{verb}\b", event) or "`goaway`" in event:
            # A `goaway` is a link frame: what it does to ids is not the affair of these tables.
            continue
        for state in re.sub(r"\(.*?\)", "", states).split(","):
            for name in names.get(state.strip(), []):
                for frame in re.findall(r"`(\w+)`", event.split("(")[0]):
                    allowed.add((name, frame))
    return allowed


@pytest.mark.parametrize("direction", ["received", "sent"])
def test_the_state_tables_are_those_of_the_text(direction: str) -> None:
    found = tables()
    assert len(found) == 4
    text = set()
    for rows, names in zip(found, (CALLER, CALLEE, UPLOAD_SENDER, UPLOAD_RECEIVER), strict=True):
        text |= moves(rows, names, direction)
    code = {
        (state, frame)
        for state, row in {"received": RECEIVED, "sent": SENT}[direction].items()
        for frame in row
    }
    assert code <= text, "the code allows what the text does not"
    assert text - code <= IMPOSSIBLE[direction], "the text allows what the code does not"


@pytest.mark.rule("RESULT-1", "CB-1", "NOTIFY-1")
def test_where_a_move_leads_is_as_the_text_says() -> None:
    terminals = {"result", "end", "error"}
    for table in (RECEIVED, SENT):
        for state, row in table.items():
            for frame, target in row.items():
                if frame in terminals:
                    assert target == "finished"
                elif frame == "credit":
                    assert target == state
                elif frame == "message":
                    assert target in (
                        {"calling": "streaming", "running": "yielding"}.get(state),
                        state,
                    )
    assert RECEIVED["finished"] == SENT["finished"] == {}
    assert RECEIVED["offered"] == SENT["offered"] == {}
    assert set(RECEIVED) == set(SENT)


@pytest.mark.rule("ID-5")
def test_both_ends_agree_on_what_may_be_said() -> None:
    ends = [
        ("calling", "running"), ("streaming", "yielding"), ("notifying", "notified"),
        ("invoking", "invoked"), ("reading", "uploading"), ("stopped reading", "stopping"),
        ("offered", "offered"),
    ]  # fmt: skip
    for one, other in ends:
        assert set(SENT[other]) <= set(RECEIVED[one]), (one, other)  # type: ignore[index]
        assert set(SENT[one]) <= set(RECEIVED[other]), (one, other)  # type: ignore[index]
    for cancelled in ("cancelling", "notifying, cancelled", "invoking, cancelled"):
        assert set(SENT["cancelled"]) <= set(RECEIVED[cancelled])
