"""Decorators for the compiler of the core, which say nothing to Python.

mypyc knows them by their full name; a plain install has neither mypyc nor its package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_attributes):
        """Tell mypyc about the class that follows."""
        return lambda decorated: decorated
