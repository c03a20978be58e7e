"""Rates from two snapshots of `wsrpc.stats`, and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["METHODS", "SESSIONS", "Column", "Document", "figures", "sorted_by"]

Document: TypeAlias = dict[str, Any]

# Counts of sessions and of the server, whose growth is given as `…_per_second`.
COUNTS = (
    "calls_ended",
    "calls_failed",
    "calls_refused",
    "made_ended",
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
    "paused_seconds",
    "backpressure_seconds",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of tables.

    Attributes:
        name: Its field.
        head: Its heading.
        kind: Its format.
        order: The field of `wsrpc.stats` by which the server chooses sessions for it.
        key: The key function for sorting by it.
    """

    name: str
    head: str
    kind: str
    order: str = "held_bytes"
    key: str = ""


SESSIONS = (
    Column("id", "SESSION", "text"),
    Column("principal", "PRINCIPAL", "text", key="p"),
    Column("peer", "PEER", "text"),
    Column("calls_live", "CALLS", "count", "calls_live", "c"),
    Column("streams_live", "STREAMS", "count", "streams_live", "t"),
    Column("calls_ended_per_second", "CALLS/S", "rate", "calls_ended", "e"),
    Column("messages_sent_per_second", "SENT/S", "rate", "messages_sent", "n"),
    Column("bytes_received_per_second", "IN/S", "bytes", "bytes_received", "i"),
    Column("bytes_sent_per_second", "OUT/S", "bytes", "bytes_sent", "o"),
    Column("paused_for", "NO CREDIT", "pause", "paused_for", "w"),
    Column("lag", "LAG", "seconds", "lag", "l"),
    Column("held_bytes", "HELD", "bytes", "held_bytes", "b"),
    Column("slow", "SLOW", "words", "lag"),
)

METHODS = (
    Column("method", "METHOD", "text", key="p"),
    Column("live", "LIVE", "count", key="c"),
    Column("ended_per_second", "CALLS/S", "rate", key="e"),
    Column("failed_per_second", "FAILED/S", "rate", key="f"),
    Column("refused_per_second", "REFUSED/S", "rate"),
    Column("mean_seconds", "MEAN", "seconds", key="l"),
    Column("ended", "ENDED", "count", key="n"),
    Column("failed", "FAILED", "count"),
    Column("refused", "REFUSED", "count"),
)


def figures(before: Document, now: Document) -> Document:
    """A snapshot, with the rates since an earlier one.

    Args:
        before: The earlier snapshot.
        now: The snapshot.

    Returns:
        The document that `wsrpc top --json` writes. A session or method that is not in the earlier
        snapshot has None as its rates.
    """
    seconds = max(now["time"] - before["time"], 1e-9)
    known = {row["id"]: row for row in before["sessions"]}
    return {
        "seconds": seconds,
        "server": now["server"],
        "total": _with_rates(now["total"], before["total"], COUNTS, seconds),
        "sessions": [
            _with_rates(row, known.get(row["id"]), COUNTS, seconds) for row in now["sessions"]
        ],
        "methods": [
            _method(name, row, before["methods"].get(name), seconds)
            for name, row in now["methods"].items()
        ],
    }


def sorted_by(rows: Iterable[Document], column: Column, *, reverse: bool) -> list[Document]:
    """Rows in the order of a column: text from A to Z, figures from the largest.

    Args:
        rows: The rows.
        column: The column.
        reverse: Whether to reverse the order.
    """
    down = column.kind != "text"
    return sorted(rows, key=_sort_key(column), reverse=down != reverse)


def _sort_key(column: Column) -> Callable[[Document], Any]:
    name = column.name
    if column.kind == "text":
        return lambda row: row[name] or ""
    if column.kind == "words":
        return lambda row: (len(row[name]), row["lag"], row["paused_for"])
    return lambda row: -1.0 if row[name] is None else row[name]


def _with_rates(
    row: Document, before: Document | None, names: Iterable[str], seconds: float
) -> Document:
    found = dict(row)
    for name in names:
        grown = None if before is None else max(0.0, row[name] - before[name])
        found[f"{name}_per_second"] = None if grown is None else grown / seconds
    return found


def _method(name: str, row: Document, before: Document | None, seconds: float) -> Document:
    found = _with_rates(row, before, ("ended", "failed", "refused"), seconds)
    ended, took = row["ended"], row["seconds"]
    if before is not None and ended > before["ended"]:
        # The mean of the calls since the earlier snapshot, if there were any.
        ended, took = ended - before["ended"], took - before["seconds"]
    return {"method": name, **found, "mean_seconds": took / ended if ended else None}
