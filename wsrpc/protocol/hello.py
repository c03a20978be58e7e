"""The first message of a link, read before any endpoint takes it (protocol.md, hello).

The accepting side has to know which principal connects, and whether to a session that exists,
before an endpoint can take the message: `read_opening` reads it, and decodes nothing after the
hello. The opening then goes to `Endpoint.accept` of a new endpoint, or to `Endpoint.resume` of the
one that its token names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import FLOOR_MAX_BATCH, Limits
from .batch import FRAME_OVERHEAD
from .codec import Codec
from .frames import Extension, Hello, HelloBody, HelloLimits, Taken
from .window import violation

__all__ = ["VERSION", "Opening", "announce", "dump_credentials", "hello_of", "read_opening"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Opening:
    """The first message of a connecting side.

    Attributes:
        codec: The link's subprotocol.
        hello: Its body. `auth` is decoded, but not yet verified.
        rest: The frames that follow the hello, still encoded.
        message: The whole message, as it came.
    """

    codec: Codec
    hello: HelloBody
    rest: list[Raw]
    message: bytes = b""

    def frames(self) -> list[Taken | Extension]:
        """The frames after the hello, which count as a batch of their own (HELLO-6).

        Raises:
            ProtocolError: 4500, one of them is malformed.
        """
        return [self.codec.decode_one(raw) for raw in self.rest]

    @property
    def size(self) -> int:
        """Bytes of the frames after the hello."""
        return sum(map(len, self.rest))


def read_opening(codec: Codec, data: bytes) -> Opening:
    """Read the first message of a link on the accepting side.

    Raises:
        ProtocolError: The message is too big, is no hello, is of another version, or has
            credentials that are no value; the peer's fault. Close the link with the error's code.
            No session is affected.
    """
    if len(data) > FLOOR_MAX_BATCH:
        raise ProtocolError(CloseCode.TOO_BIG, f"{len(data)} bytes before authentication")
    first, *rest = codec.split(data)
    hello = hello_of(codec.decode_one(first))
    try:
        hello.auth = codec.load_value(hello.auth)
    except ValueError as error:
        reason = f"credentials that are no value: {error}"
        raise ProtocolError(CloseCode.UNAUTHENTICATED, reason[:120]) from None
    return Opening(codec, hello, rest, bytes(data))


def hello_of(frame: Taken | Extension) -> HelloBody:
    """The body of a link's first frame.

    Raises:
        ProtocolError: 4505, it is no hello (HELLO-1); 4507, it is of another version (HELLO-3).
    """
    if not isinstance(frame, Hello):
        raise violation("the first frame on a link must be hello")
    version = frame.body.version
    if version != VERSION:
        reason = f"this end speaks version {VERSION}, not {version}"
        raise ProtocolError(CloseCode.VERSION, reason[:120])
    return frame.body


def announce(body: HelloBody, limits: Limits, agent: str | None) -> Hello:
    """A hello with the limits and the agent that every hello of this side announces."""
    body.window = limits.window
    body.limits = HelloLimits(
        max_batch=limits.max_batch,
        max_value=limits.max_value,
        max_calls=limits.max_calls,
        max_held=limits.max_held,
    )
    body.features = []
    body.agent = agent
    return Hello(body)


def dump_credentials(codec: Codec, auth: Any) -> bytes:
    """The encoding of a client's credentials.

    Raises:
        ValueError: They are outside the value space, or too large; the caller's fault.
    """
    try:
        encoded = codec.dump_value(auth)
    except UnicodeEncodeError:
        raise ValueError("auth cannot travel: it holds a lone surrogate") from None
    except ValueError as error:
        raise ValueError(f"auth cannot travel: {error}") from None
    if len(encoded) > FLOOR_MAX_BATCH - FRAME_OVERHEAD:
        raise ValueError(f"auth cannot travel: it has {len(encoded)} bytes; at most 64 KiB can")
    return encoded
