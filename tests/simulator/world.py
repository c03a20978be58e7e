"""The clock, and links that delay, lose, and die on one side before the other."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .party import Client, Party, Server

__all__ = ["Wire", "World"]

LOST = 1006


class World:
    """One simulated run.

    Args:
        seed: Decides everything.
        lines: Where the transcript goes, if one is wanted.

    Attributes:
        now: Seconds since the beginning.
        hostile: Whether links still misbehave; not so in the end, when all has to come to rest.
    """

    def __init__(self, seed: int, lines: list[str] | None = None) -> None:
        self.seed = seed
        self.lines = lines
        self.random = Random(seed)
        self.now = 0.0
        self.hostile = True
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Do something at a time, or at once if that is over."""
        self._entries += 1
        heappush(self._agenda, (max(time, self.now), self._entries, act))

    def after(self, low: float, high: float, act: Callable[[], None]) -> None:
        """Do something after a random number of seconds."""
        self.at(self.now + self.random.uniform(low, high), act)

    def run(self, until: float) -> None:
        """Let the time pass."""
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, act = heappop(self._agenda)
            act()
        self.now = until

    def chance(self, probability: float) -> bool:
        """Whether something that depends on a hostile world happens now."""
        return self.hostile and self.random.random() < probability

    def say(self, who: str, what: str) -> None:
        """Add a line to the transcript."""
        if self.lines is not None:
            self.lines.append(f"{self.now:9.3f}  {who:<8} {what}")


class Wire:
    """One link: two directions, each in order, neither in step with the other.

    A message arrives whole or not at all: a link that breaks at some byte loses the message that
    the byte is in, and all after it.

    Args:
        world: Where it is.
        number: Its number, for the transcript.
        client: The side that opened it.
        server: Where it leads to.
        largest: Bytes. What some box on the way does not let pass; the link breaks on it.
    """

    def __init__(
        self, world: World, number: int, client: Client, server: Server, largest: int
    ) -> None:
        self.world = world
        self.number = number
        self.server = server
        self.largest = largest
        # The far ends: who takes what C, and what S, has sent.
        self.parties: list[Party | None] = [client, None]
        # Which end still looks at it.
        self.open = [True, True]
        self._pace = world.random.choice([0.001, 0.02, 0.3, 1.0])
        self._sent = [0, 0]
        self._passing = [1_000_000_000, 1_000_000_000]
        self._latest = [world.now, world.now]

    @property
    def broken(self) -> bool:
        """Whether it carries nothing any more."""
        return max(self._passing) < 1_000_000_000

    def send(self, side: int, message: bytes | int) -> None:
        """Side 0 or 1 sends a batch, or a close code."""
        if isinstance(message, bytes) and len(message) > self.largest:
            self.world.say(f"link {self.number}", f"{len(message)} bytes do not pass")
            self.cut()
            return
        self._sent[side] += 1
        position = self._sent[side]
        pace = self._pace if self.world.hostile else 0.001
        self._latest[side] = max(
            self._latest[side], self.world.now + self.world.random.uniform(0, pace)
        )
        self.world.at(self._latest[side], lambda: self._arrive(1 - side, position, message))

    def _arrive(self, side: int, position: int, message: bytes | int) -> None:
        if position > self._passing[1 - side] or not self.open[side]:
            return
        if isinstance(message, int):
            self.open[side] = False
            party = self.parties[side]
            if party is not None:
                party.lost(self, message)
        elif side == 1:
            self.server.take(self, message)
        else:
            client = self.parties[0]
            assert client is not None
            client.take(self, message)

    def cut(self) -> None:
        """Break: of what is on its way some may still arrive, and each end notices in its time."""
        if self.broken:
            return
        random = self.world.random
        self.world.say(f"link {self.number}", "breaks")
        patience = random.choice([0.0, 0.1, 3.0, 20.0])
        for side in (0, 1):
            self._passing[side] = random.randint(max(0, self._sent[side] - 3), self._sent[side])
        for notice in (lambda: self.notice(0), lambda: self.notice(1)):
            self.world.at(max(self._latest) + random.uniform(0, patience), notice)

    def notice(self, side: int) -> None:
        """One end finds that the link is gone."""
        if self.open[side]:
            self.open[side] = False
            party = self.parties[side]
            if party is not None:
                party.lost(self, LOST)

    def leave(self, side: int, code: int | None = None) -> None:
        """One end drops the link, with a close code for the other end or without a word."""
        if not self.open[side]:
            return
        self.open[side] = False
        if code is None:
            self.cut()
        else:
            self.send(side, code)
