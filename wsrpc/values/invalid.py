"""The errors of a value, in texts that may travel."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from ..errors import WsrpcError
from ..protocol.value_space import TOO_DEEP, Reason

__all__ = ["InvalidValue", "Unencodable"]

MAX_ERRORS = 8
MAX_ERROR_BYTES = 4096

# Rendering takes pydantic a microsecond for each error, and cannot be cut short.
MAX_ERRORS_RENDERED = 10_000


class InvalidValue(WsrpcError):
    """A value that arrived does not fit its declared type.

    Attributes:
        errors: The errors, each with `loc`, `msg` and `type`; at most 8, and never the input.
        total: The number of errors, including those left out.
    """

    def __init__(self, errors: list[dict[str, Any]], total: int | None = None) -> None:
        self.errors = errors[:MAX_ERRORS]
        self.total = len(errors) if total is None else total
        super().__init__(_summary(self.errors, self.total))

    def data(self) -> dict[str, Any]:
        """The error as it travels: at most 4 KiB when encoded."""
        errors = list(self.errors)
        data = {"errors": errors, "total": self.total}
        while errors and len(msgspec.json.encode(data)) > MAX_ERROR_BYTES:
            errors.pop()
        return data


class Unencodable(WsrpcError):
    """A value must not leave: it does not fit its declared type, or cannot be encoded.

    Attributes:
        reason: The message without the value's place, for a caller that names the place itself.
        names_field: Whether the reason tells which part of the value is to blame.
    """

    def __init__(self, message: str, reason: str = "", *, names_field: bool = False) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.names_field = names_field


def _summary(errors: list[dict[str, Any]], total: int) -> str:
    parts = [
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}" if error["loc"] else error["msg"]
        for error in errors
    ]
    if len(errors) == MAX_ERRORS < total:
        parts.append(f"and {total - len(errors)} more")
    return "; ".join(parts)


def invalid(message: str, kind: str, total: int = 1) -> InvalidValue:
    return InvalidValue([{"loc": [], "msg": message, "type": kind}], total)


def too_deep() -> InvalidValue:
    return outside(TOO_DEEP)


def outside(reason: Reason) -> InvalidValue:
    """The error for a value outside of the value space."""
    return invalid(reason.text, reason.kind)


def from_pydantic(error: ValidationError) -> InvalidValue:
    total = error.error_count()
    if total > MAX_ERRORS_RENDERED:
        return invalid(f"{total} errors, too many to list", "many_errors", total)
    rendered = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidValue([_shortened(one) for one in rendered[:MAX_ERRORS]], total)


def _shortened(error: Any) -> dict[str, Any]:
    # The path may hold keys of the peer's own choosing.
    loc = [part if isinstance(part, int) else part[:64] for part in error["loc"][:16]]
    return {"loc": loc, "msg": error["msg"][:256], "type": error["type"]}


def from_decoder(error: Exception) -> InvalidValue:
    if isinstance(error, InvalidValue):
        return error
    if isinstance(error, ValidationError):
        return from_pydantic(error)
    if isinstance(error, PydanticCustomError):
        return invalid(error.message(), error.type)
    if isinstance(error, RecursionError):
        return too_deep()
    return invalid(f"Cannot be decoded: {error}"[:256], "undecodable")


# The words of pydantic and Python for a value that is nested too deeply.
TOO_DEEP_WORDS = ("RecursionError", "serialization depth")
SURROGATE_WORDS = "surrogates not allowed"
SURROGATE = "A string with a lone surrogate cannot travel"
WIDE_INT_WORDS = "can't serialize ints"

UNDECODABLE = (InvalidValue, msgspec.MsgspecError, ValueError, RecursionError)
