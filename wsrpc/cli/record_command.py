"""`wsrpc record`: a proxy that records the frames that pass."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as accept
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ..close_codes import CloseCode
from ..protocol.codec import SUBPROTOCOLS
from ..telemetry.recording import LinkRecorder, Recording
from ..telemetry.recording_format import Sender
from .connection import Target
from .failures import ExitCode, Failure, note
from .logs import log_to_stderr
from .running import run

__all__ = ["Proxy", "masks", "record"]

# Headers of a handshake that concern one connection only.
OWN = {"host", "connection", "upgrade", "content-length", "transfer-encoding"}

# The close code of a failed TLS handshake (RFC 6455, section 7.4.1).
TLS_FAILED = 1015

# Codes that no close frame can carry.
UNSAYABLE = {CloseCode.NO_STATUS, CloseCode.CONNECTION_LOST, TLS_FAILED}

MEGABYTE = 1024 * 1024


def record(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The server: ws://host:port or wss://…")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write; .wsrec.")
    ] = Path("session.wsrec"),
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where clients connect; port 0 is a free one.")
    ] = "127.0.0.1:0",
    max_size: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="The most that the file takes up.")
    ] = 256,
    rotate: Annotated[
        bool,
        typer.Option("--rotate", help="Keep the newest half of that, instead of ending there."),
    ] = False,
    values: Annotated[
        bool, typer.Option("--values/--no-values", help="Whether to write values at all.")
    ] = True,
    mask: Annotated[
        list[str],
        typer.Option(
            metavar="METHOD=FIELD,…",
            help="Fields to mask, such as 'Account.*=password,user.card'; * for all values.",
        ),
    ] = [],  # noqa: B006  (typer reads it)
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Record the frames of clients and a server, as a proxy between them.

    Prints `listening ws://…` once clients can connect there. Credentials are passed on, and never
    written. Ctrl-C ends it; frames are in the file within a second, even after kill -9.
    """

    async def body() -> None:
        log_to_stderr(format=None, level=None, access=False, debug=debug)
        Target(url)
        try:
            recording = Recording(
                output,
                max_bytes=max_size * MEGABYTE,
                when_full="rotate" if rotate else "stop",
                values=values,
                mask=masks(mask, "--mask"),
            )
        except (OSError, ValueError) as error:
            raise Failure(f"cannot record to {output}: {error}") from None
        await Proxy(url, recording).serve(*_address(listen))

    run(body, debug=debug, cancelled="stopping")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Failure(f"--listen takes HOST:PORT, such as 127.0.0.1:9000, not {text!r}")
    return host.strip("[]"), int(port)


def masks(words: list[str], option: str) -> Mapping[str, list[str]]:
    """Names of fields by method, as typed.

    Raises:
        Failure: A word has another form.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        method, sign, fields = word.rpartition("=")
        if not sign or not method or not fields:
            raise Failure(
                f"{option} takes METHOD=FIELD,…, such as 'Account.*=password', not {word!r}"
            )
        found.setdefault(method, []).extend(fields.split(","))
    return found


class Proxy:
    """Passes WebSockets on to a server, message by message, and records them.

    Args:
        url: The server.
        recording: The recording to write.
    """

    def __init__(self, url: str, recording: Recording) -> None:
        self._url = url
        self._recording = recording
        self._servers: dict[ServerConnection, ClientConnection] = {}

    async def serve(self, host: str, port: int) -> None:
        """Serve until cancelled, or until SIGTERM arrives.

        Raises:
            Failure: The address cannot be bound.
        """
        options: dict[str, Any] = {
            "process_request": self._arrived,
            "select_subprotocol": self._subprotocol,
            "compression": None,
            "max_size": None,
            "ping_interval": None,
            "server_header": None,
        }
        try:
            async with accept(self._serve, host, port, **options) as server:
                bound = next(iter(server.sockets)).getsockname()
                shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
                print(f"listening ws://{shown}:{bound[1]}", flush=True)
                note(f"recording to {self._recording.path}; Ctrl-C stops")
                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    async for _ in signals:
                        break
        except OSError as error:
            raise Failure(
                f"cannot listen on {host}:{port}: {error.strerror or error}", ExitCode.UNREACHABLE
            ) from error
        finally:
            for connection in self._servers.values():
                connection.transport.abort()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._recording.flush)

    async def _arrived(self, connection: ServerConnection, request: Request) -> Response | None:
        """Connect to the server first, so that the client gets the server's answer."""
        if "upgrade" not in (request.headers.get("Connection") or "").lower():
            return None
        offered = [
            one.strip()
            for line in request.headers.get_all("Sec-WebSocket-Protocol")
            for one in line.split(",")
        ]
        options: dict[str, Any] = {
            "subprotocols": [Subprotocol(one) for one in offered] or None,
            "additional_headers": list(_passed_on(request.headers)),
            "user_agent_header": None,
            "compression": None,
            "max_size": None,
            "ping_interval": None,
        }
        try:
            self._servers[connection] = await dial(self._where(request.path), **options)
        except InvalidStatus as refused:
            answer = refused.response
            headers = Headers(
                (name, value)
                for name, value in answer.headers.raw_items()
                if name.lower() not in OWN
            )
            body = answer.body or b""
            headers["Content-Length"] = str(len(body))
            headers["Connection"] = "close"
            return Response(answer.status_code, answer.reason_phrase, headers, body)
        except (OSError, InvalidHandshake, TimeoutError, EOFError) as error:
            note(f"{self._url} cannot be reached: {error}")
            return connection.respond(
                HTTPStatus.BAD_GATEWAY, "The recorded server cannot be reached.\n"
            )
        return None

    def _where(self, path: str) -> str:
        """The server's URL for a client's path; the URL's own where the client names none."""
        if path in ("", "/"):
            return self._url
        scheme, _, rest = self._url.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}{path}"

    def _subprotocol(
        self, connection: ServerConnection, offered: list[Subprotocol]
    ) -> Subprotocol | None:
        server = self._servers.get(connection)
        return None if server is None else server.subprotocol

    async def _serve(self, client: ServerConnection) -> None:
        server = self._servers[client]
        codec = SUBPROTOCOLS.get(str(server.subprotocol))
        recorder = None
        if codec is not None:
            remote = client.remote_address
            shown = f"{remote[0]}:{remote[1]}" if isinstance(remote, tuple) else ""
            path = client.request.path if client.request is not None else "/"
            recorder = self._recording.link(codec.name, "proxy", shown, path)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_pass_on, client, server, "C", recorder)
                group.start_soon(_pass_on, server, client, "S", recorder)
        finally:
            del self._servers[client]
            if recorder is not None:
                recorder.over()
            server.transport.abort()


def _passed_on(headers: Headers) -> Iterator[tuple[str, str]]:
    for name, value in headers.raw_items():
        if name.lower() not in OWN and not name.lower().startswith("sec-websocket-"):
            yield name, value


async def _pass_on(
    source: ServerConnection | ClientConnection,
    sink: ServerConnection | ClientConnection,
    sender: Sender,
    recorder: LinkRecorder | None,
) -> None:
    """Pass on the messages of one side, and its close."""
    try:
        while True:
            message = await source.recv()
            if recorder is not None:
                data = message.encode() if isinstance(message, str) else message
                recorder.passed(sender, data)
            with_text = isinstance(message, str)
            await sink.send(message, text=with_text)
    except ConnectionClosed as closed:
        # The side that closed first gave the reason; the other pump meets the echo of it.
        end = source.protocol.close_rcvd
        if end is None or end.code in UNSAYABLE:
            if recorder is not None and closed.rcvd is None and closed.sent is None:
                recorder.closed(None, CloseCode.CONNECTION_LOST)
            sink.transport.abort()
            return
        if recorder is not None:
            recorder.closed(sender, end.code, end.reason)
        await sink.close(end.code, end.reason)
