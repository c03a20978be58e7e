"""Every test of the core runs over both subprotocols."""

from __future__ import annotations

import pytest

from wsrpc.protocol.codec import CODECS, Codec

from .harness import Bare


@pytest.fixture(params=sorted(CODECS))
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


@pytest.fixture
def server(codec: Codec) -> Bare:
    """An accepting endpoint; the bare frames are the client's, with odd ids."""
    return Bare(codec, "accepting")


@pytest.fixture
def client(codec: Codec) -> Bare:
    """A connecting endpoint; the bare frames are the server's, with even ids."""
    return Bare(codec, "connecting")
