"""Options that several entry points take are checked in one place, in the same words."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest

import wsrpc
from wsrpc.cluster import Cluster
from wsrpc.testing import connected_pair


class Hello:
    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"


class Async(wsrpc.Observer):
    async def call_ended(  # type: ignore[override]
        self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd
    ) -> None: ...


def connecting(**options: Any) -> object:
    return wsrpc.connect("ws://127.0.0.1:1", **options)


def serving(**options: Any) -> object:
    return wsrpc.Server([Hello()], **options)


def pairing(**options: Any) -> object:
    return connected_pair([Hello()], **options)


def clustering(**options: Any) -> object:
    return Cluster(wsrpc.Server([Hello()]), **options)


def listening(**options: Any) -> object:
    return wsrpc.Server([Hello()]).listen(**options)


def running(**options: Any) -> object:
    return anyio.run(partial(wsrpc.Server([Hello()]).serve, **options))


def declaring(**options: Any) -> object:
    return wsrpc.method(**options)


TYPOS: list[tuple[Callable[..., object], str, Any, str]] = [
    (connecting, "validate", "typo", "'both', 'arrival' or 'none'"),
    (serving, "validate", "typo", "'both', 'arrival' or 'none'"),
    (connecting, "validate", None, "'both', 'arrival' or 'none'"),
    (serving, "validate", True, "'both', 'arrival' or 'none'"),
    (connecting, "validate", "boht", "did you mean 'both'?"),
    (connecting, "codec", "jsn", "did you mean 'json'?"),
    (pairing, "codec", "yaml", "'json' or 'msgpack'"),
    (connecting, "transport", "tcp", "'websockets' or 'picows'"),
    (connecting, "limits", {"window": 1}, "a wsrpc.Limits"),
    (serving, "limits", {"window": 1}, "a wsrpc.Limits"),
    (pairing, "limits", {"window": 1}, "a wsrpc.Limits"),
    (connecting, "interceptors", print, "a list of functions"),
    (serving, "interceptors", print, "a list of functions"),
    (serving, "interceptors", ["log"], "must be a function"),
    (connecting, "observers", Async(), "a list of wsrpc.Observer objects"),
    (serving, "observers", Async(), "a list of wsrpc.Observer objects"),
    (connecting, "observers", [Async()], "Async.call_ended of observers is async"),
    (serving, "observers", [Async()], "write `def call_ended`"),
    (serving, "observers", [Async], "write Async(), not the class"),
    (serving, "observers", [object()], "must be a wsrpc.Observer, not object"),
    (connecting, "observers", [print], "must be a wsrpc.Observer, not"),
    (connecting, "on_state", "print", "must be a function"),
    (serving, "on_state", "print", "must be a function"),
    (connecting, "on_state", anyio.sleep, "it is async, and nobody would await it"),
    (serving, "on_state", anyio.sleep, "it is async, and nobody would await it"),
    (clustering, "on_event", anyio.sleep, "it is async, and nobody would await it"),
    (serving, "authenticate", "token", "must be a function"),
    (serving, "authenticate", lambda auth: auth, "authenticate(handshake, auth)"),
    (serving, "on_connect", lambda: None, "on_connect(session), which does not fit: too many"),
    (serving, "interceptors", [lambda request: None], "(request, call_next), which does not fit"),
    (serving, "visible", lambda name, *, who: True, "visible(principal, method)"),
    (connecting, "on_state", lambda change: None, "on_state(session, change)"),
    (clustering, "on_event", lambda: None, "on_event(event)"),
    (serving, "authorize", {"admin"}, "must be a function"),
    (connecting, "authorize", {"admin"}, "must be a function"),
    (connecting, "debug", "0", "must be True or False"),
    (serving, "debug", "0", "must be True or False"),
    (connecting, "reflection", None, "must be True or False"),
    (serving, "reflection", 1, "must be True or False"),
    (serving, "health", "no", "must be True or False"),
    (serving, "explorer", "no", "must be True or False"),
    (serving, "metrics", "prometheus", "True, False or a prometheus_client.CollectorRegistry"),
    (serving, "hosts", 5, "must be a list"),
    (serving, "hosts", [5], "each of hosts must be a text"),
    (serving, "origins", 5, "must be a list, '*' or None"),
    (serving, "trusted_proxies", 5, "must be a list"),
    (serving, "trusted_proxies", [5], "each of trusted_proxies must be a text"),
    (
        serving,
        "trusted_proxies",
        ["proxy"],
        "an address, a network such as '10.0.0.0/8', or 'unix'",
    ),
    (connecting, "ssl", True, "an ssl.SSLContext"),
    (listening, "ssl", "cert.pem", "an ssl.SSLContext"),
    (running, "ssl", "cert.pem", "an ssl.SSLContext"),
    (connecting, "proxy", None, "True, False or the URL of a proxy"),
    (connecting, "proxy", "x", "True, False or the URL of a proxy"),
    (connecting, "record", "", "a path or a wsrpc.Recording"),
    (listening, "port", "8000", "a number from 0 to 65535"),
    (listening, "port", 8000.0, "a number from 0 to 65535"),
    (listening, "port", None, "a number from 0 to 65535"),
    (listening, "port", 65536, "a number from 0 to 65535"),
    (running, "port", "8000", "a number from 0 to 65535"),
    (listening, "host", 5, "a text, or None for every interface"),
    (listening, "host", ["a", "b"], "a text, or None for every interface"),
    (listening, "path", 5, "the path of a Unix socket"),
    (running, "path", "", "the path of a Unix socket"),
    (clustering, "limits", wsrpc.Limits(), "a wsrpc.cluster.ClusterLimits"),
    (clustering, "operators", True, "must be a function"),
    (clustering, "name", 5, "1 to 32 of a-z, 0-9, - and _"),
    (clustering, "bus", 5, "a URL of NATS"),
    (clustering, "bus", object, "a URL of NATS"),
    (clustering, "bus", [5], "no address of NATS"),
    (clustering, "bus", "nats://a:b", "no address of NATS"),
    (clustering, "bus", "nats://a b", "no address of NATS"),
    (declaring, "oneway", "yes", "must be True or False"),
    (declaring, "idempotent", 1, "must be True or False"),
    (declaring, "deprecated", 7, "must be True or False"),
]


@pytest.mark.parametrize(("enter", "option", "value", "words"), TYPOS)
def test_validate_typo_is_refused_by_connect_as_by_server_and_clientize(
    enter: Callable[..., object], option: str, value: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=option if option != "bus" else "NATS") as caught:
        enter(**{option: value})
    assert words in str(caught.value)


@pytest.mark.parametrize("url", [5, None, b"ws://a", ["ws://a", 5]])
def test_connect_refuses_what_is_no_url_before_it_connects(url: Any) -> None:
    with pytest.raises(TypeError, match="connect\\(\\) needs a URL or a list of them"):
        wsrpc.connect(url)
    with pytest.raises(ValueError, match="empty list"):
        wsrpc.connect([])


@pytest.mark.parametrize("option", ["origins", "hosts", "trusted_proxies"])
def test_one_text_is_no_list_of_texts(option: str) -> None:
    with pytest.raises(TypeError, match=rf"{option} is a list.*write \['a.example'\]"):
        serving(**{option: "a.example"})


@pytest.mark.parametrize("metadata", [5, "x", [("a", "b")], {"a": 1}])
async def test_metadata_that_is_no_map_of_strings_is_refused_everywhere(metadata: Any) -> None:
    with pytest.raises(TypeError, match="metadata is a map of strings"):
        connecting(metadata=metadata)
    async with connected_pair([Hello()]) as (_, client):
        with pytest.raises(TypeError, match="metadata is a map of strings"):
            client.clientize(Hello, metadata=metadata)
        with pytest.raises(ValueError, match="name of a controller"):
            client.clientize("")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("validate", "typo", "'both', 'arrival' or 'none'"),
        ("overflow", "wait", "'block', 'latest', 'drop_oldest' or 'fail'"),
        ("overflow", "drop_oldst", "did you mean 'drop_oldest'?"),
        ("overflow", None, "'block'"),
        ("window", 0, "at least 1 item"),
        ("window", 1.5, "at least 1 item"),
        ("window", True, "at least 1 item"),
        ("timeout", "5", "a number of seconds"),
        ("timeout", math.nan, "a finite number"),
        ("timeout", math.inf, "None for no bound"),
        ("idle_timeout", "x", "a number of seconds"),
        ("stream_fetcher", "tail", "must be a function"),
        ("interceptors", print, "a list of functions"),
    ],
)
async def test_clientize_refuses_an_option_that_has_none_of_its_values(
    option: str, value: Any, words: str
) -> None:
    async with connected_pair([Hello()]) as (_, client):
        with pytest.raises(ValueError, match=option) as caught:
            client.clientize(Hello, **{option: value})
        assert words in str(caught.value)


@pytest.mark.parametrize("option", ["on_disconnect", "on_drain"])
def test_the_decorator_refuses_a_typo_too(option: str) -> None:
    with pytest.raises((ValueError, TypeError), match=option):
        wsrpc.method(**{option: "typo"})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("bound", "value", "words"),
    [
        ("max_calls", 256.5, "must be a whole number, not 256.5"),
        ("max_batch", math.inf, "must be a whole number, not inf"),
        ("window", 32.0, "must be a whole number, not 32.0"),
        ("max_links", 10.5, "must be a whole number, not 10.5"),
        ("max_value", 2**53, "must be at most 9007199254740991"),
        ("resume_window", math.inf, "must be at most 9007199254740, not inf"),
        ("heartbeat_timeout", 1e300, "must be at most 9007199254740, not 1e+300"),
        ("drain_grace", math.inf, "must be at most 9007199254740, not inf"),
        ("stall_timeout", math.nan, "must be at least 0, not nan"),
    ],
)
def test_a_bound_that_no_peer_could_be_told_is_refused_where_it_is_written(
    bound: str, value: Any, words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"Limits.{bound} {re.escape(words)}"):
        wsrpc.Limits(**{bound: value})


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, "5", True, 1e300])
async def test_a_drain_refuses_what_is_no_time_before_it_begins(seconds: Any) -> None:
    server = wsrpc.Server([Hello()])
    told = "must be a number of seconds, at least 0"
    with anyio.fail_after(10):
        async with server.listen() as listener, wsrpc.connect(listener.url) as session:
            with pytest.raises(ValueError, match=f"grace {told}"):
                await server.drain(seconds)
            with pytest.raises(ValueError, match=f"grace {told}"):
                await server.drained_on_signal(seconds)
            with pytest.raises(ValueError, match=f"reconnect_after {told}"):
                await server.drain(reconnect_after=seconds)
            assert await session.clientize(Hello).greet("Ann") == "Hello, Ann!"


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        *((code, "", "code must be a close code") for code in (99, 1005, 1006, 1015, 2999, 5000)),
        *((code, "", "code must be a close code") for code in (None, True, 4001.5, "1000", 2**70)),
        *((1000, reason, "reason must be a text") for reason in (None, 7, b"bye")),
    ],
)
async def test_a_session_refuses_a_close_code_or_a_reason_that_cannot_be_sent_and_goes_on(
    code: Any, reason: Any, words: str
) -> None:
    with anyio.fail_after(10):
        async with connected_pair([Hello()]) as ends:
            for end in ends:
                with pytest.raises(ValueError, match=words):
                    await end.aclose(code, reason)
            assert await ends[1].clientize(Hello).greet("Ann") == "Hello, Ann!"


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        (math.nan, "NaN and Infinity cannot travel"),
        ("\ud800", "a lone surrogate"),
        (object(), "object is no kind of value"),
        ({"token": {1: 2}}, "The keys of an object are strings"),
        ("x" * 70_000, "at most 64 KiB"),
    ],
)
async def test_credentials_that_cannot_travel_are_refused_where_they_are_given(
    auth: Any, words: str
) -> None:
    told = f"auth cannot travel: .*{words}"
    with pytest.raises(ValueError, match=told):
        wsrpc.connect("ws://127.0.0.1:1", auth=auth)
    with anyio.fail_after(10):
        async with wsrpc.Server([Hello()]).listen() as listener:
            with pytest.raises(ValueError, match=told):
                async with wsrpc.connect(listener.url, auth=lambda: auth, reconnect=False):
                    pass
            async with wsrpc.connect(listener.url) as session:
                with pytest.raises(ValueError, match=told):
                    await session.refresh_auth(auth)
                assert await session.clientize(Hello).greet("Ann") == "Hello, Ann!"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X Who": "ann"}, "'X Who' cannot be the name of a header"),
        ({"X-Wör": "ann"}, "cannot be the name of a header"),
        ({"": "ann"}, "'' cannot be the name of a header"),
        ({"X-Who": "secret\r\nCookie: a=b"}, "the value of 'X-Who' has a line break"),
        ({"X-Who": "\ud800"}, "the value of 'X-Who' has a line break or another control"),
    ],
)
async def test_headers_that_cannot_be_sent_are_refused_where_they_are_given(
    headers: dict[str, str], words: str
) -> None:
    async def given() -> dict[str, str]:
        return headers

    with pytest.raises(ValueError, match=words) as refused:
        wsrpc.connect("ws://127.0.0.1:1", headers=headers)
    assert "secret" not in str(refused.value)
    with anyio.fail_after(10):
        async with wsrpc.Server([Hello()]).listen() as listener:
            with pytest.raises(ValueError, match=words):
                async with wsrpc.connect(listener.url, headers=given, reconnect=False):
                    pass


@pytest.mark.parametrize("timeout", [math.nan, math.inf, "5", True, [5]])
async def test_next_refuses_what_is_no_time_and_the_stream_goes_on(timeout: Any) -> None:
    class Numbers:
        @wsrpc.method
        async def count(self) -> AsyncIterator[int]:
            yield 1

    with anyio.fail_after(10):
        async with connected_pair([Numbers()]) as (_, client):
            for stream in (client.clientize(Numbers).count(), wsrpc.stream_of(Numbers().count())):
                with pytest.raises(ValueError, match="timeout must be a"):
                    await stream.next(timeout=timeout)
                assert await stream.collect() == [1]


def test_half_an_attempt_is_none() -> None:
    with pytest.raises(ValueError, match=r"Reconnect\.attempts is a whole number, not 1\.5"):
        wsrpc.Reconnect(attempts=1.5)  # type: ignore[arg-type]
