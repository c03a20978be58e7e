"""Connections of the commands, which can answer calls and show frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ..client import Opener, connect
from ..handling.target import MethodEntry
from ..transport.base import Link
from ..transport.recorded import Recorder, told_to
from .answering import Answers

__all__ = ["Dialled"]


class Dialled(connect):
    """A connection of a command.

    Args:
        url: The server's URL.
        answers: The answers to the server's calls.
        frames: Makes the object that shows a connection's messages, by its subprotocol.
        options: As for `connect`.
    """

    def __init__(
        self,
        url: str,
        *,
        answers: Answers | None = None,
        frames: Callable[[str], Recorder] | None = None,
        **options: Any,
    ) -> None:
        self._answers = answers
        self._frames = frames
        super().__init__(url, **options)

    def _callable(self, entries: Mapping[str, MethodEntry]) -> Mapping[str, MethodEntry]:
        return entries if self._answers is None else self._answers.entries(entries)

    def _opener(self) -> Opener:
        opener, frames = super()._opener(), self._frames
        if frames is None:
            return opener

        @asynccontextmanager
        async def opened(url: str, subprotocol: str, **options: Any) -> AsyncIterator[Link]:
            async with opener(url, subprotocol, **options) as link:
                yield told_to(link, frames(subprotocol), "C")

        return opened
