"""How a session goes on from link to link: hellos, resume, credentials, and the drain.

This layer of an endpoint knows nothing of calls. The layers above take over the limits for calls
that the first hellos agreed on, in the methods at the end.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from ..close_codes import CloseCode
from ..errors import ProtocolError
from .drain import Drain
from .events import Event, HelloReceived
from .frames import NUMBERED, Auth, HelloBody, seconds
from .heartbeat import Heartbeat
from .hello import VERSION, Opening, announce, dump_credentials, hello_of
from .lane_states import LocalProtocolError
from .link_states import LINK
from .traffic import Traffic
from .window import violation

__all__ = ["Continuity"]

# Links in a row that carried nothing forward, after which a session ends (RESUME-9).
MAX_BARREN_LINKS = 5
BARREN = "the session ended, since each of its last five connections broke too soon"


class Continuity(Traffic):
    """The layer of an endpoint that takes a session from one link to the next."""

    __slots__ = ()

    # ---------------------------------------------------------------- links come and go

    @property
    def resumable(self) -> bool:
        """Whether the session outlives the loss of its link.

        It does not without a resume window, after a violation, when a token was never confirmed
        although frames were taken (RESUME-5), or when the last links carried nothing (RESUME-9).
        """
        if not self.resume_window or self._broken or self.closed:
            return False
        if self.fruitless is not None:
            return False
        if self.side == "accepting":
            # A session in which no frame was taken loses none by going on.
            return self._confirmed or self.received == 0
        return self.token is not None

    @property
    def fruitless(self) -> str | None:
        """The error of a session that cannot go on since no link carried anything, or None."""
        return BARREN if self._barren_links >= MAX_BARREN_LINKS else None

    def _step(self, event: str) -> None:
        try:
            self.state = LINK[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"cannot {event} an endpoint that is {self.state}") from None

    def connect(self, auth: Any = None, *, now: float | None = None, patient: bool = False) -> None:
        """Connecting side: begin on a new link, with a new session or with the one that there is.

        Args:
            auth: The credentials; any JSON value.
            now: Seconds on the hub's clock.
            patient: Whether a new session holds its calls back until the accepting side's hello is
                there. Then they go out after the first ack, and no call is lost with a link that
                breaks before the accepting side has that ack (RESUME-5).

        Raises:
            ValueError: `auth` is no value, or too large.
        """
        again = self.state == "detached"
        if self.side != "connecting" or (again and not self.resumable):
            raise LocalProtocolError("this endpoint cannot connect, or not again")
        credentials = Raw(dump_credentials(self.codec, auth))
        self._step("connect")
        self._now = self._now if now is None else now
        self.link += 1
        body = HelloBody(version=VERSION, link=self.link, received=self.received, auth=credentials)
        if again:
            body.token = self.token
            self._careful = True
        else:
            self._numbering = not patient
        self._greet(body)

    def _greet(self, body: HelloBody) -> None:
        links = self._outbox.links
        links.append(announce(body, self.limits, self.agent))
        if self._drain is not None:
            links.append(self._drain.frame(self._now))

    def accept(
        self,
        opening: Opening,
        session_id: str,
        *,
        token: str | None = None,
        resume_window: float = 0.0,
        heartbeat: tuple[float, float] | None = None,
        now: float | None = None,
    ) -> list[Event]:
        """Accepting side: let a new session begin; returns the events of its first message.

        Args:
            opening: That message.
            session_id: The session's public name.
            token: The token with which the peer may resume; None: it may not.
            resume_window: Seconds that the session outlives a link; 0: it does not.
            heartbeat: Seconds of silence after which either side pings, and for which it then waits
                for an answer; at least 1 each. None: neither side pings.
            now: Seconds on the hub's clock.

        Raises:
            ProtocolError: The message breaks a rule; the peer's fault. Close the link and the
                endpoint.
            ValueError: The heartbeat is too fast.
        """
        hello = opening.hello
        if hello.token is not None:
            raise ProtocolError(CloseCode.CANNOT_RESUME, "there is no such session to resume")
        if hello.received:
            raise violation("a new session that has received something")
        if heartbeat is not None:
            self._heartbeat = Heartbeat(*heartbeat)
        self._step("accept")
        self._session_id = session_id
        # Without a token the peer cannot come back.
        self.resume_window = resume_window if token is not None else 0.0
        if not self.resume_window:
            self._replay.forgo()
        self._meet(hello)
        return self._enter(opening, token, now)

    def resume(
        self, opening: Opening, *, token: str | None = None, now: float | None = None
    ) -> list[Event]:
        """Accepting side: go on, on a new link; an older link does not matter from now on.

        Args:
            opening: The new link's first message, whose token names this session, and whose sender
                is its principal.
            token: The token with which the peer may resume next.
            now: Seconds on the hub's clock.

        Raises:
            ProtocolError: 4506, an older link came late: nothing has changed. Any other code: the
                hello does not fit the session, which has to end, and its present link with it.
        """
        hello = opening.hello
        if (hello.link or 1) <= self.link:
            raise ProtocolError(
                CloseCode.SUPERSEDED, f"link {hello.link or 1} after link {self.link}"[:120]
            )
        if opening.codec is not self.codec:
            raise ProtocolError(
                CloseCode.CANNOT_RESUME, f"the session speaks {self.codec.subprotocol}"
            )
        self._check_count(hello.received)
        was_open = self.state == "open"
        self._step("resume")
        self._confirmed = True
        self._leave_link(was_open=was_open)
        if not self.resumable:
            raise ProtocolError(CloseCode.CANNOT_RESUME, "too many links carried nothing")
        self._replay.rewind(hello.received or 0)
        return self._enter(opening, token, now)

    def _enter(self, opening: Opening, token: str | None, now: float | None) -> list[Event]:
        """Say hello on the link that `opening` opened, and take the rest of it."""
        if now is not None:
            self._now = now
        self._waits_since = self._now
        resumed = self.established
        self.established = True
        self.link = opening.hello.link or 1
        self._expires = None
        self._link_confirmed = False
        body = HelloBody(
            version=VERSION,
            session=self._session_id,
            token=token,
            resumed=resumed,
            received=self.received,
            resume_window=round(self.resume_window * 1000),
        )
        heartbeat = self._heartbeat
        if heartbeat is not None:
            body.heartbeat = heartbeat.announced()
            heartbeat.begin(self._now)
        self._careful = resumed
        self._greet(body)
        self._acks.settle(self.received)
        self._numbering = True
        frames = opening.frames()
        if resumed and any(isinstance(frame, NUMBERED) for frame in frames):
            self._broken = True
            raise violation("a numbered frame before both hellos of a resumed link")
        events: list[Event] = [HelloReceived(opening.hello)]
        if not resumed:
            self._catch_up(events)
        return self._apply(frames, opening.size, events)

    def _receive_hello(self, data: bytes) -> list[Event]:
        """Connecting side: take the first message of a link."""
        first, *rest = self.codec.decode(data)
        hello = hello_of(first)
        hello.auth = None
        resumed = self.established
        if resumed:
            if not hello.resumed:
                raise ProtocolError(CloseCode.CANNOT_RESUME, "the server began another session")
            self._check_count(hello.received)
            self._replay.rewind(hello.received or 0)
            self._waits_since = self._now
        else:
            if hello.resumed or (hello.received or 0) > self.sent:
                raise violation("a hello that resumes a session that never was")
            self._replay.trim(hello.received or 0)
            self._meet(hello)
        self._step("hello")
        self._expires = None
        self.established = self._numbering = True
        self.token = hello.token
        self.resume_window = seconds(hello.resume_window or 0)
        if not self.resume_window:
            self._replay.forgo()
        self._heartbeat = None
        if hello.heartbeat is not None:
            self._heartbeat = Heartbeat.announced_as(hello.heartbeat)
            self._heartbeat.begin(self._now)
        events: list[Event] = [HelloReceived(hello)]
        if not resumed:
            self._catch_up(events)
        events = self._apply(rest, len(data), events)
        self._tell()
        return events

    def _check_count(self, received: int | None) -> None:
        """The count in the hello of a resume must fit the frames that were sent."""
        replay = self._replay
        if not replay.acked <= (received or 0) <= replay.numbered:
            reason = f"{received or 0} frames taken, of {replay.numbered}, {replay.acked} acked"
            raise ProtocolError(CloseCode.CANNOT_RESUME, reason[:120])

    def detach(self, now: float) -> None:
        """Leave a link that is gone. `resumable` tells whether the session goes on without it.

        Args:
            now: Seconds on the hub's clock.
        """
        was_open = self.state == "open"
        self._step("detach")
        self._now = now
        self._leave_link(was_open=was_open)
        if self._expires is None and self.resumable:
            self._expires = now + self.resume_window

    def _leave_link(self, *, was_open: bool) -> None:
        """Forget the state of the old link alone, and note whether it carried anything."""
        self._numbering = False
        self._outbox.leave_link()
        self._acks.settle(self.received)
        if was_open:
            counts = (self._replay.acked, self.received)
            barren = self._replay.bytes > 0 and counts == self._counts
            self._barren_links = self._barren_links + 1 if barren else 0
            self._counts = counts

    # ---------------------------------------------------------------- credentials

    def refresh(self, auth: Any) -> None:
        """Connecting side: send fresh credentials on the present link, at most once a second.

        Older credentials that still wait to be sent are forgotten.

        Raises:
            ValueError: `auth` is no value, or too large.
        """
        if self.side != "connecting" or self.state != "open":
            raise LocalProtocolError("this endpoint has no credentials to refresh, or no link")
        encoded = dump_credentials(self.codec, auth)
        links = self._outbox.links
        links[:] = [frame for frame in links if type(frame) is not Auth]
        links.append(Auth(Raw(encoded)))

    def trust_until(self, when: float) -> None:
        """Accepting side: set when the credentials of this link run out, until the next call.

        Args:
            when: Seconds on the hub's clock; infinity for never.
        """
        self._trusted_until = when

    # ---------------------------------------------------------------- the drain

    def goaway(self, grace: float, now: float, *, reconnect_after: float = 0.0) -> None:
        """Drain: tell the peer, and refuse its new calls from now on (DRAIN-1, DRAIN-2).

        A second call changes the grace.

        Args:
            grace: Seconds that calls in flight may still take.
            now: Seconds on the hub's clock.
            reconnect_after: Seconds for which the peer should stay away.
        """
        self._now = now
        last_id = self._peer_highest if self._drain is None else self._drain.last_id
        self._drain = Drain(last_id, now + grace, reconnect_after)
        if self.state in ("greeting", "open"):
            self._outbox.links.append(self._drain.frame(now))

    @property
    def draining(self) -> bool:
        """Whether this side takes no new calls."""
        return self._drain is not None

    # ----------------------------------------------------------------- known to the layers above

    # The highest id that was taken from the peer.
    _peer_highest: int

    def _meet(self, hello: HelloBody) -> None:
        """Take over the limits in the peer's first hello, which hold for the whole session."""
        raise NotImplementedError

    def _catch_up(self, events: list[Event]) -> None:
        """Give calls begun before the accepting side's hello the credit in it (HELLO-5)."""
        raise NotImplementedError
