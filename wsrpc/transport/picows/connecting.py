"""Connecting by picows."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote

import anyio
from picows import (
    WSError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSParsedURL,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,
)
from python_socks import ProxyError
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidURI
from websockets.headers import build_authorization_basic, build_host
from websockets.uri import WebSocketURI, parse_uri

from ...close_codes import CloseCode
from ...errors import ConnectError
from ...limits import Limits
from ..urls import by, handshake_with, refused, shown, split_url, unreachable, wrong_subprotocol
from ..websockets.connecting import invalid_proxy, proxy_of
from .link import PicowsLink
from .settings import UnixSocket, options

if TYPE_CHECKING:
    from ..base import Link

__all__ = ["open_link"]


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

    Redirects are not followed.

    Raises:
        ConnectError: There is no wsrpc server to talk to; the message says how far the attempt got.
    """
    parts = split_url(url)
    by_proxy = None
    try:
        by_proxy = None if parts.scheme == "ws+unix" else proxy_of(url, proxy)
        with anyio.fail_after(limits.connect_timeout):
            websocket, link = await _connect(
                parts, subprotocol, limits, ssl, headers or {}, by_proxy
            )
    except (WSError, ProxyError, InvalidProxy, InvalidURI, InvalidHandshake) as error:
        raise _connect_error(url, error, by_proxy) from error
    except (OSError, EOFError, ValueError) as error:
        raise unreachable(url, error, by_proxy) from error
    try:
        if link.subprotocol != subprotocol:
            await link.close(CloseCode.PROTOCOL_ERROR, "no subprotocol")
            raise wrong_subprotocol(url, subprotocol, link.subprotocol)
        link.handshake = handshake_with(parts)
        yield link
    finally:
        with anyio.CancelScope(shield=True):
            await link.close(CloseCode.NORMAL)
            await _take_note(websocket)


async def _take_note(websocket: WSTransport) -> None:
    """Retrieve the error of its end, since asyncio logs an error that is never retrieved."""
    try:
        await websocket.wait_disconnected()
    except Exception as error:  # noqa: BLE001  (the link has told of it in its own words)
        # picows keeps the error, which keeps the stack frames that it passed.
        error.__traceback__ = None


async def _connect(
    parts: SplitResult,
    subprotocol: str,
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
    headers: dict[str, str],
    proxy: str | None,
) -> tuple[WSTransport, PicowsLink]:
    if ssl is not None and parts.scheme != "wss":
        raise ValueError(f"ssl= is for wss://, not for {parts.scheme}://")
    path = unquote(parts.path) if parts.scheme == "ws+unix" else None
    uri = parse_uri(parts.geturl() if path is None else "ws://localhost/")
    dialled: list[socket.socket] = []

    async def dial(where: WSParsedURL) -> socket.socket:
        dialled.append(await _tcp(where) if path is None else await _unix(path))
        return dialled[-1]

    def made(request: WSUpgradeRequest, response: WSUpgradeResponse) -> PicowsLink:
        return PicowsLink(response.headers.get("Sec-WebSocket-Protocol"), limits)

    try:
        websocket, link = await ws_connect(
            made,
            f"{parts.scheme if path is None else 'ws'}://"
            f"{build_host(uri.host, uri.port, uri.secure)}{uri.resource_name}",
            ssl_context=ssl,
            extra_headers=_request_headers(uri, subprotocol, headers),
            socket_factory=dial,
            proxy=proxy,
            max_redirects=0,
            websocket_handshake_timeout=None,
            **options(limits, limits.connect_timeout if uri.secure else None, path is not None),
        )
    except BaseException:
        # When it is cancelled, picows leaves the connection open. The socket belongs to the
        # transport, which closes it at the end of its input.
        for one in dialled:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        raise
    if link is None:
        # The connection ended during the handshake.
        raise EOFError
    assert isinstance(link, PicowsLink)
    return websocket, link


class _Dialled(socket.socket):
    """A connection that has the address of its peer even after the peer has reset it.

    By this address picows tells whether a socket is connected. It would connect one that was reset
    once more, and would leave it open if that fails.
    """

    peer: Any = None

    def getpeername(self) -> Any:
        return self.peer if self.peer is not None else super().getpeername()


async def _tcp(where: WSParsedURL) -> socket.socket:
    """A connected socket; the addresses of the host are tried one after the other."""
    loop = asyncio.get_running_loop()
    failures: list[OSError] = []
    for family, kind, number, _, address in await loop.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM
    ):
        one = _Dialled(family, kind, number)
        try:
            await _dialled(one, address)
            one.peer = address
            return one
        except OSError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise OSError(", ".join(map(str, failures)))


async def _unix(path: str) -> socket.socket:
    return await _dialled(UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM), path)


async def _dialled(one: socket.socket, address: Any) -> socket.socket:
    try:
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, address)
    except BaseException:
        one.close()
        raise
    return one


def _request_headers(
    uri: WebSocketURI, subprotocol: str, headers: dict[str, str]
) -> list[tuple[str, str]]:
    checked = Headers(headers)
    checked["Sec-WebSocket-Protocol"] = subprotocol
    if uri.user_info is not None:
        checked["Authorization"] = build_authorization_basic(*uri.user_info)
    return [(name, str(value)) for name, value in checked.raw_items()]


def _connect_error(url: str, error: Exception, proxy: str | None) -> ConnectError:
    if isinstance(error, WSInvalidStatusError) and error.response is not None:
        headers = {name.lower(): value for name, value in error.response.headers.items()}
        return refused(url, int(error.response.status), headers)
    if isinstance(error, InvalidURI):
        return ConnectError(f"{shown(url)!r} is no WebSocket URL: {error.msg}")
    if isinstance(error, WSInvalidMessageError):
        return unreachable(url, EOFError(), proxy)
    if isinstance(error, InvalidProxy):
        return invalid_proxy(url, error)
    if isinstance(error, ProxyError):
        return ConnectError(f"cannot connect to {shown(url)}{by(proxy)}: {error}")
    return ConnectError(f"{shown(url)}{by(proxy)} refused the handshake: {error}")
