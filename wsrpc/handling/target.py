"""The methods of this side that can be called, and the dictionary of all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..contract.expose import Exposed
from ..contract.signature import MethodSpec
from ..engine.ledger import STEP
from ..interfaces import Interceptor

__all__ = ["MethodEntry", "entries_of"]


class MethodEntry:
    """A method that can be called under the name `"Controller.method"`.

    Attributes:
        label: `"Controller.method"`.
        spec: The method.
        exposed: The controller.
        interceptors: The interceptors around it, outermost first.
        channels: Whether it takes streams or callbacks.
        tags: The tags of the method and of its controller.
        function: The method of a controller that serves every session; None where each has its own.
        guarded: Whether `authorize` is asked.
        light: Whether it has answered, and its answers have been small so far.
    """

    __slots__ = (
        "_heavy",
        "channels",
        "exposed",
        "function",
        "guarded",
        "interceptors",
        "label",
        "light",
        "spec",
        "tags",
    )

    def __init__(
        self,
        exposed: Exposed,
        spec: MethodSpec,
        interceptors: Sequence[Interceptor],
        *,
        guarded: bool = True,
    ) -> None:
        self.label = f"{exposed.name}.{spec.name}"
        self.spec = spec
        self.exposed = exposed
        self.function: Callable[..., Any] | None = None
        if not exposed.per_session:
            self.function = spec.target(exposed.instance(None))
        self.interceptors = tuple(interceptors)
        self.tags = spec.tags
        self.guarded = guarded
        self.light = self._heavy = False
        self.channels = any(param.kind != "value" for param in spec.params.values())

    def weigh(self, size: int, oneway: bool) -> None:
        """Note the size of an answer; a method with one large answer is not light any more.

        Args:
            size: Bytes.
            oneway: Whether it was no answer to a call, but the end of a notification.
        """
        if size >= STEP:
            self._heavy = True
        self.light = not self._heavy and not oneway


def entries_of(
    exposed: Mapping[str, Exposed],
    interceptors: Sequence[Interceptor],
    *,
    for_all: Collection[str] = (),
) -> dict[str, MethodEntry]:
    """The dictionary in which calls are looked up.

    Args:
        exposed: The controllers that are served, by name.
        interceptors: The interceptors around every call, outermost first.
        for_all: The controllers that need no permission: neither `authorize` nor interceptors run
            before them.
    """
    entries: dict[str, MethodEntry] = {}
    for controller in exposed.values():
        guarded = controller.name not in for_all
        around = (*interceptors, *getattr(controller.interface.origin, "interceptors", ()))
        for spec in controller.interface.specs.values():
            entry = MethodEntry(controller, spec, around if guarded else (), guarded=guarded)
            entries[entry.label] = entry
    return entries
