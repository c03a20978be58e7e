"""The accepting side: a server of controllers."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from os import PathLike
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import anyio

from .. import runtime as runtimes
from ..admission.authentication import REVOKED, Authenticate, Authentication
from ..admission.forwarded import Proxies
from ..admission.handshakes import PendingLinks
from ..admission.hosts import Hosts
from ..admission.origins import AllowedOrigins, Origins
from ..admission.principals import Identity
from ..admission.quotas import Quotas
from ..close_codes import CloseCode
from ..context import Authorize, Visible, current
from ..contract.description import Reflection, describe, with_names
from ..contract.expose import expose_all
from ..engine.ledger import Ledger
from ..handling.target import entries_of
from ..handling.threads import Threads
from ..interfaces import Interceptor, Observer, OnState, Session, StateChange, Validate
from ..limits import Limits
from ..options import (
    VALIDATES,
    checked_address,
    checked_bool,
    checked_function,
    checked_interceptors,
    checked_limits,
    checked_plain,
    checked_text,
    checked_tls,
    checked_wait,
    one_of,
)
from ..telemetry.counters import Stats
from ..telemetry.events import Events
from ..telemetry.logs import DEBUGGING, everyone
from ..telemetry.recording import Recording, checked_recording
from ..telemetry.snapshot import Snapshot
from ..transport.registry import Transport, checked
from .acceptor import Acceptor, Service, is_meant
from .asgi_app import AsgiApp, Running
from .extension import Extension, OnSession
from .health import HEALTH, Health
from .http_routes import HttpRoutes
from .listener import Listener
from .metrics import serve_metrics
from .served_session import ServedSession
from .session_table import SessionTable
from .signals import arriving_signals
from .stats import STATS, StatsController, StatsFor
from .visibility import failing_closed, seen_by

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Server"]

# Seconds for the goodbye to a peer that was revoked.
FAREWELL = 0.5


class Server:
    """Controllers that peers can call, over any number of listeners.

    Args:
        controllers: Instances, which serve every session; or classes and factories, which are
            called once a session.
        limits: This side's bounds.
        authenticate: An async function of the handshake and the hello's `auth` value that returns
            the peer's principal, or a `Grant` where the credentials expire. It is called for each
            connection, also for one that resumes a session, and no other code of the application
            runs before it. `RpcError("permission_denied")` refuses with 4503,
            `RpcError("unavailable")` asks the peer to try again later (1013), any other exception
            refuses with 4501. Without it every peer is let in, as principal None.
        authorize: An async function of the `CallContext` of each call and notification, called
            before the call begins and before its arguments are validated. The caller gets its
            exception as if the method had raised it; False refuses with `permission_denied`. A
            callback needs no permission of its own: the side that passed it asked for the call.
        origins: Origins of web pages that may connect ("https://app.example"), besides pages of the
            host that they connect to; "*" for all. A request without `Origin` comes from no web
            page.
        trusted_proxies: The addresses and networks of proxies whose `X-Forwarded-For` or
            `Forwarded` says where a connection comes from; "unix" for those that come by a Unix
            socket.
        hosts: The names by which web pages may ask for this server, without ports ("app.example",
            "*.app.example"); others are answered with HTTP 421. Names of this machine and addresses
            always pass. Without it only connections to a loopback address are checked, where a
            foreign name is an attack (DNS rebinding).
        explorer: Whether the port serves a page on which a person can call every method. None: only
            to browsers on this very machine. `wsrpc.js` is served in any case.
        health: Whether `/healthz` and `/readyz` are answered, the latter with 503 from the first
            moment of a drain. It also decides whether there is a controller `wsrpc.health`, for
            which `authorize` is not called.
        metrics: Whether `/metrics` is answered for Prometheus, to every client that can reach the
            port: True for the process's registry, or a registry of your own. Needs the extra
            `prometheus`.
        interceptors: Run around every call that is handled, outermost first. A controller may have
            an attribute `interceptors` with more, which run inside these.
        validate: "both" checks results and items before they leave; "arrival" and "none" do not.
            Arguments are always checked.
        debug: Whether unexpected errors cross with their text and traceback; never turn it on for
            strangers.
        reflection: Whether peers may ask for the contract (`wsrpc ls`).
        visible: A function of a principal and a method's full name ("Shop.refund") that tells
            whether the principal is told of the method: in the contract that reflection gives, and
            among the similar names that the error of an unknown method has. It hides names and
            refuses nothing: `authorize` does. Where it raises, the method is not shown.
        name: The server's name, for readers of its contract.
        version: The application's version, for the same readers.
        stats_for: A function of a principal that tells whether it may see the server's counts and
            holdings, sessions included (controller `wsrpc.stats`, which `wsrpc top` shows). Without
            it no principal may. `authorize` is not called for it.
        on_state: Called with a session and each `StateChange` of it, when the session begins, loses
            its connection, resumes and ends; must not block.
        observers: Objects that are told of calls, sessions and connections, for metrics, traces and
            logs.
        on_connect: An async function that is called once with each session that has begun. It may
            let the session join groups, or call its peer. Calls of the peer may be handled
            meanwhile. If it raises, the session ends with 1011.
        on_disconnect: An async function that is called once with each session that has ended for
            good, if `on_connect` was called with it. It has `Limits.cleanup_timeout` seconds.
        record: A file to which every frame of every connection is written, or a `Recording`, which
            also says which values are masked and how large the file may grow. The file never holds
            credentials; `wsrpc replay` shows it.

    Raises:
        RegistrationError: A controller cannot be exposed as it is written.
        ValueError: An origin, a proxy or a host cannot be read, or an option has none of its
            values.
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
        hosts: Sequence[str] | None = None,
        explorer: bool | None = None,
        health: bool = True,
        metrics: bool | CollectorRegistry | None = None,
        interceptors: Sequence[Interceptor] = (),
        validate: Validate = "both",
        debug: bool = False,
        reflection: bool = True,
        visible: Visible | None = None,
        name: str | None = None,
        version: str | None = None,
        stats_for: StatsFor | None = None,
        on_state: OnState | None = None,
        observers: Sequence[Observer] = (),
        on_connect: OnSession | None = None,
        on_disconnect: OnSession | None = None,
        record: str | PathLike[str] | Recording | None = None,
    ) -> None:
        one_of("validate", validate, VALIDATES)
        interceptors = checked_interceptors(interceptors)
        checked_function("authenticate", authenticate, "handshake", "auth")
        checked_function("authorize", authorize, "context")
        checked_function("on_connect", on_connect, "session")
        checked_function("on_disconnect", on_disconnect, "session")
        checked_function("stats_for", stats_for, "principal")
        checked_function("visible", visible, "principal", "method")
        checked_plain("on_state", on_state, "session", "change")
        for option, flag in (("health", health), ("debug", debug), ("reflection", reflection)):
            checked_bool(option, flag)
        if explorer is not None:
            checked_bool("explorer", explorer)
        limits = checked_limits(limits)
        pending = PendingLinks(limits)
        if debug:
            everyone.warning(DEBUGGING, "Server")
        own = self._exposed = expose_all(controllers)
        self._about = {
            key: checked_text(key, text)
            for key, text in (("name", name), ("version", version))
            if text is not None
        }
        builtin: list[Any] = [Reflection(self._shown)] if reflection else []
        self._health = Health(own, lambda: not self._service.drains)
        if health:
            builtin.append(self._health)
        events = Events(observers=observers)
        sessions: SessionTable[ServedSession] = SessionTable(limits)
        if stats_for is not None:
            builtin.append(StatsController(stats_for, self.snapshot, sessions, events))
        self._explorer = explorer
        pages = Origins(origins)
        proxies = Proxies(trusted_proxies)
        self._service = Service(
            limits=limits,
            entries=entries_of(
                expose_all(controllers, builtin=builtin), interceptors, for_all=[HEALTH, STATS]
            ),
            authorize=authorize,
            check=validate == "both",
            debug=debug,
            events=events,
            on_state=on_state,
            sessions=sessions,
            origins=pages,
            proxies=proxies,
            pending=pending,
            authentication=Authentication(limits, authenticate, pending),
            quotas=Quotas(limits),
            routes=HttpRoutes(
                explorer=explorer,
                health=health,
                hosts=Hosts(hosts),
                welcomes=lambda headers: pages.allow(
                    headers.get("origin"), proxies.host_of(headers)
                ),
            ),
            threads=Threads(limits),
            ledger=Ledger(limits),
            on_connect=on_connect,
            on_disconnect=on_disconnect,
            visible=failing_closed(visible),
            recording=checked_recording(record),
        )
        self._listeners: set[Listener[Any]] = set()
        self._running: set[Running] = set()
        # Other carriers of links, such as a running ASGI application, keep theirs.
        self._acceptors: WeakSet[Acceptor] = WeakSet()
        self._counted = False
        if metrics is not None and metrics is not False:
            self.serve_metrics(None if metrics is True else metrics)

    @property
    def limits(self) -> Limits:
        """This side's bounds."""
        return self._service.limits

    @property
    def explorer(self) -> bool | None:
        """Whether the explorer is served; None: only to browsers on this very machine."""
        return self._explorer

    @property
    def stats(self) -> Stats:
        """Counts of the server's events, for monitoring."""
        return self._service.events.stats

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The live sessions by id, with those that wait to be resumed; read-only."""
        return self._service.sessions

    def contract(self) -> dict[str, Any]:
        """The contract of the exposed controllers, as JSON; the same that `wsrpc schema` writes.

        `clientize(contract["HelloController"])` makes a proxy from it without the class.
        """
        return with_names(self._describe())

    def _describe(self) -> dict[str, Any]:
        return describe(self._exposed, self._about)

    def _shown(self) -> dict[str, Any]:
        """The contract for the caller of reflection."""
        visible = self._service.visible
        if visible is None:
            return self._describe()
        return seen_by(current().principal, self._describe(), visible)

    def snapshot(self) -> Snapshot:
        """The server's counts and holdings at this moment, in one immutable object."""
        stats = self.stats
        live = [session for session in self._service.sessions.values() if not session.closed]
        return Snapshot(
            calls_live=stats.calls_live,
            calls_peak=stats.calls_peak,
            generators_open=stats.generators_open,
            sessions=len(live),
            links=stats.links,
            unauthenticated=len(self._service.pending),
            outbox_bytes=sum(session.outbox_bytes for session in live),
            detached=self._service.sessions.detached,
            replay_bytes=sum(session.replay_bytes for session in live),
            held_bytes=sum(session.held for session in live),
            frames_ignored=stats.frames_ignored + sum(one.frames_ignored for one in live),
            closes=dict(stats.closes),
            refused=dict(stats.refused),
            resumes=stats.resumes,
            bytes_received=stats.bytes_received,
            bytes_sent=stats.bytes_sent,
            strangers_refused=dict(stats.strangers_refused),
            paused_streams=len(self._service.events.pauses),
        )

    def observe(self, observer: Observer) -> AbstractContextManager[object]:
        """Add an observer from now on, as `observers=` does.

        Leaving the context manager that it returns removes the observer: `with
        server.observe(observer): …`, mostly in tests.

        Args:
            observer: The observer.

        Raises:
            RuntimeError: There are sessions already, whose beginnings the observer has missed; the
                caller's fault.
        """
        if self._service.sessions:
            raise RuntimeError("add observers before the server has sessions")
        self._service.events.add(observer)
        if self._service.extension is not None:
            self._service.extension.observed()
        until_left = ExitStack()
        until_left.callback(self._service.events.remove, observer)
        return until_left

    def serve_metrics(self, registry: CollectorRegistry | None = None) -> None:
        """Count from now on, and answer `GET /metrics`, as `metrics=` does; has no effect twice.

        Args:
            registry: The registry of the metrics; None: the registry of the process.

        Raises:
            RuntimeError: There are sessions already; the caller's fault.
            ValueError: It is no registry; the caller's fault.
            ImportError: prometheus-client is not installed; the message names the extra.
        """
        if registry is not None and not callable(getattr(registry, "collect", None)):
            raise ValueError(
                "metrics must be True, False or a prometheus_client.CollectorRegistry, not "
                f"{registry!r}"
            )
        if self._counted:
            return
        service = self._service
        if service.sessions:
            raise RuntimeError("ask for metrics before the server has sessions")
        serve_metrics(registry, service.events, service.routes, self.snapshot)
        self._counted = True
        if service.extension is not None:
            service.extension.observed()

    def extend(self, extension: Extension) -> Events:
        """Make this the server of a node of a cluster, before it listens.

        Returns the way to the server's observers.

        Args:
            extension: The node.

        Raises:
            RuntimeError: It listens, has sessions, or belongs to a cluster already; the caller's
                fault.
        """
        service = self._service
        if self._listeners or service.sessions or service.extension is not None:
            raise RuntimeError("build the Cluster of a server once, and before the server listens")
        service.extension = extension
        more = entries_of(expose_all([], builtin=extension.controllers), ())
        service.entries = {**service.entries, **more}
        told = service.on_state

        def changed(session: Session, change: StateChange) -> None:
            extension.changed(session, change)
            if told is not None:
                told(session, change)

        service.on_state = changed
        return service.events

    def acceptor(self) -> Acceptor:
        """An acceptor for links of another source than a listener, for carriers of your own.

        Must be called on the event loop that is to run them.
        """
        acceptor = Acceptor(self._service, runtimes.current())
        self._acceptors.add(acceptor)
        return acceptor

    def asgi(self) -> AsgiApp:
        """This server as an ASGI 3 application: by itself, or mounted in FastAPI and the like.

        It serves WebSockets, and the same pages over HTTP as a listener of this server. Run by
        itself (`uvicorn app:asgi`) it follows the lifespan of the host. A mounted application gets
        no lifespan: enter `running()` in the lifespan of the application around it. Without either,
        a session lives in the task of the request that began it, and ends when the host cancels
        that task.

        The mount point itself needs a route too, since a mount at "/rpc" matches only "/rpc/":

            rpc = server.asgi()
            app.mount("/rpc", rpc)
            app.router.routes.append(WebSocketRoute("/rpc", rpc))

        An ASGI host hides some things: a connection cannot be dropped without a goodbye, pings and
        fragments are bounded by the host, and there are no client certificates.
        """
        return AsgiApp(self._service, self._running, self.running, self.acceptor)

    def running(self) -> Running:
        """Serve WebSockets that a hosting application accepts, while an `async with` block runs.

        Use it in the lifespan of an application in which `asgi()` is mounted. The first SIGTERM or
        SIGINT drains before the host gets it, if the host handles signals in the main thread, as
        uvicorn does. Leaving the block closes the sessions that are left with 1001.
        """
        return Running(self._service, self._running, self.drain)

    def listen(
        self,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        path: str | None = None,
        ssl: ssl_module.SSLContext | None = None,
        transport: Transport = "websockets",
    ) -> Listener[Self]:
        """Listen while an `async with` block runs.

        Args:
            host: The address to bind; None for every interface.
            port: The port to bind; 0 for a free one, which `listener.url` tells.
            path: A Unix socket to bind instead of host and port.
            ssl: TLS settings; peers then connect to `wss://`.
            transport: The library that carries the WebSockets: "websockets", or "picows" for more
                speed on asyncio. Peers do not notice.

        Raises:
            ValueError: An argument is of another type, the port is out of range, or there is no such
                transport; the caller's fault.
            ImportError: The transport is not installed; the message names the extra.
        """
        checked_address(host, port, path)
        checked_tls(ssl)
        return Listener(
            self, self._service, self._listeners, host, port, path, ssl, checked(transport)
        )

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
        sessions with 1001; so does a cancellation. A third signal meets Python's default, which
        does not wait. Several servers of a process drain at the same time; signals arrive only while
        one of them serves in the main thread. The arguments are the same as those of `listen`.

        Raises:
            OSError: The address cannot be bound.
        """
        async with self.listen(host, port, path=path, ssl=ssl, transport=transport):
            await self.drained_on_signal()

    async def drain(self, grace: float | None = None, *, reconnect_after: float = 0.0) -> None:
        """Stop without breaking calls; returns when every session has ended.

        No listener of this server lets any peer in any more: requests are answered with HTTP 503,
        and so is `/readyz`, until the last session has ended. Peers are told to take their new
        calls elsewhere, and a client of this package does so by itself. Running calls are finished.
        Each session ends, with close code 1012, as soon as no call is live on it any more. Sessions
        that wait without a connection end at once.

        A cancelled `drain` leaves the remaining sessions as they are: they take no new calls, and
        leaving the listener closes them with 1001.

        Args:
            grace: Seconds for calls to finish. Then the handlers that are left are cancelled and
                clean up, and their callers get `unavailable`. `Limits.drain_grace` if left out.
            reconnect_after: Seconds for which peers are asked to stay away from this server.

        Raises:
            ValueError: An argument is no number of seconds, or is negative; the caller's fault.
        """
        grace = checked_wait("grace", self.limits.drain_grace if grace is None else grace)
        checked_wait("reconnect_after", reconnect_after)
        self._service.drains += 1
        self._health.changed()
        self._service.events.drain("begun", len(self._service.sessions))
        try:
            for listener in self._listeners:
                listener.refuse()
            for running in self._running:
                running.refuse()
            for acceptor in self._acceptors:
                if not acceptor.closing:
                    acceptor.refuse(CloseCode.TRY_AGAIN_LATER)
            async with anyio.create_task_group() as group:
                for session in self._service.sessions.values():
                    group.start_soon(session.drain, grace, reconnect_after)
            # Probes could see the drain for as long as any session was left.
            for listener in self._listeners:
                listener.unbind()
        finally:
            self._service.drains -= 1
            self._service.events.drain("ended", len(self._service.sessions))

    def revoke(self, principal: Any) -> int:
        """End all sessions and connections of a principal, with close code 4501.

        It also ends sessions that wait without a connection, and connections that are just being
        let in. Handlers are cancelled, and clean up. All this happens at once; only the closing
        handshakes go on after it, for half a second at most. The server does not remember the
        principal: `authenticate` has to refuse it before this is called.

        Args:
            principal: The principal that `authenticate` returned, an equal object of the same type,
                or its key (`Session.principal_key`).

        Returns:
            The number of sessions that it ended.
        """
        meant = Identity(principal)
        self._service.pending.revoke(meant)
        live = self._service.sessions.values()
        found = [one for one in live if is_meant(meant, one.principal, one.principal_key)]
        for session in found:
            self._service.sessions.remove(session)
            session.expel(CloseCode.UNAUTHENTICATED, REVOKED, within=FAREWELL)
        return len(found)

    async def drained_on_signal(
        self,
        grace: float | None = None,
        *,
        ready: Callable[[], None] | None = None,
        on_signal: Callable[[int], None] | None = None,
    ) -> None:
        """Wait for SIGINT or SIGTERM, then drain; a second signal ends the drain.

        It is for programs that listen by other means than `serve`. In a thread other than the main
        one no signals arrive, and this waits until it is cancelled.

        Args:
            grace: Seconds, as for `drain`.
            ready: Called when signals no longer meet Python's default.
            on_signal: Called with the number of each signal.

        Raises:
            ValueError: `grace` is no number of seconds, or is negative; the caller's fault.
        """
        if grace is not None:
            checked_wait("grace", grace)
        draining = False
        with arriving_signals() as signals:
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
