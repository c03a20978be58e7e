"""What a server gives to browsers over HTTP: the client `wsrpc.js` and the explorer page."""

from __future__ import annotations

from .pages import Page, Pages

__all__ = ["Page", "Pages"]
