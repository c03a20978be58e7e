"""Membership: the nodes that there are, and the detection of dead ones.

A node that is silent is asked whether it lives. NATS answers at once if no subscriber listens. That
proves death only if both ends have been connected for long enough. While NATS itself is silent, no
node is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import anyio
import anyio.lowlevel
import msgspec

from .errors import BusDown, BusTimeout, NoResponders
from .limits import ClusterLimits

__all__ = ["BAD_JSON", "Members", "NodeInfo", "Peer", "is_id"]

State: TypeAlias = Literal["up", "suspect", "draining", "dead", "left", "unknown"]

# The version of the messages between nodes.
PROTOCOL = 1

PROBE_TIMEOUT = 1.0

# Seconds between two probes of one node.
PROBE_PAUSE = 0.04

# Beats of silence after which one was missed.
MISSED = 1.2

# The number of looks for silent nodes in one beat; the interval adds to the time until a death is
# found.
LOOKS = 10

# Nodes that are gone and are still remembered.
REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node, as this one sees it.

    Attributes:
        id: Its id.
        state: "up"; "suspect" while it is silent; "draining"; "unknown" while this node has no
            connection to NATS.
        meta: The notes of its operator.
        load: Sessions that it has.
        since: Seconds since 1970. The time at which it began.
    """

    id: str
    state: str
    meta: Mapping[str, str]
    load: int
    since: float


class Beat(msgspec.Struct, frozen=True):
    """A sign of life."""

    n: str
    c: int
    g: int
    s: str
    t: float
    p: int = PROTOCOL
    m: dict[str, str] = {}
    l: int = 0  # noqa: E741


BAD_JSON = (msgspec.DecodeError, RecursionError)
"""The exceptions of decoding for unexpected data."""


def is_id(text: str) -> bool:
    """Whether a text may be the id of a node or a link, and so stand in a subject."""
    return 0 < len(text) <= 64 and text.isascii() and text.isalnum()


_decode_beat = msgspec.json.Decoder(Beat).decode
_encode = msgspec.json.Encoder().encode


class Peer:
    """Another node.

    Attributes:
        id: Its id.
        state: Its state, as far as it is known.
        generation: The number of its connections to the bus.
    """

    __slots__ = (
        "counter",
        "generation",
        "id",
        "info",
        "moved",
        "probed",
        "probing",
        "seen",
        "state",
        "suspected",
    )

    def __init__(self, beat: Beat, now: float) -> None:
        self.id = beat.n
        self.state: State = "up"
        self.generation = beat.g
        self.counter = beat.c
        self.seen = now
        self.suspected = 0.0
        self.probing = False
        self.probed = 0.0
        # Seconds on the loop's clock. The time at which its generation rose last.
        self.moved = now - 1e9
        self.info = beat

    @property
    def gone(self) -> bool:
        """Whether it is dead or has left."""
        return self.state in ("dead", "left")


class Wire(Protocol):
    """The methods of a node that its members need."""

    def now(self) -> float: ...
    @property
    def connected(self) -> bool: ...
    @property
    def generation(self) -> int: ...
    async def say(self, subject: str, data: bytes) -> None:
        """Publish a message; has no effect while the bus is down."""

    async def ask(self, subject: str, data: bytes, timeout: float) -> bytes: ...
    def load(self) -> int: ...
    def spawn(self, fn: Callable[..., Any], *args: Any) -> None: ...


class Members:
    """The other nodes of a cluster.

    Args:
        node: This node's id.
        wire: The way to them.
        limits: The cluster's bounds.
        meta: The operator's notes about this node.
        began: Seconds since 1970. The time at which this node began.

    Attributes:
        peers: The nodes by id, with those that have gone lately.
        state: The state that this node announces.
        on_change: Called with a peer and its earlier state.
        on_moved: Called with a peer that has been away from the bus.
        junk: Messages of unknown form.
    """

    def __init__(
        self,
        node: str,
        wire: Wire,
        limits: ClusterLimits,
        meta: Mapping[str, str],
        began: float,
    ) -> None:
        self.peers: dict[str, Peer] = {}
        self.state: Literal["up", "draining", "gone"] = "up"
        self.on_change: list[Callable[[Peer, State | None], None]] = []
        self.on_moved: list[Callable[[Peer], None]] = []
        self.junk = 0
        self._node = node
        self._wire = wire
        self._limits = limits
        self._meta = dict(meta)
        self._began = began
        self._counter = 0
        # Seconds on the loop's clock. The time since which silence says something about others, and
        # the time since which the bus has been there without a pause.
        self._clear = wire.now()
        self._bus_since = wire.now() - 1e9

    @property
    def settled_in(self) -> bool:
        """Whether this node has had the bus for long enough to have heard of all others."""
        return self._wire.now() - self._clear > self._limits.suspect

    def up(self) -> list[Peer]:
        """The nodes that are there."""
        return [peer for peer in self.peers.values() if not peer.gone]

    def get(self, node: str) -> Peer | None:
        """A node by its id."""
        return self.peers.get(node)

    def infos(self) -> dict[str, NodeInfo]:
        """All nodes, this one included."""
        infos = {self._node: self._info(self._beat(), self.state)}
        for peer in self.up():
            state = peer.state if self._wire.connected else "unknown"
            infos[peer.id] = self._info(peer.info, state)
        return infos

    def _info(self, beat: Beat, state: str) -> NodeInfo:
        return NodeInfo(beat.n, state, dict(beat.m), beat.l, beat.t)

    # ------------------------------------------------------------ signs of life

    def _beat(self) -> Beat:
        wire = self._wire
        return Beat(
            n=self._node,
            c=self._counter,
            g=wire.generation,
            s=self.state,
            t=self._began,
            m=self._meta,
            l=wire.load(),
        )

    async def beat(self) -> None:
        """Give a sign of life."""
        self._counter += 1
        await self._wire.say("beat", _encode(self._beat()))

    def heard(self, data: bytes) -> None:
        """Take a sign of life of any node."""
        try:
            beat = _decode_beat(data)
        except BAD_JSON:
            self.junk += 1
            return
        if beat.n == self._node or beat.p != PROTOCOL or not self._fits(beat):
            self.junk += beat.n != self._node
            return
        now = self._wire.now()
        peer = self.peers.get(beat.n)
        if peer is not None and beat.c <= peer.counter:
            return
        if beat.s == "gone":
            if peer is not None:
                peer.counter = beat.c
                self._set(peer, "left")
            return
        if peer is None:
            if len(self.up()) >= self._limits.max_nodes - 1:
                self.junk += 1
                return
            self._forget_some()
            peer = self.peers[beat.n] = Peer(beat, now)
            self._told(peer, None)
            self._wire.spawn(self.beat)
        peer.counter, peer.seen, peer.info = beat.c, now, beat
        if beat.g > peer.generation:
            peer.generation, peer.moved = beat.g, now
            for tell in list(self.on_moved):
                tell(peer)
        was_gone = peer.gone
        self._set(peer, "draining" if beat.s == "draining" else "up")
        if was_gone:
            self._wire.spawn(self.beat)

    def _fits(self, beat: Beat) -> bool:
        meta = sum(len(key.encode()) + len(value.encode()) for key, value in beat.m.items())
        return is_id(beat.n) and meta <= self._limits.max_meta

    def _forget_some(self) -> None:
        gone = [id for id, peer in self.peers.items() if peer.gone]
        for id in gone[: max(0, len(gone) - REMEMBERED)]:
            del self.peers[id]

    def _set(self, peer: Peer, state: State) -> None:
        if peer.state == state or (peer.gone and state in ("suspect", "dead", "left")):
            return
        before, peer.state = peer.state, state
        if state == "suspect":
            peer.suspected = self._wire.now()
        self._told(peer, before)

    def _told(self, peer: Peer, before: State | None) -> None:
        for tell in list(self.on_change):
            tell(peer, before)

    # ------------------------------------------------------------ verdicts

    def bus_up(self) -> None:
        """Let all clocks begin anew, since the bus is back."""
        self._clear = self._bus_since = self._wire.now()

    async def run(self) -> None:
        """Give signs of life, and look for nodes that give none."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beats)
            group.start_soon(self._watch)

    async def _beats(self) -> None:
        while True:
            await self.beat()
            await anyio.sleep(self._limits.beat)

    async def _watch(self) -> None:
        limits, wire = self._limits, self._wire
        while True:
            before = wire.now()
            await anyio.sleep(limits.beat / LOOKS)
            now = wire.now()
            if now - before > limits.beat + limits.beat / LOOKS:
                # This process has stood still: messages of the others have yet to be read.
                self._clear = now
                await anyio.lowlevel.checkpoint()
            if wire.connected:
                self.look(now)

    def look(self, now: float) -> None:
        """Ask nodes that have been silent for too long."""
        for peer in self.up():
            due = self._is_silent(peer, now) and now - peer.probed > PROBE_PAUSE
            if due and not peer.probing:
                peer.probing = True
                overdue = now - max(peer.seen, self._clear) > self._limits.dead_after
                self._wire.spawn(self._probe, peer, overdue)

    def _is_silent(self, peer: Peer, now: float) -> bool:
        # A pause of this process does not matter here: a living node answers.
        return now - max(peer.seen, self._bus_since) > self._limits.suspect

    async def _probe(self, peer: Peer, overdue: bool) -> None:
        wire = self._wire
        try:
            await wire.ask(f"to.{peer.id}.ping", b"", PROBE_TIMEOUT)
            peer.seen = wire.now()
            if peer.state == "suspect":
                self._set(peer, "up")
        except NoResponders:
            self._nobody(peer, wire.now())
        except BusTimeout:
            if overdue and await self._bus_lives():
                self._set(peer, "dead")
            elif not overdue and await self._bus_lives():
                self._set(peer, "suspect")
        except BusDown:
            pass
        finally:
            peer.probing = False
            peer.probed = wire.now()

    def _nobody(self, peer: Peer, now: float) -> None:
        """Judge a node that does not listen: it is dead, or one of us was away from NATS."""
        if peer.state != "suspect":
            if self._is_silent(peer, now):
                self._set(peer, "suspect")
            return
        absent = now - max(peer.suspected, self._bus_since)
        if absent >= self._limits.grace and self._is_proof(peer, now):
            self._set(peer, "dead")

    def _is_proof(self, peer: Peer, now: float) -> bool:
        """Whether a node without a subscriber is gone, and does not only have yet to reconnect."""
        most = self._limits.reconnecting
        if peer.seen <= self._bus_since:
            # It has not been heard since the bus was away.
            return now - self._bus_since >= most
        alone = peer.moved - self._bus_since >= most
        return not alone or now - peer.moved >= most

    def is_missing(self, peer: Peer) -> bool:
        """Whether a node at which no subscriber listens now has also missed a beat.

        That is enough for a session of it to begin anew elsewhere: its client has lost it too, and
        need not wait for the verdict that it is dead.
        """
        now = self._wire.now()
        silent = now - max(peer.seen, self._bus_since)
        return silent > MISSED * self._limits.beat and self._is_proof(peer, now)

    async def _bus_lives(self) -> bool:
        """Whether the bus works, so that only the node is silent."""
        try:
            await self._wire.ask("void", b"", PROBE_TIMEOUT)
        except NoResponders:
            return True
        except (BusTimeout, BusDown):
            pass
        self._clear = self._bus_since = self._wire.now()
        return False
