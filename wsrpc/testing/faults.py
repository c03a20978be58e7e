"""Faults of connections in memory, which a test controls."""

from __future__ import annotations

from ..interfaces import Handshake
from ..transport import faults
from ..transport.faults import Action, FrameName, Side
from ..transport.memory import MemoryLink, memory_link_pair

__all__ = ["Faults"]


class Faults:
    """Breaks, stalls and delays connections in memory, at once or at a certain frame.

    Pass one to `host.connect(faults=…)` of `wsrpc.testing.server`; a `connected_pair` is one. It
    goes on counting when a client comes back over another connection.
    """

    def __init__(self) -> None:
        self._plan = faults.Faults()
        # Both ends of the present connections.
        self._links: list[MemoryLink] = []

    def link_pair(
        self, subprotocol: str, handshake: Handshake | None = None
    ) -> tuple[MemoryLink, MemoryLink]:
        """Make a connection with these faults; returns the accepting end and the connecting one.

        Args:
            subprotocol: The subprotocol that the handshake agreed on.
            handshake: The accepting side's facts about the connection.
        """
        accepting, connecting = memory_link_pair(subprotocol, self._plan)
        if handshake is not None:
            accepting.handshake = handshake
        there = (link for link in self._links if not link.closed)
        self._links = [*there, accepting, connecting]
        return accepting, connecting

    @property
    def stalled(self) -> bool:
        """Whether any message is held up at present, without an error."""
        return bool(self._plan.stalled)

    def abort(self) -> None:
        """Drop the present connections; messages on their way still arrive."""
        for link in self._links:
            link.abort()

    @property
    def cuts(self) -> int:
        """The number of times that the connection was cut so far."""
        return self._plan.cuts

    def frames(self, sender: Side | None = None) -> int:
        """Frames that have arrived so far.

        Args:
            sender: The side whose frames count: "accepting" or "connecting"; both if left out.
        """
        return self._plan.arrived(sender)

    def cut(
        self,
        *,
        before: int | FrameName | None = None,
        after: int | FrameName | None = None,
        sender: Side | None = None,
    ) -> None:
        """Break the connection, as a pulled cable does; messages that have not arrived are lost.

        It may be called ahead, even before there is a connection; each planned cut happens once.

        Args:
            before: The first frame that does not arrive: its index, or its name, for the next frame
                of that name. Without this and `after`, the connection breaks now.
            after: The last frame that arrives, by index or name.
            sender: The side whose frames `before` and `after` mean: "accepting" or "connecting";
                both if left out.

        Raises:
            ValueError: The frame has arrived already; the test's fault.
            RuntimeError: There is no connection yet, and no frame is given; the test's fault.
        """
        self._fault("cut", before, after, sender)

    def stall(
        self,
        *,
        before: int | FrameName | None = None,
        after: int | FrameName | None = None,
        sender: Side | None = None,
    ) -> None:
        """Hold up all messages without any error, as on a half-open connection.

        It lasts until `mend`, or `cut`. A sender finds the connection full after a while, and the
        other side does not hear of a close either.

        Args:
            before: The first frame that does not arrive, as for `cut`.
            after: The last frame that arrives, by index or name.
            sender: The side whose frames are meant, and stall: "accepting" or "connecting"; both if
                left out.

        Raises:
            ValueError: The frame has arrived already; the test's fault.
        """
        self._fault("stall", before, after, sender)

    def delay(self, seconds: float, *, sender: Side | None = None) -> None:
        """Delay each message from now on.

        Args:
            seconds: Seconds that a message takes to the other side.
            sender: The side whose messages are delayed: "accepting" or "connecting"; both if left
                out.
        """
        self._plan.delay(seconds, sender)

    def mend(self) -> None:
        """Let stalled messages arrive, drop planned faults, and end delays."""
        self._plan.mend()
        for link in self._links:
            link.wake()

    def _fault(
        self,
        action: Action,
        before: int | FrameName | None,
        after: int | FrameName | None,
        sender: Side | None,
    ) -> None:
        if self._plan.plan(action, before=before, after=after, sender=sender):
            return
        if action == "stall":
            self._plan.stall(sender)
        elif not self._links:
            raise RuntimeError("nothing is connected yet: say before= or after= which frame to cut")
        else:
            for link in self._links:
                link.cut()
