"""The errors with which a node answers for a session that it passes calls on to."""

from __future__ import annotations

from ..errors import Code
from ..protocol.endpoint import ValueTooLargeError
from ..protocol.frames import ErrorBody
from .errors import REFUSED

__all__ = ["own", "refusal", "too_large"]


def own(code: str, message: str, type_name: str = REFUSED) -> ErrorBody:
    """The body of an error that is this node's, not the session's."""
    body = ErrorBody(code, message)
    body.type = type_name
    return body


def refusal(type_name: str, message: str) -> ErrorBody:
    """The body of an error that the caller's side raises as this class."""
    return own(Code.UNAVAILABLE, message, type_name)


def too_large(error: ValueTooLargeError) -> ErrorBody:
    """The error for a call with a value that the other end does not take."""
    return ErrorBody(Code.RESOURCE_EXHAUSTED, str(error))
