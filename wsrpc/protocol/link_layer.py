"""How a session goes on from link to link: the half of an endpoint that knows nothing of calls.

`Continuity` says hello and resumes, numbers what goes out and counts what comes in, keeps and
replays, acks, listens for the peer's heartbeat, and says that this side drains. What the numbered
frames mean is the other half's affair: `Endpoint`, which fills the table `_numbered` and overrides
the methods at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from msgspec import Raw

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import FLOOR_MAX_BATCH, Limits
from .batch import BATCH_TARGET, FRAME_OVERHEAD, Batch
from .codec import Codec
from .drain import Drain
from .events import AuthReceived, Event, HelloReceived, SessionExpired, TokenConfirmed
from .frames import (
    Ack,
    Auth,
    CallOptions,
    Extension,
    Hello,
    HelloBody,
    Ping,
    Pong,
    Taken,
)
from .heartbeat import Heartbeat
from .hello import VERSION, Opening, announce, hello_of
from .lane_states import LocalProtocolError
from .lanes import OutCall
from .link_states import LINK, LinkState
from .outbox import Outbox
from .rates import Patience
from .replay import Acks, Replay
from .window import violation

__all__ = ["Continuity"]


# Bytes. What goes at once over a link that follows one that was lost, until it has shown that
# anything gets through: whatever cuts links may let no more than this pass.
CAREFUL_TARGET = 16 * 1024

# So many links in a row that carried nothing forward end a session (RESUME-9).
MAX_BARREN_LINKS = 5

# Seconds from one `auth` frame to the next (AUTH-2).
AUTH_INTERVAL = 1.0


class Continuity:
    """The half of an endpoint that takes a session from one link to the next.

    Args:
        side: "connecting" says hello first; "accepting" answers.
        codec: The subprotocol's encoding.
        limits: This end's bounds, announced in its hello.
        agent: What this end calls itself, for logs.

    Attributes:
        state: The row of the table `LINK` that holds now.
        established: Whether both hellos of the first link are through.
        link: The number of the newest link, as the connecting side counts them; 0 before the first.
        token: Connecting side: what to resume with, from the newest hello.
        resume_window: Seconds that the session outlives a link; 0: it does not.
        received: Numbered frames taken so far.
        ignored: Frames that came and were ignored: for finished ids, and extensions.
        unreported: What the frames before the offending one did, where a ProtocolError was raised.
        peer_max_batch: Bytes of the largest message that the peer takes.
    """

    __slots__ = (
        "_acks",
        "_auth_taken",
        "_barren_links",
        "_broken",
        "_careful",
        "_confirmed",
        "_counts",
        "_drain",
        "_events",
        "_excess",
        "_expires",
        "_heartbeat",
        "_link_confirmed",
        "_now",
        "_numbering",
        "_outbox",
        "_patience",
        "_pings",
        "_replay",
        "_session_id",
        "_trusted_until",
        "agent",
        "codec",
        "established",
        "ignored",
        "limits",
        "link",
        "peer_max_batch",
        "received",
        "resume_window",
        "side",
        "state",
        "token",
        "unreported",
    )

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        self.side = side
        self.codec = codec
        self.limits = limits
        self.agent = agent
        self.state: LinkState = "new"
        self.established = False
        self.link = 0
        self.token: str | None = None
        self.resume_window = 0.0
        self.received = 0
        self.ignored = 0
        self.unreported: list[Event] = []
        self.peer_max_batch = FLOOR_MAX_BATCH
        self._session_id = ""
        self._outbox = Outbox()
        self._replay = Replay(limits.replay)
        self._acks = Acks()
        # Whether numbered frames may go out now: those of a new session's connecting side at once,
        # all others when both hellos are through (HELLO-4, RESUME-4).
        self._numbering = False
        self._broken = False
        self._confirmed = False
        self._link_confirmed = False
        # Whether this link has followed another, and has yet to show that anything gets through.
        self._careful = False
        self._barren_links = 0
        self._counts = (0, 0)
        self._expires: float | None = None
        self._heartbeat: Heartbeat | None = None
        self._pings = 0
        self._drain: Drain | None = None
        self._trusted_until = math.inf
        self._auth_taken = -math.inf
        self._now = 0.0
        # What the frames of a batch have done so far.
        self._events: list[Event] = []
        # Why the peer has to calm down, once it has (OUT-4, CALM).
        self._excess: str | None = None
        self._patience = Patience(limits)

    # ---------------------------------------------------------------- links come and go

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.state == "closed"

    @property
    def resumable(self) -> bool:
        """Whether the session outlives the loss of its link.

        Not so without a resume window, after a violation, when a token was never confirmed and
        something was taken even so (RESUME-5), and when the last links carried nothing (RESUME-9).
        """
        if not self.resume_window or self._broken or self.closed:
            return False
        if self._barren_links >= MAX_BARREN_LINKS:
            return False
        if self.side == "accepting":
            # Of a session in which nothing was taken nothing can be lost by going on with it.
            return self._confirmed or self.received == 0
        return self.token is not None

    def _step(self, event: str) -> None:
        try:
            self.state = LINK[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"cannot {event} an endpoint that is {self.state}") from None

    def connect(self, auth: Any = None, *, now: float | None = None, patient: bool = False) -> None:
        """Connecting side: begin on a new link, with a new session or with what there is of it.

        Args:
            auth: The credentials; any JSON value.
            now: Seconds on the shell's clock.
            patient: In a new session, hold calls back until the accepting side's hello is there. So
                they go out behind the first ack, and a link that is lost before the accepting side
                has that ack costs nothing (RESUME-5).

        Raises:
            ValueError: `auth` is no value.
        """
        again = self.state == "detached"
        if self.side != "connecting" or (again and not self.resumable):
            raise LocalProtocolError("this endpoint cannot connect, or not again")
        credentials = Raw(self.codec.dump_value(auth))
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
            token: What the peer may resume with; None: it may not.
            resume_window: Seconds that the session outlives a link; 0: it does not.
            heartbeat: Seconds of silence after which either side asks, and for which it then waits
                for an answer; at least 1 each. None: nobody asks.
            now: Seconds on the shell's clock.

        Raises:
            ProtocolError: The message breaks a rule; close the link and the endpoint.
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
        # Without a token the peer has nothing to come back with.
        self.resume_window = resume_window if token is not None else 0.0
        if not self.resume_window:
            self._replay.forgo()
        self._meet(hello)
        return self._enter(opening, token, now)

    def resume(
        self, opening: Opening, *, token: str | None = None, now: float | None = None
    ) -> list[Event]:
        """Accepting side: go on, on a new link; an older one is of no concern from now on.

        Args:
            opening: The new link's first message, whose token names this session, and whose sender
                is its principal.
            token: What the peer may resume with next.
            now: Seconds on the shell's clock.

        Raises:
            ProtocolError: 4506, an older link came late: nothing has changed. Any other code: it
                does not fit, and the session has to end, the present link included.
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
        if resumed and any(type(frame) in self._numbered for frame in frames):
            self._broken = True
            raise violation("a numbered frame before both hellos of a resumed link")
        events: list[Event] = [HelloReceived(opening.hello)]
        if not resumed:
            self._catch_up(events)
        return self._apply(frames, opening.size, events)

    def _receive_hello(self, data: bytes) -> list[Event]:
        """Connecting side: take the first message of a link."""
        first, *behind = self.codec.decode(data)
        hello = hello_of(first)
        hello.auth = None
        resumed = self.established
        if resumed:
            if not hello.resumed:
                raise ProtocolError(CloseCode.CANNOT_RESUME, "the server began another session")
            self._check_count(hello.received)
            self._replay.rewind(hello.received or 0)
        else:
            if hello.resumed or (hello.received or 0) > self.sent:
                raise violation("a hello that resumes what never was")
            self._replay.trim(hello.received or 0)
            self._meet(hello)
        self._step("hello")
        self._expires = None
        self.established = self._numbering = True
        self.token = hello.token
        self.resume_window = (hello.resume_window or 0) / 1000
        if not self.resume_window:
            self._replay.forgo()
        self._heartbeat = None
        if hello.heartbeat is not None:
            self._heartbeat = Heartbeat.announced_as(hello.heartbeat)
            self._heartbeat.begin(self._now)
        events: list[Event] = [HelloReceived(hello)]
        if not resumed:
            self._catch_up(events)
        events = self._apply(behind, len(data), events)
        self._tell()
        return events

    def _check_count(self, received: int | None) -> None:
        """What the hello of a resume says to have been taken must fit what was sent."""
        replay = self._replay
        if not replay.acked <= (received or 0) <= replay.numbered:
            reason = f"{received or 0} frames taken, of {replay.numbered}, {replay.acked} acked"
            raise ProtocolError(CloseCode.CANNOT_RESUME, reason[:120])

    def detach(self, now: float) -> None:
        """The link is gone. `resumable` tells whether the session goes on without it.

        Args:
            now: Seconds on the shell's clock.
        """
        was_open = self.state == "open"
        self._step("detach")
        self._now = now
        self._leave_link(was_open=was_open)
        if self._expires is None and self.resumable:
            self._expires = now + self.resume_window

    def _leave_link(self, *, was_open: bool) -> None:
        """Forget what concerned the old link alone, and note whether it carried anything."""
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

        Others that still wait to be sent are forgotten.

        Raises:
            ValueError: `auth` is no value, or too large.
        """
        if self.side != "connecting" or self.state != "open":
            raise LocalProtocolError("this endpoint has no credentials to refresh, or no link")
        encoded = self.codec.dump_value(auth)
        if len(encoded) > FLOOR_MAX_BATCH - FRAME_OVERHEAD:
            raise ValueError(f"credentials of {len(encoded)} bytes; at most 64 KiB can travel")
        links = self._outbox.links
        links[:] = [frame for frame in links if type(frame) is not Auth]
        links.append(Auth(Raw(encoded)))

    def trust_until(self, when: float) -> None:
        """Accepting side: when the credentials of this link run out; holds until it is called again.

        Args:
            when: Seconds on the shell's clock; infinity for never.
        """
        self._trusted_until = when

    # ---------------------------------------------------------------- time

    @property
    def next_alarm(self) -> float | None:
        """Seconds on the shell's clock. When to call `alarm`, or None.

        It often moves on with what is sent and received; a shell need not follow, since an alarm
        that comes early does no harm.
        """
        if self.state == "detached":
            return self._expires
        if self.state != "open":
            return None
        due = min(self._acks.due, self._trusted_until)
        if self._heartbeat is not None:
            due = min(due, self._heartbeat.due)
        return due if due < math.inf else None

    def alarm(self, now: float, lag: float = 0.0) -> list[Event]:
        """Do what is due by now; what it makes to send comes out of `next_batch`.

        Args:
            now: Seconds on the shell's clock.
            lag: Seconds by which the shell knows itself to have been held up of late; that this
                alarm itself comes late is noticed here.

        Raises:
            ProtocolError: 4002, nothing was heard of the peer for too long (HEART-2); 4003, its
                credentials have run out (AUTH-3).
        """
        self._now = now
        if self.state == "detached":
            expired = self._expires is not None and now >= self._expires
            return [SessionExpired()] if expired else []
        if self.state != "open":
            return []
        if now >= self._trusted_until:
            # Said once: the link has to go, and the next one brings credentials of its own.
            self._trusted_until = math.inf
            raise ProtocolError(CloseCode.AUTH_EXPIRED, "the credentials have expired")
        if now >= self._acks.due:
            self._tell()
        if self._heartbeat is not None and self._heartbeat.check(now, lag):
            self._pings += 1
            self._outbox.links.append(Ping(self._pings))
        return []

    def _tell(self) -> None:
        """Send an ack of all that was taken."""
        self._outbox.ack = self.received
        self._acks.settle(self.received)

    # ---------------------------------------------------------------- bytes in

    def receive(self, data: bytes, now: float | None = None) -> list[Event]:
        """Take one WebSocket message of the present link; once closed, it has no effect.

        Args:
            data: The message.
            now: Seconds on the shell's clock; left out: those of the last call that gave them.

        Raises:
            ProtocolError: The message breaks a rule; close the link with the error's code.
        """
        if now is not None:
            self._now = now
        if self._heartbeat is not None:
            self._heartbeat.heard = self._now
        if len(data) > self.limits.max_batch:
            raise ProtocolError(CloseCode.TOO_BIG, f"a message of {len(data)} bytes")
        if self.state == "open":
            return self._apply(self.codec.decode(data), len(data), [])
        if self.closed:
            return []
        if self.state != "greeting":
            raise LocalProtocolError(f"a message was taken by an endpoint that is {self.state}")
        return self._receive_hello(data)

    def _apply(
        self, frames: list[Taken | Extension], size: int, events: list[Event]
    ) -> list[Event]:
        """Let a batch's frames act one after the other; what they do joins `events`.

        Here, and nowhere else, frames are counted as taken: a batch at a time (NUM-3).
        """
        self._events = events
        numbered = self._numbered
        ignored = self.ignored
        count = 0
        try:
            for frame in frames:
                act = numbered.get(type(frame))
                if act is None:
                    self._unnumbered[type(frame)](self, frame)
                else:
                    count += 1
                    act(self, frame)
        except ProtocolError:
            # Taken in part: whoever counts on it must not go on.
            self._broken = True
            self.unreported = events
            raise
        finally:
            self._events = []
        self.received += count
        patience = self._patience
        if self.ignored != ignored:
            patience.idle += self.ignored - ignored
        if patience.idle or patience.pings or patience.refused:
            self._excess = patience.exhausted(self._now) or self._excess
        if self._excess is not None:
            # With the whole batch taken, for the session may go on over a new link.
            excess, self._excess = self._excess, None
            self.unreported = events
            raise ProtocolError(CloseCode.ENHANCE_YOUR_CALM, excess)
        if count and self._replay.keeping and self._acks.took(self.received, size, self._now):
            self._tell()
        return events

    def _on_second_hello(self, frame: Hello) -> None:
        raise violation("a second hello on one link")

    def _on_ack(self, frame: Ack) -> None:
        replay = self._replay
        if not replay.acked <= frame.received <= replay.carried:
            raise violation(
                f"ack {frame.received} after {replay.acked}, with {replay.carried} frames sent"
            )
        if not self._link_confirmed and self.side == "accepting" and self.resume_window:
            self._link_confirmed = self._confirmed = True
            self._events.append(TokenConfirmed())
        elif frame.received == replay.acked:
            self._patience.idle += 1
        if frame.received > replay.acked:
            self._careful = False
        replay.trim(frame.received)

    def _on_ping(self, frame: Ping) -> None:
        self._patience.pings += 1
        self._outbox.pong = frame.value

    def _on_auth(self, frame: Auth) -> None:
        if self.side == "connecting":
            raise violation("auth from the accepting side")
        if self._now < self._auth_taken + AUTH_INTERVAL:
            self._excess = "fresh credentials more than once a second"
            return
        self._auth_taken = self._now
        self._events.append(AuthReceived(frame.value))

    def _on_pong(self, frame: Pong) -> None:
        # That something came is all that the heartbeat wants to know.
        self._patience.idle += 1

    def _on_extension(self, frame: Extension) -> None:
        self.ignored += 1

    # What each frame does. Of the class, not of each object: a thousand idle sessions share them.
    _numbered: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {}
    _unnumbered: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        Hello: _on_second_hello,
        Ack: _on_ack,
        Ping: _on_ping,
        Pong: _on_pong,
        Auth: _on_auth,
        Extension: _on_extension,
    }

    # ---------------------------------------------------------------- bytes out

    @property
    def sent(self) -> int:
        """Numbered frames sent so far."""
        return self._replay.numbered

    @property
    def acked(self) -> int:
        """How many of them the peer has said to have taken."""
        return self._replay.acked

    @property
    def replay_bytes(self) -> int:
        """Bytes of frames kept until the peer acks them."""
        return self._replay.bytes

    @property
    def has_output(self) -> bool:
        """Whether it is time for `next_batch`; what is there may still have to wait for acks."""
        outbox, replay = self._outbox, self._replay
        if self._numbering and outbox.ring and not replay.full:
            return True
        return outbox.has_link_frames or (self._numbering and bool(replay.again))

    def next_batch(self, now: float) -> bytes | None:
        """What is ready, as the bytes of one WebSocket message, or None.

        Args:
            now: Seconds on the clock on which deadlines were given.
        """
        self._now = now
        outbox, replay = self._outbox, self._replay
        target = min(CAREFUL_TARGET if self._careful else BATCH_TARGET, self.peer_max_batch)
        batch = Batch(self.codec, target, outbox.ring, self._open_call)
        if self._careful and outbox.greets:
            # By itself, so that it gets through however soon this link is lost (RESUME-4).
            outbox.greet(batch)
            return batch.join()
        if replay.keeping:
            acks = self._acks
            if now >= acks.due or ((self.received >= acks.soon or now >= acks.late) and outbox):
                self._tell()
        if outbox.has_link_frames:
            outbox.fill_links(batch)
        if self._numbering:
            ample = replay.bytes <= replay.ample and not replay.again
            if ample or replay.fill(batch, probe=self._careful):
                outbox.fill(batch)
            # Here, and nowhere else, frames get their number (NUM-2).
            replay.number(batch)
        return batch.join()

    # ---------------------------------------------------------------- the drain

    def goaway(self, grace: float, now: float, *, reconnect_after: float = 0.0) -> None:
        """Drain: let the peer know, and refuse its new calls from now on (DRAIN-1, DRAIN-2).

        Called again, it changes the grace.

        Args:
            grace: Seconds that calls in flight may still take.
            now: Seconds on the shell's clock.
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

    # ---------------------------------------------------------------- what the other half knows

    # The highest id that was taken from the peer.
    _peer_highest: int

    def _meet(self, hello: HelloBody) -> None:
        """Take over what the peer's first hello announces, which holds for the whole session."""
        raise NotImplementedError

    def _catch_up(self, events: list[Event]) -> None:
        """Give what was begun before the accepting side's hello what the hello grants (HELLO-5)."""
        raise NotImplementedError

    def _open_call(self, call: OutCall) -> CallOptions | None:
        """Number a call: its id, then those of its uploads and callbacks; returns its options."""
        raise NotImplementedError
