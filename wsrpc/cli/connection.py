"""Sessions of commands, made from a URL and options."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import Code, RpcError
from ..interfaces import Observer, Session
from ..transport.recorded import Recorder
from .answering import Answers
from .dialling import Dialled
from .failures import ExitCode, Failure
from .remote_contract import Contract
from .stdin import load_json

__all__ = [
    "Target",
    "contract_of",
    "describe",
    "parse_auth",
    "parse_headers",
    "parse_metadata",
    "tls_to",
]

CodecName = Literal["json", "msgpack"]
SCHEMES = ("ws", "wss", "ws+unix")


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the options for sessions with it.

    Attributes:
        url: Its URL.
        codec: The codec of the messages.
        auth: Credentials.
        timeout: Seconds for a call; None for the usual ones.
        headers: Further headers for the handshake.
        metadata: The metadata of every call.
        ssl: TLS settings for `wss://`; None for the system's.
        observers: Objects that are told of calls and connections.
        answers: The answers to the server's own calls.
        frames: Makes the object that shows messages.
    """

    url: str
    codec: CodecName = "json"
    auth: Any = None
    timeout: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    ssl: ssl_module.SSLContext | None = None
    observers: Sequence[Observer] = ()
    answers: Answers | None = None
    frames: Callable[[str], Recorder] | None = None

    def __post_init__(self) -> None:
        scheme, separator, rest = self.url.partition("://")
        if not separator or not rest:
            address = "localhost:8765" if separator or not self.url else self.url
            raise Failure(f"{self.url!r} is no URL; write ws://{address}")
        if scheme not in SCHEMES:
            like = {"http": "ws", "https": "wss"}.get(scheme)
            hint = f"; did you mean {like}://{rest}?" if like else ""
            raise Failure(f"{self.url!r} begins with none of ws://, wss:// and ws+unix://{hint}")

    @property
    def options(self) -> dict[str, Any]:
        """The options for `clientize`."""
        return {} if self.timeout is None else {"timeout": self.timeout}

    @asynccontextmanager
    async def session(self, *, reconnect: bool = False) -> AsyncIterator[Session]:
        """Connect.

        Args:
            reconnect: Whether it comes back after the connection was lost.

        Raises:
            ConnectError: The server cannot be reached, is no wsrpc server, or refuses.
        """
        observers = self.observers if self.answers is None else (self.answers, *self.observers)
        async with Dialled(
            self.url,
            answers=self.answers,
            frames=self.frames,
            codec=self.codec,
            auth=self.auth,
            metadata=self.metadata,
            headers=self.headers,
            ssl=self.ssl,
            observers=observers,
            reconnect=reconnect,
        ) as session:
            yield session


async def contract_of(session: Session, target: Target) -> Contract | None:
    """The contract of the other end, or None if it has no reflection.

    Raises:
        RpcError: The other end did not answer.
    """
    reflection = session.clientize("wsrpc.reflection", **target.options)
    try:
        return Contract.read(await reflection.describe())
    except RpcError as error:
        if error.code in (Code.UNIMPLEMENTED, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED):
            return None
        raise


async def describe(session: Session, target: Target) -> Contract:
    """The contract of the other end.

    Raises:
        Failure: It has no reflection.
    """
    contract = await contract_of(session, target)
    if contract is None:
        raise Failure(
            f"{target.url} does not show its contract (its reflection is off); "
            "`wsrpc call` works all the same",
            ExitCode.REMOTE,
        )
    return contract


def parse_auth(text: str | None) -> Any:
    """Credentials as typed: JSON where it looks like an object, array or quoted text, else text.

    Raises:
        Failure: The text looks like JSON and is not.
    """
    if text is None or not text.lstrip().startswith(("{", "[", '"')):
        return text
    try:
        return load_json(text)
    except ValueError as error:
        raise Failure(f"--auth looks like JSON and is not: {error}") from None


def tls_to(url: str, authority: Path | None, insecure: bool) -> ssl_module.SSLContext | None:
    """TLS settings for `--cacert` and `--insecure`; None without these.

    Raises:
        Failure: The file is no certificate, or the URL has no TLS.
    """
    if authority is None and not insecure:
        return None
    option = "--insecure" if insecure else "--cacert"
    if not url.startswith("wss://"):
        raise Failure(f"{option} is for wss://, and {url!r} has no TLS")
    if authority is not None and insecure:
        raise Failure("--cacert checks the server's certificate and --insecure does not; leave one")
    try:
        context = ssl_module.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise Failure(f"--cacert {authority} cannot be used: {error}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl_module.CERT_NONE
    return context


def parse_headers(words: list[str]) -> dict[str, str]:
    """Headers as typed, `Name: value`."""
    return dict(_pair("--header", word, ":", "Name: value") for word in words)


def parse_metadata(words: list[str]) -> dict[str, str]:
    """Metadata as typed, `key=value`."""
    return dict(_pair("--metadata", word, "=", "key=value") for word in words)


def _pair(option: str, word: str, sign: str, form: str) -> tuple[str, str]:
    key, found, value = word.partition(sign)
    if not found or not key.strip():
        raise Failure(f"{option} {word!r} has no {sign!r}; write {option} '{form}'")
    if sign == ":":
        return key.strip(), value.strip()
    return key, value
