"""The parts that cases on the bare wire share: handwritten frames, and checks of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec

from .bare_peer import Bare, Failed, Frame, short
from .case import Case, Cases, Ground, equal, require

__all__ = [
    "CHUNKED",
    "ECHO",
    "FLOOR_MAX_BATCH",
    "FOREVER",
    "KIB",
    "MAX_CREDIT",
    "PROGRESS",
    "SUM",
    "call",
    "check_invalid",
    "chunked",
    "closes",
    "failed",
    "fill",
    "ignored",
    "lives",
    "options_of",
    "silent",
    "wire_cases",
]

wire_cases = Cases()

KIB = 1024
FLOOR_MAX_BATCH = 64 * KIB
MAX_CREDIT = 2**31 - 1

# Ids for calls that only ask whether the link still lives; far above those that the cases use.
PROBES = count(1_000_001, 2)

ECHO = "Interop.echo"


def call(id: int, method: str | int, args: Any = None, **options: Any) -> Frame:
    """A `call` frame; without arguments, an empty object of them."""
    frame: Frame = ["call", id, method, {} if args is None else args]
    return [*frame, options] if options else frame


def options_of(frame: Frame) -> dict[str, Any]:
    """The options of a `call` frame."""
    options: dict[str, Any] | None = frame[4] if len(frame) > 4 else None
    return options or {}


def failed(frame: Frame, code: str, *, not_started: bool = False) -> dict[str, Any]:
    """The body of an `error` frame, which must have this code."""
    if frame[0] != "error":
        raise Failed(f"expected an error {code}, got {short(frame)}")
    body: dict[str, Any] = frame[2]
    equal(body.get("code"), code, "the code")
    require(isinstance(body.get("message"), str), f"the error has no message: {body}")
    equal(bool(body.get("not_started")), not_started, "not_started")
    return body


async def lives(bare: Bare) -> None:
    """Fail unless the link lives and takes calls."""
    probe = next(PROBES)
    await bare.send(call(probe, ECHO, {"value": probe}))
    equal(await bare.terminal(probe), ["result", probe, probe], "the answer to a later call")


async def silent(bare: Bare, id: int) -> None:
    """Fail if anything comes on an id before a later call is answered."""
    await lives(bare)
    frames = bare.waiting(id)
    require(not frames, f"unexpected on id {id}: {short(frames)}")


async def ignored(at: Ground, before: int, n: int) -> None:
    """Wait until the server has counted n frames more as ignored."""
    await at.until(lambda now: now["frames_ignored"] >= before + n, f"{n} frames were ignored")


def closes(code: int, title: str, rules: Sequence[str], *batches: Sequence[Frame]) -> None:
    """Add a case: each of these batches alone makes the server close with this code."""

    async def run(at: Ground) -> None:
        for batch in batches:
            async with at.bare() as bare:
                await bare.send(*batch)
                equal(await bare.closed(), code, f"the close code after {short(batch)}")

    wire_cases.append(Case(title, tuple(rules), None, False, run))


def check_invalid(frame: Frame) -> list[dict[str, Any]]:
    """The errors of an `invalid_argument`, which must be as ERROR-4 says."""
    body = failed(frame, "invalid_argument")
    data = body.get("data") or {}
    errors: list[dict[str, Any]] = data.get("errors") or []
    require(isinstance(errors, list) and bool(errors), f"data has no errors: {short(data)}")
    require(len(errors) <= 8, f"{len(errors)} errors")
    require(type(data.get("total")) is int, f"total is {data.get('total')!r}")
    require(data["total"] >= len(errors), f"a total of {data['total']} for {len(errors)} errors")
    require(len(msgspec.json.encode(data)) <= 4 * KIB, "data exceeds 4 KiB")
    for error in errors:
        require(isinstance(error.get("loc"), list), f"loc is {error.get('loc')!r}")
        require(isinstance(error.get("msg"), str), f"msg is {error.get('msg')!r}")
        require(isinstance(error.get("type"), str), f"type is {error.get('type')!r}")
    return errors


FOREVER = call(1, "Interop.forever", {"delay": 60})
SUM = call(1, "Interop.sum", uploads={"numbers": 3})
PROGRESS = call(1, "Interop.progress", {"n": 0}, callbacks={"on_progress": 3})


# The limits that the bare side announces where it wants large values in chunks.
CHUNKED = {"max_batch": FLOOR_MAX_BATCH, "max_value": 1024 * KIB, "max_held": 1024 * KIB}


@asynccontextmanager
async def chunked(at: Ground, **fields: Any) -> AsyncIterator[Bare | None]:
    """A bare side that takes chunks; None where the server takes none of the size needed here."""
    async with at.bare(**{"limits": CHUNKED, **fields}) as bare:
        enough = min(bare.limit("max_value"), bare.limit("max_held")) >= 512 * KIB
        yield bare if enough else None


async def fill(bare: Bare, first: int, n: int) -> None:
    """Begin n calls that stay live."""
    frames = [call(first + 2 * i, "Interop.sleep", {"seconds": 60}) for i in range(n)]
    for at in range(0, n, 200):
        await bare.send(*frames[at : at + 200])
