"""Sessions whose peers make this side hold more bytes than the bounds on memory allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..close_codes import CloseCode
from ..engine.hub import Hub
from ..runtime.timers import TimerEntry

__all__ = ["Pressure"]

# The number of looks at a session in the time that it has. A single look would be too late where
# nothing more is read from the peer, which has no more time than this side.
LOOKS = 2


class Pressure:
    """Gives a session time while it is above its bound, and acts if it stays there (OUT-4).

    Streams that this side has asked for and does not read are ended first. If there are none, the
    session is ended.

    Args:
        hub: The session's.
        expel: Ends the session, with a close code and a reason.
    """

    __slots__ = ("_entry", "_expel", "_hub")

    def __init__(self, hub: Hub, expel: Callable[[int, str], None]) -> None:
        self._hub = hub
        self._expel = expel
        self._entry: TimerEntry | None = None

    def end(self) -> None:
        """Stop watching, since the session is over."""
        self._relieve()

    def changed(self) -> None:
        """Act on a session that has come above its bound, or is within it again."""
        crowded = self._hub.account.crowded
        self._hub.squeeze(crowded)
        if crowded:
            self._press()
        else:
            self._relieve()

    def _press(self) -> None:
        """Give the session some time to come within its bound again."""
        hub = self._hub
        hub.look()
        self._wait(0, self._returned() + max(hub.account.held // 32, 1))

    def _wait(self, looks: int, enough: int) -> None:
        hub = self._hub
        when = hub.runtime.now() + hub.limits.stall_timeout / LOOKS
        self._entry = hub.timers.add(when, partial(self._look, looks + 1, enough))

    def _returned(self) -> int:
        """Bytes that were given back so far, including parts of values whose rest has yet to go."""
        return self._hub.account.returned + self._hub.endpoint.half_gone

    def _relieve(self) -> None:
        if self._entry is not None:
            self._hub.timers.remove(self._entry)
            self._entry = None

    def _look(self, looks: int, enough: int) -> None:
        self._entry = None
        hub, account = self._hub, self._hub.account
        account.judge()
        if hub.lost is not None or not account.crowded:
            return
        # The peer does not make this side hold the values that this side sends of its own will.
        goes_on = hub.exempt or self._returned() >= enough
        if not account.stopped:
            if goes_on:
                self._press()
                return
            if looks < LOOKS:
                self._wait(looks, enough)
                return
        # A peer from which nothing is read gives up the link before long. Streams end before that,
        # even where others go on.
        seconds = hub.limits.stall_timeout * looks / LOOKS
        held = hub.held
        ended = hub.shed(
            f"its items were not taken for {seconds:g} s, while the session held {held} bytes, more "
            "than the bounds on memory allow (Limits.max_session_bytes): take items as they come, "
            "close the stream, or give it a smaller window"
        )
        if ended:
            hub.log.warning(
                "%r held %d bytes and has been above its bound for %g s: ended %d streams of its calls "
                "that nobody has read meanwhile",
                hub.session,
                held,
                seconds,
                ended,
            )
        if ended or goes_on:
            if account.crowded:
                self._press()
            return
        if looks < LOOKS:
            self._wait(looks, enough)
            return
        hub.log.warning(
            "%r holds %d bytes and has been above its bound for %g s: ending it",
            hub.session,
            held,
            seconds,
        )
        self._expel(
            CloseCode.SLOW_CONSUMER, f"more held than the bound on memory allows, for {seconds:g} s"
        )
