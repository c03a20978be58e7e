"""The built-in controller `wsrpc.health`: whether this server takes calls, as in grpc.health.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Literal, TypeAlias

import anyio

from ..contract.decorator import method
from ..errors import Code, RpcError

__all__ = ["HEALTH", "Health", "HealthStatus"]

HEALTH = "wsrpc.health"

Status: TypeAlias = Literal["SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]


HealthStatus: TypeAlias = dict[str, Status]
"""The status of a service, under "status"."""


class Health:
    """Tells whether a server takes calls. Every peer that the server lets in may ask.

    Args:
        services: The names of the controllers.
        serving: Whether the server takes calls.
    """

    controller_name = HEALTH

    def __init__(self, services: Collection[str], serving: Callable[[], bool]) -> None:
        self._services = frozenset(services)
        self._serving = serving
        self._watching: set[anyio.Event] = set()

    def changed(self) -> None:
        """Note that the server has begun to drain, or goes on after that."""
        for event in self._watching:
            event.set()

    @method(idempotent=True)
    async def check(self, service: str = "") -> HealthStatus:
        """SERVING, or NOT_SERVING from the first moment of a drain.

        Args:
            service: A controller's name; "" for the server as a whole.

        Raises:
            RpcError: `not_found`: there is no such controller.
        """
        if self._status(service) == "SERVICE_UNKNOWN":
            raise RpcError(Code.NOT_FOUND, f"there is no controller {service[:200]!r} here")
        return {"status": self._status(service)}

    @method(on_drain="finish")
    async def watch(self, service: str = "") -> AsyncIterator[HealthStatus]:
        """The status now, and then each change of it; ends after NOT_SERVING.

        Args:
            service: A controller's name; "" for the server as a whole. The status of an unknown
                controller is SERVICE_UNKNOWN.
        """
        event = anyio.Event()
        self._watching.add(event)
        try:
            status = self._status(service)
            yield {"status": status}
            while status != "NOT_SERVING":
                await event.wait()
                self._watching.discard(event)
                event = anyio.Event()
                self._watching.add(event)
                before, status = status, self._status(service)
                if status != before:
                    yield {"status": status}
                elif not self._serving():
                    return
        finally:
            self._watching.discard(event)

    def _status(self, service: str) -> Status:
        if service and service not in self._services:
            return "SERVICE_UNKNOWN"
        return "SERVING" if self._serving() else "NOT_SERVING"
