"""Links over ASGI: WebSockets that another server accepts, such as uvicorn, hypercorn or granian.

ASGI (version 3, the WebSocket message format of its specification 2.3 and later) lacks some
features of this package's own transports. There is no way to drop a connection without a goodbye,
to bound the pings and fragments of a peer (CALM-2 and CALM-4 for those), or to see a client's
certificate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

import anyio

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..interfaces import Handshake
from ..limits import Limits
from ..protocol.codec import SUBPROTOCOLS
from .base import HttpAnswer, LinkClosed, failed_with, short_reason

__all__ = [
    "AsgiLink",
    "Receive",
    "Scope",
    "Send",
    "deny",
    "headers_of",
    "mount_of",
    "path_of",
    "respond",
    "typed_with_slash",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Seconds for the close frame that stands in for a dropped connection.
LAST_WORD = 0.1


class AsgiLink:
    """One accepted WebSocket of an ASGI server, as a `Link`.

    Args:
        receive: The application's `receive`.
        send: The application's `send`.
        subprotocol: The subprotocol that was agreed on.
        handshake: The facts about the connection.
        limits: The server's bounds.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        subprotocol: str,
        handshake: Handshake,
        limits: Limits,
    ) -> None:
        self.subprotocol: str | None = subprotocol
        self.handshake = handshake
        self._receive = receive
        self._send = send
        self._text = SUBPROTOCOLS[subprotocol].text
        self._most = limits.max_batch
        self._close_timeout = limits.close_timeout
        self._closed: LinkClosed | None = None
        # The scopes around the application's awaits, so that dropping the link ends them.
        self._scopes: set[anyio.CancelScope] = set()
        self._over = anyio.Event()

    async def send(self, data: bytes) -> None:
        message = {"text": data.decode()} if self._text else {"bytes": data}
        await self._told({"type": "websocket.send", **message})
        self._raise_if_closed()

    async def receive(self) -> bytes:
        self._raise_if_closed()
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                message = await self._receive()
                return self._data_of(message)
            finally:
                self._scopes.discard(scope)
        self._raise_if_closed()
        raise AssertionError("a receive was cancelled, and the link was not dropped")

    async def close(self, code: int, reason: str = "") -> None:
        if self._closed is None:
            # Messages that the peer sent before it saw this are not read any more.
            self._end(LinkClosed(code, reason))
            await self._farewell(code, reason, self._close_timeout)
        self._over.set()

    def abort(self) -> None:
        self._end(LinkClosed(CloseCode.CONNECTION_LOST))
        self._over.set()

    async def wait_over(self) -> None:
        """Wait until the WebSocket is closed or dropped; then the application may return."""
        try:
            await self._over.wait()
        finally:
            # The server closes a WebSocket that an application leaves open with 1000, and 1000 ends
            # a session.
            if self._closed is None or self._closed.code == CloseCode.CONNECTION_LOST:
                self._end(LinkClosed(CloseCode.CONNECTION_LOST))
                with anyio.CancelScope(shield=True):
                    await self._farewell(CloseCode.SERVER_TROUBLE, "", LAST_WORD)

    def _data_of(self, message: Mapping[str, Any]) -> bytes:
        if message["type"] == "websocket.disconnect":
            gone = failed_with(
                message.get("code") or CloseCode.NO_STATUS, message.get("reason") or ""
            )
            self._end(gone)
            self._over.set()
            raise gone
        text, data = message.get("text"), message.get("bytes")
        if (text is None) is self._text:
            wanted = "text" if self._text else "binary"
            raise ProtocolError(
                CloseCode.BAD_FRAME, f"{self.subprotocol} travels in {wanted} messages"
            )
        data = text.encode() if text is not None else bytes(data or b"")
        if len(data) > self._most:
            raise ProtocolError(CloseCode.TOO_BIG, f"a message has at most {self._most} bytes here")
        return data

    async def _told(self, message: MutableMapping[str, Any]) -> None:
        self._raise_if_closed()
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._send(message)
            except Exception:  # noqa: BLE001  (each server has its own for a peer that is gone)
                # `receive` tells the code, after all messages that the peer sent before.
                with anyio.move_on_after(self._close_timeout):
                    await self._over.wait()
                self._end(LinkClosed(CloseCode.CONNECTION_LOST))
            finally:
                self._scopes.discard(scope)

    async def _farewell(self, code: int, reason: str, within: float) -> None:
        with anyio.move_on_after(within):
            try:
                await self._send(
                    {"type": "websocket.close", "code": code, "reason": short_reason(reason)}
                )
            except Exception:  # noqa: BLE001  (the peer is gone already)
                return

    def _end(self, closed: LinkClosed) -> None:
        if self._closed is None:
            self._closed = closed
            for scope in self._scopes:
                scope.cancel()

    def _raise_if_closed(self) -> None:
        if self._closed is not None:
            raise LinkClosed(self._closed.code, self._closed.reason)


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request, names in lower case; several with one name are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def path_of(scope: Scope) -> str:
    """The path of a request with its query."""
    query = scope.get("query_string", b"").decode("latin-1")
    path: str = scope["path"]
    if path != "/" and not typed_with_slash(scope):
        # Litestar has added the slash.
        path = path.rstrip("/")
    return f"{path}?{query}" if query else path


def mount_of(scope: Scope) -> str:
    """The path at which the application is mounted, without a slash at its end.

    It is a prefix of the request's path, which need not begin with `root_path`: a proxy may have
    taken a prefix away that the application was told of, as by `FastAPI(root_path=…)`.
    """
    root: str = scope.get("root_path", "")
    if f"{scope['path']}/".startswith(f"{root}/"):
        return root
    return root.removeprefix(scope.get("app_root_path", ""))


def typed_with_slash(scope: Scope) -> bool:
    """Whether the path that the client asked for ends with a slash, as far as the host tells."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].endswith(b"/")


async def respond(answer: HttpAnswer, send: Send, kind: str = "http.response") -> None:
    """Send an answer over HTTP.

    Args:
        answer: The answer.
        send: The application's `send`.
        kind: The prefix of the messages' types; "websocket.http.response" refuses a handshake.
    """
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
    if not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": answer.body})


async def deny(answer: HttpAnswer, scope: Scope, send: Send) -> None:
    """Refuse a handshake with this answer, or with 403 where the server supports no other."""
    extensions: Sequence[str] | Mapping[str, Any] = scope.get("extensions") or ()
    if "websocket.http.response" in extensions:
        await respond(answer, send, "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": CloseCode.PROTOCOL_ERROR, "reason": ""})
