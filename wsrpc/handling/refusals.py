"""`invalid_argument`, and where in the arguments it is."""

from __future__ import annotations

from typing import Any

from ..errors import Code, RpcError
from ..values.adapter import InvalidValue

__all__ = ["bad", "invalid_argument", "under"]


def bad(loc: tuple[str | int, ...], message: str, kind: str) -> InvalidValue:
    """An argument that is wrong for a reason that pydantic does not see."""
    return InvalidValue([{"loc": list(loc), "msg": message, "type": kind}])


def under(name: str | int, invalid: InvalidValue) -> InvalidValue:
    """The same errors, as those of one argument."""
    errors = [{**error, "loc": [name, *error["loc"]]} for error in invalid.errors]
    return InvalidValue(errors, invalid.total)


def invalid_argument(label: str, invalid: InvalidValue) -> RpcError[Any]:
    return RpcError(
        Code.INVALID_ARGUMENT, f"invalid arguments for {label}: {invalid}", invalid.data()
    )
