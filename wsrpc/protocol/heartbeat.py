"""Whether the peer is still there (protocol.md, Heartbeat), told by the hub's clock alone."""

from __future__ import annotations

from math import inf
from typing import Self

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import FLOOR_HEARTBEAT
from . import frames

__all__ = ["Heartbeat"]

# Seconds. An alarm that comes later than this was held up, and messages that have arrived meanwhile
# may not have been read. Then the verdict waits for `GRACE` seconds.
LAG = 0.5
GRACE = 1.0

# Seconds. The interval at which to look at the clock while an answer is awaited. A process that was
# held up until just before the verdict would otherwise be in time for it, and not notice the delay.
LOOK = 0.5


class Heartbeat:
    """Measures the peer's silence on this link, and decides when to ping it or give it up.

    Args:
        interval: Seconds of silence after which to ask.
        timeout: Seconds to wait for a sign of life after that.

    Attributes:
        heard: Seconds on the hub's clock. The time at which the last message arrived.

    Raises:
        ValueError: One of them is below 1 second.
    """

    __slots__ = ("_look", "_silence", "_verdict", "heard", "interval", "timeout")

    def __init__(self, interval: float, timeout: float) -> None:
        if not (interval >= FLOOR_HEARTBEAT and timeout >= FLOOR_HEARTBEAT):
            raise ValueError(f"a heartbeat takes at least 1 second, not {interval}, {timeout}")
        self.interval = interval
        self.timeout = timeout
        self.begin(0.0)

    @classmethod
    def announced_as(cls, field: frames.Heartbeat) -> Self:
        """The heartbeat in the accepting side's hello."""
        return cls(frames.seconds(field.interval), frames.seconds(field.timeout))

    def announced(self) -> frames.Heartbeat:
        """The heartbeat in the accepting side's hello."""
        return frames.Heartbeat(round(self.interval * 1000), round(self.timeout * 1000))

    def begin(self, now: float) -> None:
        """A link has opened."""
        self.heard = now
        # The beginning of the silence about which a ping has asked, and the time of the verdict.
        self._silence = -inf
        self._look = self._verdict = inf

    @property
    def due(self) -> float:
        """Seconds on the hub's clock. The time at which to call `check`."""
        if self._silence == self.heard:
            return min(self._look, self._verdict)
        return self.heard + self.interval

    def check(self, now: float, lag: float) -> bool:
        """Whether to send a ping now.

        Args:
            now: Seconds on the hub's clock.
            lag: Seconds by which the event loop is known to have been held up.

        Raises:
            ProtocolError: 4002, the peer is taken for dead.
        """
        due = self.due
        if now < due:
            return False
        if self._silence != self.heard:
            self._silence = self.heard
            # Held up or not, the peer has its full time to answer.
            self._verdict = now + self.timeout
            self._look = now + LOOK
            return True
        if max(lag, now - due) > LAG:
            self._verdict = max(self._verdict, now + GRACE)
        if now >= self._verdict:
            raise ProtocolError(
                CloseCode.HEARTBEAT, f"no sign of life for {now - self.heard:.1f} s"
            )
        self._look = now + LOOK
        return False
