"""The connecting side: from a URL to a session."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from . import runtime as runtimes
from .context import checked_metadata
from .contract import Reflection, describe
from .controller import expose_all
from .dispatch import targets_of
from .interceptor import Interceptor
from .limits import Limits
from .protocol.codec import CODECS
from .protocol.endpoint import Endpoint
from .proxy import Validate
from .runtime import Nursery
from .session import Session
from .transport.choice import Transport, checked, open_link
from .version import AGENT

__all__ = ["connect"]


class connect:
    """Connect to a server; `async with connect(url) as session`.

    Leaving the block sends what is queued, closes with 1000, and waits until every handler and
    every upload of this side has cleaned up. The block's own exception leaves as itself.

    Args:
        url: `ws://host:port/path`, `wss://…`, or `ws+unix:///path/to.sock`.
        controllers: What this side exposes to the server: instances, or classes and factories.
        codec: "json" for text messages that people can read; "msgpack" for bytes without base64.
        auth: Credentials for the server's `authenticate`: any JSON value, or an async function
            that gives one.
        metadata: Sent along with every call of this session.
        limits: This side's bounds.
        interceptors: Run around every call out of this session, outermost first.
        reconnect: Whether to come back after a lost connection. This version does not yet: a
            session whose connection is lost has ended, whatever is said here.
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
        url: str,
        *,
        controllers: Sequence[Any] = (),
        codec: Literal["json", "msgpack"] = "json",
        auth: Any | Callable[[], Awaitable[Any]] = None,
        metadata: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        interceptors: Sequence[Interceptor] = (),
        reconnect: bool = True,
        ssl: ssl_module.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        validate: Validate = "both",
        debug: bool = False,
        reflection: bool = True,
        transport: Transport = "websockets",
    ) -> None:
        self._url = url
        self._transport = checked(transport)
        if codec not in CODECS:
            raise ValueError(f"codec must be 'json' or 'msgpack', not {codec!r}")
        self._codec = CODECS[codec]
        self._auth = auth
        self._metadata = checked_metadata(metadata or {})
        self._limits = limits or Limits()
        self._interceptors = interceptors
        self._ssl = ssl
        self._headers = dict(headers or {})
        self._check = validate == "both"
        self._debug = debug
        own = expose_all(controllers)
        builtin = [Reflection(lambda: describe(own))] if reflection else []
        self._targets = targets_of(expose_all(controllers, builtin=builtin), ())
        self._nursery: Nursery | None = None
        self._session: Session | None = None

    async def __aenter__(self) -> Session:
        if self._session is not None:
            raise RuntimeError("a connect() object serves once; call connect() again")
        runtime = runtimes.current()
        auth = self._auth
        if callable(auth):
            ask: Any = auth
            auth = await ask()
        endpoint = Endpoint("connecting", self._codec, self._limits, agent=AGENT)
        endpoint.connect(auth)
        nursery = self._nursery = await runtime.open_nursery()
        session = self._session = Session(
            endpoint,
            runtime,
            nursery,
            targets=self._targets,
            interceptors=self._interceptors,
            metadata=self._metadata,
            check=self._check,
            debug=self._debug,
        )
        nursery.spawn(self._keep, session)
        try:
            await session.ready()
        except BaseException:
            await session.finish()
            raise
        return session

    async def _keep(self, session: Session) -> None:
        """Open the link and serve it until it is gone."""
        try:
            async with open_link(
                self._url,
                self._codec.subprotocol,
                transport=self._transport,
                limits=self._limits,
                ssl=self._ssl,
                headers=self._headers,
            ) as link:
                await session.run(link)
        except Exception as error:  # noqa: BLE001  (raised again where connect() is entered)
            session.give_up(error)

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
