"""Both ends of a session in memory, for tests of programs that use wsrpc."""

from __future__ import annotations

from .pairs import connected_pair

__all__ = ["connected_pair"]
