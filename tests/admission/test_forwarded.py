"""Where a connection comes from, as trusted proxies say, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.admission.forwarded import Proxies, bucket_of

TRUSTED = Proxies(["10.0.0.0/8", "::1", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        # Nobody else is believed.
        ("203.0.113.5", {"x-forwarded-for": "1.2.3.4"}, "203.0.113.5"),
        ("203.0.113.5", {"forwarded": "for=1.2.3.4"}, "203.0.113.5"),
        ("", {"x-forwarded-for": "1.2.3.4"}, ""),
        # One proxy, with and without its word.
        ("10.0.0.1", {}, "10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "1.2.3.4"}, "1.2.3.4"),
        ("::1", {"x-forwarded-for": "2001:DB8::1"}, "2001:db8::1"),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "1.2.3.4"}, "1.2.3.4"),
        ("10.0.0.1", {"x-forwarded-for": "::ffff:1.2.3.4"}, "1.2.3.4"),
        ("10.0.0.1", {"x-forwarded-for": "1.2.3.4:5678"}, "1.2.3.4"),
        ("10.0.0.1", {"x-forwarded-for": "[2001:db8::1]:5678"}, "2001:db8::1"),
        # What the client itself wrote stands to the left of what the proxy saw.
        ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, 1.2.3.4"}, "1.2.3.4"),
        ("10.0.0.1", {"x-forwarded-for": "10.0.0.9, 1.2.3.4"}, "1.2.3.4"),
        # Two proxies in a row.
        ("10.0.0.1", {"x-forwarded-for": "1.2.3.4, 10.0.0.2"}, "1.2.3.4"),
        ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, 1.2.3.4, 192.0.2.7"}, "1.2.3.4"),
        # All that is there is trusted.
        ("10.0.0.1", {"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
        # What is no address ends the search.
        ("10.0.0.1", {"x-forwarded-for": "unknown"}, "10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "1.2.3.4, unknown, 10.0.0.2"}, "10.0.0.2"),
        ("10.0.0.1", {"x-forwarded-for": ""}, "10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "," * 1000}, "10.0.0.1"),
        # RFC 7239.
        ("10.0.0.1", {"forwarded": "for=1.2.3.4"}, "1.2.3.4"),
        (
            "10.0.0.1",
            {"forwarded": 'For="[2001:db8::1]:47";proto=https;by=10.0.0.1'},
            "2001:db8::1",
        ),
        ("10.0.0.1", {"forwarded": "for=6.6.6.6, for=1.2.3.4;host=a, for=10.0.0.2"}, "1.2.3.4"),
        ("10.0.0.1", {"forwarded": "for=_hidden"}, "10.0.0.1"),
        ("10.0.0.1", {"forwarded": "by=10.0.0.1"}, "10.0.0.1"),
        # Both, which have to agree: the proxy writes one of them, and a client may write the other.
        ("10.0.0.1", {"forwarded": "for=1.2.3.4", "x-forwarded-for": "1.2.3.4"}, "1.2.3.4"),
        ("10.0.0.1", {"forwarded": "for=6.6.6.6", "x-forwarded-for": "1.2.3.4"}, "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_trusted_proxy(
    peer: str, headers: dict[str, str], client: str
) -> None:
    assert TRUSTED.client_of(peer, headers) == client


def test_without_trusted_proxies_headers_say_nothing() -> None:
    nobody = Proxies()
    for peer in ("", "127.0.0.1", "::1"):
        assert nobody.client_of(peer, {"x-forwarded-for": "1.2.3.4"}) == peer
    assert nobody.host_of({"host": "a", "x-forwarded-host": "b"}) == "a"


def test_a_proxy_on_a_unix_socket_can_be_trusted() -> None:
    unix = Proxies(["unix"])
    assert unix.client_of("", {"x-forwarded-for": "1.2.3.4"}) == "1.2.3.4"
    assert unix.client_of("127.0.0.1", {"x-forwarded-for": "1.2.3.4"}) == "127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ({"host": "backend:8765"}, "backend:8765"),
        ({"host": "backend:8765", "x-forwarded-host": "app.example"}, "app.example"),
        ({"host": "backend", "x-forwarded-host": "app.example, inner"}, "app.example"),
        ({"host": "backend", "forwarded": 'for=1.2.3.4;host="app.example:81"'}, "app.example:81"),
        ({"host": "backend", "forwarded": "for=1.2.3.4"}, "backend"),
        ({}, None),
    ],
)
def test_the_host_is_the_one_that_the_first_proxy_was_asked_for(
    headers: dict[str, str], host: str | None
) -> None:
    assert TRUSTED.host_of(headers) == host


def test_a_network_of_64_bits_counts_as_one_address() -> None:
    assert bucket_of("2001:db8:1:2:3::4") == bucket_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert bucket_of("2001:db8:1:3::9") != bucket_of("2001:db8:1:2::9")
    assert bucket_of("fe80::1%eth0") == "fe80::/64"
    assert bucket_of("::ffff:1.2.3.4") == bucket_of("1.2.3.4") == "1.2.3.4"
    assert bucket_of("memory") == "memory"
    assert bucket_of("") == ""


@pytest.mark.parametrize(
    ("trusted", "error"),
    [("10.0.0.1", TypeError), (["proxy.example"], ValueError), (["10.0.0.0/99"], ValueError)],
)
def test_what_is_no_network_is_refused(trusted: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Proxies(trusted)
