"""The bounds of the package, all in one documented class."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]

# The limits that an endpoint assumes of its peer before the peer's hello, which are the least that
# any hello may announce (protocol.md HELLO).
FLOOR_MAX_BATCH = 64 * 1024
FLOOR_MAX_CALLS = 8
FLOOR_MAX_VALUE = 64 * 1024

# Seconds. The fastest heartbeat.
FLOOR_HEARTBEAT = 1.0

# The least burst of any kind that a peer may send.
FLOOR_BURST = 100

# `Limits.max_held` left out.
TWICE_MAX_VALUE = -1

# Bytes. A bound on memory that is left out has at least this value, and four times the bound that
# it has to contain: a value's, a session's, a principal's.
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

# The most that the peer can be told; it gets seconds as milliseconds.
MAX_SECONDS = MAX_ID // 1000
MOST = {
    "max_calls": MAX_ID,
    "max_batch": MAX_ID,
    "max_value": MAX_ID,
    "max_held": MAX_ID,
    "window": MAX_CREDIT,
    "resume_window": MAX_SECONDS,
    "heartbeat_interval": MAX_SECONDS,
    "heartbeat_timeout": MAX_SECONDS,
    "drain_grace": MAX_SECONDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one end of a session: the things that it holds, runs and accepts.

    Each end has its own limits. Limits marked "announced" travel in its hello, so that the other
    end waits on its own side instead of exceeding them.

    The protocol fixes some bounds for all: values nest 100 deep at most, a call opens 16 ids at
    most (itself, its uploads and its callbacks, so that `max_calls` also bounds the streams of a
    session), and 8 calls of one callback run at a time.

    Attributes:
        max_calls: Calls and notifications of the peer that run at a time; announced. At least 8.
        max_waiting: Calls to the peer that may wait for a free slot; the next one fails with
            `resource_exhausted`.
        max_batch: Bytes of the largest WebSocket message accepted; announced. At least 65,536.
        max_value: Bytes of the largest encoded value accepted; announced. A value that does not fit
            a message travels in chunks. At least 65,536.
        max_held: Bytes of all values that come in chunks and are not complete yet; announced. At
            least `max_value`. If left out, it is twice `max_value`, or half of `max_session_bytes`
            if that is less. 0 refuses chunks, so that no value may exceed `max_batch`.
        max_threads: Threads in which the plain functions of a server run, or of a connecting session.
            Beyond them a call waits, within its deadline. As many threads again serve nested calls,
            which are made while another call is being handled; these do not wait, and fail with
            `resource_exhausted` if no thread is free. Half of the further threads serve only
            sessions that hold no thread at all, so that no session has to wait for the slow
            functions of another.
        max_generator_threads: Threads for plain generators, with the same rules. Each generator
            holds one thread from its first step until it is closed.
        window: Items of credit with which a stream starts; announced.
        window_bytes: Bytes to which a stream's window grows while its consumer keeps up: the window
            times the mean size of an item. A stream that drops items (`overflow=`) keeps no more
            bytes than this, besides the newest item.
        outbox: Bytes of encoded values that wait for the socket; when it is full, senders wait. A
            value that travels in chunks does not count, but then no other value of its call may
            wait.
        replay: Bytes of frames kept until the other end has acked them, in a session that can be
            resumed. When they reach this, further frames wait, and then the outbox fills.
        max_session_bytes: Bytes that the peer makes this side hold, of every kind: arguments until
            their call has ended, items until they are taken, values in chunks, the outbox, frames
            for replay. A peer above the bound waits: little is read from it, its calls begin one
            after the other, and streams to it pause. If it is still above the bound after
            `stall_timeout`, and has not given back a 32nd of it meanwhile, streams of this side's
            own calls end with `resource_exhausted`, the largest first: those of which this side has
            taken no item in that time, or in half of it if the session is so far above that nothing
            is read. If there is none, the connection is closed with 4001, and the session ends. One
            value of `max_value` always gets through. At least 65,536; if left out, 64 MiB or four
            times `max_value`. On the connecting side, values that this side sends by itself only
            make its calls wait.
        max_principal_bytes: Bytes that all sessions of one principal make a server hold, including
            sessions without a connection; without `authenticate`, all sessions of one address. The
            largest of them wait. At least 65,536; if left out, 256 MiB or four times
            `max_session_bytes`.
        max_total_bytes: Bytes that all sessions make a server hold. The sessions of the principals
            with the most bytes wait. At least 65,536; if left out, 1 GiB or four times
            `max_principal_bytes`.
        resume_window: Seconds that the accepting side keeps a session whose connection is lost; 0: a
            session ends with its connection.
        max_detached: Sessions without a connection that a server keeps. Beyond them one has to end,
            first one of the same principal.
        max_detached_bytes: Bytes that all sessions without a connection may hold together.
        max_metadata: Bytes of the keys and values of one call's metadata together, with its `key`
            and `last_id`; for outbound and for inbound calls.
        heartbeat_interval: Seconds of silence after which either end asks the other for a sign of
            life; the accepting side's value holds for both. At least 1. 0: neither end asks, and a
            dead peer is found only when a message is sent to it.
        heartbeat_timeout: Seconds that the answer may take before the connection is given up (close
            code 4002). At least 1.
        drain_grace: Seconds that a stopping server gives its calls to finish; see `Server.drain`.
            The default fits into the 30 s that orchestrators give.
        hello_timeout: Seconds from the accepted connection to a complete hello, TLS and the opening
            handshake included (close code 4008).
        auth_timeout: Seconds that `authenticate` may take; beyond them the peer is asked to try again
            later (1013).
        max_unauthenticated: Connections that are not authenticated yet. At least 1. If one more
            comes, a connection that has kept the server waiting makes room for it; if there is
            none, the new one is refused.
        max_unauthenticated_per_address: Connections of one address that are not authenticated yet.
            At least 1. An IPv6 network of 64 bits counts as one address. With
            `Server(trusted_proxies=…)` the client's address counts.
        max_links: Connections that a server has let in; one more is asked to try again later
            (1013). At least 1.
        max_links_per_principal: Connections of one principal that a server has let in; one more is
            closed with 4504. Without `authenticate` no connection has a principal.
        max_links_per_address: Connections of one address that a server has let in; one more is
            closed with 4504.
        connect_timeout: Seconds for one attempt to connect, hello included.
        close_timeout: Seconds for a closing handshake, after which the socket is dropped.
        retry_attempts: Attempts at a call, the first one included, if it fails in a way that makes
            a repeat safe. A stream that makes progress counts anew.
        retry_tokens: Tokens that all calls of a session may spend on repeats. Each failure costs
            one, and below half of the tokens no call is repeated. 0 turns off all repeats that
            would cost the other end anything.
        retry_refund: Tokens that come back for each call sent, and for each second.
        idle_burst: Frames without effect that the peer may send at once: frames for calls that are
            over, unknown extensions, credit and acks without a cause. Beyond this and `idle_rate`
            the connection is closed (close code 4004).
        idle_rate: Frames of that kind for each second.
        ping_burst: Pings that the peer may send at once, with those of WebSocket itself. Beyond
            this and `ping_rate` the connection is closed (close code 4004).
        ping_rate: Pings for each second.
        refusal_burst: Calls that have to be refused, and that the peer may send at once: calls
            beyond `max_calls`, after this side has announced its drain, or with arguments above
            `max_value`. Beyond this and `refusal_rate` the connection is closed (close code 4004).
        refusal_rate: Calls of that kind for each second.
        stall_timeout: Seconds for which the peer may take no byte while some wait for it, and for
            which it may be above its bound on memory (close code 4001).
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
            # With 0 no value would ever find room.
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
            # Frames that an honest peer may send by chance.
            "idle_burst": FLOOR_BURST,
            "ping_burst": FLOOR_BURST,
            "refusal_burst": FLOOR_BURST,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise TypeError(f"Limits.{field.name} must be a number, not {value!r}")
            if isinstance(field.default, int) and not isinstance(value, int):
                raise TypeError(f"Limits.{field.name} must be a whole number, not {value!r}")
            floor = floors.get(field.name, 0)
            if field.name == "max_held" and value == TWICE_MAX_VALUE:
                continue
            if not value >= floor:
                raise ValueError(f"Limits.{field.name} must be at least {floor}, not {value!r}")
            most = MOST.get(field.name)
            if most is not None and value > most:
                raise ValueError(f"Limits.{field.name} must be at most {most}, not {value!r}")
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
        """Fill in a bound on memory that was left out."""
        if value == LEFT_OUT:
            most = 4 * inner if isinstance(inner, int) else least
            object.__setattr__(self, name, max(least, most))
