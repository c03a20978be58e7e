"""Sessions whose peers make this side hold more bytes than the bounds on memory allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..close_codes import CloseCode
from ..engine.hub import Hub
from ..runtime.timers import TimerEntry

__all__ = ["Pressure"]


class Pressure:
    """Gives a session time while it is above its bound, and acts if it stays there (OUT-4).

    Streams that this side has asked for and does not read are ended first. Where there is none, the
    session is.

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
        enough = self._returned() + max(hub.account.held // 32, 1)
        hub.look()
        when = hub.runtime.now() + hub.limits.stall_timeout
        self._entry = hub.timers.add(when, partial(self._look, enough))

    def _returned(self) -> int:
        """Bytes that were given back so far, those of values of which the rest has yet to go too."""
        return self._hub.account.returned + self._hub.endpoint.half_gone

    def _relieve(self) -> None:
        if self._entry is not None:
            self._hub.timers.remove(self._entry)
            self._entry = None

    def _look(self, enough: int) -> None:
        self._entry = None
        hub, account = self._hub, self._hub.account
        account.judge()
        if hub.lost is not None or not account.crowded:
            return
        # The peer does not make this side hold what it sends of its own will.
        if hub.exempt or self._returned() >= enough:
            self._press()
            return
        seconds = hub.limits.stall_timeout
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
            if account.crowded:
                self._press()
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
