"""The buses under which tests of several nodes run."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.cluster.support import BusKind
from wsrpc.cluster.bus.embedded import nats_server_path


@pytest.fixture(params=["local", pytest.param("nats", marks=[pytest.mark.nats, pytest.mark.slow])])
def bus(request: pytest.FixtureRequest) -> BusKind:
    """In memory and NATS, on both event loops: on trio NATS is in a thread of its own."""
    kind: BusKind = request.param
    return kind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = nats_server_path() is None or importlib.util.find_spec("nats") is None
    if missing and os.environ.get("WSRPC_NATS") != "require":
        skip = pytest.mark.skip(reason="there is no nats-server here, or no nats-py")
        for item in items:
            if item.get_closest_marker("nats"):
                item.add_marker(skip)
