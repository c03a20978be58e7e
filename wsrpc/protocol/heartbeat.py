"""Whether the peer is still there (protocol.md, Heartbeat), told by the shell's clock alone."""

from __future__ import annotations

from math import inf
from typing import Self

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import FLOOR_HEARTBEAT
from . import frames

__all__ = ["Heartbeat"]

# Seconds. An alarm that comes later than this was held up, and what has arrived meanwhile may not
# have been read: then the verdict waits for as long as `GRACE`.
LAG = 0.5
GRACE = 1.0

# Seconds. How often to look at the clock while an answer is awaited: who was held up until just
# before the verdict would come to it in time, and not know.
LOOK = 0.5


class Heartbeat:
    """How long the peer has been silent on this link, and what is due because of it.

    Args:
        interval: Seconds of silence after which to ask.
        timeout: Seconds to wait for a sign of life after that.

    Attributes:
        heard: Seconds on the shell's clock. When the last message arrived.

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
        """What the accepting side's hello says."""
        return cls(field.interval / 1000, field.timeout / 1000)

    def announced(self) -> frames.Heartbeat:
        """What the accepting side's hello says."""
        return frames.Heartbeat(round(self.interval * 1000), round(self.timeout * 1000))

    def begin(self, now: float) -> None:
        """A link has opened."""
        self.heard = now
        # The silence that was asked about, by its beginning, and when it is long enough.
        self._silence = -inf
        self._look = self._verdict = inf

    @property
    def due(self) -> float:
        """Seconds on the shell's clock. When to `check`."""
        if self._silence == self.heard:
            return min(self._look, self._verdict)
        return self.heard + self.interval

    def check(self, now: float, lag: float) -> bool:
        """Whether to send a ping now.

        Args:
            now: Seconds on the shell's clock.
            lag: Seconds by which the shell knows itself to have been held up.

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
