"""Which node counts as dead, and when, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from wsrpc.cluster import ClusterLimits
from wsrpc.cluster.errors import BusDown, BusError, BusTimeout, NoResponders
from wsrpc.cluster.members import Members, Peer

STEP = 0.05


class World:
    """A bus, a clock, and one other node."""

    def __init__(self, **limits: Any) -> None:
        self.time = 1000.0
        self.connected = True
        self.generation = 1
        # What a request to the other node, and one that nobody ever answers, end in.
        self.peer: BusError | None = None
        self.void: BusError = NoResponders("void")
        self.beats = 0
        self.said = 0
        self._due: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.limits = ClusterLimits(**limits)
        self.members = Members("here", self, self.limits, {}, 0.0)
        self.states: list[str] = []
        self.members.on_change.append(self._changed)
        self.beat()

    def _changed(self, peer: Peer, before: str | None) -> None:
        self.states.append(peer.state)

    # ------------------------------------------------------------ what members ask for

    def now(self) -> float:
        return self.time

    async def say(self, subject: str, data: bytes) -> None:
        self.said += 1

    async def ask(self, subject: str, data: bytes, timeout: float) -> bytes:
        error = self.void if subject == "void" else self.peer
        if isinstance(error, BusTimeout):
            self.time += timeout
        if error is not None:
            raise error
        return b"{}"

    def load(self) -> int:
        return 0

    def spawn(self, fn: Callable[..., Any], *args: Any) -> None:
        self._due.append((fn, args))

    # ------------------------------------------------------------ what happens

    def beat(self, state: str = "up", generation: int = 1) -> None:
        """The other node gives a sign of life."""
        self.beats += 1
        said = {"n": "there", "c": self.beats, "g": generation, "s": state, "t": 0.0}
        self.members.heard(msgspec.json.encode(said))

    async def tick(self) -> None:
        self.time += STEP
        if self.connected:
            self.members.look(self.time)
        due, self._due = self._due, []
        for fn, args in due:
            await fn(*args)

    async def after(self, seconds: float) -> None:
        """So many seconds later."""
        end = self.time + seconds - STEP / 2
        while self.time < end:
            await self.tick()

    async def until(self, state: str, most: float = 30.0) -> float:
        """Seconds until the other node is in this state."""
        began = self.time
        while self.state != state:
            await self.tick()
            if self.time - began > most:
                pytest.fail(f"{self.state}, and not {state}, after {most:g} s")
        return self.time - began

    @property
    def state(self) -> str:
        return self.members.peers["there"].state


async def test_a_killed_node_is_dead_within_two_seconds_at_the_worst() -> None:
    world = World()
    world.peer = NoResponders("there")
    # It was killed right after a sign of life. What is left of two seconds is for a busy machine.
    assert await world.until("suspect") <= 0.85
    assert await world.until("dead") <= 0.75
    assert world.states == ["up", "suspect", "dead"]


async def test_a_pause_of_this_process_does_not_delay_the_verdict() -> None:
    world = World()
    world.peer = NoResponders("there")
    await world.until("suspect")
    world.time += 1.0
    assert await world.until("dead") <= 0.2


async def test_a_node_that_answers_is_up_however_long_it_was_silent() -> None:
    world = World()
    await world.after(60)
    assert world.states == ["up"]
    assert world.members.settled_in


async def test_a_frozen_node_is_suspect_and_then_dead_while_nats_answers() -> None:
    world = World()
    world.peer = BusTimeout("there")
    assert await world.until("suspect") <= 2.0
    assert 5.0 <= await world.until("dead") <= 9.0
    world.peer = None
    world.beat()
    assert world.states == ["up", "suspect", "dead", "up"]


async def test_nobody_is_judged_while_nats_is_silent() -> None:
    world = World()
    world.peer, world.void = BusTimeout("there"), BusTimeout("void")
    await world.after(60)
    assert world.states == ["up"]
    # It wakes, and the other one has yet to reconnect.
    world.peer, world.void = NoResponders("there"), NoResponders("void")
    await world.after(3)
    world.peer = None
    world.beat(generation=2)
    await world.after(1)
    assert "dead" not in world.states
    assert world.state == "up"


async def test_nobody_is_judged_while_this_node_has_no_bus() -> None:
    world = World()
    world.connected = False
    world.peer = BusDown("there")
    await world.after(60)
    assert world.states == ["up"]


async def test_a_node_that_reconnects_later_than_this_one_is_not_dead() -> None:
    world = World()
    world.members.bus_up()
    world.peer = NoResponders("there")
    await world.after(3)
    assert world.state == "suspect"
    world.peer = None
    world.beat(generation=2)
    assert world.state == "up"


async def test_a_node_that_has_not_come_back_after_the_bus_is_dead_in_the_end() -> None:
    world = World()
    world.members.bus_up()
    world.peer = NoResponders("there")
    await world.until("suspect")
    assert 3.5 <= await world.until("dead") <= 4.5


async def test_a_node_that_dies_after_all_have_come_back_is_found_as_soon_as_ever() -> None:
    world = World()
    world.members.bus_up()
    await world.after(0.3)
    world.beat(generation=2)
    world.peer = NoResponders("there")
    assert await world.until("dead") <= 1.6


async def test_a_node_that_alone_has_just_been_away_is_not_dead() -> None:
    world = World()
    await world.after(20)
    world.beat(generation=2)
    world.peer = NoResponders("there")
    await world.after(3)
    assert world.state == "suspect"
    await world.until("dead", 4.0)


async def test_a_node_that_drains_or_says_goodbye_needs_no_verdict() -> None:
    world = World()
    world.beat("draining")
    world.beat("draining")
    world.beat("gone")
    assert world.states == ["up", "draining", "left"]
    # What comes late changes nothing.
    world.beats = 0
    world.beat()
    assert world.state == "left"


@pytest.mark.parametrize("silence", [0.4, 0.55, 0.65, 3.0])
async def test_a_node_is_missed_once_it_has_missed_a_beat(silence: float) -> None:
    world = World()
    peer = world.members.peers["there"]
    world.time += silence
    assert world.members.is_missing(peer) == (silence > 1.2 * world.limits.beat)
    world.members.bus_up()
    world.time += 1
    # It may not have come back yet.
    assert not world.members.is_missing(peer)
