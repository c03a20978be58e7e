"""The methods that a principal is told of: `Server(visible=…)`."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

import wsrpc
from tests.support import error_of, served


class Shop:
    @wsrpc.method
    async def price(self) -> int:
        return 1

    @wsrpc.method
    async def refund(self) -> int:
        return 2


class Ledger:
    @wsrpc.method
    async def close(self) -> None:
        pass


async def by_name(request: wsrpc.Handshake, auth: Any) -> Any:
    return auth


def for_staff(principal: Any, method: str) -> bool:
    return principal == "staff" or method == "Shop.price"


async def methods(session: wsrpc.Session) -> list[str]:
    contract = await session.clientize("wsrpc.reflection").describe()
    return [
        f"{name}.{method}"
        for name, one in contract["controllers"].items()
        for method in one["methods"]
    ]


async def test_reflection_leaves_out_the_methods_that_a_principal_may_not_see() -> None:
    options: dict[str, Any] = {"authenticate": by_name, "visible": for_staff}
    async with served([Shop(), Ledger()], **options) as listener:
        async with wsrpc.connect(listener.url, auth="guest") as session:
            assert await methods(session) == ["Shop.price"]
            with error_of("unimplemented") as raised:
                await session.clientize("Shop").refunds()
            assert "Shop.refund" not in raised.value.data["near"]
            # It hides the name, and refuses no call.
            assert await session.clientize("Shop").refund() == 2
        async with wsrpc.connect(listener.url, auth="staff") as session:
            assert await methods(session) == ["Shop.price", "Shop.refund", "Ledger.close"]
            with error_of("unimplemented") as raised:
                await session.clientize("Shop").refunds()
            assert raised.value.data["near"][0] == "Shop.refund"
        # The server's own view of itself stays whole.
        assert set(listener.server.contract()["controllers"]) == {"Shop", "Ledger"}


def raising(principal: Any, method: str) -> bool:
    return principal[method] is True


def a_string(principal: Any, method: str) -> Any:
    return "yes"


def exiting(principal: Any, method: str) -> bool:
    sys.exit(3)


def closing(principal: Any, method: str) -> bool:
    raise GeneratorExit


@pytest.mark.parametrize("broken", [raising, a_string, exiting, closing])
async def test_a_method_is_not_shown_where_visible_raises_or_gives_no_bool(
    caplog: pytest.LogCaptureFixture, broken: Any
) -> None:
    with caplog.at_level(logging.ERROR, "wsrpc"):
        async with served([Shop()], visible=broken) as listener:
            async with wsrpc.connect(listener.url) as session:
                assert await methods(session) == []
                with error_of("unimplemented"):
                    await session.clientize("Shop").pric()
                assert await session.clientize("Shop").price() == 1
    assert "visible raised for Shop.price" in caplog.text


def test_visible_has_to_be_a_function() -> None:
    wrong: Any = ["Shop.price"]
    with pytest.raises(ValueError, match="visible"):
        wsrpc.Server([Shop()], visible=wrong)
