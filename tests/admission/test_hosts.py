"""Which hosts web pages may have asked for."""

from __future__ import annotations

import logging

import pytest

from wsrpc.admission.hosts import Hosts, is_loopback

PAGE = "http://evil.test:9100"


@pytest.mark.rule("HOST-1")
@pytest.mark.parametrize(
    ("host", "forbidden"),
    [
        ("localhost:9100", False),
        ("LOCALHOST", False),
        ("app.localhost:9100", False),
        ("127.0.0.1:9100", False),
        ("127.8.8.8", False),
        ("[::1]:9100", False),
        ("192.168.1.9:9100", False),
        ("localhost.", False),
        ("evil.test:9100", True),
        ("localhost.evil.test", True),
        ("evillocalhost", True),
        ("127.0.0.1.evil.test", True),
        ("", True),
        ("a b", True),
        ("localhost, evil.test", True),
        ("localhost@evil.test", True),
    ],
)
def test_on_loopback_a_page_must_ask_for_a_name_of_this_machine(host: str, forbidden: bool) -> None:
    hosts = Hosts()
    headers = {"origin": PAGE, "host": host}
    assert hosts.forbid(headers, "127.0.0.1", page=False) == forbidden
    assert hosts.forbid({"host": host}, "::1", page=True) == forbidden


@pytest.mark.rule("HOST-1")
def test_elsewhere_behind_proxies_and_without_an_origin_nothing_is_judged() -> None:
    hosts = Hosts()
    asked = {"origin": PAGE, "host": "evil.test"}
    assert not hosts.forbid(asked, "10.0.0.7", page=False)
    assert not hosts.forbid({"host": "evil.test"}, "127.0.0.1", page=False)
    assert not hosts.forbid(asked, "", page=False)
    for header in ("forwarded", "x-forwarded-for", "x-forwarded-host", "via"):
        assert not hosts.forbid({**asked, header: "x"}, "127.0.0.1", page=False)


@pytest.mark.rule("HOST-1")
@pytest.mark.parametrize(
    ("host", "forbidden"),
    [
        ("app.example", False),
        ("APP.example:443", False),
        ("a.wide.example", False),
        ("a.b.wide.example", False),
        ("wide.example", True),
        ("evilwide.example", True),
        ("app.example.evil.test", True),
        ("localhost:8000", False),
        ("10.0.0.7", False),
    ],
)
def test_names_that_are_given_hold_on_every_address(host: str, forbidden: bool) -> None:
    hosts = Hosts(["app.example", "*.wide.example"])
    for headers in ({"host": host}, {"host": host, "via": "x", "origin": PAGE}):
        for local in ("10.0.0.7", "127.0.0.1", ""):
            assert hosts.forbid(headers, local, page=False) == forbidden


def test_one_warning_names_the_option(caplog: pytest.LogCaptureFixture) -> None:
    hosts = Hosts()
    with caplog.at_level(logging.WARNING, "wsrpc"):
        for _ in range(3):
            assert hosts.forbid({"host": "evil.test\n"}, "127.0.0.1", page=True)
    (record,) = caplog.records
    assert "hosts=" in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("name", ["http://app.example", "app.example:80", "*", "a b", ""])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no host"):
        Hosts([name])
    with pytest.raises(TypeError, match="list"):
        Hosts("app.example")


def test_loopback_is_this_machine_only() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost"]))
    assert not any(map(is_loopback, ["", "10.0.0.1", "::", "0.0.0.0", "example"]))
