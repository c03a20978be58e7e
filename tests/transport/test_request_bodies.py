"""Headers tell whether a request has a body, and the WebSocket libraries never see it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrpc.transport.request_bodies import LONGEST_LINE, HeadFilter, body_of


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, "none"),
        ({"content-length": "0"}, "none"),
        ({"content-length": "000"}, "none"),
        ({"content-length": "5"}, "some"),
        ({"transfer-encoding": "chunked"}, "some"),
        ({"transfer-encoding": "gzip, Chunked"}, "some"),
        ({"transfer-encoding": "gzip"}, "unclear"),
        ({"transfer-encoding": "chunked, gzip"}, "unclear"),
        ({"transfer-encoding": "chunked", "content-length": "0"}, "unclear"),
        ({"content-length": ""}, "unclear"),
        ({"content-length": "-1"}, "unclear"),
        ({"content-length": "+5"}, "unclear"),
        ({"content-length": "5, 6"}, "unclear"),
        ({"content-length": "\u0665"}, "unclear"),
    ],
)
def test_headers_tell_whether_there_is_a_body(headers: dict[str, str], body: str) -> None:
    assert body_of(headers) == body


PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\nX: content-length: 7\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "seen", "body"),
    [
        (PLAIN, PLAIN, "none"),
        (PLAIN + b"early", PLAIN + b"early", "none"),
        (PLAIN[:-2] + b"content-LENGTH:  5 \r\n\r\nhello", PLAIN, "some"),
        (PLAIN[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", PLAIN, "some"),
        (PLAIN[:-2] + b"Content-Length: 0\r\n\r\nearly", PLAIN + b"early", "none"),
        (PLAIN[:-2] + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", PLAIN, "unclear"),
        (b"GET / HTTP/1.1\nContent-Length: 5\n\nhello", b"GET / HTTP/1.1\n\n", "some"),
        (b"C", b"", "none"),
        (b"GET / HTTP/1.1\r\nContent", b"GET / HTTP/1.1\r\n", "none"),
    ],
)
@settings(deadline=None)
@given(data=st.data())
def test_a_body_is_hidden_however_the_bytes_come(
    sent: bytes, seen: bytes, body: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)))))
    head = HeadFilter()
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    out = []
    for piece in pieces:
        before = head.held
        shown = head.take(piece)
        # The bytes that are shown fit into the buffer that the piece came in.
        assert len(shown) + head.held <= len(piece) + before
        out.append(shown)
    assert b"".join(out) == seen
    assert head.body == body
    if not head.over:
        assert head.size + head.held == len(sent)


def test_no_more_than_one_short_line_is_held_back() -> None:
    head = HeadFilter()
    held = head.take(b"GET / HTTP/1.1\r\nContent-Length: ")
    for _ in range(10 * LONGEST_LINE):
        held += head.take(b"0")
        assert head.held <= LONGEST_LINE
    assert held.endswith(b"Content-Length: " + 10 * LONGEST_LINE * b"0")
