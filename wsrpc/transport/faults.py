"""Plans of faults for connections in memory; pure bookkeeping.

Frames are counted as they arrive, over all links of one pair, so that "cut before frame 7" means
the same frame whether or not links were lost before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

__all__ = ["Action", "Faults", "FrameName", "Side"]

Action: TypeAlias = Literal["cut", "stall"]
Side: TypeAlias = Literal["accepting", "connecting"]
FrameName: TypeAlias = Literal[
    "hello",
    "ack",
    "ping",
    "pong",
    "goaway",
    "auth",
    "call",
    "notify",
    "message",
    "result",
    "end",
    "error",
    "cancel",
    "credit",
    "chunk",
]

SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A fault at one frame; each is carried out once.

    Attributes:
        action: The kind of fault.
        at: The frame's index, or the name of a frame that is yet to come.
        arrives: Whether that frame is the last that arrives, or the first that does not.
        sender: The side whose frames count; None: frames of both sides count together.
    """

    action: Action
    at: int | FrameName
    arrives: bool
    sender: Side | None


class Faults:
    """The counts of frames that arrived, the present faults, and the planned ones.

    Attributes:
        cuts: Links that were cut so far; the links themselves count them.
        stalled: The sides whose messages do not arrive at present.
        delays: Seconds that a message takes, by its sender.
    """

    def __init__(self) -> None:
        self.cuts = 0
        self.stalled: set[Side] = set()
        self.delays: dict[Side, float] = dict.fromkeys(SIDES, 0.0)
        self._arrived: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self._plans: list[_Plan] = []

    def arrived(self, sender: Side | None = None) -> int:
        """Frames that have arrived, of one side or of both."""
        return sum(self._arrived.values()) if sender is None else self._arrived[sender]

    def plan(
        self,
        action: Action,
        *,
        before: int | FrameName | None,
        after: int | FrameName | None,
        sender: Side | None,
    ) -> bool:
        """Plan a fault at a frame; returns False if no frame is given, so that it is due now.

        Raises:
            ValueError: Two frames are given, or a frame has arrived already, or there is no frame
                of this name; the caller's fault.
        """
        sides = _sides(sender)
        if before is not None and after is not None:
            raise ValueError(f"{action}() takes before= or after=, not both")
        at = after if before is None else before
        if at is None:
            return False
        if isinstance(at, str) and at not in get_args(FrameName):
            raise ValueError(f"there is no frame {at!r}; there is {', '.join(get_args(FrameName))}")
        if isinstance(at, int) and at < (arrived := self.arrived(sender)):
            raise ValueError(
                f"frame {at} of the {' and '.join(sides)} side has arrived already: "
                f"{arrived} have so far, counted from 0"
            )
        self._plans.append(_Plan(action, at, before is None, sender))
        return True

    def stall(self, sender: Side | None) -> None:
        """Let no message of this side, or of either, arrive any more."""
        self.stalled.update(_sides(sender))

    def delay(self, seconds: float, sender: Side | None) -> None:
        """Delay each message of this side, or of either, by `seconds` from now on."""
        if not seconds >= 0:
            raise ValueError(f"a delay must be at least 0 s, not {seconds!r}")
        for side in _sides(sender):
            self.delays[side] = seconds

    def mend(self) -> None:
        """Drop all plans, and let all messages arrive again, at once."""
        self._plans.clear()
        self.stalled.clear()
        self.delay(0.0, None)

    def admit(self, sender: Side, names: Sequence[str]) -> tuple[int, Action | None]:
        """Count the frames of a message as they arrive, up to the first fault.

        A stall is noted in `stalled`; the link carries out a cut.

        Args:
            sender: The side that sent them.
            names: Their names, in order.

        Returns:
            The number of frames that arrive, and the fault after them.
        """
        for index, name in enumerate(names):
            if action := self._due(sender, name, arrives=False):
                return index, action
            action = self._due(sender, name, arrives=True)
            self._arrived[sender] += 1
            if action:
                return index + 1, action
        return len(names), None

    def _due(self, sender: Side, name: str, *, arrives: bool) -> Action | None:
        """The fault planned for the next frame of this side."""
        for plan in self._plans:
            frame = name if isinstance(plan.at, str) else self.arrived(plan.sender)
            if plan.sender in (None, sender) and (plan.at, plan.arrives) == (frame, arrives):
                self._plans.remove(plan)
                if plan.action == "stall":
                    self.stall(plan.sender)
                return plan.action
        return None


def _sides(sender: Side | None) -> tuple[Side, ...]:
    """The sides for which an argument stands."""
    if sender is None:
        return SIDES
    if sender not in SIDES:
        raise ValueError(f"sender must be 'accepting', 'connecting' or None, not {sender!r}")
    return (sender,)
