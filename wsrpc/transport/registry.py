"""Transports by name: the libraries that can carry a WebSocket, each loaded when it is wanted."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any, Literal, TypeAlias, TypeVar

from .. import runtime as runtimes
from .base import Bound, Doorkeeper, Handle, Link
from .websockets import accepting, connecting

__all__ = ["Transport", "checked", "listen", "open_link"]

Transport: TypeAlias = Literal["websockets", "picows"]

P = TypeVar("P")

NAMES = ("websockets", "picows")


def checked(transport: str) -> str:
    """Check the name of a transport, and that it can be imported; returns the name.

    Raises:
        ValueError: There is no such transport; the caller's fault.
        ImportError: It is not installed; the message says how to get it.
    """
    if transport not in NAMES:
        known = " or ".join(map(repr, NAMES))
        raise ValueError(f"transport must be {known}, not {transport!r}")
    if transport == "picows":
        try:
            import_module("picows")
        except ImportError as error:
            raise ImportError(
                "transport='picows' needs the package picows, and it cannot be imported "
                f"({error}). It comes with the extra of the distribution, wsrpc-anyio[picows], "
                "or by itself: pip install 'picows>=2.3'"
            ) from error
    return transport


def _need_asyncio(transport: str) -> None:
    if not isinstance(runtimes.current(), runtimes.AsyncioRuntime):
        raise RuntimeError(
            f"transport={transport!r} works on asyncio only, and this event loop is trio's: leave "
            "transport= out, or run the program by anyio.run(main, backend='asyncio')"
        )


def open_link(
    url: str, subprotocol: str, *, transport: str, **options: Any
) -> AbstractAsyncContextManager[Link]:
    """Connect by the transport of this name; see `websockets.connecting`.

    Raises:
        RuntimeError: The transport does not work on this event loop.
    """
    if transport == "websockets":
        return connecting.open_link(url, subprotocol, **options)
    _need_asyncio(transport)
    from .picows.connecting import open_link as open_picows_link

    return open_picows_link(url, subprotocol, **options)


def listen(
    handle: Handle[P], *, transport: str, door: Doorkeeper[P], **options: Any
) -> AbstractAsyncContextManager[Bound]:
    """Accept by the transport of this name; see `websockets.accepting`.

    Raises:
        RuntimeError: The transport does not work on this event loop.
    """
    if transport == "websockets":
        return accepting.listen(handle, door=door, **options)
    _need_asyncio(transport)
    from .picows.accepting import listen as listen_by_picows

    return listen_by_picows(handle, door=door, **options)
