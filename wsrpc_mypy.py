"""A plugin for mypy: ``plugins = ["wsrpc_mypy"]`` in its configuration.

With it, the items of a stream that is declared as ``AsyncIterator[T | U | Final[V]]`` are ``T | U``.
Without it mypy joins ``T`` and ``U`` to their nearest common base, often `object`, or takes the method for
one that returns a single value, since it has no unions where it solves for a type variable. Streams with one type of item, or without `Final`, need
no plugin, and pyright needs none.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.nodes import TypeInfo
from mypy.plugin import FunctionContext, MethodContext, Plugin
from mypy.types import CallableType, Instance, Type, UnionType, get_proper_type

__all__ = ["plugin"]

_DECORATOR = "wsrpc.contract.decorator.method"
_WITH_OPTIONS = "wsrpc.contract.decorator._Decorator.__call__"
_STREAM = "wsrpc.stream.Stream"
_FINAL = "wsrpc.stream.Final"
_ITERATORS = ("typing.AsyncIterable", "typing.Iterator")


class WsrpcPlugin(Plugin):
    """Corrects the type that `wsrpc.method` gives to streams with `Final`."""

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return self._decorated if fullname == _DECORATOR else None

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return self._decorated if fullname == _WITH_OPTIONS else None

    def _decorated(self, context: FunctionContext | MethodContext) -> Type:
        """The decorated method: the type that mypy has inferred, but for streams with `Final`."""
        inferred = context.default_return_type
        public = get_proper_type(inferred)
        if not isinstance(public, CallableType) or not (context.arg_types and context.arg_types[0]):
            return inferred
        written = get_proper_type(context.arg_types[0][0])
        parts = _parts(written.ret_type) if isinstance(written, CallableType) else None
        found = self.lookup_fully_qualified(_STREAM)
        if parts is None or found is None or not isinstance(found.node, TypeInfo):
            return inferred
        return public.copy_modified(ret_type=Instance(found.node, list(parts)))


def _parts(returned: Type) -> tuple[Type, Type] | None:
    """The types of the items and of the final value; None where mypy needs no help."""
    proper = get_proper_type(returned)
    if not isinstance(proper, Instance) or not proper.args:
        return None
    if proper.type.fullname == "typing.Coroutine":
        return _parts(proper.args[-1])
    if not any(proper.type.has_base(base) for base in _ITERATORS):
        return None
    yielded = get_proper_type(proper.args[0])
    if not isinstance(yielded, UnionType):
        return None
    items: list[Type] = []
    finals: list[Type] = []
    for item in map(get_proper_type, yielded.relevant_items()):
        if isinstance(item, Instance) and item.type.fullname == _FINAL:
            finals.extend(item.args)
        else:
            items.append(item)
    return (UnionType.make_union(items), UnionType.make_union(finals)) if finals else None


def plugin(version: str) -> type[Plugin]:
    """The plugin's class, for which mypy asks by this name.

    Args:
        version: Mypy's own, which makes no difference here.
    """
    return WsrpcPlugin
