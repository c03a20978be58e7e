"""The vectors on the bare wire: messages that a server must refuse, and conversations with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .bare_peer import Bare, Failed, Frame, short
from .case import Case, Ground, equal, require
from .frame_support import options_of, wire_cases
from .vector_files import expand, fits, load

__all__: list[str] = []


class Partner:
    """Compares the server's frames with those of a conversation.

    Args:
        bare: This side.
        parents: Whether calls of the server name the call that it handles; see `Ground`.
    """

    def __init__(self, bare: Bare, *, parents: bool = True) -> None:
        self._bare = bare
        self._parents = parents
        self._items: defaultdict[int, list[Any]] = defaultdict(list)
        self._uploads: set[int] = set()

    async def line(self, side: str, frames: list[Frame], *, any_order: bool = False) -> None:
        """Say a line of C's, or wait for one of S's."""
        frames = expand(frames, text=self._bare.codec == "json")
        if side == "C":
            await self._say(frames)
            return
        for frame in frames:
            await self._expect(frame, any_order=any_order)

    async def _say(self, frames: list[Frame]) -> None:
        """Send frames as one batch, except for uploads, which the server's credit may divide."""
        batch: list[Frame] = []
        for frame in frames:
            if frame[0] == "call" and len(frame) > 4 and isinstance(frame[4], dict):
                self._uploads.update((frame[4].get("uploads") or {}).values())
            if frame[0] != "message" or frame[1] not in self._uploads or len(frame) > 3:
                batch.append(frame)
                continue
            if batch:
                await self._bare.send(*batch)
                batch = []
            await self._bare.upload(frame[1], *frame[2])
        if batch:
            await self._bare.send(*batch)

    async def _expect(self, shown: Frame, *, any_order: bool) -> None:
        if shown[0] == "message":
            items = self._items[shown[1]]
            while len(items) < len(shown[2]):
                frame = await self._next(shown, any_order=any_order)
                require(frame[:2] == shown[:2], f"expected {short(shown)}, got {short(frame)}")
                items += frame[2]
            equal(items[: len(shown[2])], shown[2], "the items")
            del items[: len(shown[2])]
            return
        frame = await self._next(shown, any_order=any_order)
        if shown[0] == "call" and not self._parents:
            require("parent" not in options_of(frame), f"a parent of elsewhere: {short(frame)}")
            shown = [*shown[:4], *({**options, "parent": None} for options in shown[4:5])]
        require(fits(shown, frame), f"expected {short(shown)}, got {short(frame)}")

    async def _next(self, shown: Frame, *, any_order: bool) -> Frame:
        return await self._bare.frame(
            lambda frame: (
                frame[0] not in ("ack", "ping", "credit", "cancel")
                and not frame[0].startswith("x-")
                and (not any_order or frame[1] == shown[1])
            ),
            short(shown),
        )


@asynccontextmanager
async def opened(at: Ground, vector: dict[str, Any]) -> AsyncIterator[Bare]:
    """A link in the state in which the vector begins."""
    if vector.get("first"):
        async with at.link() as bare:
            yield bare
        return
    async with at.bare() as bare:
        yield bare


def refusal(vector: dict[str, Any]) -> Case:
    async def run(at: Ground) -> None:
        async with opened(at, vector) as bare:
            partner = Partner(bare)
            for side, frames in vector.get("before", ()):
                await partner.line(side, frames)
            if "json" in vector:
                await bare.send_message(vector["json"])
            elif "msgpack" in vector:
                await bare.send_message(bytes.fromhex(vector["msgpack"]))
            else:
                frames = expand(vector["send"], text=bare.codec == "json")
                await bare.send(*with_credentials(frames, at.auth))
            equal(await bare.closed(), vector["code"], "the close code")

    codec: Any = "json" if "json" in vector else "msgpack" if "msgpack" in vector else None
    title = f"refused with {vector['code']}: {vector['title']}"
    return Case(title, tuple(vector["rules"]), codec, False, run)


def with_credentials(frames: list[Frame], auth: str | None) -> list[Frame]:
    """The frames, a hello with the credentials that this server wants."""
    return [
        [frame[0], {"auth": auth, **frame[1]}]
        if frame[:1] == ["hello"] and isinstance(frame[1], dict) and auth is not None
        else frame
        for frame in frames
    ]


def conversation(vector: dict[str, Any]) -> Case:
    async def run(at: Ground) -> None:
        async with at.bare() as bare:
            partner = Partner(bare, parents=at.one_session)
            for n, (side, frames) in enumerate(vector["lines"]):
                try:
                    await partner.line(side, frames, any_order=vector.get("any_order", False))
                except Failed as failed:
                    raise Failed(f"line {n}: {failed}") from None

    title = f"a conversation: {vector['title']}"
    return Case(title, tuple(vector["rules"]), vector.get("codec"), False, run)


# Where a vector tells the receiver's limits, those of the server at hand may be others.
wire_cases.extend(
    refusal(vector) for vector in load("refused") if vector["to"] == "S" and "limits" not in vector
)
wire_cases.extend(
    conversation(vector)
    for vector in load("conversations")
    if "S" in vector.get("plays", ("C", "S"))
)
