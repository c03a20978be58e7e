"""The errors with which a call is refused before its handler runs, and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from ..errors import Code, RpcError
from ..protocol.codec import Codec
from ..protocol.frames import ErrorBody
from ..values.adapter import InvalidValue

__all__ = [
    "bad",
    "invalid_argument",
    "not_for_notify",
    "too_much_metadata",
    "under",
    "unknown_method",
]


def unknown_method(method: str, near: Sequence[str], codec: Codec) -> ErrorBody:
    """`unimplemented`: no controller here has this method.

    Args:
        method: The name that the peer called.
        near: The names that resemble it; they go into the text and into `data`.
        codec: Encodes `data`.
    """
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    body = ErrorBody(Code.UNIMPLEMENTED, f"there is no method {method[:200]!r} here{hint}")
    body.data = Raw(codec.dump({"near": near}))
    return body


def not_for_notify(label: str) -> ErrorBody:
    """`failed_precondition`: the method answers with a stream, or takes streams or callbacks."""
    return ErrorBody(Code.FAILED_PRECONDITION, f"{label} cannot be notified: call it instead")


def too_much_metadata(label: str, limit: int) -> ErrorBody:
    """`resource_exhausted`: metadata, key and last_id together exceed `Limits.max_metadata`."""
    return ErrorBody(
        Code.RESOURCE_EXHAUSTED,
        f"metadata, key and last_id of {label} exceed {limit} bytes (max_metadata)",
    )


def bad(loc: tuple[str | int, ...], message: str, kind: str) -> InvalidValue:
    """The error of an argument that is wrong for a reason outside of pydantic's validation."""
    return InvalidValue([{"loc": list(loc), "msg": message, "type": kind}])


def under(name: str | int, invalid: InvalidValue) -> InvalidValue:
    """The same errors, with their locations inside of one argument."""
    errors = [{**error, "loc": [name, *error["loc"]]} for error in invalid.errors]
    return InvalidValue(errors, invalid.total)


def invalid_argument(label: str, invalid: InvalidValue) -> RpcError[Any]:
    """The error for arguments that do not fit; `data` says where in them each fault lies."""
    return RpcError(
        Code.INVALID_ARGUMENT, f"invalid arguments for {label}: {invalid}", invalid.data()
    )
