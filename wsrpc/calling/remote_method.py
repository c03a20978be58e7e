"""A method at the other end: the part that calls for values and for streams share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..context import is_unicode
from ..errors import Code, RpcError
from ..protocol.codec import Codec
from ..protocol.splice import Encoded
from ..values.adapter import Adapter, Unencodable
from .attachments import Attachments
from .observed import Kind, unsent
from .options import Options
from .route import Retry, Route

__all__ = ["RemoteMethod"]


class RemoteMethod:
    """One method at the other end.

    Args:
        route: The route of its calls.
        controller: Name of the controller.
        spec: The method's signature.
        options: The options given to `clientize`.

    Attributes:
        route: The route of its calls.
        label: `"Controller.method"`.
        spec: The method's signature.
        options: The options given to `clientize`.
        check_results: Whether results and items are validated.
        retry: Decides which failures are worth another attempt.
    """

    def __init__(self, route: Route, controller: str, spec: Any, options: Options) -> None:
        self.route = route
        self.spec = spec
        self.options = options
        self.check_results = options.validate != "none"
        self.retry = Retry(route, idempotent=spec.idempotent)
        self.label = f"{controller}.{spec.name}"
        if not is_unicode(self.label):
            raise ValueError(f"{self.label!r} cannot be the name of a method")
        self._dump_args = spec.dump_args
        self._check_args = options.validate == "both"

    def dump_args(self, values: dict[str, Any], codec: Codec) -> Encoded:
        """The encoded arguments; a value that must not leave fails here, on this call (VALUE-3)."""
        try:
            dump = self._dump_args
            payload: Encoded = dump(values, codec, check=self._check_args)
            return payload
        except Unencodable as error:
            raise RpcError(
                Code.INVALID_ARGUMENT,
                f"the arguments of {self.label}: {self._misfit(values, codec, error)}",
            ) from None

    def unsent(self, kind: Kind, metadata: Mapping[str, str] | None, error: RpcError[Any]) -> None:
        """Tell observers of a call that fails before it could be handed to its session.

        Args:
            kind: See `ObservedCall`.
            metadata: The metadata of the call.
            error: The reason.
        """
        session, events = self.route.witnesses()
        unsent(session, events, self.label, kind, error.code, metadata, self.spec.tags)

    def _misfit(self, values: dict[str, Any], codec: Codec, error: Unencodable) -> str:
        """The reason why the values cannot leave, with the name of the argument to blame."""
        if error.names_field:
            return error.reason
        for name, value in values.items():
            # One by one, since the encoder of all of them does not tell which one it refused.
            param = self.spec.params.get(name)
            annotation = Any if param is None else param.annotation
            alone = Adapter(annotation, where=name)
            try:
                alone.dump(value, codec, check=self._check_args)
            except Unencodable as one:
                return str(one)
        return error.reason

    def attachments(self, uploads: dict[str, Any], callbacks: dict[str, Any]) -> Attachments | None:
        if not uploads and not callbacks:
            return None
        check = self.options.validate == "both"
        return Attachments(self.label, self.spec.params, uploads, callbacks, check)
