"""Every bound of the package in one documented place."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]

# What an endpoint may assume of its peer before the peer's hello has arrived, and the least that
# any hello may announce (protocol.md HELLO).
FLOOR_MAX_BATCH = 64 * 1024
FLOOR_MAX_CALLS = 8
FLOOR_MAX_VALUE = 64 * 1024

# Seconds. The fastest heartbeat.
FLOOR_HEARTBEAT = 1.0

# Of anything a peer may send so much at once.
FLOOR_BURST = 100

# `Limits.max_held` left out.
TWICE_MAX_VALUE = -1

# Bytes. Bounds on memory that are left out are so large at least, and four times what each of them
# has to contain: a value, a session, a principal.
LEFT_OUT = -1
LEAST_SESSION = 64 * 1024 * 1024
LEAST_PRINCIPAL = 256 * 1024 * 1024
LEAST_TOTAL = 1024 * 1024 * 1024

# Fixed by the protocol, not negotiated.
MAX_ID = 2**53 - 1
MAX_IDS_PER_CALL = 16
MAX_CALLBACK_CALLS = 8
MAX_CREDIT = 2**31 - 1
COST_UNIT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one end of a session holds, runs and accepts.

    Each end has its own limits; the ones marked "announced" travel in its hello, so that the other
    end waits on its own side instead of running into them.

    Fixed by the protocol, and the same everywhere: values nest 100 deep at most, a call opens 16 ids
    at most (itself, its uploads and its callbacks, so that `max_calls` bounds the streams of a
    session as well), and of one callback 8 calls run at a time.

    Attributes:
        max_calls: Calls. Inbound calls and notifications running at a time; announced. At least 8.
        max_waiting: Calls. Outbound calls that may wait for a free slot; the next one fails with
            `resource_exhausted`.
        max_batch: Bytes. The largest WebSocket message accepted; announced. At least 65,536.
        max_value: Bytes. The largest encoded value accepted; announced. One that does not fit a
            message travels in chunks. At least 65,536.
        max_held: Bytes. Values that come in chunks and are not yet complete, in all; announced. At
            least `max_value`, and twice that when left out, if it is no more than half of
            `max_session_bytes`; 0 refuses chunks, so that no value may
            exceed `max_batch`.
        max_threads: Threads in which the plain functions of a server run, or of a connecting session.
            Beyond them a call waits, within its deadline. As many again serve calls that were made
            while another one is being handled, which do not wait and fail with
            `resource_exhausted` where there is none; half of these serve sessions that hold no
            thread at all, so that none has to wait for the slow functions of another.
        max_generator_threads: The same for plain generators, each of which holds one thread from its
            first step until it is closed.
        window: Items. The credit a stream starts with; announced.
        window_bytes: Bytes. A stream's window grows, while its consumer keeps up, until the window
            times the mean item size reaches this. A stream that lets go of items (`overflow=`)
            keeps no more than this, besides the newest item.
        outbox: Bytes. Encoded values waiting for the socket; when it is full, senders wait. One
            that travels in chunks does not count, but then no other of its call may wait.
        replay: Bytes. Frames kept until the other end has acked them, in a session that can be
            resumed; when they reach this, further ones wait, and then the outbox fills.
        max_session_bytes: Bytes that the peer makes this side hold, as whatever they are held: arguments
            until their call has ended, items until they are taken, values in chunks, the outbox,
            frames for replay. A peer above it waits: little of it is read, its calls begin one
            after the other, streams to it pause. If it is still above after `stall_timeout` and has
            not given back a 32nd of it meanwhile, it is closed with 4001, and its session ends.
            One value of `max_value` always gets through. At least 65,536; 64 MiB or four times
            `max_value` when left out. On the connecting side what this side sends by itself only
            makes its calls wait.
        max_principal_bytes: The same, of all sessions of one principal at a server, those without a
            connection included; without `authenticate`, of one address. The largest of them wait.
            At least 65,536; 256 MiB or four times `max_session_bytes` when left out.
        max_total_bytes: The same, of all sessions of a server. Whoever holds most waits. At least
            65,536; 1 GiB or four times `max_principal_bytes` when left out.
        resume_window: Seconds that the accepting side keeps a session whose connection is lost; 0: a
            session ends with its connection.
        max_detached: Sessions without a connection that a server keeps; beyond it one has to go,
            one of the same principal first.
        max_detached_bytes: Bytes that all of these together may hold.
        max_metadata: Bytes. Keys and values of one call's metadata together, its `key` and `last_id`
            included; of calls that leave, and of calls that come in.
        heartbeat_interval: Seconds of silence after which either end asks the other for a sign of
            life; the accepting side's holds for both. At least 1; 0: nobody asks, and a dead peer
            is found when something is sent to it.
        heartbeat_timeout: Seconds that the answer may take before the connection is given up (close
            code 4002). At least 1.
        drain_grace: Seconds that a server which stops lets its calls finish; see `Server.drain`. It
            fits into the 30 s that orchestrators give.
        hello_timeout: Seconds from the accepted connection to a complete hello, TLS and the opening
            handshake included (close code 4008).
        auth_timeout: Seconds that `authenticate` may take; beyond them the peer is asked to try again
            later (1013).
        max_unauthenticated: Connections of which a server does not know the peer's identity
            yet. At least 1. When there is one more, one that has kept the server waiting makes room
            for it; where none has, it is turned away.
        max_unauthenticated_per_address: The same, of one address. At least 1. An IPv6 network of 64
            bits counts as one address. Behind `Server(trusted_proxies=…)` the client's address
            counts.
        max_links: Connections that a server has let in; one more is asked to try again later
            (1013). At least 1.
        max_links_per_principal: The same, of one principal; one more is closed with 4504. Without
            `authenticate` nobody has one.
        max_links_per_address: The same, of one address; one more is closed with 4504.
        connect_timeout: Seconds for one attempt to connect, hello included.
        close_timeout: Seconds granted to a closing handshake before the socket is dropped.
        retry_attempts: Attempts. How often a call is made, the first time included, where it failed
            in a way that makes a repeat safe; a stream that gets on begins to count anew.
        retry_tokens: Tokens. What all calls of a session may spend on repeats: each failure costs
            one, and below half of them nothing is repeated; 0 turns repeats off that would cost
            the other end anything.
        retry_refund: Tokens that come back for each call sent, and for each second.
        idle_burst: Frames without effect that the peer may send at once: for calls that are over,
            extensions that nobody knows, credit or acks that nothing has called for. Beyond this and
            `idle_rate` the connection is closed (close code 4004).
        idle_rate: Frames of that kind a second.
        ping_burst: Pings that the peer may send at once, those of WebSockets included; beyond this
            and `ping_rate` the connection is closed (close code 4004).
        ping_rate: Pings a second.
        refusal_burst: Calls that the peer may send at once though they have to be refused: more than
            `max_calls` at a time, after this side has said that it drains, or with arguments above
            `max_value`. Beyond this and `refusal_rate` the connection is closed (close code 4004).
        refusal_rate: Calls of that kind a second.
        stall_timeout: Seconds that the peer may take no byte while some wait for it, and that it may
            be above its bound on memory (close code 4001).
        cleanup_timeout: Seconds that a cancelled handler's cleanup may take, shielded.
    """

    max_calls: int = 256
    max_waiting: int = 65_536
    max_batch: int = 256 * 1024
    max_value: int = 16 * 1024 * 1024
    max_held: int = TWICE_MAX_VALUE
    max_threads: int = 40
    max_generator_threads: int = 256
    window: int = 32
    window_bytes: int = 256 * 1024
    outbox: int = 1024 * 1024
    replay: int = 1024 * 1024
    max_session_bytes: int = LEFT_OUT
    max_principal_bytes: int = LEFT_OUT
    max_total_bytes: int = LEFT_OUT
    resume_window: float = 30.0
    max_detached: int = 1024
    max_detached_bytes: int = 64 * 1024 * 1024
    max_metadata: int = 16 * 1024
    heartbeat_interval: float = 20.0
    heartbeat_timeout: float = 10.0
    drain_grace: float = 25.0
    hello_timeout: float = 10.0
    auth_timeout: float = 10.0
    max_unauthenticated: int = 256
    max_unauthenticated_per_address: int = 256
    max_links: int = 16_384
    max_links_per_principal: int = 1024
    max_links_per_address: int = 4096
    connect_timeout: float = 10.0
    close_timeout: float = 2.0
    retry_attempts: int = 5
    retry_tokens: int = 1000
    retry_refund: float = 0.1
    idle_burst: int = 10_000
    idle_rate: float = 10_000.0
    ping_burst: int = 200
    ping_rate: float = 20.0
    refusal_burst: int = 1000
    refusal_rate: float = 100.0
    stall_timeout: float = 10.0
    cleanup_timeout: float = 5.0

    def __post_init__(self) -> None:
        self._fill_in("max_session_bytes", self.max_session_bytes, LEAST_SESSION, self.max_value)
        session = self.max_session_bytes
        self._fill_in("max_principal_bytes", self.max_principal_bytes, LEAST_PRINCIPAL, session)
        principal = self.max_principal_bytes
        self._fill_in("max_total_bytes", self.max_total_bytes, LEAST_TOTAL, principal)
        floors = {
            "max_calls": FLOOR_MAX_CALLS,
            "max_batch": FLOOR_MAX_BATCH,
            "max_value": FLOOR_MAX_VALUE,
            "window": 1,
            # With none at all nothing would ever find room.
            "outbox": 1,
            "replay": 1,
            "heartbeat_timeout": FLOOR_HEARTBEAT,
            "max_unauthenticated": 1,
            "max_unauthenticated_per_address": 1,
            "max_session_bytes": FLOOR_MAX_VALUE,
            "max_principal_bytes": FLOOR_MAX_VALUE,
            "max_total_bytes": FLOOR_MAX_VALUE,
            "max_links": 1,
            "max_links_per_principal": 1,
            "max_links_per_address": 1,
            # What an honest peer may send by chance.
            "idle_burst": FLOOR_BURST,
            "ping_burst": FLOOR_BURST,
            "refusal_burst": FLOOR_BURST,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise TypeError(f"Limits.{field.name} must be a number, not {value!r}")
            floor = floors.get(field.name, 0)
            if field.name == "max_held" and value == TWICE_MAX_VALUE:
                continue
            if not value >= floor:
                raise ValueError(f"Limits.{field.name} must be at least {floor}, not {value!r}")
        if 0 < self.heartbeat_interval < FLOOR_HEARTBEAT:
            raise ValueError(
                f"Limits.heartbeat_interval must be at least {FLOOR_HEARTBEAT:g} s, or 0 for none, "
                f"not {self.heartbeat_interval!r}"
            )
        if self.max_held == TWICE_MAX_VALUE:
            most = max(self.max_value, self.max_session_bytes // 2)
            object.__setattr__(self, "max_held", min(2 * self.max_value, most))
        elif 0 < self.max_held < self.max_value:
            raise ValueError(
                f"Limits.max_held must be at least max_value ({self.max_value}), or 0 to refuse "
                f"chunks, not {self.max_held!r}"
            )

    def _fill_in(self, name: str, value: int, least: int, inner: object) -> None:
        """Choose a bound on memory that was left out."""
        if value == LEFT_OUT:
            most = 4 * inner if isinstance(inner, int) else least
            object.__setattr__(self, name, max(least, most))
