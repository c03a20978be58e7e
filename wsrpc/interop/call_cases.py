"""Cases through the public face: what a user of the package would write.

Importing a module of cases adds them.
"""

from __future__ import annotations

from . import stream_call_cases, value_call_cases
from .call_support import cases

__all__ = ["cases", "stream_call_cases", "value_call_cases"]
