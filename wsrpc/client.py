"""The connecting side: from a URL to a session."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Literal, TypeAlias

from anyio.to_thread import run_sync

from . import runtime as runtimes
from .backoff import Backoff
from .context import Authorize, checked_metadata
from .contract.description import Reflection, describe
from .contract.expose import expose_all
from .handling.target import MethodEntry, entries_of
from .interfaces import Interceptor, Observer, OnState, Session, Validate
from .limits import Limits
from .options import (
    VALIDATES,
    checked_bool,
    checked_function,
    checked_interceptors,
    checked_limits,
    checked_plain,
    checked_tls,
    one_of,
)
from .protocol.codec import CODECS
from .protocol.endpoint import Endpoint
from .protocol.hello import dump_credentials
from .session.live_session import LiveSession
from .session.reconnect import AskedError, Reconnect, Reconnector, asked, checked_headers
from .telemetry.events import Events
from .telemetry.logs import DEBUGGING, everyone
from .telemetry.recording import Recording, checked_recording
from .transport.base import Link
from .transport.recorded import recorded_opening
from .transport.registry import Transport, checked, open_link
from .version import AGENT

__all__ = ["connect"]

Url: TypeAlias = str | Sequence[str] | Callable[[], Awaitable[str | Sequence[str]]]
Opener: TypeAlias = Callable[..., AbstractAsyncContextManager[Link]]
Headers: TypeAlias = Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]]


class connect:
    """Connect to a server; `async with connect(url) as session`.

    Leaving the block sends queued frames, closes with 1000, and waits until every handler and every
    upload of this side has cleaned up. An exception of the block leaves it unchanged.

    Args:
        url: `ws://host:port/path`, `wss://…`, or `ws+unix:///path/to.sock`. Or a list of URLs, of
            which the next is tried if one cannot be reached. Or an async function that returns
            either, called before each attempt.
        controllers: The controllers that this side exposes to the server: instances, or classes and
            factories.
        codec: "json" for text messages that people can read; "msgpack" for bytes without base64.
        auth: Credentials for the server's `authenticate`: any JSON value, or an async function that
            returns one, called before each attempt, so that a token is always fresh. On a live
            connection `Session.refresh_auth` renews them.
        authorize: An async function of the `CallContext` of each call that the server makes here,
            called before the call begins, as for `Server`.
        metadata: Keys and values that travel with every call of this session.
        limits: This side's bounds.
        interceptors: Functions that run around every outbound call of this session, outermost
            first.
        reconnect: Whether to come back after a lost connection; a `Reconnect` sets the details.
            Within the server's resume window no call is lost. After it, pending calls fail with
            `unavailable`, and the session goes on all the same. With False the session ends with
            its connection.
        wait: Seconds for which the first connection is tried again if it does not come about at
            once: a server may be started after its clients.
        on_state: Called with the session and each `StateChange`, for logs; must not block.
        observers: Objects that are told of calls, sessions and connections, for metrics, traces and
            logs.
        ssl: TLS settings for `wss://`; the system's defaults if left out.
        proxy: The proxy to use, as a URL such as "http://proxy.example:3128". True: the proxy that
            the environment names, but never for this machine's own addresses. False: none.
        headers: Further headers for the handshake, for instance `Origin`; or an async function that
            returns them, called before each attempt.
        validate: "both" checks this side's results before they leave; "arrival" and "none" do not.
        debug: Whether unexpected errors of this side's handlers cross with their text and
            traceback.
        reflection: Whether the server may ask for this side's contract.
        transport: The library that carries the WebSocket: "websockets", or "picows" for more speed
            on asyncio.
        record: A file to which every frame is written, or a `Recording`, which also says which
            values are masked and how large the file may grow. The file never holds credentials;
            `wsrpc replay` shows it.

    Raises:
        ValueError: An option has an invalid value; the caller's fault.
        TypeError: An option has an invalid type; the caller's fault.
        ImportError: The transport is not installed; the message names the extra.
        ConnectError: On entering: the server cannot be reached, is no wsrpc server, or refuses; the
            message says which.
        RegistrationError: A controller cannot be exposed as it is written; its author is to blame.
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
        reconnect: bool | Reconnect = True,
        wait: float = 0.0,
        on_state: OnState | None = None,
        observers: Sequence[Observer] = (),
        ssl: ssl_module.SSLContext | None = None,
        proxy: str | bool = True,
        headers: Headers | None = None,
        validate: Validate = "both",
        debug: bool = False,
        reflection: bool = True,
        transport: Transport = "websockets",
        record: str | PathLike[str] | Recording | None = None,
    ) -> None:
        self._codec = CODECS[one_of("codec", codec, tuple(CODECS))]
        if not callable(auth):
            dump_credentials(self._codec, auth)
        self._auth = auth
        self._authorize = authorize
        self._metadata = checked_metadata(metadata or {})
        self._limits = checked_limits(limits)
        self._interceptors = checked_interceptors(interceptors)
        checked_function("authorize", authorize, "context")
        checked_plain("on_state", on_state, "session", "change")
        checked_bool("debug", debug)
        checked_bool("reflection", reflection)
        checked_tls(ssl)
        if not isinstance(proxy, bool) and not (isinstance(proxy, str) and "://" in proxy):
            raise ValueError(
                "proxy must be True, False or the URL of a proxy, such as "
                f"'http://proxy.example:3128', not {proxy!r}"
            )
        if not callable(url):
            _checked_urls(url)
        if not isinstance(reconnect, (bool, Reconnect)):
            raise TypeError(
                f"reconnect= takes True, False or a wsrpc.Reconnect, not {type(reconnect).__name__}"
            )
        if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not wait >= 0:
            raise ValueError(f"wait= takes seconds, at least 0, not {wait!r}")
        self._reconnect = reconnect
        self._wait = wait
        self._on_state = on_state
        self._events = Events(observers=observers)
        self._recording = checked_recording(record)
        self._dial = _Dial(
            url,
            headers if callable(headers) else checked_headers(headers),
            self._codec.subprotocol,
            self._limits,
            opener=self._opener(),
            transport=checked(transport),
            ssl=ssl,
            proxy=proxy,
            recording=self._recording,
        )
        self._check = one_of("validate", validate, VALIDATES) == "both"
        self._debug = debug
        if debug:
            everyone.warning(DEBUGGING, "connect")
        own = expose_all(controllers)
        builtin = [Reflection(lambda: describe(own))] if reflection else []
        self._entries = self._callable(entries_of(expose_all(controllers, builtin=builtin), ()))
        self._session: LiveSession | None = None
        self._backoff: Callable[[], Backoff] | None = None

    def _opener(self) -> Opener:
        """The object that opens connections; a subclass may open another kind."""
        return _open_link

    def _callable(self, entries: Mapping[str, MethodEntry]) -> Mapping[str, MethodEntry]:
        """The methods that the server may call, by name; a subclass may add further ones."""
        return entries

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
            events=self._events,
        )
        Reconnector(
            session,
            self._dial,
            self._auth,
            nursery,
            reconnect=self._reconnect,
            wait=self._wait,
            backoff=self._backoff,
        ).begin()
        try:
            await session.ready()
        except BaseException:
            # The session closes while its tasks still run. On trio the library's reader drops the
            # connection without a close frame once it is cancelled, and the server would keep the
            # session for `resume_window`.
            await session.abandon()
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
            if self._recording is not None:
                await run_sync(self._recording.flush)


def _open_link(url: str, subprotocol: str, **options: Any) -> AbstractAsyncContextManager[Link]:
    return open_link(url, subprotocol, **options)


class _Dial:
    """Opens links to a URL, or to one of several."""

    def __init__(
        self,
        url: Url,
        headers: Headers,
        subprotocol: str,
        limits: Limits,
        *,
        opener: Opener,
        recording: Recording | None,
        **options: Any,
    ) -> None:
        self._opener = opener
        self._url = url
        self._headers = headers
        self._subprotocol = subprotocol
        self._limits = limits
        self._options = options
        self._recording = recording
        self._urls: Sequence[str] = ()
        self._found: dict[str, str] = {}

    @property
    def renews(self) -> bool:
        """Whether a function gives URLs or headers, which may hold credentials."""
        return callable(self._url) or callable(self._headers)

    async def addresses(self) -> int:
        url: Any = self._url
        if callable(url):
            found = await asked("url", url, self._limits.connect_timeout)
            try:
                self._urls = _checked_urls(found)
            except (TypeError, ValueError) as error:
                raise AskedError("url", error) from None
        else:
            self._urls = _checked_urls(url)
        headers: Any = self._headers
        if callable(headers):
            found = await asked("headers", headers, self._limits.connect_timeout)
            try:
                self._found = checked_headers(found)
            except (TypeError, ValueError) as error:
                raise AskedError("headers", error) from None
        else:
            self._found = headers
        return len(self._urls)

    def open(self, address: int) -> AbstractAsyncContextManager[Link]:
        url = self._urls[address % len(self._urls)]
        opening = self._opener(
            url, self._subprotocol, limits=self._limits, headers=self._found, **self._options
        )
        if self._recording is None:
            return opening
        return recorded_opening(opening, self._recording)


def _checked_urls(found: Any) -> Sequence[str]:
    """Check the value of `url=`, or the result of the function given there.

    Raises:
        TypeError: It is neither a URL nor a list of URLs.
        ValueError: The list is empty.
    """
    if isinstance(found, str):
        return [found]
    if not isinstance(found, Sequence) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"connect() needs a URL or a list of them, and was given {found!r:.100}")
    if not found:
        raise ValueError("connect() needs a URL, and was given an empty list of them")
    return list(found)
