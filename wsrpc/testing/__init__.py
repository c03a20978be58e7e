"""Tools for testing programs that use wsrpc: in-memory servers and clients, faults, recorders."""

from __future__ import annotations

from .faults import Faults
from .host import Host, server
from .pairs import connected_pair
from .recorder import RecordedCall, Recorder
from .replaying import Difference, Replayed, replay
from .virtual_time import VirtualTimeLoop, virtual_time

__all__ = [
    "Difference",
    "Faults",
    "Host",
    "RecordedCall",
    "Recorder",
    "Replayed",
    "VirtualTimeLoop",
    "connected_pair",
    "replay",
    "server",
    "virtual_time",
]
