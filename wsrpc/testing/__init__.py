"""Both ends of a session in memory, for tests of programs that use wsrpc."""

from __future__ import annotations

from .faults import Faults
from .pairs import connected_pair

__all__ = ["Faults", "connected_pair"]
