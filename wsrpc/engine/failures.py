"""Exceptions as error frames, and error frames as exceptions (protocol.md, Errors)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Raw

from ..errors import Code, ConnectionLost, RpcError, error_class, revive
from ..limits import MAX_ID
from ..protocol.codec import Codec
from ..protocol.frames import ErrorBody
from ..values.adapter import Adapter, InvalidValue

__all__ = [
    "WrongKindError",
    "as_text",
    "error_body",
    "error_from",
    "leaves",
    "only_leaf",
    "unforeseen",
    "wrong_kind",
]

# Characters of the id of an error that cross at most; ids of this package have 16.
LONGEST_ID = 200


class WrongKindError(RpcError[Any], TypeError):
    """A stream was awaited, or a value iterated; the message names the right form.

    Attributes:
        answer: The value that came instead of a stream, in a tuple, for callers that could not
            know.
    """

    def __init__(self, message: str) -> None:
        RpcError.__init__(self, Code.INTERNAL, message)
        self.answer: tuple[Any] | None = None

    def __str__(self) -> str:
        return self.message


def wrong_kind(label: str, *, streams: bool) -> WrongKindError:
    """The error for a method that turned out to be of the other kind (CALL-8)."""
    if streams:
        return WrongKindError(f"{label} streams: write `async for item in …`, not `await`")
    return WrongKindError(f"{label} returns a value: write `await …`, not `async for`")


def as_text(value: object) -> str:
    """A message as it can travel: a string without lone surrogates."""
    return str(value).encode("utf-8", "replace").decode()


def error_from(body: ErrorBody, codec: Codec, origin: object) -> RpcError[Any]:
    """The exception for an error frame (ERROR-1, ERROR-6)."""
    cls = error_class(body.type)
    if cls is RpcError and body.code == Code.DEADLINE_EXCEEDED:
        cls = error_class("DeadlineExceeded")
    data: Any = None
    if len(body.data):
        try:
            data = Adapter(cls.data_type, where=cls.__name__).load(body.data, codec)
        except Exception:  # noqa: BLE001  (whatever the type's functions raise, the error stays one)
            cls = RpcError
            try:
                data = Adapter(Any, where="error data").load(body.data, codec)
            except InvalidValue:
                data = None
    error = revive(cls, body.code, body.message, data)
    error.error_id = body.error_id
    error.origin = origin
    error.not_started = bool(body.not_started)
    error.retry_after = None if body.retry_after is None else body.retry_after / 1000
    return error


def error_body(error: RpcError[Any], codec: Codec) -> ErrorBody:
    """The part of an error raised on purpose that crosses the wire (ERROR-2)."""
    body = ErrorBody(as_text(error.code), as_text(error.message))
    cls = type(error)
    if cls is not RpcError and cls is not ConnectionLost:
        body.type = cls.type_name
    if error.data is not None:
        adapter = Adapter(cls.data_type, where=f"the data of {cls.__name__}")
        body.data = Raw(bytes(adapter.dump(error.data, codec)))
    # The id under which another side logged the error, which helps the next caller to find it.
    if error.error_id is not None:
        body.error_id = as_text(error.error_id)[:LONGEST_ID]
    if error.retry_after is not None:
        # A longer time means the same, and not every codec has a number for it (protocol.md, Words).
        body.retry_after = min(max(0, round(error.retry_after * 1000)), MAX_ID)
    return body


def only_leaf(error: BaseException) -> BaseException:
    """The only error of a group, or one of several that tell a caller the same.

    A task group must not hide what was raised in it.
    """
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if all(_alike(first, leaf) for leaf in leaves(error)) else error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, and of the groups in it; an error that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def _alike(one: BaseException, other: BaseException) -> bool:
    """Whether two errors tell a caller the same."""
    if one is other:
        return True
    if not (isinstance(one, RpcError) and type(one) is type(other)):
        return False
    assert isinstance(other, RpcError)
    same = (one.code, one.message) == (other.code, other.message) and one.origin is other.origin
    return same and bool(one.data == other.data)


def unforeseen(error: BaseException, cancelled: type[BaseException]) -> BaseException | None:
    """The part of a failure that the author of stopped code should know.

    Args:
        error: The failure.
        cancelled: The event loop's exception for code that is cancelled.

    Returns:
        None where only the stop has led to it. A nested call whose time is over as well, for
        instance, has failed for the same reason.
    """
    rest: BaseException | None
    if isinstance(error, BaseExceptionGroup):
        rest = error.split(cancelled)[1]
    else:
        rest = None if isinstance(error, cancelled) else error
    if rest is None or all(isinstance(leaf, RpcError) for leaf in leaves(rest)):
        return None
    return rest
