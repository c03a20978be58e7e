"""The answers to plain HTTP requests over any carrier: static files only.

The page shows only data that any peer may ask for over the socket, so it needs no protection of its
own. Every file lies in the package; no path of a request ever becomes a path of the file system.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from .slim import join, parts, shorten, slim, slim_css

__all__ = ["CLIENT_FILES", "Page", "Pages", "asks_for_websocket"]

# The files that other pages and other runtimes may import; served with or without the explorer.
CLIENT_FILES = frozenset({"wsrpc.js", "wsrpc-msgpack.js", "wsrpc.d.ts"})

INDEX = "index.html"

# The explorer's script; the modules that it stands on travel in it, since one text of all compresses
# better than each by itself. Modules that it loads on demand travel alone.
EXPLORER = "explorer.js"
OF_EXPLORER = "explorer-"

STATIC = files(__name__.rpartition(".")[0]).joinpath("static")

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".d.ts": "application/typescript; charset=utf-8",
}

# With Trusted Types a page that uses `innerHTML` or the like stops working at once.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

EVERYWHERE = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)

OF_THE_PAGE = (
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)

# Bytes from which a body is worth compressing.
WORTH_GZIP = 512


@dataclass(frozen=True, slots=True)
class Page:
    """An answer over HTTP.

    Attributes:
        status: The status code.
        headers: Names and values, in order.
        body: Bytes to send; empty for HEAD and 304.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A file as it travels, with the ETag of exactly these bytes."""

    body: bytes
    etag: str


class Pages:
    """The pages of one server.

    Args:
        explorer: Whether the explorer is served; the client's files always are.
        welcomes: Tells by a request's headers, names in lower case, whether its page may connect.
            Such a page may import the client too.
    """

    def __init__(
        self, explorer: bool, welcomes: Callable[[Mapping[str, str]], bool] | None = None
    ) -> None:
        self._explorer = explorer
        self._welcomes = welcomes

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], *, mount: str = "/"
    ) -> Page | None:
        """The answer to a request; None for one that asks for a WebSocket.

        The last segment of the path names the file, so a proxy may put any prefix in front.

        Args:
            method: The request's method, such as "GET".
            path: The request's path, with its query.
            headers: The request's headers, names in lower case.
            mount: The path at which the page is; a proxy may name its prefix in
                `X-Forwarded-Prefix`.
        """
        if asks_for_websocket(headers):
            return None
        if method not in ("GET", "HEAD"):
            return _plain(405, "Only GET and HEAD are answered here.", ("Allow", "GET, HEAD"))
        found = self._find(path.partition("?")[0], headers, mount)
        page = found if isinstance(found, Page) else self._file(found, headers)
        if method == "HEAD":
            return Page(page.status, page.headers)
        return page

    def _find(self, path: str, headers: Mapping[str, str], mount: str) -> str | Page:
        """The name of a file, or the answer that there is none."""
        name = path.rpartition("/")[2]
        if headers.get("service-worker", "").strip().lower() == "script":
            # No file may act as a service worker between a page and the network.
            return _plain(404, "Nothing here is a service worker.")
        if not name and path in _mounts(mount, headers):
            name = INDEX
            if not self._explorer:
                # This address serves a WebSocket.
                return _plain(
                    426,
                    "This is a wsrpc server. Connect with a WebSocket; there is no page here.",
                    ("Upgrade", "websocket"),
                )
        elif name == INDEX:
            name = ""
        known = name in CLIENT_FILES or (self._explorer and name in _explorer_files())
        if not known or _file(name) is None:
            return _plain(404, "There is no such page here.")
        return name

    def _file(self, name: str, headers: Mapping[str, str]) -> Page:
        body = _file(name)
        assert body is not None
        zipped = len(body) >= WORTH_GZIP and _takes_gzip(headers.get("accept-encoding", ""))
        encoded = _gzipped(name) if zipped else _as_it_is(name)
        told = [
            ("Content-Type", _type_of(name)),
            ("ETag", encoded.etag),
            ("Cache-Control", "no-cache"),
            *EVERYWHERE,
        ]
        vary = "Accept-Encoding"
        if name in CLIENT_FILES:
            vary = "Accept-Encoding, Origin"
            told += self._sharing(headers)
            if name == "wsrpc.js" and _file("wsrpc.d.ts") is not None:
                # Deno reads it.
                told.append(("X-TypeScript-Types", "./wsrpc.d.ts"))
        else:
            told += OF_THE_PAGE
        told.append(("Vary", vary))
        if _has(headers.get("if-none-match", ""), encoded.etag):
            return Page(304, tuple(one for one in told if one[0] != "Content-Type"))
        if zipped:
            told.append(("Content-Encoding", "gzip"))
        told.append(("Content-Length", str(len(encoded.body))))
        return Page(200, tuple(told), encoded.body)

    def _sharing(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """The headers that let other pages import the client, if they may connect."""
        origin = headers.get("origin")
        if origin is not None and self._welcomes is not None and self._welcomes(headers):
            return [
                ("Access-Control-Allow-Origin", origin),
                ("Cross-Origin-Resource-Policy", "cross-origin"),
            ]
        return [("Cross-Origin-Resource-Policy", "same-origin")]


def asks_for_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request means to open a WebSocket, well or badly; names in lower case."""
    return "websocket" in _tokens(headers.get("upgrade", "")) or "sec-websocket-key" in headers


def _mounts(mount: str, headers: Mapping[str, str]) -> set[str]:
    """The paths of the page itself."""
    prefix = headers.get("x-forwarded-prefix", "").strip().strip("/")
    return {"/", f"{mount.rstrip('/')}/", f"/{prefix}/" if prefix else "/"}


def _plain(status: int, text: str, *more: tuple[str, str]) -> Page:
    body = f"{text}\n".encode()
    told = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *EVERYWHERE,
        *more,
    )
    return Page(status, told, body)


def _type_of(name: str) -> str:
    return next(kind for ending, kind in TYPES.items() if name.endswith(ending))


def _tokens(header: str) -> Iterable[str]:
    return [part.strip().lower() for part in header.split(",")]


def _takes_gzip(header: str) -> bool:
    """Whether an `Accept-Encoding` allows gzip, its weights included (RFC 9110, 12.5.3)."""
    weights: dict[str, bool] = {}
    for part in _tokens(header):
        name, _, parameters = part.partition(";")
        weight = parameters.replace(" ", "").partition("q=")[2]
        weights[name.strip()] = not (weight and weight.strip("0") in ("", "."))
    for name in ("gzip", "x-gzip", "*"):
        if name in weights:
            return weights[name]
    return False


def _has(header: str, etag: str) -> bool:
    """Whether `If-None-Match` names an ETag, by the weak comparison (RFC 9110, 13.1.2)."""
    names = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag in names or names == ["*"]


# -------------------------------------------------------------------------------- the files


@cache
def _explorer_files() -> frozenset[str]:
    names = {one.name for one in STATIC.iterdir() if one.name.startswith("explorer")}
    joined = set(parts(EXPLORER, _text, OF_EXPLORER)) - {EXPLORER}
    return frozenset({INDEX, *names} - joined)


def _text(name: str) -> str:
    return STATIC.joinpath(name).read_text("utf-8")


@cache
def _file(name: str) -> bytes | None:
    """A file's bytes as it is served, read once; only names of the lists above get here."""
    try:
        text = _text(name)
    except FileNotFoundError:
        return None
    # Scripts are written to be read, and travel without their comments.
    if name == EXPLORER:
        text = shorten(join(name, _text, OF_EXPLORER))
    if name.endswith(".js"):
        text = slim(text)
    elif name.endswith(".css"):
        text = slim_css(text)
    return text.encode()


@cache
def _as_it_is(name: str) -> _Encoded:
    return _encoded(_file(name) or b"")


@cache
def _gzipped(name: str) -> _Encoded:
    return _encoded(gzip.compress(_file(name) or b"", 9, mtime=0))


def _encoded(body: bytes) -> _Encoded:
    return _Encoded(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
