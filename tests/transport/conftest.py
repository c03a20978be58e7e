"""Every transport on every event loop that it works on."""

from __future__ import annotations

import pytest

from .support import Carrier


@pytest.fixture(params=["memory", "websockets", "picows"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Everything that links are made of."""
    name: Carrier = request.param
    return name


@pytest.fixture(params=["accepting", "connecting"])
def side(request: pytest.FixtureRequest) -> str:
    """Which end of the connection is under test."""
    name: str = request.param
    return name
