"""Cases on the bare wire: frames written by hand, and answers held against protocol.md.

Importing a module of cases adds them.
"""

from __future__ import annotations

from . import batch_cases, flow_cases, id_cases, life_cases, link_cases, vector_cases
from .frame_support import wire_cases

__all__ = [
    "batch_cases",
    "flow_cases",
    "id_cases",
    "life_cases",
    "link_cases",
    "vector_cases",
    "wire_cases",
]
