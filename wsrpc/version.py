"""The version of this package, and its build: the compiled core or pure Python.

The core may be there twice: as Python, and compiled from the same source (`compiled` in
pyproject.toml lists its modules). Python prefers compiled modules. This module is imported before
all others, so that `WSRPC_PURE=1` in the environment can turn that off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

__all__ = ["AGENT", "BUILD", "__version__"]

try:
    __version__ = version("wsrpc-anyio")
except PackageNotFoundError:
    # Run from a checkout that was never installed.
    __version__ = "0"

AGENT = f"wsrpc-python/{__version__}"


class SourceOnly:
    """Finds the Python source of this package's modules, even if they are compiled too."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's Python file, or None for one of another package."""
        if path is None or not fullname.startswith("wsrpc."):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None and spec.loader is not None:
                return spec
        return None


def _build() -> str:
    """Choose the build of the core that is imported from now on."""
    if os.environ.get("WSRPC_PURE", "0") not in ("", "0"):
        sys.meta_path.insert(0, SourceOnly())
        return "pure Python"
    core = find_spec("wsrpc.protocol.endpoint")
    compiled = core is not None and (core.origin or "").endswith(tuple(EXTENSION_SUFFIXES))
    return "compiled core" if compiled else "pure Python"


# "compiled core" or "pure Python".
BUILD = _build()
