"""Contracts: the schema of what is exposed, and untyped interfaces read from it."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal, NotRequired, Protocol

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import wsrpc
from wsrpc.contract.binding import near
from wsrpc.contract.decorator import method
from wsrpc.contract.description import (
    Reflection,
    describe,
    interface_from_contract,
    with_names,
)
from wsrpc.contract.expose import expose_all
from wsrpc.errors import Code, DeadlineExceeded, RegistrationError, RpcError
from wsrpc.protocol.codec import CODECS
from wsrpc.stream import Final


class Progress(BaseModel):
    done: int


class HelloController:
    """Greets.

    At length.
    """

    @method
    async def greet(self, name: Annotated[str, Field(max_length=9)], times: int = 1) -> str:
        """Greets one."""
        return name * times

    @method
    async def tokens(self, seal: bytes) -> AsyncIterator[str | Final[Progress]]:
        yield ""

    @method
    async def count(
        self,
        lines: AsyncIterator[int],
        tell: Callable[[Progress, int], Awaitable[bool]] | None = None,
    ) -> Any:
        """Counts."""

    @method(oneway=True)
    async def note(self) -> None: ...


def contract() -> dict[str, Any]:
    return describe(expose_all([HelloController()]))


PROGRESS = {
    "title": "Progress",
    "type": "object",
    "properties": {"done": {"title": "Done", "type": "integer"}},
    "required": ["done"],
    "x-type": "tests.contract.test_description:Progress",
}


def test_a_contract_tells_all_there_is_to_know_of_a_method() -> None:
    assert contract() == {
        "version": 1,
        "controllers": {
            "HelloController": {
                "name": "HelloController",
                "doc": "Greets.",
                "details": "At length.",
                "methods": {
                    "greet": {
                        "kind": "unary",
                        "doc": "Greets one.",
                        "params": {
                            "name": {
                                "kind": "value",
                                "required": True,
                                "schema": {"type": "string", "maxLength": 9},
                            },
                            "times": {
                                "kind": "value",
                                "required": False,
                                "schema": {"type": "integer"},
                                "default": 1,
                            },
                        },
                        "result": {"type": "string"},
                    },
                    "tokens": {
                        "kind": "stream",
                        "doc": "",
                        "params": {
                            "seal": {
                                "kind": "value",
                                "required": True,
                                "schema": {
                                    "type": "string",
                                    "format": "base64url",
                                    "contentEncoding": "base64url",
                                },
                            }
                        },
                        "item": {"type": "string"},
                        "final": PROGRESS,
                    },
                    "count": {
                        "kind": "unary",
                        "doc": "Counts.",
                        "params": {
                            "lines": {
                                "kind": "upload",
                                "required": True,
                                "schema": {"type": "integer"},
                            },
                            "tell": {
                                "kind": "callback",
                                "required": False,
                                "arguments": [PROGRESS, {"type": "integer"}],
                                "result": {"type": "boolean"},
                            },
                        },
                        "result": {},
                    },
                    "note": {"kind": "notify", "doc": "", "params": {}},
                },
            }
        },
    }


def test_a_contract_survives_a_json_file() -> None:
    assert json.loads(json.dumps(contract())) == contract()


def test_a_contract_has_each_controller_under_its_own_name_too() -> None:
    named = with_names(contract())
    assert named["HelloController"] == named["controllers"]["HelloController"]
    assert with_names(named) == named


def test_a_controller_cannot_hide_a_part_of_the_contract() -> None:
    class Versions(HelloController):
        controller_name = "version"

    assert with_names(describe(expose_all([Versions()])))["version"] == 1


def test_an_interface_read_from_a_contract_binds_as_the_class_does() -> None:
    read = interface_from_contract(
        json.loads(json.dumps(contract()["controllers"]))["HelloController"]
    )
    assert (read.name, read.doc) == ("HelloController", "Greets.")
    assert {name: spec.kind for name, spec in read.specs.items()} == {
        "greet": "unary",
        "tokens": "stream",
        "count": "unary",
        "note": "notify",
    }
    greet = read.specs["greet"]
    assert greet.doc == "Greets one."
    assert greet.bind(("Ann",), {"times": 2}) == ({"name": "Ann", "times": 2}, {}, {})
    codec = CODECS["json"]
    assert codec.load(greet.dump_args({"name": "Ann"}, codec)) == {"name": "Ann"}


def test_unknown_and_missing_arguments_are_caught_before_anything_is_sent() -> None:
    specs = interface_from_contract(contract()["controllers"]["HelloController"]).specs
    with pytest.raises(TypeError, match=r"'tims'; did you mean 'times'\?"):
        specs["greet"].bind(("Ann",), {"tims": 2})
    with pytest.raises(TypeError, match="missing 1 required argument: 'name'"):
        specs["greet"].bind((), {})
    with pytest.raises(TypeError, match=r"wsrpc\.stream_of"):
        specs["count"].bind(([1],), {})


async def test_uploads_and_callbacks_are_told_from_values() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def tell(progress: object, n: object) -> bool:
        return True

    count = interface_from_contract(contract()["controllers"]["HelloController"]).specs["count"]
    upload = numbers()
    assert count.bind((upload, tell), {}) == ({}, {"lines": upload}, {"tell": tell})
    assert count.bind((upload, None), {}) == ({}, {"lines": upload}, {})
    assert count.params["lines"].item is not None
    assert len(count.params["tell"].arguments) == 2
    assert count.params["tell"].result is not None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: contract(), "pick one: HelloController"),
        (lambda: contract()["controllers"], "pick one: HelloController"),
        (dict, "it needs a 'name' and 'methods'"),
        (lambda: {"name": 5, "methods": {}}, "it needs a 'name' and 'methods'"),
        (lambda: {"name": "X", "methods": {"f": {"kind": "odd"}}}, "X.f: 'kind' must be one of"),
        (lambda: {"name": "X", "methods": {"f": 5}}, "X.f: 'kind' must be one of"),
        (
            lambda: {"name": "X", "methods": {"f": {"kind": "unary", "params": {"p": 5}}}},
            "X.f: parameter 'p': 'kind' must be one of",
        ),
    ],
)
def test_what_is_no_controllers_contract_is_refused_saying_why(
    wrong: Callable[[], dict[str, Any]], words: str
) -> None:
    with pytest.raises(RegistrationError) as caught:
        interface_from_contract(wrong())
    assert words in str(caught.value)


async def test_the_reflection_controller_tells_the_contract() -> None:
    exposed = expose_all([HelloController()], builtin=[Reflection(contract)])
    assert set(exposed) == {"HelloController", "wsrpc.reflection"}
    spec = exposed["wsrpc.reflection"].interface.specs["describe"]
    described = await spec.target(exposed["wsrpc.reflection"].instance(None))()
    assert spec.result is not None
    for codec in CODECS.values():
        raw = spec.result.dump(described, codec)
        assert spec.result.load(raw, codec) == contract()


def test_near_names_are_at_hand_here_too() -> None:
    assert near("gret", contract()["controllers"]["HelloController"]["methods"]) == ["greet"]


# --- What else a contract tells ---------------------------------------------------------------------


class Shade(enum.Enum):
    DARK = "dark"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9
    tags: list[str] = Field(default_factory=list)


class Loose(TypedDict):
    a: int
    b: NotRequired[str]


class Quota(BaseModel):
    limit: int


class OverQuota(RpcError[Quota]):
    """There is no more.

    Ask again tomorrow.
    """

    type_name = "shop.OverQuota"

    def __init__(self, quota: Quota) -> None:
        super().__init__("resource_exhausted", "over quota", quota)


class Worn(OverQuota):
    type_name = "shop.Worn"


class ByName(RpcError[Any]):
    type_name = "shop.ByName"

    def __init__(self) -> None:
        super().__init__(Code.NOT_FOUND, "gone")


class Vague(RpcError[Any]):
    type_name = "shop.Vague"


class Settled(RpcError[Any]):
    type_name = "shop.Settled"
    code = "aborted"


class Tell(Protocol):
    async def __call__(self, progress: Cat, percent: int) -> bool: ...


class Shop:
    """Sells.

    Everything, and
    more.

    At night, too.
    """

    @method(
        tags={"b", "a"},
        raises=[OverQuota, Worn, ByName, Settled, DeadlineExceeded],
        deprecated="use sell",
        on_disconnect="cancel",
        timeout=2.5,
    )
    async def buy(
        self,
        what: str = "apple",
        shade: Shade = Shade.DARK,
        cat: Cat = Cat(lives=3),  # noqa: B008
        when: dt.date | None = None,
        seal: bytes = b"\xff",
        odd: Any = object(),  # noqa: B008
    ) -> Cat:
        """Buy one.

        It is wrapped.

        Args:
            what: The thing, which
                may be anything.
            shade (Shade): How dark.

        Returns:
            what: A cat.
        """
        raise NotImplementedError

    @method
    async def loose(self) -> Loose: ...  # type: ignore[empty-body]

    @method
    async def watch(self, tell: Tell) -> None: ...


def described(name: str) -> Any:
    return describe(expose_all([Shop()]))["controllers"]["Shop"]["methods"][name]


def test_defaults_are_told_as_they_travel() -> None:
    params = described("buy")["params"]
    assert {name: one.get("default", "none") for name, one in params.items()} == {
        "what": "apple",
        "shade": "dark",
        "cat": {"kind": "cat", "lives": 3, "tags": []},
        "when": None,
        "seal": "_w==",
        # Nothing that could travel.
        "odd": "none",
    }


def test_docstrings_are_told_whole() -> None:
    shop = describe(expose_all([Shop()]))["controllers"]["Shop"]
    assert shop["doc"] == "Sells."
    assert shop["details"] == "Everything, and\nmore.\n\nAt night, too."
    buy = shop["methods"]["buy"]
    assert buy["doc"] == "Buy one."
    assert buy["details"].startswith("It is wrapped.\n\nArgs:")
    assert buy["params"]["what"]["doc"] == "The thing, which may be anything."
    assert buy["params"]["shade"]["doc"] == "How dark."
    assert "doc" not in buy["params"]["cat"]


def test_what_leaves_has_all_its_fields() -> None:
    assert described("buy")["result"]["required"] == ["kind", "lives", "tags"]
    assert "required" not in described("buy")["params"]["cat"]["schema"]
    assert described("loose")["result"]["required"] == ["a"]


def test_each_model_has_an_identity() -> None:
    here = "tests.contract.test_description"
    assert described("buy")["result"]["x-type"] == f"{here}:Cat"
    assert described("loose")["result"]["x-type"] == f"{here}:Loose"
    assert described("buy")["params"]["shade"]["schema"]["x-type"] == f"{here}:Shade"


def test_the_arguments_of_a_callback_have_the_names_of_its_protocol() -> None:
    tell = described("watch")["params"]["tell"]
    assert tell["names"] == ["progress", "percent"]
    assert [one.get("title", one.get("type")) for one in tell["arguments"]] == ["Cat", "integer"]
    assert tell["result"] == {"type": "boolean"}


def test_errors_and_options_of_a_method_are_told() -> None:
    buy = described("buy")
    assert [(one["type"], one["code"]) for one in buy["errors"]] == [
        ("shop.OverQuota", "resource_exhausted"),
        ("shop.Worn", "resource_exhausted"),
        ("shop.ByName", "not_found"),
        ("shop.Settled", "aborted"),
        ("DeadlineExceeded", "deadline_exceeded"),
    ]
    assert buy["errors"][0]["data"]["properties"] == {
        "limit": {"title": "Limit", "type": "integer"}
    }
    assert buy["errors"][0]["doc"] == "There is no more."
    assert buy["tags"] == ["a", "b"]
    assert (buy["deprecated"], buy["deprecated_doc"]) == (True, "use sell")
    assert buy["on_disconnect"] == "cancel"
    assert buy["timeout"] == 2500
    absent = {"tags", "errors", "deprecated", "on_disconnect", "timeout"}
    assert not absent & described("loose").keys()


def test_the_contract_says_what_the_server_is_called_if_it_is_told() -> None:
    assert "server" not in describe(expose_all([HelloController()]))
    named = wsrpc.Server([HelloController()], name="shop", version="1.2").contract()
    assert named["server"] == {"name": "shop", "version": "1.2"}
    assert named["HelloController"]["methods"]
    with pytest.raises(ValueError, match="name must be a text"):
        wsrpc.Server([], name="")


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True, "1"])
def test_a_methods_timeout_is_seconds_above_0(timeout: Any) -> None:
    with pytest.raises(RegistrationError, match="timeout must be a number of seconds above 0"):
        method(timeout=timeout)


def test_an_error_without_a_code_is_refused_saying_what_to_write() -> None:
    class Sells:
        @method(raises=[Vague])
        async def sell(self) -> None: ...

    with pytest.raises(RegistrationError, match=r"Vague cannot be told.*write `code"):
        describe(expose_all([Sells()]))


def test_the_contract_is_what_reflection_and_json_can_carry() -> None:
    document = describe(expose_all([Shop(), HelloController()]))
    assert document["version"] == 1
    assert json.loads(json.dumps(document)) == document
    buy = interface_from_contract(document["controllers"]["Shop"]).specs["buy"]
    assert buy.tags == {"a", "b"}
    assert buy.timeout == 2.5
