"""One callable name of this side's, and the dictionary of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

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
        guarded: Whether `authorize` is asked.
    """

    __slots__ = ("channels", "exposed", "guarded", "interceptors", "label", "spec", "tags")

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
        self.interceptors = tuple(interceptors)
        self.tags = spec.tags
        self.guarded = guarded
        self.channels = any(param.kind != "value" for param in spec.params.values())


def entries_of(
    exposed: Mapping[str, Exposed],
    interceptors: Sequence[Interceptor],
    *,
    for_all: Collection[str] = (),
) -> dict[str, MethodEntry]:
    """The one dictionary in which calls are looked up.

    Args:
        exposed: What is served, by name.
        interceptors: What runs around every call, outermost first.
        for_all: Controllers that nobody needs permission for: neither `authorize` nor interceptors
            stand before them.
    """
    entries: dict[str, MethodEntry] = {}
    for controller in exposed.values():
        guarded = controller.name not in for_all
        around = (*interceptors, *getattr(controller.interface.origin, "interceptors", ()))
        for spec in controller.interface.specs.values():
            entry = MethodEntry(controller, spec, around if guarded else (), guarded=guarded)
            entries[entry.label] = entry
    return entries
