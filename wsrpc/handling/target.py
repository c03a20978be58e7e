"""One callable name of this side's, and the dictionary of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..contract.expose import Exposed
from ..contract.signature import MethodSpec
from ..interfaces import Interceptor

__all__ = ["MethodEntry", "entries_of"]


class MethodEntry:
    """A method that can be called: what `"Controller.method"` stands for.

    Attributes:
        label: `"Controller.method"`.
        spec: The method.
        exposed: The controller.
        interceptors: What runs around it, outermost first.
        channels: Whether it takes streams or callbacks.
        tags: The tags of the method and of its controller.
    """

    __slots__ = ("channels", "exposed", "interceptors", "label", "spec", "tags")

    def __init__(
        self, exposed: Exposed, spec: MethodSpec, interceptors: Sequence[Interceptor]
    ) -> None:
        self.label = f"{exposed.name}.{spec.name}"
        self.spec = spec
        self.exposed = exposed
        self.interceptors = tuple(interceptors)
        self.tags = spec.tags
        self.channels = any(param.kind != "value" for param in spec.params.values())


def entries_of(
    exposed: Mapping[str, Exposed], interceptors: Sequence[Interceptor]
) -> dict[str, MethodEntry]:
    """The one dictionary in which calls are looked up."""
    entries: dict[str, MethodEntry] = {}
    for controller in exposed.values():
        own = getattr(controller.interface.origin, "interceptors", ())
        for spec in controller.interface.specs.values():
            entry = MethodEntry(controller, spec, (*interceptors, *own))
            entries[entry.label] = entry
    return entries
