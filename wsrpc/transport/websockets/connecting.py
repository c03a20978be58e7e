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
    InvalidStatus,
    InvalidURI,
)

from ...close_codes import CloseCode
from ...errors import ConnectError
from ...interfaces import Handshake
from ...limits import Limits
from ..urls import refused, shown, split_url, unreachable, wrong_subprotocol
from . import direct
from .link import WRITE_AHEAD, Watch, bounded, link_over, on_asyncio, options_of

if TYPE_CHECKING:
    from ..base import Link

__all__ = ["open_link"]


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
) -> AsyncIterator[Link]:
    """Connect to `ws://…`, `wss://…` or `ws+unix:///path/to.sock`; closes on leaving.

    Raises:
        ConnectError: There is no wsrpc server to talk to; the message says how far it got.
    """
    parts = split_url(url)
    options = options_of(limits, [subprotocol])
    options["additional_headers"] = headers
    options["open_timeout"] = limits.connect_timeout
    path = unquote(parts.path) if parts.scheme == "ws+unix" else None
    if ssl is not None:
        options["ssl"] = ssl
    try:
        manager = await _connector("ws://localhost/" if path else url, path, limits, options)
        connection = await manager.__aenter__()
    except (InvalidURI, InvalidHandshake, OSError, TimeoutError, EOFError, ValueError) as error:
        raise _connect_error(url, error) from error
    except ConnectionClosed as error:
        # websockets on trio, where the socket breaks while it writes its request.
        raise _connect_error(url, OSError("the connection broke in the handshake")) from error
    except _trio_errors() as error:
        # What it was about is its cause: no valid certificate, for instance.
        cause = error.__cause__
        reason = (
            cause if isinstance(cause, OSError) else OSError(f"the connection broke: {error!r}")
        )
        raise _connect_error(url, reason) from error
    try:
        if connection.subprotocol != subprotocol:
            await link_over(connection, Handshake(), limits).close(
                CloseCode.PROTOCOL_ERROR, "no subprotocol"
            )
            raise wrong_subprotocol(url, subprotocol, connection.subprotocol)
        handshake = Handshake(path=parts.path or "/", tls=parts.scheme == "wss")
        yield link_over(connection, handshake, limits)
    finally:
        await manager.__aexit__(None, None, None)


def _trio_errors() -> tuple[type[Exception], ...]:
    """What trio raises for a socket that broke, and no other library does."""
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
        return asyncio_client.connect(url, **options)
    import trio
    import websockets.trio.client as trio_client

    from .on_trio import TrioClient

    class WatchedClient(Watch, TrioClient):
        pass

    options["create_connection"] = bounded(WatchedClient, limits)
    if path is not None:
        options["stream"] = await trio.open_unix_socket(path)
    return trio_client.connect(url, **options)


def _connect_error(url: str, error: Exception) -> ConnectError:
    if isinstance(error, InvalidStatus):
        return refused(url, error.response.status_code)
    if isinstance(error, InvalidURI):
        return ConnectError(f"{shown(url)!r} is no WebSocket URL: {error.msg}")
    if isinstance(error, InvalidMessage):
        return unreachable(url, EOFError())
    if isinstance(error, InvalidHandshake):
        return ConnectError(f"{shown(url)} refused the handshake: {error}")
    return unreachable(url, error)
