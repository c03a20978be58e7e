"""Traffic over the present link: numbers, counts, replay and acks (protocol.md, Numbering).

The lowest layer of an endpoint. It watches the peer's heartbeat and knows which alarms are due. The
next layer (`link_layer`) knows how links follow one another. The layers above know the meaning of
the numbered frames, and define the methods at the end.
"""

from __future__ import annotations

import math
from typing import Literal

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import FLOOR_MAX_BATCH, Limits
from .batch import BATCH_TARGET, SMALLEST_QUANTUM, Batch
from .codec import Codec
from .drain import Drain
from .events import AuthReceived, Event, SessionExpired, TokenConfirmed
from .frames import Ack, Auth, CallOptions, Extension, Ping, Pong, Taken
from .heartbeat import Heartbeat
from .lane_states import LocalProtocolError
from .lanes import OutCall
from .link_states import LinkState
from .outbox import Outbox
from .rates import Patience
from .replay import Acks, Replay
from .window import violation

__all__ = ["Traffic"]

# Bytes. The largest batch on a link that follows a lost one, until it has shown that frames get
# through: a middlebox that cuts links may let no more than this pass.
CAREFUL_TARGET = 16 * 1024

# Bytes of frames kept for a peer above its bound on memory: enough for two of its acks (RESUME-7).
LEAST_REPLAY = 128 * 1024

# Seconds from one `auth` frame to the next (AUTH-2).
AUTH_INTERVAL = 1.0


class Traffic:
    """The layer of an endpoint that sends and takes messages.

    Args:
        side: "connecting" says hello first; "accepting" answers.
        codec: The subprotocol's encoding.
        limits: This end's bounds, announced in its hello.
        agent: The name of this end's program, for logs.

    Attributes:
        state: The row of the table `LINK` that holds now.
        established: Whether both hellos of the first link are through.
        link: The number of the newest link, as the connecting side counts them; 0 before the first.
        token: Connecting side: the token to resume with, from the newest hello.
        resume_window: Seconds that the session outlives a link; 0: it does not.
        received: Numbered frames taken so far.
        ignored: Frames that came and were ignored: frames for finished ids, and extensions.
        unreported: The events of the frames before the offending one, where a ProtocolError was
            raised.
        peer_max_batch: Bytes of the largest message that the peer takes.
        crowded: Whether the peer is above its bound on memory: little waits for it in the outbox, and
            little is kept for replay; see `squeeze`.
        reluctant: Whether further frames would only be held here. Then no ack is sent before its
            time, so that a peer which bounds its own replay sends little (RESUME-7); see
            `hesitate`.
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
        "_waits_since",
        "agent",
        "codec",
        "crowded",
        "established",
        "ignored",
        "limits",
        "link",
        "peer_max_batch",
        "received",
        "reluctant",
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
        self.crowded = False
        self.reluctant = False
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
        # Whether numbered frames may go out now. The connecting side of a new session may send them
        # at once; otherwise both hellos must be through (HELLO-4, RESUME-4).
        self._numbering = False
        self._broken = False
        self._confirmed = False
        self._link_confirmed = False
        # Whether this link has followed another, and has yet to show that frames get through.
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
        # The time of the peer's last ack, or of the first frame that it has not acked.
        self._waits_since = 0.0
        # The events of a batch's frames so far.
        self._events: list[Event] = []
        # The reason why the peer has to calm down, once there is one (OUT-4, CALM).
        self._excess: str | None = None
        self._patience = Patience(limits)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.state == "closed"

    # ---------------------------------------------------------------- time

    @property
    def next_alarm(self) -> float | None:
        """Seconds on the hub's clock.

        The time at which to call `alarm`, or None. Most messages move it on. A hub need not follow,
        since an alarm that comes early does no harm.
        """
        if self.state != "open":
            return self._expires if self.state == "detached" else None
        due = self._acks.due
        if self._trusted_until < due:
            due = self._trusted_until
        heartbeat = self._heartbeat
        if heartbeat is not None:
            asked = heartbeat.due
            if asked < due:
                due = asked
        return due if due < math.inf else None

    def alarm(self, now: float, lag: float = 0.0) -> list[Event]:
        """Do the things that are due by now; frames to send come out of `next_batch`.

        Args:
            now: Seconds on the hub's clock.
            lag: Seconds by which the event loop is known to have been held up of late. The lateness
                of this alarm itself is noticed here.

        Raises:
            ProtocolError: 4002, the peer was silent for too long (HEART-2); 4003, its credentials
                have run out (AUTH-3).
        """
        self._now = now
        if self.state == "detached":
            expired = self._expires is not None and now >= self._expires
            return [SessionExpired()] if expired else []
        if self.state != "open":
            return []
        if now >= self._trusted_until:
            # Raise it once: the link has to go, and the next one brings credentials of its own.
            self._trusted_until = math.inf
            raise ProtocolError(CloseCode.AUTH_EXPIRED, "the credentials have expired")
        if now >= self._acks.due:
            self._tell()
        if self._heartbeat is not None and self._heartbeat.check(now, lag):
            self._pings += 1
            self._outbox.links.append(Ping(self._pings))
        return []

    def squeeze(self, crowded: bool) -> None:
        """Note that the peer is above its bound on memory, or within it again."""
        self.crowded = crowded
        replay = self.limits.replay
        self._replay.resize(min(replay, LEAST_REPLAY) if crowded else replay)

    def hesitate(self, reluctant: bool) -> None:
        """Hold acks back while further frames would only be held; send them once that is over."""
        self.reluctant = reluctant
        if not reluctant and self.state == "open" and self._acks.due < math.inf:
            self._tell()

    def _tell(self) -> None:
        """Send an ack of all frames taken."""
        self._outbox.ack = self.received
        self._acks.settle(self.received)

    # ---------------------------------------------------------------- bytes in

    def receive(self, data: bytes, now: float | None = None) -> list[Event]:
        """Take one WebSocket message of the present link; once closed, it has no effect.

        Args:
            data: The message.
            now: Seconds on the hub's clock; if left out, the time of the last call that gave one.

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
        """Let a batch's frames act one after the other; their events join `events`.

        Frames are counted as taken here and nowhere else, a batch at a time (NUM-3).
        """
        self._events = events
        ignored = self.ignored
        count = 0
        try:
            for frame in frames:
                if self._act(frame):
                    count += 1
                else:
                    self._act_link(frame)
        except ProtocolError:
            # The batch was taken in part: a session that counts its frames must not go on.
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
            # Raise it when the whole batch is taken, since the session may go on over a new link.
            excess, self._excess = self._excess, None
            self.unreported = events
            raise ProtocolError(CloseCode.ENHANCE_YOUR_CALM, excess)
        if count and self._replay.keeping:
            due = self._acks.took(self.received, size, self._now)
            if due and not self.reluctant:
                self._tell()
        return events

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
            self._waits_since = self._now
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
        # Its arrival is all that the heartbeat needs.
        self._patience.idle += 1

    # The effect of each frame, by its type: a chain of comparisons, since a table of methods would
    # keep the core from being compiled.

    def _act_link(self, frame: Taken | Extension) -> None:
        """Let a link frame act."""
        if isinstance(frame, Ack):
            self._on_ack(frame)
        elif isinstance(frame, Ping):
            self._on_ping(frame)
        elif isinstance(frame, Pong):
            self._on_pong(frame)
        elif isinstance(frame, Auth):
            self._on_auth(frame)
        elif isinstance(frame, Extension):
            self.ignored += 1
        else:
            raise violation("a second hello on one link")

    # ---------------------------------------------------------------- bytes out

    @property
    def sent(self) -> int:
        """Numbered frames sent so far."""
        return self._replay.numbered

    @property
    def acked(self) -> int:
        """Numbered frames that the peer has acked."""
        return self._replay.acked

    @property
    def replay_bytes(self) -> int:
        """Bytes of frames kept until the peer acks them."""
        return self._replay.bytes

    def ack_lag(self, now: float) -> float:
        """Seconds for which the peer has acked none of its frames; 0 if it has acked all.

        An honest peer acks within a second, and the way there and back (RESUME-7).

        Args:
            now: Seconds on the hub's clock.
        """
        return max(0.0, now - self._waits_since) if self._replay.bytes else 0.0

    @property
    def share(self) -> int:
        """Bytes of items that may be gathered in one frame now; see `Replay.share`."""
        return self._replay.share

    @property
    def has_output(self) -> bool:
        """Whether it is time for `next_batch`; its frames may still have to wait for acks."""
        outbox, replay = self._outbox, self._replay
        if self._numbering and (replay.again or (outbox.ring and replay.bytes < replay.limit)):
            return True
        # This is `has_link_frames`, written out to save a function call for each message.
        return bool(outbox.links) or outbox.ack is not None or outbox.pong is not None

    def next_batch(self, now: float) -> bytes | None:
        """The frames that are ready, as the bytes of one WebSocket message, or None.

        Args:
            now: Seconds on the clock on which deadlines were given.
        """
        self._now = now
        outbox, replay = self._outbox, self._replay
        target = min(self._careful_target() if self._careful else BATCH_TARGET, self.peer_max_batch)
        batch = Batch(self.codec, target, self._open_call)
        batch.quantum = replay.share
        if self._careful and outbox.greets:
            # The hello goes alone, so that it gets through however soon this link is lost
            # (RESUME-4).
            outbox.greet(batch)
            return batch.join()
        if replay.keeping:
            acks = self._acks
            early = self.received >= acks.soon or now >= acks.late
            if now >= acks.due or (early and outbox and not self.reluctant):
                self._tell()
        if outbox.links or outbox.ack is not None or outbox.pong is not None:
            outbox.fill_links(batch)
        if self._numbering:
            ample = replay.bytes <= replay.ample and not replay.again
            new_ones = ample or replay.fill(batch, probe=self._careful)
            before = len(batch.parts)
            if new_ones:
                outbox.fill(batch)
            if not replay.bytes:
                self._waits_since = now
            # Frames get their numbers here and nowhere else (NUM-2).
            replay.number(batch, len(batch.parts) - before)
        return batch.join()

    def _careful_target(self) -> int:
        """Bytes of the next batch, until the peer has acked something on this link.

        The first batch holds one frame of those that go again. Each of the others may be as large
        as all before it: however soon the link is lost, half of the bytes that it carried were of
        use.
        """
        carried = self._replay.under_way
        return min(CAREFUL_TARGET, max(SMALLEST_QUANTUM, carried)) if carried else CAREFUL_TARGET

    # ----------------------------------------------------------------- known to the layers above

    def _act(self, frame: Taken | Extension) -> bool:
        """Let a numbered frame act; returns False for a link frame, which has no effect yet."""
        raise NotImplementedError

    def _receive_hello(self, data: bytes) -> list[Event]:
        """Connecting side: take the first message of a link."""
        raise NotImplementedError

    def _open_call(self, call: OutCall) -> CallOptions | None:
        """Number a call: its id, then those of its uploads and callbacks; returns its options."""
        raise NotImplementedError
