"""Calls that are not awaited or iterated yet; an error for wrong use names the right one."""

from __future__ import annotations

import warnings
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import TypeVar

from .stream import Stream

__all__ = ["UnaryCall", "UntypedCall"]

R = TypeVar("R")


class UnaryCall(Coroutine[Any, Any, R]):
    """The coroutine of a call; iterating it raises an error that tells to await it.

    `create_task`, `gather` and `start_soon` take it like any coroutine.

    Args:
        inner: The coroutine that makes the call.
        label: Its name in messages, such as "HelloController.greet".
    """

    __slots__ = ("_inner", "_label")

    def __init__(self, inner: Coroutine[Any, Any, R], label: str) -> None:
        # So Python's warning about a call that was never awaited names the method.
        named: Any = inner
        named.__qualname__ = label
        self._inner = inner
        self._label = label

    def __await__(self) -> Generator[Any, Any, R]:
        return self._inner.__await__()

    def send(self, value: Any, /) -> Any:
        return self._inner.send(value)

    def throw(self, *args: Any) -> Any:
        return self._inner.throw(*args)

    def close(self) -> None:
        self._inner.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label}>"

    if not TYPE_CHECKING:

        def __aiter__(self) -> NoReturn:
            self._inner.close()
            raise TypeError(f"{self._label} returns a value: write `await …`")


class UntypedCall(Coroutine[Any, Any, Any]):
    """A call by bare name: a value or a stream, decided by the first use.

    Args:
        await_it: Starts the call as one that returns a value.
        iterate_it: Starts the call as one that streams.
        label: Its name in messages.
    """

    __slots__ = ("_await_it", "_coroutine", "_iterate_it", "_label", "_stream")

    def __init__(
        self,
        await_it: Callable[[], Coroutine[Any, Any, Any]],
        iterate_it: Callable[[], Stream[Any, Any]],
        label: str = "call",
    ) -> None:
        self._await_it = await_it
        self._iterate_it = iterate_it
        self._label = label
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._stream: Stream[Any, Any] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._coroutine is not None:
            raise RuntimeError(f"{self._label}: the call has been awaited already; call it again")
        return self._as_coroutine().__await__()

    def _as_coroutine(self) -> Coroutine[Any, Any, Any]:
        if self._coroutine is None:
            if self._stream is not None:
                raise RuntimeError(
                    f"{self._label}: the call is used as a stream already; call it again"
                )
            self._coroutine = self._await_it()
        return self._coroutine

    def _as_stream(self) -> Stream[Any, Any]:
        if self._stream is None:
            if self._coroutine is not None:
                raise RuntimeError(
                    f"{self._label}: the call has been awaited already; call it again"
                )
            self._stream = self._iterate_it()
        return self._stream

    def send(self, value: Any, /) -> Any:
        return self._as_coroutine().send(value)

    def throw(self, *args: Any) -> Any:
        return self._as_coroutine().throw(*args)

    def close(self) -> None:
        if self._stream is None:
            self._as_coroutine().close()

    def __del__(self) -> None:
        # Warn as Python does for coroutines: a call without `await` has no effect at all.
        if self._coroutine is None and self._stream is None:
            warnings.warn(
                f"{self._label} was neither awaited nor iterated",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._as_stream().__aiter__()

    async def __aenter__(self) -> Stream[Any, Any]:
        return await self._as_stream().__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._as_stream().__aexit__(exc_type, exc, traceback)

    async def next(self, timeout: float | None = None) -> Any:
        """Wait for the next item, no longer than `timeout` seconds; see `Stream.next`."""
        return await self._as_stream().next(timeout)

    async def aclose(self) -> None:
        """End the stream and wait for its source to clean up."""
        await self._as_stream().aclose()

    def cancel(self) -> None:
        """End the stream without waiting."""
        self._as_stream().cancel()

    async def collect(self) -> list[Any]:
        """All items, as a list."""
        return await self._as_stream().collect()

    @property
    def final(self) -> Any:
        """The value with which the stream ended."""
        return self._as_stream().final

    @property
    def lag(self) -> int:
        """Items that have arrived and wait to be taken; 0 for a single value."""
        return 0 if self._stream is None else self._stream.lag

    @property
    def dropped(self) -> int:
        """Items dropped so far because the consumer did not keep up; 0 for a single value."""
        return 0 if self._stream is None else self._stream.dropped

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label}>"
