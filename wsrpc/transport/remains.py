"""Reads the bytes that had arrived on a connection of asyncio when a write failed."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

__all__ = ["read_out"]

# Reads of the bytes that had arrived on a connection that has broken.
MOST_READS = 64


def read_out(transport: Any, protocol: Any) -> None:
    """Hand those bytes to the protocol, in its `connection_lost`.

    When a write fails, asyncio reads no further. If both ends have much to send on a link that is
    cut soon, neither would ever take the messages that the other one had got through.

    Args:
        transport: The asyncio transport that is lost.
        protocol: An `asyncio.BufferedProtocol`, which takes the bytes as those of each read.
    """
    if transport.get_extra_info("sslcontext") is not None:
        return
    # The socket of an event loop in C may be gone by now.
    with suppress(OSError, AttributeError):
        own = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=own) as rest:
            rest.setblocking(False)
            for _ in range(MOST_READS):
                count = rest.recv_into(protocol.get_buffer(-1))
                if not count:
                    break
                protocol.buffer_updated(count)
