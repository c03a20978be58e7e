"""Errors: what they are made of survives pickling and copying, and their names are their own."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

import wsrpc
from wsrpc.errors import error_class, revive
from wsrpc.values.invalid import InvalidValue, Unencodable


class Quota(BaseModel):
    limit: int


class QuotaExceeded(wsrpc.RpcError[Quota]):
    """The README's own."""

    type_name = "tests.QuotaExceeded"

    def __init__(self, quota: Quota) -> None:
        super().__init__("resource_exhausted", "quota exceeded", quota)


class Elaborate(wsrpc.RpcError[Any]):
    def __init__(self, first: int, *, second: str) -> None:
        super().__init__("aborted", f"{first} and {second}")
        self.first = first
        self.second = second


class Lost(wsrpc.ConnectionLost):
    def __init__(self) -> None:
        super().__init__("gone", 4000, "away")


def remote() -> wsrpc.RpcError[Any]:
    error = revive(QuotaExceeded, "resource_exhausted", "none left", Quota(limit=3))
    error.error_id = "a1b2"
    error.not_started = True
    error.retry_after = 2.5
    error.add_note("seen twice")
    return error


ERRORS: list[BaseException] = [
    wsrpc.WsrpcError("plain"),
    wsrpc.RegistrationError("Hello.greet: no"),
    wsrpc.ConnectError("nobody there", 4501),
    wsrpc.ProtocolError(1002, "odd frame"),
    wsrpc.RpcError("not_found", "no such shop", {"shop": 5}),
    wsrpc.RpcError[Quota]("not_found", "typed", Quota(limit=1)),
    wsrpc.DeadlineExceeded(),
    wsrpc.DeadlineExceeded("too late", {"seconds": 5}),
    wsrpc.StreamOverflow(),
    wsrpc.ConnectionLost("gone", 4002, "silent"),
    wsrpc.NotFinished("the stream goes on"),
    wsrpc.WrongKindError("a stream"),
    QuotaExceeded(Quota(limit=5)),
    Elaborate(1, second="two"),
    Lost(),
    remote(),
    InvalidValue([{"loc": ["a"], "msg": "no", "type": "x"}], 9),
    Unencodable("x: no"),
]


def pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))  # noqa: S301


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_pickled_and_copied(error: BaseException, way: str) -> None:
    again = WAYS[way](error)
    assert type(again) is type(error)
    assert again is not error
    assert again.args == error.args
    assert str(again) == str(error)
    state = {key: value for key, value in vars(error).items() if key != "__orig_class__"}
    assert vars(again) == state


def test_every_public_error_is_among_these() -> None:
    public = {
        one
        for one in map(vars(wsrpc).get, wsrpc.__all__)
        if isinstance(one, type) and issubclass(one, wsrpc.WsrpcError)
    }
    assert public <= {type(error) for error in ERRORS}


def test_a_copy_can_be_raised_and_chained() -> None:
    with pytest.raises(QuotaExceeded) as caught:
        raise copy.copy(QuotaExceeded(Quota(limit=5))) from ValueError("why")
    assert caught.value.data == Quota(limit=5)
    assert isinstance(caught.value.__cause__, ValueError)


# --- Names on the wire -----------------------------------------------------------------------------


def make(name: str, **attributes: Any) -> type[wsrpc.RpcError[Any]]:
    return type(name, (wsrpc.RpcError,), {"__module__": "shop", **attributes})


def test_two_rpcerror_classes_with_one_wire_name_a_registrationerror_unless_one_says_replace() -> (
    None
):
    class Busy(wsrpc.RpcError[Any]):
        type_name = "tests.Busy"

    with pytest.raises(wsrpc.RegistrationError) as caught:

        class Other(wsrpc.RpcError[Any]):
            type_name = "tests.Busy"

    assert "test_errors" in str(caught.value)
    assert "Busy and " in str(caught.value)
    assert "set type_name on one of them" in str(caught.value)
    assert error_class("tests.Busy") is Busy

    class Mine(wsrpc.RpcError[Any], replace=True):
        type_name = "tests.Busy"

    assert error_class("tests.Busy") is Mine


def test_a_name_of_wsrpcs_own_is_taken_too() -> None:
    with pytest.raises(wsrpc.RegistrationError, match=r"wsrpc\.errors\.DeadlineExceeded"):
        make("DeadlineExceeded")
    assert error_class("DeadlineExceeded") is wsrpc.DeadlineExceeded


def test_a_module_that_is_loaded_again_defines_its_errors_again() -> None:
    first = make("Reloaded")
    second = make("Reloaded")
    assert error_class("Reloaded") is second
    assert first is not second


def test_the_name_of_a_class_that_is_gone_is_free_again() -> None:
    class Brief(wsrpc.RpcError[Any]):
        type_name = "tests.Brief"

    del Brief
    gc.collect()
    assert error_class("tests.Brief") is wsrpc.RpcError

    class Next(wsrpc.RpcError[Any]):
        type_name = "tests.Brief"

    assert error_class("tests.Brief") is Next
