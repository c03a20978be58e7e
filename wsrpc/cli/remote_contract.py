"""The contract of another program, which may be malformed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from .failures import ExitCode, Failure, did_you_mean

__all__ = ["Contract", "Controller", "Method", "Param", "split_path"]

Schema = dict[str, Any] | bool


class Param(BaseModel):
    """One parameter of a method."""

    kind: Literal["value", "upload", "callback"] = "value"
    required: bool = True
    json_schema: Schema = Field(default=True, alias="schema")
    arguments: list[Schema] = []
    names: list[str] = []
    result: Schema = True
    doc: str = ""
    default: Any = None

    @property
    def has_default(self) -> bool:
        """Whether the contract has its default."""
        return "default" in self.model_fields_set


class ErrorType(BaseModel):
    """An error that a method documents."""

    type: str
    code: str = ""
    doc: str = ""
    data: Schema = True


class Method(BaseModel):
    """One method of a controller."""

    kind: Literal["unary", "stream", "notify"]
    doc: str = ""
    details: str = ""
    tags: list[str] = []
    errors: list[ErrorType] = []
    idempotent: bool = False
    deprecated: bool = False
    deprecated_doc: str = ""
    on_disconnect: str = "detach"
    timeout: int | None = None
    params: dict[str, Param] = {}
    result: Schema | None = None
    item: Schema | None = None
    final: Schema | None = None

    @property
    def uploads(self) -> list[str]:
        """The parameters that take streams."""
        return [name for name, param in self.params.items() if param.kind == "upload"]


class Controller(BaseModel):
    """One controller."""

    doc: str = ""
    details: str = ""
    methods: dict[str, Method]


class Contract(BaseModel):
    """The contract of one side (protocol.md, reflection)."""

    version: int
    controllers: dict[str, Controller]
    _document: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """The contract as it came."""
        return self._document

    @classmethod
    def read(cls, document: Any) -> Contract:
        """The contract in a JSON document.

        Raises:
            Failure: The document is no contract.
        """
        try:
            contract = cls.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Failure(
                f"the server described itself in a form that is no contract: {where}: "
                f"{first['msg']}",
                ExitCode.REMOTE,
            ) from None
        contract._document = document
        return contract

    def controller(self, name: str) -> Controller:
        """The controller called `name`.

        Raises:
            Failure: There is none; the message names similar ones.
        """
        found = self.controllers.get(name)
        if found is None:
            raise Failure(
                f"the server has no controller {name!r}{did_you_mean(name, self.controllers)}"
            )
        return found

    def method(self, controller: str, name: str) -> Method:
        """The method called `name` of a controller.

        Raises:
            Failure: There is no such controller or method; the message names similar ones.
        """
        methods = self.controller(controller).methods
        found = methods.get(name)
        if found is None:
            raise Failure(
                f"controller {controller!r} has no method {name!r}{did_you_mean(name, methods)}"
            )
        return found

    def for_clientize(self, controller: str) -> dict[str, Any]:
        """The part of the document that `clientize` takes."""
        part: dict[str, Any] = self._document["controllers"][controller]
        return {**part, "name": controller}

    def homes_of(self, method: str) -> list[str]:
        """The methods of this name in all controllers, as `Controller.method`."""
        return [
            f"{name}.{method}"
            for name, controller in self.controllers.items()
            if method in controller.methods
        ]


def split_path(path: str) -> tuple[str, str]:
    """Controller and method of `Controller.method`; the method is "" where only one word stands."""
    controller, dot, method = path.rpartition(".")
    if not dot:
        return path, ""
    return controller, method
