"""The connecting side: from a URL to a session."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeAlias

from . import runtime as runtimes
from .context import Authorize, checked_metadata
from .contract.description import Reflection, describe
from .contract.expose import expose_all
from .handling.target import entries_of
from .interfaces import Interceptor, OnState, Session, Validate
from .limits import Limits
from .options import VALIDATES, checked_function, checked_interceptors, checked_limits, one_of
from .protocol.codec import CODECS
from .protocol.endpoint import Endpoint
from .session.live_session import LiveSession
from .session.reconnect import Reconnector
from .telemetry.logs import DEBUGGING, everyone
from .transport.base import Link
from .transport.registry import Transport, checked, open_link
from .version import AGENT

__all__ = ["connect"]

Url: TypeAlias = str | Sequence[str] | Callable[[], Awaitable[str | Sequence[str]]]


class connect:
    """Connect to a server; `async with connect(url) as session`.

    Leaving the block sends what is queued, closes with 1000, and waits until every handler and
    every upload of this side has cleaned up. The block's own exception leaves as itself.

    Args:
        url: `ws://host:port/path`, `wss://…`, or `ws+unix:///path/to.sock`; or a list of such, of
            which another is tried where one cannot be reached; or an async function that gives
            either, asked before each attempt.
        controllers: What this side exposes to the server: instances, or classes and factories.
        codec: "json" for text messages that people can read; "msgpack" for bytes without base64.
        auth: Credentials for the server's `authenticate`: any JSON value, or an async function
            that gives one, asked before each attempt, so that a token is always fresh. On a live
            connection `Session.refresh_auth` renews them.
        authorize: An async function of the `CallContext` of each call that the server makes here,
            asked before it begins, as `Server` has it.
        metadata: Sent along with every call of this session.
        limits: This side's bounds.
        interceptors: Run around every call out of this session, outermost first.
        reconnect: Whether to come back after a lost connection. Within the server's resume window
            nothing is lost then; beyond it what was pending fails with `unavailable`, and the
            session goes on all the same. Without, the session ends with its connection.
        on_state: Called with the session and each `StateChange`, for logs; must not block.
        ssl: TLS settings for `wss://`; the system's defaults otherwise.
        headers: More headers for the handshake, for instance `Origin`.
        validate: "both" checks this side's results before they leave; "arrival" and "none" don't.
        debug: Whether unexpected errors of this side's handlers cross with text and traceback.
        reflection: Whether the server may ask what this side exposes.
        transport: What carries the WebSocket: "websockets", or "picows" for more speed on asyncio.

    Raises:
        ValueError: An option has none of its values.
        ImportError: The transport is not installed; the message names the extra.
        ConnectError: On entering: nobody there, no wsrpc server, or refused; it says which.
        RegistrationError: A controller cannot be exposed as it is written.
    """

    def __init__(
        self,
        url: Url,
        *,
        controllers: Sequence[Any] = (),
        codec: Literal["json", "msgpack"] = "json",
        auth: Any | Callable[[], Awaitable[Any]] = None,
        authorize: Authorize | None = None,
        metadata: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        interceptors: Sequence[Interceptor] = (),
        reconnect: bool = True,
        on_state: OnState | None = None,
        ssl: ssl_module.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        validate: Validate = "both",
        debug: bool = False,
        reflection: bool = True,
        transport: Transport = "websockets",
    ) -> None:
        self._codec = CODECS[one_of("codec", codec, tuple(CODECS))]
        self._auth = auth
        self._authorize = authorize
        self._metadata = checked_metadata(metadata or {})
        self._limits = checked_limits(limits)
        self._interceptors = checked_interceptors(interceptors)
        checked_function("authorize", authorize)
        checked_function("on_state", on_state)
        self._reconnect = reconnect
        self._on_state = on_state
        self._dial = _Dial(
            url,
            self._codec.subprotocol,
            transport=checked(transport),
            limits=self._limits,
            ssl=ssl,
            headers=dict(headers or {}),
        )
        self._check = one_of("validate", validate, VALIDATES) == "both"
        self._debug = debug
        if debug:
            everyone.warning(DEBUGGING, "connect")
        own = expose_all(controllers)
        builtin = [Reflection(lambda: describe(own))] if reflection else []
        self._entries = entries_of(expose_all(controllers, builtin=builtin), ())
        self._session: LiveSession | None = None

    async def __aenter__(self) -> Session:
        if self._session is not None:
            raise RuntimeError("a connect() object serves once; call connect() again")
        runtime = runtimes.current()
        nursery = await runtime.open_nursery()
        session = self._session = LiveSession(
            partial(Endpoint, "connecting", self._codec, self._limits, agent=AGENT),
            runtime,
            nursery,
            entries=self._entries,
            authorize=self._authorize,
            interceptors=self._interceptors,
            metadata=self._metadata,
            check=self._check,
            debug=self._debug,
            on_state=self._on_state,
        )
        Reconnector(session, self._dial, self._auth, nursery, reconnect=self._reconnect).begin()
        try:
            await session.ready()
        except BaseException:
            await session.finish()
            raise
        return session

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session = self._session
        assert session is not None
        try:
            await session.aclose()
        finally:
            await session.finish()


class _Dial:
    """Opens links to a URL, or to one of several."""

    def __init__(self, url: Url, subprotocol: str, **options: Any) -> None:
        self._url = url
        self._subprotocol = subprotocol
        self._options = options
        self._urls: Sequence[str] = ()

    async def addresses(self) -> int:
        url = self._url
        if callable(url):
            url = await url()
        self._urls = [url] if isinstance(url, str) else list(url)
        if not self._urls:
            raise ValueError("connect() needs a URL, and was given an empty list of them")
        return len(self._urls)

    def open(self, address: int) -> AbstractAsyncContextManager[Link]:
        url = self._urls[address % len(self._urls)]
        return open_link(url, self._subprotocol, **self._options)
