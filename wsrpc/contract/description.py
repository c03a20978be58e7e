"""The contract of exposed controllers, and untyped proxies made from a contract."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from ..errors import RegistrationError, RpcError, code_of
from ..protocol.codec import CODECS, Codec
from ..protocol.splice import Encoded
from ..values.adapter import MAX_DEPTH, Adapter, InvalidValue, Unencodable
from ..values.tracked import TrackedAdapter
from .binder import Binder
from .binding import NO_DEFAULT, Param, near
from .controller import Interface
from .decorator import method
from .docs import docs_of
from .expose import Exposed
from .signature import MethodSpec

__all__ = [
    "Reflection",
    "UntypedInterface",
    "UntypedMethod",
    "describe",
    "interface_from_contract",
    "near",
    "with_names",
]

VERSION = 1
JSON = CODECS["json"]
_KINDS = ("unary", "stream", "notify")
_PARAM_KINDS = ("value", "upload", "callback")


# --- Writing ---------------------------------------------------------------------------------------


def describe(
    exposed: Mapping[str, Exposed], server: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The contract of the exposed controllers, as JSON; `wsrpc schema` writes it.

    Args:
        exposed: Controllers by name, as `expose_all` gives them.
        server: The server's own `name` and `version`, where it has them.
    """
    return {
        "version": VERSION,
        **({"server": dict(server)} if server else {}),
        "controllers": {name: _controller(one.interface) for name, one in exposed.items()},
    }


def with_names(contract: Mapping[str, Any]) -> dict[str, Any]:
    """The contract as programs keep it: each controller also under its own name.

    So `clientize` takes both `contract["controllers"]["Hello"]` and `contract["Hello"]`.

    Args:
        contract: As `describe` gives it, or another implementation's reflection.
    """
    controllers = {
        name: {"name": name, **one} for name, one in contract.get("controllers", {}).items()
    }
    named = {name: one for name, one in controllers.items() if name not in contract}
    return {**contract, "controllers": controllers, **named}


def _controller(interface: Interface) -> dict[str, Any]:
    return {
        "name": interface.name,
        "doc": interface.doc,
        **({"details": interface.details} if interface.details else {}),
        "methods": {name: _method(spec) for name, spec in interface.specs.items()},
    }


def _method(spec: MethodSpec) -> dict[str, Any]:
    described: dict[str, Any] = {
        "kind": spec.kind,
        "doc": spec.doc,
        **({"details": spec.details} if spec.details else {}),
        "params": {name: _param(spec, param) for name, param in spec.params.items()},
    }
    for part in ("result", "item", "final"):
        adapter: Adapter | None = getattr(spec, part)
        if adapter is not None:
            described[part] = adapter.json_schema("serialization")
    if spec.idempotent:
        described["idempotent"] = True
    if isinstance(spec.item, TrackedAdapter):
        described["tracked"] = True
    options = spec.options
    if options.on_disconnect != "detach":
        described["on_disconnect"] = options.on_disconnect
    if options.timeout is not None:
        described["timeout"] = math.ceil(options.timeout * 1000)
    if options.deprecated:
        described["deprecated"] = True
        if isinstance(options.deprecated, str):
            described["deprecated_doc"] = options.deprecated
    if spec.tags:
        described["tags"] = sorted(spec.tags)
    if options.raises:
        described["errors"] = [_error(spec, one) for one in options.raises]
    return described


def _error(spec: MethodSpec, error: type[RpcError[Any]]) -> dict[str, Any]:
    where = f"{spec.controller}.{spec.name}: the data of {error.__name__}"
    described: dict[str, Any] = {"type": error.type_name or error.__name__, "code": code_of(error)}
    doc = docs_of(error).doc
    if doc:
        described["doc"] = doc
    described["data"] = Adapter(error.data_type, where=where).json_schema("serialization")
    return described


def _param(spec: MethodSpec, param: Param) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": param.kind, "required": param.required}
    doc = spec.param_docs.get(param.name)
    if doc:
        described["doc"] = doc
    if param.kind == "callback":
        described["arguments"] = [one.json_schema("serialization") for one in param.arguments]
        if param.names:
            described["names"] = list(param.names)
        if param.result is not None:
            described["result"] = param.result.json_schema("validation")
        return described
    adapter = param.item or Adapter(
        param.annotation, where=f"{spec.controller}.{spec.name}: parameter {param.name!r}"
    )
    described["schema"] = adapter.json_schema("validation")
    if param.default is not NO_DEFAULT:
        try:
            described["default"] = JSON.load(adapter.dump(param.default, JSON))
        except (InvalidValue, Unencodable):
            # A default that is no value of the type, such as a mark of the method's own.
            pass
    return described


# --- Reading ---------------------------------------------------------------------------------------


class UntypedMethod:
    """A method that a contract describes.

    Attributes:
        name: Its name.
        kind: "unary", "stream" or "notify".
        doc: The first paragraph of its docstring.
        params: Its parameters by name.
        result: The adapter of its result; it takes any value.
        item: The adapter of its items; it takes any value.
        final: The adapter of its final value; it takes any value.
        idempotent: Whether calling it twice does no harm.
        tags: Its tags in the contract, for interceptors to judge by.
        timeout: Seconds after which the other end cancels a call.
    """

    __slots__ = (
        "_binder",
        "_values",
        "doc",
        "final",
        "idempotent",
        "item",
        "kind",
        "name",
        "params",
        "result",
        "tags",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        doc: str,
        params: list[Param],
        *,
        idempotent: bool = False,
        tracked: bool = False,
        tags: frozenset[str] = frozenset(),
        timeout: float | None = None,
    ) -> None:
        self.tags = tags
        self.timeout = timeout
        self.idempotent = idempotent or tracked
        self.name = name
        self.kind = kind
        self.doc = doc
        self.params = {param.name: param for param in params}
        self._binder = Binder(name, params, [param.name for param in params])
        self._values = Adapter(Any, where=name, depth=MAX_DEPTH + 1)
        self.result = self.item = self.final = Adapter(Any, where=name)
        if tracked:
            self.item = TrackedAdapter(Any, where=name)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The values, uploads and callbacks of a call, by name.

        Raises:
            TypeError: An argument is unknown or missing; the caller's fault.
        """
        return self._binder.bind(args, kwargs)

    def dump_args(self, values: dict[str, Any], codec: Codec, check: bool = True) -> Encoded:
        """The encoding of a call's values.

        Raises:
            Unencodable: A value cannot be encoded.
        """
        return self._values.dump(values, codec, check=check)


class UntypedInterface:
    """A controller that a contract describes.

    Attributes:
        name: Its name on the wire.
        doc: The first paragraph of its docstring.
        specs: Its methods by name.
    """

    __slots__ = ("doc", "name", "specs")

    def __init__(self, name: str, doc: str, specs: dict[str, UntypedMethod]) -> None:
        self.name = name
        self.doc = doc
        self.specs = specs


def interface_from_contract(contract: Mapping[str, Any]) -> UntypedInterface:
    """The interface of one controller of a contract.

    Args:
        contract: `describe(…)["controllers"]["HelloController"]`, from memory or a JSON file.

    Raises:
        RegistrationError: It is no controller's contract; the caller's fault.
    """
    if isinstance(contract.get("controllers"), Mapping):
        names = ", ".join(contract["controllers"])
        raise RegistrationError(f"a contract of several controllers; pick one: {names}")
    methods = contract.get("methods")
    name = contract.get("name")
    if not isinstance(name, str) or not isinstance(methods, Mapping):
        if contract and all(
            isinstance(one, Mapping) and "methods" in one for one in contract.values()
        ):
            raise RegistrationError(
                f"a contract of several controllers; pick one: {', '.join(contract)}"
            )
        raise RegistrationError(
            "no controller's contract: it needs a 'name' and 'methods', as `wsrpc schema` writes "
            "them"
        )
    return UntypedInterface(
        name,
        str(contract.get("doc", "")),
        {key: _read_method(f"{name}.{key}", key, one) for key, one in methods.items()},
    )


def _read_method(where: str, name: str, described: Any) -> UntypedMethod:
    kind = described.get("kind") if isinstance(described, Mapping) else None
    if kind not in _KINDS:
        raise RegistrationError(f"{where}: 'kind' must be one of {', '.join(_KINDS)}")
    params = [
        _read_param(f"{where}: parameter {key!r}", key, one)
        for key, one in described.get("params", {}).items()
    ]
    timeout = described.get("timeout")
    return UntypedMethod(
        name,
        kind,
        str(described.get("doc", "")),
        params,
        idempotent=described.get("idempotent") is True,
        tracked=described.get("tracked") is True,
        tags=frozenset(tag for tag in described.get("tags", ()) if isinstance(tag, str)),
        timeout=timeout / 1000 if type(timeout) is int and timeout > 0 else None,
    )


def _read_param(where: str, name: str, described: Any) -> Param:
    kind = described.get("kind", "value") if isinstance(described, Mapping) else None
    if kind not in _PARAM_KINDS:
        raise RegistrationError(f"{where}: 'kind' must be one of {', '.join(_PARAM_KINDS)}")
    required = bool(described.get("required", True))
    anything = Adapter(Any, where=where)
    return Param(
        name,
        cast(Any, kind),
        Any,
        required,
        item=anything if kind == "upload" else None,
        arguments=tuple(anything for _ in described.get("arguments", ())),
        result=anything if kind == "callback" else None,
        optional_stream=not required,
        names=tuple(name for name in described.get("names", ()) if isinstance(name, str)),
    )


# --- Reflection ------------------------------------------------------------------------------------


class Reflection:
    """Tells a caller the contract of this end.

    Args:
        describe: Gives the contract.
    """

    controller_name = "wsrpc.reflection"

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe

    @method
    async def describe(self) -> dict[str, object]:
        """The contract of every controller that is exposed here."""
        return self._describe()
