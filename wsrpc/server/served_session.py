"""A session on the accepting side: its place in the table, and its peer's credentials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from ..admission.authentication import Authentication, Grant, expiry
from ..close_codes import CloseCode
from ..errors import ConnectionLost, ProtocolError
from ..protocol.events import AuthReceived, Event
from ..protocol.frames import HelloBody
from ..protocol.hello import Opening
from ..runtime import Future
from ..runtime.by_hand import never_cancels
from ..runtime.containing import set_off_by_peer
from ..session.live_session import LiveSession
from ..session.wire_session import WireSession
from ..telemetry.logs import everyone
from ..transport.base import Link
from .extension import OnSession
from .session_table import SessionTable, holder_of

__all__ = ["ServedSession"]


class ServedSession(LiveSession):
    """A session on the accepting side, with its place in the server's table."""

    __slots__ = (
        "_begun",
        "_fresh",
        "_greeted",
        "_looking",
        "_on_connect",
        "authentication",
        "table",
    )

    @property
    def linked(self) -> bool:
        """Whether it has a link."""
        return self.wire.link is not None

    def entered(
        self,
        table: SessionTable[ServedSession],
        authentication: Authentication,
        id: str,
        on_connect: OnSession | None,
    ) -> None:
        """Give a new session its place in the table and its name, before it begins.

        Args:
            table: The server's sessions.
            authentication: Checks its peer's credentials.
            id: Its public name.
            on_connect: Called with it once it has begun.
        """
        self.table: SessionTable[ServedSession] = table
        self.authentication = authentication
        self.id = id
        self._begun = False
        # Called once the session has begun; the future is done when it is through.
        self._on_connect = on_connect
        self._greeted: Future | None = None
        # Credentials that came while others were being checked; only the newest matter.
        self._fresh: bytes | None = None
        self._looking = False
        self.wire.hub.unlinked = self._grown

    def begin(self, how: Callable[[], list[Event]]) -> list[Event]:
        """Let the protocol begin on a new link; pass the events returned to `serve`.

        Raises:
            ProtocolError: The first message does not fit; the peer's fault. The caller closes the
                link.
        """
        return self.wire.begin(how)

    def accept(
        self,
        opening: Opening,
        *,
        token: str | None,
        resume_window: float,
        heartbeat: tuple[float, float] | None,
    ) -> list[Event]:
        """Answer the hello of a session that begins; within `begin`."""
        return self.wire.endpoint.accept(
            opening,
            self.id,
            token=token,
            resume_window=resume_window,
            heartbeat=heartbeat,
            now=self.runtime.now(),
        )

    def resume(self, opening: Opening, *, token: str) -> list[Event]:
        """Answer the hello of a peer that comes back; within `begin`."""
        return self.wire.endpoint.resume(opening, token=token, now=self.runtime.now())

    def serve(self, link: Link, events: list[Event]) -> Awaitable[None]:
        """Serve a link until it is gone.

        Args:
            link: The connection.
            events: The events that `begin` returned; the list is emptied.
        """
        return self.wire.serve(link, events)

    def wait_ended(self) -> Awaitable[None]:
        """Wait until the session is over for good."""
        return self.wire.wait_ended()

    def soon(self, fn: Callable[[], None]) -> None:
        """Call `fn`, which must not raise, after the current callback."""
        self.wire.hub.timers.add(0.0, fn)

    def end(self, code: int, reason: str) -> None:
        """End the session, which has no link."""
        self.wire.lose(code, reason)

    def expel(self, code: int, reason: str, within: float) -> None:
        """End the session now, and close its link after it.

        Args:
            code: The close code.
            reason: For people.
            within: Seconds for the closing handshake.
        """
        self.wire.expel(code, reason, within=within)

    def trust(self, grant: Grant) -> None:
        """Let the session go on with this grant's principal and expiry."""
        self.principal = grant.principal
        self.principal_key = grant.identity.key
        self.wire.hub.account.belongs_to(holder_of(self))
        self.wire.trust_until(expiry(grant, self.runtime.now()))

    def wire_opened(self, wire: WireSession, hello: HelloBody) -> None:
        self.table.attach(self)
        super().wire_opened(wire, hello)
        if not self._begun:
            self._begun = True
            if self._on_connect is not None:
                self._greeted = self.runtime.future()
                self._nursery.spawn(self._greet, self._on_connect, self._greeted)

    async def _greet(self, on_connect: OnSession, greeted: Future) -> None:
        try:
            with set_off_by_peer():
                await never_cancels(on_connect(self), "on_connect", self.runtime.is_being_cancelled)
        except anyio.get_cancelled_exc_class():
            raise
        except KeyboardInterrupt:
            if not self.runtime.interrupt():
                raise
        except BaseException as error:  # noqa: BLE001  (logged; no peer ends a server)
            everyone.error("on_connect raised for %r", self, error=error)
            self.wire.expel(CloseCode.SERVER_TROUBLE, "on_connect failed")
        finally:
            greeted.set_result(None)

    async def farewell(self, on_disconnect: OnSession) -> None:
        """Call `on_disconnect`, for a session that has begun and ended."""
        if self._begun:
            await self.runtime.to_the_end(partial(self._part, on_disconnect))

    async def _part(self, on_disconnect: OnSession) -> None:
        try:
            with anyio.move_on_after(self.limits.cleanup_timeout):
                if self._greeted is not None:
                    await self._greeted
                with set_off_by_peer():
                    await never_cancels(
                        on_disconnect(self), "on_disconnect", self.runtime.is_being_cancelled
                    )
        except anyio.get_cancelled_exc_class():
            raise
        except KeyboardInterrupt:
            if not self.runtime.interrupt():
                raise
        except BaseException as error:  # noqa: BLE001  (logged; no peer ends a server)
            everyone.error("on_disconnect raised for %r", self, error=error)

    def _grown(self) -> None:
        self.table.grown(self)

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
                    # A peer that resumes sends credentials anyway.
                    return
                try:
                    await self._refreshed(wire, link, fresh)
                except ProtocolError as error:
                    wire.refuse_link(link, error)
        finally:
            self._looking = False

    async def _refreshed(self, wire: WireSession, link: Link, fresh: bytes) -> None:
        """Check fresh credentials (AUTH-1).

        Raises:
            ProtocolError: 4501, the credentials are not accepted; the peer's fault.
        """
        try:
            auth = wire.endpoint.codec.load_value(fresh)
        except ValueError:
            raise ProtocolError(
                CloseCode.UNAUTHENTICATED, "credentials that are no value"
            ) from None
        grant = await self.authentication.identify_again(
            link.handshake, auth, self.principal, self.principal_key
        )
        if grant is not None and wire.link is link:
            self.trust(grant)
