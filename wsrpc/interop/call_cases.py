"""Cases through the public interface, as a user of the package would write them.

Importing a module of cases adds them.
"""

from __future__ import annotations

from . import stream_call_cases, value_call_cases
from .call_support import cases

__all__ = ["cases", "stream_call_cases", "value_call_cases"]
