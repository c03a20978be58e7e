"""The answers of a server over plain HTTP, by any carrier: health, pages, refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..admission.hosts import Hosts, is_loopback, through_proxy
from ..transport.base import HttpAnswer
from ..transport.request_bodies import body_of
from ..web import Page, Pages, asks_for_websocket

__all__ = ["HttpRoutes", "is_health"]

TEXT = ("Content-Type", "text/plain; charset=utf-8")
FRESH = ("Cache-Control", "no-store")

HEALTH = frozenset({"healthz", "readyz"})

# Seconds after which a refused client may come again.
RETRY_AFTER = 1

STOPPING = HttpAnswer(
    503,
    (TEXT, FRESH, ("Retry-After", str(RETRY_AFTER))),
    b"The server is about to stop.\n",
)
WRONG_HOST = HttpAnswer(
    421,
    (TEXT, FRESH),
    b"This server does not know itself by this host. If it should, name it: Server(hosts=[...]).\n",
)

UNCLEAR_BODY = HttpAnswer(
    400,
    (TEXT, FRESH),
    b"Where the body of this request ends is not clear from its headers.\n",
)
BODY_OF_HANDSHAKE = HttpAnswer(
    400,
    (TEXT, FRESH),
    b"A request for a WebSocket has no body.\n",
)

# A function that answers at one more path: it gets the request's headers.
Route = Callable[[Mapping[str, str]], HttpAnswer]


class HttpRoutes:
    """The routes of one server.

    Args:
        explorer: Whether the explorer is served; None: only to browsers on this very machine.
        health: Whether `/healthz` and `/readyz` are answered.
        hosts: The rule for hosts that web pages may ask for.
        welcomes: Tells by a request's headers whether its page may connect.
    """

    def __init__(
        self,
        *,
        explorer: bool | None,
        health: bool,
        hosts: Hosts,
        welcomes: Callable[[Mapping[str, str]], bool],
    ) -> None:
        self._explorer = explorer
        self._health = health
        self._hosts = hosts
        self._with_explorer = Pages(True, welcomes)
        self._without = Pages(False, welcomes)
        self._more: dict[str, Route] = {}
        self._to_the_end: set[str] = set()

    def add(self, name: str, route: Route, *, while_draining: bool = False) -> None:
        """Answer GET and HEAD at `/name` as well.

        Args:
            name: The last part of the path.
            route: Gives the answer.
            while_draining: Whether it is answered during a drain, too.
        """
        self._more[name] = route
        if while_draining:
            self._to_the_end.add(name)

    def answer(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        local: str,
        peer: str,
        draining: bool = False,
        mount: str = "/",
    ) -> HttpAnswer | None:
        """The answer to a request over HTTP; None where a WebSocket may open.

        A body of the request is not looked at: no answer depends on it.

        Args:
            method: The request's method.
            path: Its path, with the query.
            headers: Its headers, names in lower case.
            local: The address that the connection reached, without a port; "" where there is none.
            peer: The address from which it comes, without a port; "" where there is none.
            draining: Whether the server drains.
            mount: The path at which the server is mounted in another application.
        """
        websocket = asks_for_websocket(headers)
        body = body_of(headers)
        if body == "unclear":
            return _for(method, UNCLEAR_BODY)
        if websocket and body == "some":
            return _for(method, BODY_OF_HANDSHAKE)
        if not websocket:
            if self._health and is_health(path):
                return _only_reading(method, lambda: _health(path, draining))
            name = _name_of(path)
            if name in self._more and (not draining or name in self._to_the_end):
                if self._hosts.forbid(headers, local, page=True):
                    return WRONG_HOST
                return _only_reading(method, lambda: self._more[name](headers))
        if draining:
            return _for(method, STOPPING)
        if self._hosts.forbid(headers, local, page=not websocket):
            return _for(method, WRONG_HOST)
        if websocket:
            return None
        explorer = self._explorer
        if explorer is None:
            explorer = is_loopback(local) and is_loopback(peer) and not through_proxy(headers)
        pages = self._with_explorer if explorer else self._without
        page = pages.answer(method, path, headers, mount=mount)
        return None if page is None else _as_answer(page)


def is_health(path: str) -> bool:
    """Whether a path is `/healthz` or `/readyz`."""
    return _name_of(path) in HEALTH


def _name_of(path: str) -> str:
    return path.partition("?")[0].rpartition("/")[2]


def _health(path: str, draining: bool) -> HttpAnswer:
    ready = not draining or _name_of(path) == "healthz"
    return HttpAnswer(200 if ready else 503, (TEXT, FRESH), b"ok" if ready else b"draining")


def _only_reading(method: str, answer: Callable[[], HttpAnswer]) -> HttpAnswer:
    if method not in ("GET", "HEAD"):
        return HttpAnswer(405, (TEXT, FRESH, ("Allow", "GET, HEAD")))
    return _for(method, answer())


def _for(method: str, answer: HttpAnswer) -> HttpAnswer:
    """The answer, without its body where the method asks for none."""
    if method != "HEAD":
        return answer
    length = ("Content-Length", str(len(answer.body)))
    return HttpAnswer(answer.status, (*answer.headers, length))


def _as_answer(page: Page) -> HttpAnswer:
    return HttpAnswer(page.status, page.headers, page.body)
