"""The accepting side: controllers behind a port."""

from __future__ import annotations

import secrets
import signal
import ssl as ssl_module
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from .. import runtime as runtimes
from ..admission.authentication import (
    CROWDED,
    REVOKED,
    Admission,
    Authenticate,
    Grant,
    expiry,
)
from ..admission.door import Door
from ..admission.forwarded import Proxies
from ..admission.origins import AllowedOrigins, Origins
from ..admission.unauthenticated import Pending
from ..close_codes import CloseCode
from ..context import Authorize
from ..contract.description import Reflection, describe, with_names
from ..contract.expose import expose_all
from ..errors import ConnectionLost, ProtocolError
from ..handling.dispatch import targets_of
from ..interfaces import Interceptor, OnState, Session, Validate
from ..limits import Limits
from ..protocol.codec import SUBPROTOCOLS
from ..protocol.endpoint import Endpoint
from ..protocol.events import AuthReceived, Event
from ..protocol.frames import HelloBody
from ..protocol.hello import Opening
from ..runtime import Future, Nursery, Runtime
from ..runtime.timers import Deadlines
from ..session.live_session import LiveSession
from ..session.wire_session import (
    STOPPING,
    WireSession,
)
from ..telemetry.counters import Snapshot, Stats
from ..telemetry.logs import DEBUGGING, everyone
from ..transport.base import Bound, Link, LinkClosed
from ..transport.registry import Transport, checked, listen
from ..version import AGENT
from .session_table import SessionTable, same_principal

__all__ = ["Listener", "Server"]

# Seconds for a last word to a peer that had to make room for another, and to one that was revoked.
GOODBYE = 0.1
FAREWELL = 0.5


class Server:
    """Controllers that peers can call, over any number of listeners.

    Args:
        controllers: Instances, which serve every session; or classes and factories, which are
            called once a session.
        limits: This side's bounds.
        authenticate: An async function of the handshake and the hello's `auth` value that returns
            the peer's principal, or a `Grant` where it does not hold for ever. It is asked for each
            connection, also where that goes on with a session, and nothing runs before.
            `RpcError("permission_denied")` refuses with 4503, `RpcError("unavailable")` asks the
            peer to try again later (1013), any other exception refuses with 4501. Without it
            everybody is let in, as principal None.
        authorize: An async function of the `CallContext` of each call and notification, asked
            before it begins and before its arguments are looked at. What it raises goes to the
            caller as if the method had raised it; False refuses with `permission_denied`.
            A callback needs no permission of its own: whoever passed it asked for it.
        origins: More web pages that may connect than those of the host that they ask for
            ("https://app.example"), or "*" for all. Who sends no `Origin` is no web page.
        trusted_proxies: The addresses and networks of proxies whose `X-Forwarded-For` or
            `Forwarded` says where a connection comes from; "unix" for those that come by a Unix
            socket.
        interceptors: Run around every call that is handled, outermost first. A controller may have
            an attribute `interceptors` with more, which run inside these.
        validate: "both" checks results and items before they leave; "arrival" and "none" do not.
            Arguments are always checked.
        debug: Whether unexpected errors cross with their text and traceback; not for strangers.
        reflection: Whether peers may ask what is exposed (`wsrpc ls`).
        on_state: Called with a session and each `StateChange` of it, when sessions come, lose their
            connection, return and go; must not block.

    Attributes:
        stats: Counts for people who watch the server.

    Raises:
        RegistrationError: A controller cannot be exposed as it is written.
        ValueError: An origin or a proxy cannot be read.
    """

    def __init__(
        self,
        controllers: Sequence[Any],
        *,
        limits: Limits | None = None,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        origins: AllowedOrigins | None = None,
        trusted_proxies: Sequence[str] = (),
        interceptors: Sequence[Interceptor] = (),
        validate: Validate = "both",
        debug: bool = False,
        reflection: bool = True,
        on_state: OnState | None = None,
    ) -> None:
        if validate not in ("both", "arrival", "none"):
            raise ValueError(f"validate must be 'both', 'arrival' or 'none', not {validate!r}")
        self.limits = limits or Limits()
        self.stats = Stats()
        self._admission = Admission(self.limits, authenticate)
        self._authorize = authorize
        self._origins = Origins(origins)
        self._proxies = Proxies(trusted_proxies)
        self._check = validate == "both"
        self._debug = debug
        if debug:
            everyone.warning(DEBUGGING, "Server")
        own = expose_all(controllers)
        builtin = [Reflection(lambda: describe(own))] if reflection else []
        self._exposed = own
        self._targets = targets_of(expose_all(controllers, builtin=builtin), interceptors)
        self._on_state = on_state
        self._sessions = SessionTable(self.limits)
        self._listeners: set[Listener] = set()
        self._drains = 0

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The live sessions by id, those included that are waiting to be resumed; read-only."""
        return self._sessions

    def contract(self) -> dict[str, Any]:
        """What is exposed, as JSON; the same that `wsrpc schema` writes.

        `clientize(contract["HelloController"])` makes a proxy from it without the class.
        """
        return with_names(describe(self._exposed))

    def snapshot(self) -> Snapshot:
        """What the server counts and holds now: `stats`, and what its live sessions add to it."""
        stats = self.stats
        live = [session for session in self._sessions.values() if not session.closed]
        return Snapshot(
            calls_live=stats.calls_live,
            calls_peak=stats.calls_peak,
            generators_open=stats.generators_open,
            sessions=len(live),
            links=stats.links,
            unauthenticated=len(self._admission.pending),
            outbox_bytes=sum(session.outbox_bytes for session in live),
            detached=self._sessions.detached,
            replay_bytes=sum(session.replay_bytes for session in live),
            frames_ignored=stats.frames_ignored + sum(one.frames_ignored for one in live),
            closes=dict(stats.closes),
        )

    def listen(
        self,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        path: str | None = None,
        ssl: ssl_module.SSLContext | None = None,
        transport: Transport = "websockets",
    ) -> Listener:
        """Listen while an `async with` block runs.

        Args:
            host: What to bind; None for every interface.
            port: 0 for a free one; `listener.url` tells which.
            path: A Unix socket to bind instead of host and port.
            ssl: TLS settings; peers then connect to `wss://`.
            transport: What carries the WebSockets: "websockets", or "picows" for more speed on
                asyncio. Peers do not notice.

        Raises:
            ValueError: The port is none, or there is no such transport.
            ImportError: The transport is not installed; the message names the extra.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
        return Listener(self, host, port, path, ssl, checked(transport))

    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        path: str | None = None,
        ssl: ssl_module.SSLContext | None = None,
        transport: Transport = "websockets",
    ) -> None:
        """Serve until cancelled, or until SIGINT or SIGTERM arrives; then drain.

        A second signal cancels the handlers that are left, which still clean up, and closes the
        sessions with 1001; so does a cancellation. A third meets Python's default, which does not
        wait. In a thread other than the main one no signals arrive. The arguments are those of
        `listen`.

        Raises:
            OSError: The address cannot be bound.
        """
        async with self.listen(host, port, path=path, ssl=ssl, transport=transport):
            await self._serve_until_signal()

    async def drain(self, grace: float | None = None, *, reconnect_after: float = 0.0) -> None:
        """Stop without breaking calls; returns when every session has ended.

        No listener of this server accepts connections any more; peers are told to take their new
        calls elsewhere, and a client of this package does so by itself. What runs is finished.
        Each session ends, with close code 1012, as soon as nothing is live on it any more, and
        those that wait without a connection end at once.

        A cancelled `drain` leaves the sessions that are left as they are, and they take no new
        calls; leaving the listener then closes them with 1001.

        Args:
            grace: Seconds to finish in; then handlers that are left are cancelled and clean up, and
                their callers get `unavailable`. `Limits.drain_grace` if left out.
            reconnect_after: Seconds that peers are asked to stay away from this server.

        Raises:
            ValueError: One of them is negative.
        """
        grace = self.limits.drain_grace if grace is None else grace
        if not (grace >= 0 and reconnect_after >= 0):
            raise ValueError(f"seconds are at least 0, not {grace!r} and {reconnect_after!r}")
        self._drains += 1
        try:
            for listener in self._listeners:
                listener.refuse()
            async with anyio.create_task_group() as group:
                for session in self._sessions.values():
                    group.start_soon(session.drain, grace, reconnect_after)
        finally:
            self._drains -= 1

    def revoke(self, principal: Any) -> int:
        """End all that a principal has here: its connections, with 4501, and its sessions.

        Those count too that wait without a connection, and those that are just being let in. Their
        handlers are cancelled, and clean up. It happens at once; only the closing handshakes go on
        behind it, for half a second at most. Nothing is remembered: `authenticate` has to refuse the principal from now on,
        before this is called.

        Args:
            principal: What `authenticate` returned, or anything equal of the same type.

        Returns:
            How many sessions that ended.
        """
        self._admission.pending.revoke(principal)
        found = [one for one in self._sessions.values() if same_principal(one.principal, principal)]
        for session in found:
            self._sessions.remove(session)
            session.wire.expel(CloseCode.UNAUTHENTICATED, REVOKED, within=FAREWELL)
        return len(found)

    async def _serve_until_signal(
        self,
        grace: float | None = None,
        *,
        ready: Callable[[], None] | None = None,
        on_signal: Callable[[int], None] | None = None,
    ) -> None:
        """Wait for SIGINT or SIGTERM, then drain; a second one ends that.

        Args:
            grace: Seconds, as for `drain`.
            ready: Called when a signal would no longer meet Python's default.
            on_signal: Called with the number of each.
        """
        if threading.current_thread() is not threading.main_thread():
            if ready is not None:
                ready()
            await anyio.sleep_forever()
        draining = False
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            if ready is not None:
                ready()
            async with anyio.create_task_group() as group:

                async def drain() -> None:
                    await self.drain(grace)
                    group.cancel_scope.cancel()

                async for number in signals:
                    if on_signal is not None:
                        on_signal(number)
                    if draining:
                        group.cancel_scope.cancel()
                        break
                    draining = True
                    group.start_soon(drain)

    async def _handle(self, runtime: Runtime, link: Link, hosted: _Hosted | None = None) -> None:
        """Serve one connection; where it begins a session, to the end of that."""
        hosted = hosted or _Hosted()
        begun: _ServedSession | None = None
        leave = _nothing
        pending: Pending | None = None
        self.stats.links += 1
        try:
            try:
                pending = self._arrive(runtime, link)
                opening, grant = await self._admit(runtime, link, pending, hosted)
                session = self._to_resume(opening, grant)
                leave = self._admission.enter(
                    grant.principal,
                    link.handshake.address,
                    resumes=session is not None,
                    replaces=session is not None and session.wire.link is not None,
                )
                if session is None:
                    session = begun = await self._begin(runtime, link)
                    hosted.sessions.add(begun)
                how = self._accept if session is begun else self._resume
                wire = session.wire
                events = [wire.begin(partial(how, session, opening, grant, pending))]
                session.handshake = link.handshake
                self._admission.pending.remove(pending)
                del opening, grant, how, session
                pending = None
                await wire.serve(link, events.pop())
            except LinkClosed as gone:
                self.stats.closes[gone.code] += 1
            except ProtocolError as error:
                await self._refuse(link, error, pending)
            finally:
                self.stats.links -= 1
                leave()
                if pending is not None:
                    self._admission.pending.remove(pending)
            if begun is not None:
                # Other links may come and go; whoever began a session is the parent of its tasks.
                await begun.wire.wait_ended()
        finally:
            if begun is not None:
                self._sessions.remove(begun)
                hosted.sessions.discard(begun)
                await begun.finish()

    def _arrive(self, runtime: Runtime, link: Link) -> Pending:
        """The link's place among those that have not been let in."""
        pending, link.pending = link.pending, None
        if pending is None:
            pending = self._admission.pending.add(
                link.handshake.address, runtime.now(), dismiss=_nothing
            )
        if pending is None or pending.dismissed:
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, CROWDED)
        return pending

    async def _admit(
        self, runtime: Runtime, link: Link, pending: Pending, hosted: _Hosted
    ) -> tuple[Opening, Grant]:
        hang_up = pending.dismiss
        with anyio.CancelScope() as door:
            hosted.doors.add(door)
            pending.dismiss = door.cancel
            try:
                opening = await self._admission.opening(link, pending, runtime.now())
                grant = await self._admission.identify(link.handshake, opening.hello.auth)
                _check_revoked(pending, grant)
                return opening, grant
            finally:
                hosted.doors.discard(door)
                pending.dismiss = hang_up
        if pending.dismissed:
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, CROWDED)
        raise ProtocolError(hosted.closing or CloseCode.GOING_AWAY, STOPPING)

    def _to_resume(self, opening: Opening, grant: Grant) -> _ServedSession | None:
        """The session that a link is to go on with; None where it begins one."""
        token = opening.hello.token
        if token is None:
            return None
        session = self._sessions.find(token, grant.principal)
        if session is None:
            raise ProtocolError(CloseCode.CANNOT_RESUME, "there is no such session to resume")
        assert isinstance(session, _ServedSession)
        return session

    async def _begin(self, runtime: Runtime, link: Link) -> _ServedSession:
        assert link.subprotocol is not None
        codec = SUBPROTOCOLS[link.subprotocol]
        session = _ServedSession(
            partial(Endpoint, "accepting", codec, self.limits, agent=AGENT),
            runtime,
            await runtime.open_nursery(),
            targets=self._targets,
            authorize=self._authorize,
            check=self._check,
            debug=self._debug,
            stats=self.stats,
            on_state=self._on_state,
        )
        session.table = self._sessions
        session._shell.unlinked = partial(self._sessions.grown, session)
        session.admission = self._admission
        session.id = secrets.token_hex(8)
        return session

    def _accept(
        self, session: _ServedSession, opening: Opening, grant: Grant, pending: Pending
    ) -> list[Event]:
        if self._drains:
            # It came in while the drain began.
            raise ProtocolError(CloseCode.RESTART, STOPPING)
        # And while the session was made.
        _check_revoked(pending, grant)
        session.trust(grant)
        self._sessions.add(session)
        limits = self.limits
        window = limits.resume_window
        heartbeat = None
        if limits.heartbeat_interval:
            heartbeat = (limits.heartbeat_interval, limits.heartbeat_timeout)
        token = None
        if window:
            token = self._sessions.new_token()
            self._sessions.issued(session, token)
        return session.wire.endpoint.accept(
            opening,
            session.id,
            token=token,
            resume_window=window,
            heartbeat=heartbeat,
            now=session._runtime.now(),
        )

    def _resume(
        self, session: _ServedSession, opening: Opening, grant: Grant, pending: Pending
    ) -> list[Event]:
        # The endpoint looks first whether it fits; only then may the other tokens become void.
        token = self._sessions.new_token()
        events = session.wire.endpoint.resume(opening, token=token, now=session._runtime.now())
        self._sessions.issued(session, token, opening.hello.token)
        session.trust(grant)
        return events

    def _door(self, runtime: Runtime, nursery: Nursery) -> Door:
        """The door of a new listener."""
        return Door(
            self.limits,
            self._admission.pending,
            runtime.now,
            origins=self._origins,
            proxies=self._proxies,
            deadlines=Deadlines(runtime, nursery),
        )

    async def _refuse(self, link: Link, error: ProtocolError, pending: Pending | None) -> None:
        """Close a link that was not let in; until it is closed it takes up its place."""
        self.stats.closes[error.close_code] += 1
        peer = link.handshake.remote or "a peer"
        everyone.info("refusing %s with %d: %s", peer, error.close_code, error.reason)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(link.close, error.close_code, error.reason)
                if pending is None:
                    return
                # The server waits for nothing but its goodbye.
                pending.waits = True
                if pending.dismissed:
                    # It has no place any more, and gets no time either.
                    await anyio.sleep(GOODBYE)
                    pending.dismiss()


class _ServedSession(LiveSession):
    """A session on the accepting side, with its place in the server's table."""

    # With more than thirty names the dictionary of each session would take a kilobyte more.
    __slots__ = ("admission", "table")

    table: SessionTable
    admission: Admission

    # Credentials that came while others were looked at; only the newest matter.
    _fresh: bytes | None = None
    _looking = False

    def trust(self, grant: Grant) -> None:
        """Let the session go on as this principal's."""
        self.principal = grant.principal
        self.wire.trust_until(expiry(grant, self._runtime.now()))

    def wire_opened(self, wire: WireSession, hello: HelloBody) -> None:
        self.table.attach(self)
        super().wire_opened(wire, hello)

    def wire_detached(self, wire: WireSession, error: ConnectionLost) -> None:
        super().wire_detached(wire, error)
        self.table.detach(self)

    def wire_confirmed(self, wire: WireSession) -> None:
        self.table.confirmed(self)

    def wire_auth(self, wire: WireSession, event: AuthReceived) -> None:
        self._fresh = bytes(event.value)
        if not self._looking:
            self._looking = True
            self._nursery.spawn(self._look_again, wire)

    async def _look_again(self, wire: WireSession) -> None:
        try:
            while self._fresh is not None:
                fresh, self._fresh = self._fresh, None
                link = wire.link
                if link is None:
                    # Whoever resumes shows credentials anyway.
                    return
                try:
                    await self._refreshed(wire, link, fresh)
                except ProtocolError as error:
                    wire.refuse_link(link, error)
        finally:
            self._looking = False

    async def _refreshed(self, wire: WireSession, link: Link, fresh: bytes) -> None:
        """Look at fresh credentials (AUTH-1).

        Raises:
            ProtocolError: They are not accepted.
        """
        try:
            auth = wire.endpoint.codec.load_value(fresh)
        except ValueError:
            raise ProtocolError(
                CloseCode.UNAUTHENTICATED, "credentials that are no value"
            ) from None
        grant = await self.admission.identify_again(link.handshake, auth, self.principal)
        if grant is not None and wire.link is link:
            self.trust(grant)


def _check_revoked(pending: Pending, grant: Grant) -> None:
    """Refuse who was revoked while its credentials were looked at."""
    if any(same_principal(grant.principal, one) for one in pending.revoked):
        raise ProtocolError(CloseCode.UNAUTHENTICATED, REVOKED)


def _nothing() -> None:
    """There is nothing to end."""


class _Hosted:
    """What came in through one listener.

    Attributes:
        sessions: Those that began here.
        doors: Around whoever is being authenticated.
        closing: The code with which those are sent away who come all the same.
    """

    def __init__(self) -> None:
        self.sessions: set[LiveSession] = set()
        self.doors: set[anyio.CancelScope] = set()
        self.closing: int | None = None


class Listener:
    """One bound address of a server; `async with server.listen(…) as listener`.

    Attributes:
        url: Where to connect.
        server: The server.
    """

    def __init__(
        self,
        server: Server,
        host: str | None,
        port: int,
        path: str | None,
        ssl: ssl_module.SSLContext | None,
        transport: str,
    ) -> None:
        self.server = server
        self.url = ""
        self._host = host
        self._port = port
        self._path = path
        self._ssl = ssl
        self._transport = transport
        self._nursery: Nursery | None = None
        self._stop: Future | None = None
        self._stopped: Future | None = None
        self._hosted = _Hosted()
        self._bound: Bound | None = None

    def refuse(self) -> None:
        """Accept no further connection; those that have not said who they are may try elsewhere."""
        if self._hosted.closing is None and self._bound is not None:
            self._hosted.closing = CloseCode.RESTART
            self._bound.refuse()
            for door in self._hosted.doors:
                door.cancel()

    async def __aenter__(self) -> Self:
        runtime = runtimes.current()
        self._nursery = await runtime.open_nursery()
        door = self.server._door(runtime, self._nursery)
        self._stop, self._stopped, bound = runtime.future(), runtime.future(), runtime.future()
        self._nursery.spawn(self._run, runtime, door, bound)
        try:
            outcome = await bound
        except BaseException:
            # By now it may be bound, or be about to.
            with suppress(Exception):
                await self.__aexit__(None, None, None)
            raise
        if isinstance(outcome, Exception):
            await self._nursery.close()
            raise outcome
        self.url = outcome
        return self

    async def _run(self, runtime: Runtime, door: Door, bound: Future) -> None:
        assert self._stop is not None
        assert self._stopped is not None
        failure: Exception | None = None

        async def handle(link: Link) -> None:
            if self._hosted.closing is not None:
                await link.close(self._hosted.closing, STOPPING)
            else:
                await self.server._handle(runtime, link, self._hosted)

        try:
            async with listen(
                handle,
                transport=self._transport,
                host=self._host,
                port=self._port,
                path=self._path,
                subprotocols=list(SUBPROTOCOLS),
                door=door,
                limits=self.server.limits,
                ssl=self._ssl,
            ) as self._bound:
                self.server._listeners.add(self)
                if not bound.done():
                    bound.set_result(self._bound.url)
                await self._stop
        except Exception as error:  # noqa: BLE001  (raised again by whoever listens)
            failure = error
            if not bound.done():
                bound.set_result(error)
        finally:
            self.server._listeners.discard(self)
            if not self._stopped.done():
                self._stopped.set_result(failure)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        try:
            await runtimes.current().to_the_end(self._shut_down)
        finally:
            await self._nursery.close()

    async def _shut_down(self) -> None:
        assert self._stop is not None
        assert self._stopped is not None
        self._hosted.closing = CloseCode.GOING_AWAY
        for door in self._hosted.doors:
            door.cancel()
        async with anyio.create_task_group() as group:
            for session in self._hosted.sessions:
                group.start_soon(session.aclose, CloseCode.GOING_AWAY, STOPPING)
        if not self._stop.done():
            self._stop.set_result(None)
        failure: Exception | None = await self._stopped
        if failure is not None:
            raise failure
