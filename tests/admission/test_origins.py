"""Which web pages may connect, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.admission.origins import Origins


@pytest.mark.rule("ORIGIN-1")
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "app.example"),
        (None, None),
        ("https://app.example", "app.example"),
        ("http://app.example", "app.example"),
        # A proxy that ends TLS hands on a host that says nothing of it.
        ("https://app.example:443", "app.example"),
        ("https://app.example", "app.example:443"),
        ("http://app.example", "app.example:80"),
        ("http://APP.example:8765", "app.EXAMPLE:8765"),
        ("http://127.0.0.1:8765", "127.0.0.1:8765"),
        ("http://[::1]:8765", "[::1]:8765"),
    ],
)
def test_a_page_of_the_host_that_is_asked_may_connect_and_a_program_may(
    origin: str | None, host: str | None
) -> None:
    assert Origins().allow(origin, host)


@pytest.mark.rule("ORIGIN-1")
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "app.example"),
        ("https://app.example.evil.example", "app.example"),
        ("https://app.example", "sub.app.example"),
        ("https://app.example:8443", "app.example"),
        ("https://app.example", "app.example:8443"),
        ("https://app.example", "app.example:80"),
        ("http://app.example:8765", "app.example:8766"),
        ("null", "app.example"),
        ("null", "null"),
        ("", "app.example"),
        ("app.example", "app.example"),
        ("//app.example", "app.example"),
        ("https://", ""),
        ("https://app.example", None),
        ("https://app.example", ""),
        ("https://app.example/", "app.example"),
        ("https://app.example/path", "app.example"),
        ("https://app.example?q", "app.example"),
        ("https://app.example@evil.example", "app.example"),
        ("https://evil.example@app.example", "app.example"),
        ("https://app.example", "app.example@evil.example"),
        ("https://app.example:x", "app.example"),
        ("https://app.example:99999999", "app.example"),
        ("https://app.example, https://app.example", "app.example"),
        ("https://app.example https://evil.example", "app.example"),
        ("chrome-extension://app.example", "app.example"),
        ("file://", "app.example"),
        ("https://[::1", "[::1"),
    ],
)
def test_no_other_page_may(origin: str, host: str | None) -> None:
    assert not Origins().allow(origin, host)
    assert Origins("*").allow(origin, host)


@pytest.mark.rule("ORIGIN-1")
def test_a_list_lets_in_more_than_the_own_pages() -> None:
    origins = Origins(["https://App.example", "http://localhost:3000", "chrome-extension://abc"])
    for origin in (
        "https://app.example",
        "https://app.example:443",
        "http://localhost:3000",
        "chrome-extension://abc",
        # The own ones all the same.
        "http://api.example:8765",
    ):
        assert origins.allow(origin, "api.example:8765"), origin
    for origin in ("http://app.example", "http://localhost", "https://evil.example", "null"):
        assert not origins.allow(origin, "api.example:8765"), origin


@pytest.mark.parametrize(
    ("allowed", "error"),
    [
        ("https://app.example", TypeError),
        (["app.example"], ValueError),
        (["https://app.example/path"], ValueError),
        (["*"], ValueError),
        ([None], ValueError),
        ([7], ValueError),
    ],
)
def test_what_is_no_list_of_origins_is_refused_with_what_to_write(
    allowed: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="write"):
        Origins(allowed)
