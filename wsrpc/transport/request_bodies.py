"""Requests over HTTP with a body, which the WebSocket libraries refuse to read at all.

No answer of this package depends on a body, so it is never read: the request is answered as if it
had none, and the connection closes. `HeadFilter` hides the body from a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

__all__ = ["Body", "HeadFilter", "body_of"]

# Whether a request has a body, by its headers. "unclear": two readers could disagree on where it ends,
# so that bytes of it could pass for another request.
Body: TypeAlias = Literal["none", "some", "unclear"]

LENGTH = "content-length"
CODING = "transfer-encoding"

HIDDEN = (f"{LENGTH}:".encode(), f"{CODING}:".encode())

# Bytes of a line that are held back. A longer one goes on to the library, which refuses it.
LONGEST_LINE = 256


def body_of(headers: Mapping[str, str]) -> Body:
    """Whether a request has a body, by its headers (RFC 9112, 6.3).

    Args:
        headers: Names in lower case; several values of one name are joined by commas.
    """
    length, coding = headers.get(LENGTH), headers.get(CODING)
    if coding is not None:
        last = coding.rpartition(",")[2].strip().lower()
        return "some" if length is None and last == "chunked" else "unclear"
    if length is None:
        return "none"
    if not (length.isascii() and length.isdigit()):
        return "unclear"
    return "some" if length.strip("0") else "none"


class HeadFilter:
    """Takes the bytes of a connection and leaves out headers that say that the request has a body.

    Attributes:
        hidden: The headers that were left out, names in lower case.
        body: Whether the request has a body, by these headers.
        over: Whether the head of the request has ended.
        size: Bytes of the head so far.
    """

    __slots__ = ("_begun", "_held", "body", "hidden", "over", "size")

    def __init__(self) -> None:
        self._held = b""
        # The first bytes of a line whose beginning has gone on already.
        self._begun = b""
        self.hidden: dict[str, str] = {}
        self.body: Body = "none"
        self.over = False
        self.size = 0

    @property
    def held(self) -> int:
        """Bytes of an unfinished line that are held back."""
        return len(self._held)

    def take(self, data: bytes) -> bytes:
        """The bytes that the library may see; of a request with a body, its head alone."""
        if self.over:
            return data if self.body == "none" else b""
        kept: list[bytes] = []
        data, self._held = self._held + data, b""
        while data and not self.over:
            line, end, rest = data.partition(b"\n")
            if not end:
                if not self._begun and _may_be_hidden(line):
                    self._held = line
                else:
                    self.size += len(line)
                    kept.append(line)
                    self._begun = (self._begun + line)[:2]
                break
            self.size += len(line) + len(end)
            if not self._begun and _is_hidden(line):
                self._hide(line)
            else:
                kept.append(line + end)
                self.over = (self._begun + line)[:2] in (b"\r", b"")
            self._begun = b""
            data = rest
        if self.over:
            self.body = body_of(self.hidden)
            if self.body == "none":
                kept.append(data)
        return b"".join(kept)

    def _hide(self, line: bytes) -> None:
        raw_name, _, raw_value = line.partition(b":")
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        self.hidden[name] = f"{self.hidden[name]}, {value}" if name in self.hidden else value


def _is_hidden(line: bytes) -> bool:
    return len(line) <= LONGEST_LINE and line.lower().startswith(HIDDEN)


def _may_be_hidden(begun: bytes) -> bool:
    """Whether an unfinished line may become one that is left out."""
    if len(begun) > LONGEST_LINE:
        return False
    start = begun.lower()
    return any(start.startswith(name) or name.startswith(start) for name in HIDDEN)
