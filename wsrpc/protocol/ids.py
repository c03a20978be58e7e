"""The ids of a session: the live ones, those opened so far, the next one (protocol.md, Ids)."""

from __future__ import annotations

from typing import Final, Literal

from ..limits import Limits
from .chunks import IncomingValues
from .codec import Codec
from .frames import CallOptions
from .lanes import LONGEST, InCall, Lane, OutCall
from .sizes import Sizes
from .window import violation

__all__ = ["Ids"]

# Milliseconds. The longest timeout that travels, and the noise of the clock's subtraction.
LONGEST_LEFT: Final = 9007199254740991.0
NOISE: Final = 0.0005


class Ids(Sizes):
    """The layer of an endpoint that knows every live id.

    Attributes:
        peer_window: Items. The credit with which uploads to the peer begin.
        started: Calls with uploads or callbacks, and notifications, that were numbered since the
            hub last looked.
    """

    __slots__ = (
        "_arriving",
        "_incoming",
        "_lanes",
        "_next_id",
        "_parity",
        "_peer_highest",
        "peer_window",
        "started",
    )

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        self.started: list[OutCall] = []
        self.peer_window = 0
        self._parity = 1 if side == "connecting" else 0
        self._next_id = 1 if side == "connecting" else 2
        self._peer_highest = 0
        self._lanes: dict[int, Lane] = {}
        self._incoming = IncomingValues(limits.max_held, codec.gathering)
        self._arriving = self._incoming.by_id

    @property
    def opened(self) -> int:
        """The number of ids that this side has opened: calls, with their uploads and callbacks."""
        return (self._next_id - 1) // 2

    def _find(self, id: int, frame: str) -> Lane | None:
        """The live lane of an id, or None if it is finished; 4505 if it was never opened."""
        lane = self._lanes.get(id)
        if lane is not None:
            if self._arriving:
                self._incoming.check(id, frame)
            return lane
        ours = (id & 1) == self._parity
        if id >= self._next_id if ours else id > self._peer_highest:
            raise violation(f"{frame} for id {id}, which was never opened")
        self.ignored += 1
        return None

    def _open_call(self, call: OutCall) -> CallOptions | None:
        """Number a call: its id, then those of its uploads and callbacks; returns its options."""
        options = call.options
        if call.deadline is not None:
            options = options or CallOptions()
            # Round up to whole milliseconds, unless only floating point noise is above the last
            # one.
            left = (call.deadline - self._now) * 1000.0
            if left >= LONGEST_LEFT:
                options.timeout = LONGEST
            elif left <= 0.0:
                options.timeout = 0
            else:
                whole = int(left)
                options.timeout = whole if left - whole < NOISE else whole + 1
        call.id = id = self._next_id
        self._next_id = id + 2
        self._lanes[id] = call
        if call.uploads or call.callbacks:
            options = options or CallOptions()
            if call.uploads:
                for upload in call.uploads.values():
                    upload.start(self._take_id(upload), self.peer_window)
                options.uploads = {name: lane.id for name, lane in call.uploads.items()}
            if call.callbacks:
                for offer in call.callbacks.values():
                    offer.id = self._take_id(offer)
                options.callbacks = {name: lane.id for name, lane in call.callbacks.items()}
            self.started.append(call)
        elif call.oneway:
            self.started.append(call)
        return options

    def _take_id(self, lane: Lane) -> int:
        id = self._next_id
        self._next_id = id + 2
        self._lanes[id] = lane
        return id

    def live_calls(self) -> tuple[list[OutCall], list[InCall]]:
        """The calls of this side and of the peer that have no terminal yet."""
        outbound = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        inbound = [lane for lane in self._lanes.values() if isinstance(lane, InCall)]
        return outbound, inbound

    def handles(self, call: InCall) -> bool:
        """Whether this endpoint has taken this call, and the call has no terminal yet."""
        return self._lanes.get(call.id) is call
