"""Accepted links, each from its arrival to the end of the session that it begins."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from ..admission.authentication import CROWDED, REVOKED, Authentication, Grant
from ..admission.door import Door
from ..admission.forwarded import Proxies
from ..admission.handshakes import Pending, PendingLinks
from ..admission.origins import Origins
from ..admission.principals import Identity, is_equal
from ..admission.quotas import Quotas, Visit
from ..close_codes import CloseCode
from ..context import Authorize, Visible
from ..engine.ledger import Ledger
from ..errors import ProtocolError
from ..handling.target import MethodEntry
from ..handling.threads import Threads
from ..interfaces import Handshake, OnState
from ..limits import Limits
from ..protocol.codec import SUBPROTOCOLS
from ..protocol.endpoint import Endpoint
from ..protocol.events import Event
from ..protocol.hello import Opening
from ..runtime import Runtime
from ..session.wire_session import STOPPING
from ..telemetry.events import Events
from ..telemetry.logs import everyone
from ..telemetry.recording import Recording
from ..transport.base import FORBIDDEN_ORIGIN, HttpAnswer, Link, LinkClosed
from ..transport.recorded import over, recorded
from ..version import AGENT
from .extension import Extension, OnSession
from .http_routes import HttpRoutes
from .served_session import ServedSession
from .session_table import SessionTable

__all__ = ["Acceptor", "Service", "is_meant"]

# The reasons why a session cannot be resumed (4010); a close frame holds 123 bytes.
NO_SESSION = "there is no such session to resume: it has ended, or another process has it"
ANOTHERS = "the session is another principal's; if it is the same one, return Grant(..., key=...)"

# Seconds for the goodbye to a peer that had to make room for another.
GOODBYE = 0.1


@dataclass(slots=True)
class Service:
    """The state that all links of one server share, over any carrier.

    Attributes:
        limits: The server's bounds.
        entries: The methods that peers may call.
        authorize: Asked before each of their calls.
        check: Whether results are validated before they leave.
        debug: Whether unexpected errors cross with their text.
        events: Passes events to counters and observers.
        on_state: Called with each session's changes of state.
        sessions: All sessions.
        origins: The rule for web pages that may connect.
        proxies: The proxies whose headers are believed.
        pending: The connections whose principals are not known yet.
        authentication: Finds out the principals of peers.
        quotas: The bounds on links that were let in.
        routes: The answers over plain HTTP.
        threads: The threads in which plain functions run.
        ledger: The accounts of the bytes that all sessions hold.
        on_connect: Called with each session that has begun.
        on_disconnect: Called with each session that has ended.
        extension: The cluster of which this server is a part, if there is one.
        visible: Tells which methods a principal is told of; None: of all of them.
        recording: The recording of its links' frames, if there is one.
        drains: The number of drains that are going on.
    """

    limits: Limits
    entries: Mapping[str, MethodEntry]
    authorize: Authorize | None
    check: bool
    debug: bool
    events: Events
    on_state: OnState | None
    sessions: SessionTable[ServedSession]
    origins: Origins
    proxies: Proxies
    pending: PendingLinks
    authentication: Authentication
    quotas: Quotas
    routes: HttpRoutes
    threads: Threads
    ledger: Ledger
    on_connect: OnSession | None = None
    on_disconnect: OnSession | None = None
    extension: Extension | None = None
    visible: Visible | None = None
    recording: Recording | None = None
    drains: int = 0


class Acceptor:
    """Serves the links of one source: a listener, a pair in memory, a hosting application.

    Args:
        service: The server's shared state.
        runtime: The event loop.
    """

    def __init__(self, service: Service, runtime: Runtime) -> None:
        self._service = service
        self._runtime = runtime
        # The endpoints of new sessions, by subprotocol.
        self._endpoints = {
            name: partial(Endpoint, "accepting", codec, service.limits, agent=AGENT)
            for name, codec in SUBPROTOCOLS.items()
        }
        # The sessions that began here.
        self._sessions: set[ServedSession] = set()
        # The scopes around links that are being authenticated.
        self._entrances: set[anyio.CancelScope] = set()
        # The close code for links that arrive after `refuse`.
        self._closing: int | None = None

    @property
    def closing(self) -> bool:
        """Whether no link is let in any more."""
        return self._closing is not None

    def refuse(self, code: int) -> None:
        """Let no link in any more; peers that are not authenticated yet may try elsewhere.

        Args:
            code: The code to close their links with.
        """
        self._closing = code
        for entrance in self._entrances:
            entrance.cancel()

    def knock(
        self, path: str, headers: Mapping[str, str], *, peer: tuple[str, int], local: str
    ) -> Handshake | HttpAnswer:
        """Judge a request for a WebSocket, for carriers that accept connections themselves.

        Args:
            path: The request's path, with the query.
            headers: Its headers, names in lower case.
            peer: The address and port that it comes from.
            local: The address that it reached, without a port.

        Returns:
            The handshake that `serve` needs, or the answer over HTTP that refuses the request.
        """
        service = self._service
        door = Door(
            service.limits,
            service.pending,
            self._runtime.now,
            origins=service.origins,
            proxies=service.proxies,
        )
        answer = service.routes.answer(
            "GET",
            path,
            {**headers, "upgrade": "websocket"},
            local=local,
            peer=peer[0],
            draining=self.closing or service.drains > 0,
        )
        if answer is not None:
            return answer
        if door.forbids(headers):
            return FORBIDDEN_ORIGIN
        return door.handshake(path, headers, peer, tls=False)

    async def close(self) -> None:
        """Close all sessions that began here with 1001; their handlers clean up after that."""
        self.refuse(CloseCode.GOING_AWAY)
        async with anyio.create_task_group() as group:
            for session in self._sessions:
                group.start_soon(session.aclose, CloseCode.GOING_AWAY, STOPPING)

    async def serve(self, link: Link, pending: Pending | None = None) -> None:
        """Serve one connection; if it begins a session, to the end of that session.

        Args:
            link: The connection.
            pending: Its place among the pending connections, if it has one already.
        """
        if self._closing is not None:
            try:
                await link.close(self._closing, STOPPING)
            finally:
                if pending is not None:
                    self._service.pending.remove(pending)
            return
        service = self._service
        begun: ServedSession | None = None
        visit: Visit | None = None
        if service.recording is not None:
            link = recorded(link, service.recording, "S")
        service.events.link_opened(link.handshake)
        try:
            try:
                pending = await self._arrive(link, pending)
                opening, grant = await self._admit(link, pending)
                if grant is None:
                    await self._forward(link, opening, pending)
                    return
                session = self._to_resume(opening, grant)
                visit = service.quotas.enter(
                    grant.identity,
                    link.handshake.address,
                    resumes=session is not None,
                    replaces=session is not None and session.linked,
                )
                if session is None:
                    session = begun = await self._begin(link)
                    self._sessions.add(begun)
                service.events.received(session, len(opening.message))
                how = self._accept if session is begun else self._resume
                events = [session.begin(partial(how, session, opening, grant, pending))]
                session.handshake = link.handshake
                service.pending.remove(pending)
                # A link may be idle for days: the objects of its beginning should not stay for so
                # long.
                del opening, grant, how
                pending = None
                await session.serve(link, events.pop())
            except LinkClosed as gone:
                service.events.link_closed(link.handshake, gone.code, gone.reason)
            except ProtocolError as error:
                await self._refuse(link, error, pending)
            finally:
                service.events.link_left()
                if service.recording is not None:
                    over(link)
                if visit is not None:
                    visit.leave()
                if pending is not None:
                    service.pending.remove(pending)
            if begun is not None:
                # Other links may come and go; the link that began a session is the parent of its
                # tasks.
                await begun.wait_ended()
        finally:
            if begun is not None:
                service.sessions.remove(begun)
                self._sessions.discard(begun)
                if service.on_disconnect is not None:
                    await begun.farewell(service.on_disconnect)
                await begun.finish()

    async def _arrive(self, link: Link, pending: Pending | None) -> Pending:
        """The link's place among the pending connections; the link may have to wait for one."""
        if pending is None:
            with anyio.CancelScope() as entrance:
                self._entrances.add(entrance)
                try:
                    pending = await self._service.pending.place(
                        link.handshake.address, self._runtime.now, dismiss=_nothing
                    )
                finally:
                    self._entrances.discard(entrance)
            if entrance.cancelled_caught:
                raise ProtocolError(self._closing or CloseCode.GOING_AWAY, STOPPING)
        if pending is None or pending.dismissed:
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, CROWDED)
        return pending

    async def _forward(self, link: Link, opening: Opening, pending: Pending) -> None:
        """Serve a link at the node that has its session, which authenticates it anew."""
        service = self._service
        assert service.extension is not None

        def answered() -> None:
            # The other node let it in, or would have closed the link.
            service.pending.remove(pending)

        await service.extension.forward(link, opening, answered)

    async def _admit(self, link: Link, pending: Pending) -> tuple[Opening, Grant | None]:
        """Authenticate a link, unless another node has its session and does it."""
        authentication = self._service.authentication
        hang_up = pending.dismiss
        with anyio.CancelScope() as entrance:
            self._entrances.add(entrance)
            pending.dismiss = entrance.cancel
            try:
                opening = await authentication.opening(link, pending, self._runtime.now())
                extension, token = self._service.extension, opening.hello.token
                if extension is not None and token and extension.is_elsewhere(token):
                    return opening, None
                grant = await authentication.identify(link.handshake, opening.hello.auth)
                _check_revoked(pending, grant)
                return opening, grant
            finally:
                self._entrances.discard(entrance)
                pending.dismiss = hang_up
        if pending.dismissed:
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, CROWDED)
        raise ProtocolError(self._closing or CloseCode.GOING_AWAY, STOPPING)

    def _to_resume(self, opening: Opening, grant: Grant) -> ServedSession | None:
        """The session that a link is to go on with; None where it begins one."""
        token = opening.hello.token
        if token is None:
            return None
        session = self._service.sessions.find(token, grant.identity)
        if session is None:
            raise ProtocolError(CloseCode.CANNOT_RESUME, self._why_not(token))
        return session

    def _why_not(self, token: str) -> str:
        """The reason why the session of this token cannot be resumed."""
        if self._service.sessions.knows(token):
            everyone.warning(ANOTHERS)
            return ANOTHERS
        return NO_SESSION

    async def _begin(self, link: Link) -> ServedSession:
        assert link.subprotocol is not None
        service = self._service
        codec = SUBPROTOCOLS[link.subprotocol]
        session = ServedSession(
            self._endpoints[link.subprotocol],
            self._runtime,
            await self._runtime.open_nursery(),
            entries=service.entries,
            authorize=service.authorize,
            check=service.check,
            debug=service.debug,
            events=service.events,
            threads=service.threads,
            on_state=service.on_state,
            ledger=service.ledger,
            visible=service.visible,
        )
        session.handshake = link.handshake
        id = secrets.token_hex(8)
        if service.extension is not None:
            id = f"{service.extension.node}-{codec.name[0]}{id}"
        session.entered(service.sessions, service.authentication, id, service.on_connect)
        return session

    def _accept(
        self, session: ServedSession, opening: Opening, grant: Grant, pending: Pending
    ) -> list[Event]:
        service = self._service
        if service.drains or self._closing is not None:
            # The link was let in, but its session had not begun when that was decided.
            raise ProtocolError(self._closing or CloseCode.TRY_AGAIN_LATER, STOPPING)
        # The check is made once more, since a principal may have been revoked while the session was
        # made.
        _check_revoked(pending, grant)
        session.trust(grant)
        service.sessions.add(session)
        limits = service.limits
        window = limits.resume_window
        heartbeat = None
        if limits.heartbeat_interval:
            heartbeat = (limits.heartbeat_interval, limits.heartbeat_timeout)
        token = None
        if window:
            token = self._new_token()
            service.sessions.issued(session, token)
        return session.accept(opening, token=token, resume_window=window, heartbeat=heartbeat)

    def _new_token(self) -> str:
        token = self._service.sessions.new_token()
        extension = self._service.extension
        return token if extension is None else f"{extension.node}.{token}"

    def _resume(
        self, session: ServedSession, opening: Opening, grant: Grant, pending: Pending
    ) -> list[Event]:
        # The endpoint first checks whether the hello fits; only then may the other tokens become
        # void.
        sessions = self._service.sessions
        token = self._new_token()
        events = session.resume(opening, token=token)
        sessions.issued(session, token, opening.hello.token)
        session.trust(grant)
        return events

    async def _refuse(self, link: Link, error: ProtocolError, pending: Pending | None) -> None:
        """Close a link that was not let in; it keeps its place until it is closed."""
        events = self._service.events
        events.link_closed(link.handshake, error.close_code, error.reason)
        if error.close_code == CloseCode.TRY_AGAIN_LATER or (
            pending is not None and error.close_code != CloseCode.CANNOT_RESUME
        ):
            events.stranger_refused(_word(error.close_code))
        peer, code = link.handshake.remote, error.close_code
        everyone.info(
            "refusing %s with %d: %s", peer or "a peer", code, error.reason, peer=peer, code=code
        )
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(link.close, error.close_code, error.reason)
                if pending is None:
                    return
                # The server waits only for the goodbye.
                pending.waits = True
                if pending.dismissed:
                    # The link has no place any more, and so gets hardly any time.
                    await anyio.sleep(GOODBYE)
                    pending.dismiss()


def _word(code: int) -> str:
    """The word under which a refusal with this close code is counted."""
    try:
        return CloseCode(code).name.lower()
    except ValueError:
        return "other"


def _nothing() -> None:
    """Do nothing: there is no connection to end."""


def is_meant(meant: Identity, principal: Any, key: str | None) -> bool:
    """Whether `Server.revoke` was given this principal, or its key."""
    if isinstance(meant.principal, str) and is_equal(meant.principal, key):
        return True
    if meant.key is not None and meant.key == key:
        return True
    return type(meant.principal) is type(principal) and is_equal(meant.principal, principal)


def _check_revoked(pending: Pending, grant: Grant) -> None:
    """Refuse a principal that was revoked while its credentials were checked."""
    who = grant.identity
    if any(is_meant(one, who.principal, who.key) for one in pending.revoked):
        raise ProtocolError(CloseCode.UNAUTHENTICATED, REVOKED)
