"""The buses under which tests of several nodes run."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.cluster.support import BusKind
from wsrpc.cluster.bus.embedded import nats_server_path


@pytest.fixture(params=["local", pytest.param("nats", marks=[pytest.mark.nats, pytest.mark.slow])])
def bus(request: pytest.FixtureRequest) -> BusKind:
    """In memory on both event loops, and NATS on asyncio."""
    kind: BusKind = request.param
    return kind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_nats_on_trio(item)]
    missing = nats_server_path() is None or importlib.util.find_spec("nats") is None
    if missing and os.environ.get("WSRPC_NATS") != "require":
        skip = pytest.mark.skip(reason="there is no nats-server here, or no nats-py")
        for item in items:
            if item.get_closest_marker("nats"):
                item.add_marker(skip)


def _is_nats_on_trio(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    if callspec is None or item.get_closest_marker("nats") is None:
        return False
    return "trio" in map(str, callspec.params.values()) or "trio" in callspec.id
