"""How streams are fetched, and how to replace that (`clientize(…, stream_fetcher=…)`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeAlias

from ..interfaces import Request
from ..stream import Stream

__all__ = ["FetchStream", "StreamFetcher", "StreamRequest", "default_stream_fetcher"]

StreamRequest: TypeAlias = Request


class FetchStream(Protocol):
    """Fetches a stream over the session; nothing is sent before the first item is asked for."""

    def __call__(self, request: StreamRequest, /) -> Stream[Any, Any]: ...


class StreamFetcher(Protocol):
    """Turns a request for a stream into an async iterator.

    It may call `fetch(request)` never, once or many times, with the same request or a changed one
    (`request.with_arguments(…)`), and may map, log, cache or merge what comes. A `final` value
    passes through only when the iterator returned is a `Stream`.
    """

    def __call__(self, request: StreamRequest, fetch: FetchStream, /) -> AsyncIterator[Any]: ...


def default_stream_fetcher(request: StreamRequest, fetch: FetchStream) -> Stream[Any, Any]:
    """Just fetch: what happens without a `stream_fetcher`, and what custom ones build on."""
    return fetch(request)
