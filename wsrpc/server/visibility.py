"""The methods that a principal is told of, in the contract and in hints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..context import Visible
from ..telemetry.logs import everyone

__all__ = ["failing_closed", "seen_by"]


def failing_closed(visible: Visible | None) -> Visible | None:
    """The application's function, made safe: where it raises, a method is not shown.

    Args:
        visible: `Server(visible=…)`.
    """
    if visible is None:
        return None
    own = visible

    def shown(principal: Any, method: str) -> bool:
        if method.startswith("wsrpc."):
            return True
        try:
            answer: object = own(principal, method)
            if not isinstance(answer, bool):
                # A coroutine would count as yes.
                raise TypeError(f"visible is a plain function that gives a bool, not {answer!r}")
            return answer
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (a peer may have set it off: it ends no server)
            everyone.error("visible raised for %s, which is not shown", method, error=error)
            return False

    return shown


def seen_by(principal: Any, contract: Mapping[str, Any], visible: Visible) -> dict[str, Any]:
    """The part of a contract that a principal may see.

    Args:
        principal: The peer's identity.
        contract: The whole of it.
        visible: Tells of each method whether it is shown.
    """
    controllers: dict[str, Any] = {}
    for name, one in contract["controllers"].items():
        methods = {
            method: described
            for method, described in one["methods"].items()
            if visible(principal, f"{name}.{method}")
        }
        if methods or not one["methods"]:
            controllers[name] = {**one, "methods": methods}
    return {**contract, "controllers": controllers}
