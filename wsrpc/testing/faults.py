"""What goes wrong with connections in memory, when a test says so."""

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
        # Both ends of the connections that are there.
        self._links: list[MemoryLink] = []

    def link_pair(
        self, subprotocol: str, handshake: Handshake | None = None
    ) -> tuple[MemoryLink, MemoryLink]:
        """A new connection that is subject to these faults: the accepting end, the connecting one.

        Args:
            subprotocol: What the handshake agreed on.
            handshake: What the accepting side is told of the connection.
        """
        accepting, connecting = memory_link_pair(subprotocol, self._plan)
        if handshake is not None:
            accepting.handshake = handshake
        there = (link for link in self._links if not link.closed)
        self._links = [*there, accepting, connecting]
        return accepting, connecting

    @property
    def stalled(self) -> bool:
        """Whether something does not arrive at present, and nothing fails either."""
        return bool(self._plan.stalled)

    def abort(self) -> None:
        """Drop the connections that are there; what is on its way still arrives."""
        for link in self._links:
            link.abort()

    @property
    def cuts(self) -> int:
        """How often the connection was cut so far."""
        return self._plan.cuts

    def frames(self, sender: Side | None = None) -> int:
        """Frames that have arrived so far, of one side or of both."""
        return self._plan.arrived(sender)

    def cut(
        self,
        *,
        before: int | FrameName | None = None,
        after: int | FrameName | None = None,
        sender: Side | None = None,
    ) -> None:
        """Break the connection, as a pulled cable does; what has not arrived by then is lost.

        May be called ahead, before there is a connection too; each cut that is planned happens
        once.

        Args:
            before: The first frame that does not arrive: its index, or what it is, for the next
                of that kind. Without this and `after`, the connection breaks now.
            after: The last frame that arrives, likewise.
            sender: Whose frames these two mean: "accepting" or "connecting"; both, otherwise.

        Raises:
            ValueError: That frame has arrived already.
            RuntimeError: Nothing is connected yet, and no frame is given.
        """
        self._fault("cut", before, after, sender)

    def stall(
        self,
        *,
        before: int | FrameName | None = None,
        after: int | FrameName | None = None,
        sender: Side | None = None,
    ) -> None:
        """Let nothing arrive any more and nothing fail, as on a half-open connection.

        It lasts until `mend`, or `cut`. Whoever sends finds the connection full after a while, and
        closing it goes unheard as well.

        Args:
            before: The first frame that does not arrive, as for `cut`.
            after: The last frame that arrives, likewise.
            sender: Whose frames are meant, and stall: "accepting" or "connecting"; both, otherwise.

        Raises:
            ValueError: That frame has arrived already.
        """
        self._fault("stall", before, after, sender)

    def delay(self, seconds: float, *, sender: Side | None = None) -> None:
        """Let each message take a while on its way, from now on.

        Args:
            seconds: Seconds for one way.
            sender: Whose messages: "accepting" or "connecting"; both, otherwise.
        """
        self._plan.delay(seconds, sender)

    def mend(self) -> None:
        """Let what is stalled arrive, take back what is planned, and delay nothing any more."""
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
