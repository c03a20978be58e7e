"""What is served over HTTP, as pure code: routes, headers, encodings."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import pytest

from wsrpc.web import Page, Pages


def ask(path: str = "/", method: str = "GET", *, explorer: bool = True, **headers: str) -> Page:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    page = Pages(explorer).answer(method, path, named)
    assert page is not None
    return page


def headers_of(page: Page) -> Mapping[str, str]:
    assert len({name for name, _ in page.headers}) == len(page.headers)
    return dict(page.headers)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/?theme=dark", "text/html"),
        ("/wsrpc.js", "text/javascript"),
        ("/behind/a/proxy/wsrpc.js?v=1", "text/javascript"),
    ],
)
def test_the_last_segment_of_the_path_names_the_file(path: str, kind: str) -> None:
    page = ask(path)
    assert page.status == 200
    headers = headers_of(page)
    assert headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert headers["Content-Length"] == str(len(page.body))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/index.html",
        "/elsewhere/",
        "/static/",
        "/pages.py",
        "/../pages.py",
        "/..",
        "/%2e%2e/pages.py",
        "/explorer-nothing.js",
        "/WSRPC.JS",
        "/wsrpc.js/",
        "/wsrpc.js\0",
    ],
)
def test_any_other_path_is_not_found(path: str) -> None:
    page = ask(path)
    assert page.status == 404
    assert page.body.count(b"\n") == 1
    assert headers_of(page)["Content-Type"].startswith("text/plain")


def test_the_page_is_at_the_path_where_the_application_is_mounted() -> None:
    pages = Pages(True)
    mounted = pages.answer("GET", "/rpc/", {}, mount="/rpc")
    assert mounted is not None
    assert mounted.status == 200
    behind_a_proxy = pages.answer("GET", "/tools/", {"x-forwarded-prefix": "/tools"})
    assert behind_a_proxy is not None
    assert behind_a_proxy.status == 200


def test_a_request_for_a_websocket_is_left_to_the_transport() -> None:
    assert Pages(True).answer("GET", "/", {"upgrade": "websocket"}) is None
    assert Pages(False).answer("GET", "/x", {"upgrade": "WebSocket"}) is None


def test_without_the_explorer_there_is_only_the_client() -> None:
    page = ask(explorer=False)
    assert page.status == 426
    assert headers_of(page)["Upgrade"] == "websocket"
    assert ask("/explorer.js", explorer=False).status == 404
    assert ask("/wsrpc.js", explorer=False).status == 200


def test_head_answers_as_get_does_without_a_body() -> None:
    for path in ("/", "/wsrpc.js", "/nothing"):
        head, get = ask(path, "HEAD"), ask(path)
        assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_other_methods_are_refused_with_those_that_are_allowed(method: str) -> None:
    page = ask("/", method)
    assert page.status == 405
    assert headers_of(page)["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [
        ("gzip, deflate, br", True),
        ("GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("gzip; q=0.0", False),
        ("identity", False),
        ("br", False),
        ("", False),
    ],
)
def test_gzip_where_it_is_accepted(accepted: str, zipped: bool) -> None:
    page = ask("/wsrpc.js", accept_encoding=accepted)
    headers = headers_of(page)
    assert ("Content-Encoding" in headers) == zipped
    assert "Accept-Encoding" in headers["Vary"]
    plain = ask("/wsrpc.js")
    assert (gzip.decompress(page.body) if zipped else page.body) == plain.body
    assert (headers["ETag"] == headers_of(plain)["ETag"]) == (not zipped)


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', "*"])
def test_what_a_browser_has_already_is_not_sent_again(known: str) -> None:
    for encoding in ("", "gzip"):
        etag = headers_of(ask("/wsrpc.js", accept_encoding=encoding))["ETag"]
        page = ask("/wsrpc.js", accept_encoding=encoding, if_none_match=known.format(etag))
        headers = headers_of(page)
        assert (page.status, page.body) == (304, b"")
        assert headers["ETag"] == etag
        assert "Content-Length" not in headers
    assert ask("/wsrpc.js", if_none_match='"other"').status == 200


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_text() -> None:
    for path in ("/", "/explorer.js", "/explorer.css"):
        headers = headers_of(ask(path))
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_pages_that_may_connect_may_import_the_client() -> None:
    pages = Pages(True, lambda headers: headers["origin"] == "https://app.example")
    welcome = pages.answer("GET", "/wsrpc.js", {"origin": "https://app.example"})
    assert welcome is not None
    headers = headers_of(welcome)
    assert headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Origin" in headers["Vary"].split(", ")
    stranger = pages.answer("GET", "/wsrpc.js", {"origin": "https://evil.example"})
    assert stranger is not None
    headers = headers_of(stranger)
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Origin" in headers["Vary"].split(", ")
    page = pages.answer("GET", "/", {"origin": "https://app.example"})
    assert page is not None
    assert "Access-Control-Allow-Origin" not in headers_of(page)


def test_no_file_is_a_service_worker() -> None:
    assert ask("/wsrpc.js", service_worker="script").status == 404
