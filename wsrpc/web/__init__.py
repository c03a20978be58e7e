"""The files that a server gives to browsers over HTTP: the client `wsrpc.js` and the explorer page."""

from __future__ import annotations

from .pages import Page, Pages, asks_for_websocket

__all__ = ["Page", "Pages", "asks_for_websocket"]
