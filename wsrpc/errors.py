"""The errors of the package: which side is to blame, and which errors cross the wire."""

from __future__ import annotations

import gc
from copy import copy
from enum import StrEnum
from typing import Any, ClassVar, Generic, Self, cast, get_args, get_origin
from weakref import WeakValueDictionary

from typing_extensions import TypeVar, get_original_bases

from .close_codes import CloseCode

__all__ = [
    "CODES",
    "Code",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "ProtocolError",
    "RegistrationError",
    "RpcError",
    "StreamOverflow",
    "WsrpcError",
]


class Code(StrEnum):
    """The status codes of an error: gRPC's sixteen, in lower case (protocol.md, error codes)."""

    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"
    UNAUTHENTICATED = "unauthenticated"


CODES = frozenset(str(code) for code in Code)


class WsrpcError(Exception):
    """The base class of all exceptions that this package raises on purpose.

    All of them can be pickled and copied, for any signature of a subclass's constructor: the
    attributes go along, and the constructor is not called again.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "__orig_class__"}
        return _rebuilt, (type(self), self.args), state


def _rebuilt(cls: type[WsrpcError], args: tuple[Any, ...]) -> WsrpcError:
    """An error without its constructor, whose arguments are not known; for `pickle` and `copy`."""
    error = cls.__new__(cls)
    error.args = args
    return error


class RegistrationError(WsrpcError, TypeError):
    """A controller cannot be exposed as it is written; the message names the place and the cure."""


class ConnectError(WsrpcError, ConnectionError):
    """No session could be opened: wrong address, refused handshake, or not a wsrpc server.

    Attributes:
        close_code: The WebSocket close code of the server, or None if the attempt did not get that
            far.
        status: The HTTP status with which the opening handshake was answered, where it was not 101.
        retry_after: Seconds for which the server asked to be left alone, or None.
    """

    def __init__(
        self,
        message: str,
        close_code: int | None = None,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.status = status
        self.retry_after = retry_after


class ProtocolError(WsrpcError):
    """The peer broke a rule of protocol.md; the link is closed with `close_code`.

    Attributes:
        close_code: The WebSocket close code for this violation (protocol.md, close codes).
        reason: One sentence, at most 123 bytes when it travels in a close frame.
    """

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(f"{reason} (close code {close_code})")
        self.close_code = close_code
        self.reason = reason


D = TypeVar("D", default=Any)

_by_type_name: WeakValueDictionary[str, type[RpcError[Any]]] = WeakValueDictionary()


class RpcError(WsrpcError, Generic[D]):
    """An error that crosses the wire: if a handler raises it, it is raised again at the caller.

    Subclass it with a typed `data` to get the same class back on the other side, as long as both
    sides have defined it:

        class QuotaExceeded(RpcError[Quota]):
            def __init__(self, quota: Quota) -> None:
                super().__init__("resource_exhausted", "quota exceeded", quota)

    On the wire a subclass has its bare name, or `type_name` if the class sets it. Two classes with
    one name in a process are refused with a `RegistrationError`: set `type_name` to tell them
    apart, or write `class Mine(RpcError[Quota], replace=True)` if yours shall be the one raised.

    Args:
        code: One of the sixteen status codes, in lower case; see `Code`.
        message: A sentence for people.
        data: Any value that can be encoded; the caller gets it.

    Attributes:
        code: The status code, a plain string.
        message: A sentence for people.
        data: The value that the handler attached, or None.
        error_id: For an unexpected exception, the id under which the other side logged it.
        not_started: Whether the other end guarantees that the handler never ran.
        retry_after: Seconds after which trying again makes sense, or None.
        remote: Whether the other end raised it, and worded its text.
        origin: A mark of the session from which it came, as long as it must not cross to another
            one; None for an error that was raised here.

    Raises:
        ValueError: `code` is none of the sixteen; the caller's fault.
    """

    type_name: ClassVar[str | None] = None
    data_type: ClassVar[Any] = Any

    def __init__(self, code: str, message: str = "", data: D | None = None) -> None:
        if code not in CODES:
            raise ValueError(
                f"{code!r} is no status code; use one of {', '.join(sorted(CODES))} (wsrpc.Code)"
            )
        super().__init__(code, message, data)
        self.code = str(code)
        self.message = message
        self.data = cast(D, data)
        self.error_id: str | None = None
        self.not_started = False
        self.retry_after: float | None = None
        self.remote = False
        self.origin: object | None = None

    def __init_subclass__(cls, *, replace: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "type_name" not in cls.__dict__:
            cls.type_name = cls.__name__
        for base in get_original_bases(cls):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, RpcError):
                (argument,) = get_args(base)
                if not isinstance(argument, TypeVar):
                    cls.data_type = argument
        assert cls.type_name is not None
        if not replace:
            _refuse_second(cls, cls.type_name)
        _by_type_name[cls.type_name] = cls

    def forward(self) -> Self:
        """The same error, free to cross to a caller of another session.

        An error of one session's peer is not meant for the peer of another session: uncaught, it
        crosses as `internal`. `raise error.forward()` passes on its code, message, class and data
        on purpose.
        """
        forwarded = copy(self)
        forwarded.origin = None
        return forwarded

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.message else self.code
        return f"{text} (error id {self.error_id})" if self.error_id else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r}, {self.data!r})"


def _refuse_second(cls: type[RpcError[Any]], type_name: str) -> None:
    """Refuse a class with the wire name of another class."""
    if _is_in_the_way(cls, type_name):
        # A class that is not referenced any more may only wait for the garbage collector.
        gc.collect()
    if _is_in_the_way(cls, type_name):
        other = _by_type_name[type_name]
        raise RegistrationError(
            f"{other.__module__}.{other.__qualname__} and {cls.__module__}.{cls.__qualname__} would "
            f"both go by the name {type_name!r} on the wire; set type_name on one of them, or "
            "define the second with replace=True"
        )


def _is_in_the_way(cls: type[RpcError[Any]], type_name: str) -> bool:
    other = _by_type_name.get(type_name)
    if other is None:
        return False
    again = (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)
    # A module that is loaded again defines its classes again.
    return not (again and "<locals>" not in cls.__qualname__)


def error_class(type_name: str | None) -> type[RpcError[Any]]:
    """The class to raise for an error frame's `type`, if this process has defined it."""
    if type_name is None:
        return RpcError
    return _by_type_name.get(type_name, RpcError)


def code_of(cls: type[RpcError[Any]]) -> str:
    """The code of a class's errors: its `code`, or the code that its constructor names.

    Raises:
        RegistrationError: Neither tells the code; the author of the class is to blame.
    """
    for owner in cls.__mro__:
        own = vars(owner).get("code")
        if own in CODES:
            return str(own)
        made = vars(owner).get("__init__")
        if owner is RpcError:
            break
        if made is not None and hasattr(made, "__code__"):
            code = made.__code__
            named = {str(one) for one in code.co_consts if isinstance(one, str) and one in CODES}
            named |= {
                one.lower() for one in code.co_names if one.isupper() and one.lower() in CODES
            }
            if len(named) == 1:
                return named.pop()
    raise RegistrationError(
        f"the code of {cls.__module__}.{cls.__qualname__} cannot be told from its constructor; "
        'write `code = "…"` in the class, one of wsrpc.Code'
    )


def revive(cls: type[RpcError[Any]], code: str, message: str, data: Any) -> RpcError[Any]:
    """An instance of `cls` without running its own `__init__`, whose arguments never travelled."""
    error = cls.__new__(cls)
    RpcError.__init__(error, code if code in CODES else Code.UNKNOWN, message, data)
    error.remote = True
    return error


class DeadlineExceeded(RpcError[Any], TimeoutError):
    """The call's deadline passed: by `timeout=`, the default, or the far side's clock."""

    def __init__(self, message: str = "deadline exceeded", data: Any = None) -> None:
        RpcError.__init__(self, Code.DEADLINE_EXCEEDED, message, data)

    def __str__(self) -> str:
        return RpcError.__str__(self)


class StreamOverflow(RpcError[Any]):
    """The consumer of a stream did not keep up: more than a window waited (`overflow="fail"`).

    It is raised on the consumer's side, in place of the items that waited, with the code
    `resource_exhausted`; the class tells it from a handler's own error with that code.
    """

    def __init__(self, message: str = "the consumer fell behind", data: Any = None) -> None:
        RpcError.__init__(self, Code.RESOURCE_EXHAUSTED, message, data)


class ConnectionLost(RpcError[Any], ConnectionError):
    """The session ended while the call was pending; `not_started` tells whether its handler ran.

    Attributes:
        close_code: The WebSocket close code, or 1006 when the connection just broke.
        close_reason: The reason that the closing side gave, or "".
    """

    # An error that another node passed on was not made by `__init__`.
    close_code: int = CloseCode.CONNECTION_LOST
    close_reason = ""

    def __init__(
        self, message: str, close_code: int = CloseCode.CONNECTION_LOST, close_reason: str = ""
    ) -> None:
        refused = close_code in (CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN)
        RpcError.__init__(self, Code.UNAUTHENTICATED if refused else Code.UNAVAILABLE, message)
        self.close_code = close_code
        self.close_reason = close_reason

    def __str__(self) -> str:
        return RpcError.__str__(self)
