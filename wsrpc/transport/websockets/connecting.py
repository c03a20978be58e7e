"""Connecting by `websockets`."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import websockets.asyncio.client as asyncio_client
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.proxy import get_proxy, parse_proxy
from websockets.uri import parse_uri

from ...close_codes import CloseCode
from ...errors import ConnectError
from ...interfaces import Handshake
from ...limits import Limits
from ..listening import headers_of
from ..urls import (
    by,
    handshake_with,
    is_loopback,
    refused,
    shown,
    split_url,
    unreachable,
    wrong_subprotocol,
)
from . import direct
from .link import WRITE_AHEAD, Watch, bounded, link_over, on_asyncio, options_of

if TYPE_CHECKING:
    from ..base import Link

__all__ = ["invalid_proxy", "open_link", "proxy_of"]


class _AsyncioClient(Watch, asyncio_client.ClientConnection):
    def say(self) -> None:
        self.send_data()


@asynccontextmanager
async def open_link(
    url: str,
    subprotocol: str,
    *,
    limits: Limits,
    ssl: ssl_module.SSLContext | None = None,
    headers: dict[str, str] | None = None,
    proxy: str | bool = True,
) -> AsyncIterator[Link]:
    """Connect to `ws://…`, `wss://…` or `ws+unix:///path/to.sock`; closes on leaving.

    Raises:
        ConnectError: There is no wsrpc server to talk to; the message says how far the attempt got.
    """
    parts = split_url(url)
    options = options_of(limits, [subprotocol])
    options["additional_headers"] = headers
    options["open_timeout"] = limits.connect_timeout
    path = unquote(parts.path) if parts.scheme == "ws+unix" else None
    if ssl is not None:
        options["ssl"] = ssl
    by_proxy = None
    try:
        by_proxy = options["proxy"] = None if path is not None else proxy_of(url, proxy)
        manager = await _connector("ws://localhost/" if path else url, path, limits, options)
        connection = await manager.__aenter__()
    except (
        InvalidURI,
        InvalidProxy,
        InvalidHandshake,
        OSError,
        TimeoutError,
        EOFError,
        ValueError,
    ) as error:
        raise _connect_error(url, error, by_proxy) from error
    except ConnectionClosed as error:
        # websockets on trio raises this where the socket breaks while it writes its request.
        broke = ConnectionResetError("the connection broke in the handshake")
        raise _connect_error(url, broke, by_proxy) from error
    except _trio_errors() as error:
        # The cause tells the real reason: no valid certificate, for instance.
        cause = error.__cause__
        broke = ConnectionResetError("the connection broke in the handshake")
        raise _connect_error(
            url, cause if isinstance(cause, OSError) else broke, by_proxy
        ) from error
    try:
        if connection.subprotocol != subprotocol:
            await link_over(connection, Handshake(), limits).close(
                CloseCode.PROTOCOL_ERROR, "no subprotocol"
            )
            raise wrong_subprotocol(url, subprotocol, connection.subprotocol)
        yield link_over(connection, handshake_with(parts), limits)
    finally:
        await manager.__aexit__(None, None, None)


class _Connect(asyncio_client.connect):
    """A connection that follows no redirects: credentials are meant for the given address only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def proxy_of(url: str, choice: str | bool) -> str | None:
    """The proxy that a connection goes by, if any.

    Args:
        url: The URL to connect to.
        choice: The argument of `connect`: the proxy's URL, or whether the environment decides.

    Raises:
        ValueError: The URL cannot be read.
        InvalidProxy: There is a proxy, and its URL cannot be read.
    """
    if isinstance(choice, str):
        proxy: str | None = choice
    else:
        uri = parse_uri(url)
        proxy = get_proxy(uri) if choice and not is_loopback(uri.host) else None
    if proxy is not None:
        parse_proxy(proxy)
    return proxy


def invalid_proxy(url: str, error: InvalidProxy) -> ConnectError:
    """The error for a proxy, of the environment or not, by which no connection can go."""
    # The exception's own text has the proxy's credentials.
    return ConnectError(f"cannot connect to {shown(url)}{by(error.proxy)}: {error.msg}")


def _trio_errors() -> tuple[type[Exception], ...]:
    """The exceptions that only trio raises for a socket that broke."""
    if on_asyncio():
        return ()
    import trio

    return trio.BrokenResourceError, trio.ClosedResourceError


async def _connector(url: str, path: str | None, limits: Limits, options: dict[str, Any]) -> Any:
    if on_asyncio():
        kind = direct.DirectClient if direct.available() else _AsyncioClient
        options["create_connection"] = bounded(kind, limits)
        options["write_limit"] = WRITE_AHEAD
        if path is not None:
            return asyncio_client.unix_connect(path, url, **options)
        return _Connect(url, **options)
    import trio
    import websockets.trio.client as trio_client

    from .on_trio import TrioClient

    class WatchedClient(Watch, TrioClient):
        pass

    options["create_connection"] = bounded(WatchedClient, limits)
    if path is not None:
        options["stream"] = await trio.open_unix_socket(path)

    class TrioConnect(trio_client.connect):
        def process_redirect(self, exc: Exception) -> Exception | str:
            return exc

    return TrioConnect(url, **options)


def _connect_error(url: str, error: Exception, proxy: str | None) -> ConnectError:
    if isinstance(error, InvalidStatus):
        headers = headers_of(error.response.headers.raw_items())
        return refused(url, error.response.status_code, headers)
    if isinstance(error, InvalidProxy):
        return invalid_proxy(url, error)
    if isinstance(error, ProxyError):
        return ConnectError(f"cannot connect to {shown(url)}{by(proxy)}: {error}")
    if isinstance(error, InvalidURI):
        return ConnectError(f"{shown(url)!r} is no WebSocket URL: {error.msg}")
    if isinstance(error, InvalidMessage):
        return unreachable(url, EOFError(), proxy)
    if isinstance(error, InvalidHandshake):
        return ConnectError(f"{shown(url)}{by(proxy)} refused the handshake: {error}")
    return unreachable(url, error, proxy)
