"""Redaction of recordings: credentials always, and the values that the application names."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import MsgspecError, Raw

from ..errors import ProtocolError
from ..protocol.codec import Codec

__all__ = ["LEFT_OUT", "MASKED", "LinkRedaction", "Redaction", "masked"]

# The text in the place of a credential, or of a masked field.
MASKED = "***"

# The key of the object in the place of a value that is left out; it holds the value's bytes.
LEFT_OUT = "$left_out"

# The fields of a hello that are recorded in the clear; a credential could hide in any other.
HELLO = {
    "version",
    "link",
    "received",
    "session",
    "resumed",
    "resume_window",
    "heartbeat",
    "window",
    "limits",
    "features",
    "agent",
}

# The keys of metadata that are credentials wherever they are sent, in lower case.
SECRET = {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}

# A lone surrogate, which travels as an escape (VALUE-4), in the form that the codec gives it.
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")

ALL = frozenset({"*"})
NONE: frozenset[str] = frozenset()

# Sessions whose calls are remembered for later connections, and methods whose patterns are cached.
MOST_SESSIONS = 1_000
MOST_METHODS = 10_000

Undecodable = (MsgspecError, UnicodeDecodeError, RecursionError, ValueError, IndexError, TypeError)


class Redaction:
    """The rules of redaction for all connections of a recording.

    Args:
        values: Whether values are recorded; False leaves out every one.
        mask: Names of fields, by pattern of the method's full name ("Account.*"). The values under
            such keys are masked in the arguments, metadata, results, items, final values and error
            data of these methods, at any depth. "user.card" means a `card` directly in a `user`.
            "*" leaves out all values of these methods.
    """

    def __init__(self, values: bool, mask: Mapping[str, Sequence[str]]) -> None:
        self._values = values
        self._rules = [(pattern, frozenset(fields)) for pattern, fields in mask.items()]
        self._found: dict[str, frozenset[str]] = {}
        # The methods of a session's ids.
        self.sessions: OrderedDict[str, dict[int, str]] = OrderedDict()

    @property
    def looks(self) -> bool:
        """Whether other values than credentials are left out."""
        return not self._values or bool(self._rules)

    def fields(self, method: str | None) -> frozenset[str]:
        """The fields to mask in a method's values; `ALL` for an unknown method."""
        if not self._values or method is None:
            return ALL
        found = self._found.get(method)
        if found is None:
            rules = [fields for pattern, fields in self._rules if fnmatchcase(method, pattern)]
            found = frozenset().union(*rules)
            found = ALL if "*" in found else found
            if len(self._found) < MOST_METHODS:
                self._found[method] = found
        return found

    def remember(self, session: str, methods: dict[int, str]) -> None:
        """Keep the methods of a session's ids."""
        self.sessions[session] = methods
        if len(self.sessions) > MOST_SESSIONS:
            self.sessions.popitem(last=False)


class LinkRedaction:
    """Redacts the frames of one connection, in the order in which they passed.

    Args:
        codec: The codec of the connection.
        rules: The rules.
    """

    def __init__(self, codec: Codec, rules: Redaction) -> None:
        self._codec = codec
        self._rules = rules
        self._methods: dict[int, str] = {}
        # The ids of the uploads and callbacks of each call.
        self._attached: dict[int, list[int]] = {}
        # The ids whose last frame has come, and whose value is still to come in chunks.
        self._ending: set[int] = set()

    def frames(self, message: bytes) -> list[bytes] | None:
        """A message's redacted frames; None if it is no batch, and so may hold anything."""
        try:
            found = [self._frame(raw) for raw in self._codec.split(message)]
        except (ProtocolError, *Undecodable):
            return None
        return [_SURROGATE.sub(_escaped, one) for one in found] if self._codec.text else found

    def _frame(self, raw: Raw) -> bytes:
        parts = self._codec.split_array(raw)
        name = self._codec.load(parts[0])
        if not isinstance(name, str):
            raise ValueError("a frame without a name")
        if name == "hello":
            return self._hello(self._codec.load(parts[1]))
        if name == "auth":
            return self._codec.dump(["auth", MASKED])
        if not self._rules.looks:
            opens = name in ("call", "notify") and len(parts) > 4
            return (self._without_secrets(parts) if opens else None) or bytes(raw)
        if name.startswith("x-"):
            return self._codec.dump([name, self._left_out(raw)])
        redact = {
            "call": self._call,
            "notify": self._call,
            "message": self._message,
            "result": self._result,
            "end": self._end,
            "error": self._error,
            "chunk": self._chunk,
        }.get(name)
        if redact is None:
            return bytes(raw)
        elements: list[Any] = list(parts)
        redact(elements, self._codec.load(parts[1]))
        return self._codec.dump(elements)

    def _hello(self, body: Any) -> bytes:
        if not isinstance(body, dict):
            raise ValueError("a hello without a body")
        if body.get("resumed") and body.get("session") in self._rules.sessions:
            self._methods = self._rules.sessions[body["session"]]
        elif isinstance(body.get("session"), str):
            self._rules.remember(body["session"], self._methods)
        shown = {
            key: value if key in HELLO or value is None else MASKED for key, value in body.items()
        }
        return self._codec.dump(["hello", shown])

    def _call(self, elements: list[Any], id: int) -> None:
        method = self._codec.load(elements[2])
        positional = isinstance(method, int)
        if positional:
            method = self._methods.get(method)
        options = self._codec.load(elements[4]) if len(elements) > 4 else None
        if method is not None:
            self._methods[id] = method
        fields = self._rules.fields(method)
        args = self._redacted(elements[3], fields)
        elements[3] = [args] if positional and isinstance(args, dict) else args
        if options is not None and not isinstance(options, dict):
            raise ValueError("options that are no object")
        if options:
            attached = [
                one
                for group in ("uploads", "callbacks")
                for one in (options.get(group) or {}).values()
            ]
            if method is not None and attached:
                self._methods.update(dict.fromkeys(attached, method))
                self._attached[id] = attached
            if isinstance(options.get("metadata"), dict):
                options["metadata"] = _masked_metadata(options["metadata"], fields)
                elements[4] = options

    def _without_secrets(self, parts: list[Raw]) -> bytes | None:
        """A call without the credentials in its metadata; None if there are none."""
        options = self._codec.load(parts[4])
        metadata = options.get("metadata") if isinstance(options, dict) else None
        shown = _masked_metadata(metadata, NONE)
        if shown == metadata:
            return None
        return self._codec.dump([*parts[:4], {**options, "metadata": shown}, *parts[5:]])

    def _message(self, elements: list[Any], id: int) -> None:
        fields = self._fields(id)
        if fields:
            items = self._codec.split_array(elements[2])
            elements[2] = [self._redacted(item, fields) for item in items]

    def _result(self, elements: list[Any], id: int) -> None:
        elements[2] = self._redacted(elements[2], self._fields(id))
        self._forget(id, elements)

    def _end(self, elements: list[Any], id: int) -> None:
        if len(elements) > 2 and elements[2] != self._codec.null:
            self._message(elements, id)
        self._forget(id, elements)

    def _error(self, elements: list[Any], id: int) -> None:
        fields = self._fields(id)
        if fields:
            body = self._codec.load(elements[2])
            if not isinstance(body, dict):
                raise ValueError("an error without a body")
            if body.get("data") is not None:
                body["data"] = (
                    {LEFT_OUT: len(self._codec.dump(body["data"]))}
                    if fields == ALL
                    else masked(body["data"], fields)
                )
            if fields == ALL:
                body["message"] = MASKED
            elements[2] = body
        self._forget(id, elements)

    def _chunk(self, elements: list[Any], id: int) -> None:
        # Masking a field of a value in pieces would mean to hold all of the value.
        if self._fields(id):
            elements[3] = self._left_out(elements[3])
        if id in self._ending and self._codec.load(elements[2]):
            self._ending.discard(id)
            self._methods.pop(id, None)

    def _fields(self, id: int) -> frozenset[str]:
        return self._rules.fields(self._methods.get(id))

    def _forget(self, id: int, terminal: list[Any]) -> None:
        """Forget an id after its last frame, and after the chunks of that frame."""
        for one in self._attached.pop(id, ()):
            self._methods.pop(one, None)
        if len(terminal) > 3 and terminal[3] != self._codec.null:
            self._ending.add(id)
        else:
            self._methods.pop(id, None)

    def _redacted(self, raw: Raw, fields: frozenset[str]) -> Any:
        if not fields or raw == self._codec.null:
            return raw
        if fields == ALL:
            return self._left_out(raw)
        return masked(self._codec.load(raw), fields)

    def _left_out(self, raw: Raw) -> dict[str, int]:
        return {LEFT_OUT: len(memoryview(raw))}


def _masked_metadata(metadata: Any, fields: frozenset[str]) -> Any:
    """Metadata without credentials, and without the values of these fields."""
    if not isinstance(metadata, dict):
        return metadata
    return {
        key: MASKED
        if fields == ALL or key in fields or (isinstance(key, str) and key.lower() in SECRET)
        else value
        for key, value in metadata.items()
    }


def masked(value: Any, fields: frozenset[str], path: tuple[str, ...] = ()) -> Any:
    """A value in which the values under these names are replaced, at any depth."""
    if isinstance(value, list):
        return [masked(one, fields, path) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        here = (*path, str(key))
        named = any(".".join(here[at:]) in fields for at in range(len(here)))
        found[key] = MASKED if named else masked(one, fields, here)
    return found


def _escaped(surrogate: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(surrogate[0].decode("utf-8", "surrogatepass"))
