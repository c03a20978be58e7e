"""What this package calls itself."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["AGENT", "__version__"]

try:
    __version__ = version("wsrpc-anyio")
except PackageNotFoundError:
    # Run from a checkout that was never installed.
    __version__ = "0"

AGENT = f"wsrpc-python/{__version__}"
