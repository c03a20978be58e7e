"""Streams, as callers and handlers use them."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, cast

import anyio
from typing_extensions import TypeVar

from . import runtime as runtimes
from .errors import Code, RpcError, WsrpcError
from .options import checked_seconds
from .runtime.by_hand import as_fault, exits

__all__ = [
    "Final",
    "LocalStream",
    "NotFinished",
    "Stream",
    "Tracked",
    "stream_of",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U_co = TypeVar("U_co", covariant=True, default=None)

_ABSENT: Any = object()


class NotFinished(WsrpcError, RuntimeError):
    """`Stream.final` was read before the end of the stream."""


class NoItemYet(TimeoutError):
    """`Stream.next` has waited for `timeout` seconds; the stream goes on."""


class Final(Generic[T_co]):
    """A value, yielded last, that ends a stream and is no item.

    A method annotated `AsyncIterator[Token | Final[Usage]]` may `yield Final(usage)`. The caller
    iterates only the tokens, and reads the usage as `stream.final`. The stream ends when the method
    has ended: code after the yield runs, and an exception of it is the stream's error (protocol.md
    END-3).

    Args:
        value: The value that the caller reads.

    Attributes:
        value: The value that the caller reads.
    """

    __slots__ = ("value",)

    if TYPE_CHECKING:
        # No item type may match Final, or type checkers would take all of `T | Final[U]` for T.
        __dir__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, value: T_co) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Final({self.value!r})"


class Tracked(Generic[T_co]):
    """An item with an id, after which a lost stream can be reopened.

    A method annotated `AsyncIterator[Tracked[T]]` yields `Tracked("some id", value)`. When the
    stream is lost for good, for instance by a restart of the server, the caller's side reopens it
    by itself (protocol.md RETRY-3). It sends the id of the last item that its application has got.
    The method reads that id as `current().last_id`, which is None the first time, and goes on after
    that item.

    Args:
        id: A text by which the method can go on after this item; at most 1,024 characters.
        value: The item itself.

    Attributes:
        id: The id of the item.
        value: The item itself.
    """

    __slots__ = ("id", "value")

    def __init__(self, id: str, value: T_co) -> None:
        self.id = id
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tracked):
            return NotImplemented
        return bool(self.id == other.id and self.value == other.value)

    def __hash__(self) -> int:
        return hash((self.id, self.value))

    def __repr__(self) -> str:
        return f"Tracked({self.id!r}, {self.value!r})"


class Stream(AsyncIterator[T_co], Generic[T_co, U_co]):
    """The items of a streaming call, for one consumer.

    Iterate it with `async for`. A bare `break` only pauses: iterating again continues where it
    stopped. Leaving `async with`, `aclose()` and `cancel()` end the stream on the other side too,
    and no item is yielded after them.

    A cancelled `anext`, for instance by a timeout around it, ends the stream too, and the remaining
    items are lost: iterating it again raises an `RpcError` with code `cancelled`. Use `next` to
    wait for an item for a limited time.

    A subclass implements `__anext__`, `aclose` and `cancel`, and calls `_finish` at a clean end.
    """

    __slots__ = ("__weakref__", "_cut", "_final", "_label")

    def __init__(self, label: str) -> None:
        self._label = label
        self._final: Any = _ABSENT
        # Whether it ended because the task that waited for an item was cancelled.
        self._cut = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        raise NotImplementedError

    async def next(self, timeout: float | None = None) -> T_co:
        """Wait for the next item, no longer than `timeout`.

        Args:
            timeout: Seconds to wait; None: no limit.

        Raises:
            TimeoutError: No item came in time. The stream goes on, and no item is lost.
            ValueError: `timeout` is no number of seconds; the caller's fault.
            StopAsyncIteration: The stream has ended.
            RpcError: The stream has failed.
        """
        if timeout is None:
            return await self.__anext__()
        raise NotImplementedError

    async def aclose(self) -> None:
        """End the stream, and wait for the cleanup of a source in this process."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End the stream without waiting."""
        raise NotImplementedError

    async def collect(self) -> list[T_co]:
        """Wait for all remaining items, and return them as a list.

        If the await is cancelled, the stream ends, and all its items are lost.
        """
        async with self:
            return [item async for item in self]

    @property
    def final(self) -> U_co:
        """The value with which the stream ended; None if it ended without one.

        Raises:
            NotFinished: The stream has not come to its end, or was cut short; the caller's fault.
        """
        if self._final is _ABSENT:
            raise NotFinished(
                f"{self._label}: the final value comes after the last item; "
                "iterate the stream to its end first"
            )
        return cast(U_co, self._final)

    @property
    def lag(self) -> int:
        """Items that have arrived and wait to be taken; 0 for a stream within this process.

        With `overflow="block"` it never exceeds the window by much, since the producer waits.
        """
        return 0

    @property
    def dropped(self) -> int:
        """Items dropped so far because the consumer did not keep up.

        0 with `overflow="block"`, for uploads, and for streams within this process.
        """
        return 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _finish(self, final: Any = None) -> None:
        self._final = final

    def _raise_if_cut(self) -> None:
        """Raise the error for a stream that has ended, but is not complete."""
        if self._cut:
            raise RpcError(
                Code.CANCELLED,
                f"{self._label} was cancelled while its next item was awaited, and the remaining items are "
                "lost; `await stream.next(timeout=…)` waits for a limited time and leaves "
                "the stream alone",
            )

    def _refuse_second(self) -> NoReturn:
        raise RuntimeError(
            f"{self._label}: another task is already waiting for the next item; "
            "a stream has one consumer"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label}>"

    if not TYPE_CHECKING:

        def __await__(self) -> NoReturn:
            raise TypeError(
                f"{self._label} streams: write `async for item in …`, or `await ….collect()` for "
                "a list"
            )


class LocalStream(Stream[T_co, U_co]):
    """A stream over an iterator of this process, such as a local call of a method gives.

    Args:
        source: An async iterator, an awaitable of one, or a plain iterator.
        label: Its name in messages, such as "HelloController.tokens".
    """

    __slots__ = ("_busy", "_closed", "_dropped", "_pending", "_source")

    def __init__(
        self,
        source: AsyncIterable[Any] | Awaitable[AsyncIterable[Any]] | Iterator[Any],
        label: str = "stream",
    ) -> None:
        super().__init__(label)
        self._source = _Source(source)
        self._busy = False
        self._closed = False
        self._dropped = 0
        # A step of the source that goes on, although no task waits for it at the moment.
        self._pending: _Step | None = None

    @property
    def lag(self) -> int:
        return self._source.inner.lag if isinstance(self._source.inner, Stream) else 0

    @property
    def dropped(self) -> int:
        # A stream that a method passes on comes from another session, and may drop items there.
        if isinstance(self._source.inner, Stream):
            self._dropped = self._source.inner.dropped
        return self._dropped

    def detach(self) -> AsyncIterable[Any]:
        """The object to iterate in place of this: the source, if its iteration has not begun."""
        source = self._source.inner
        if self._busy or self._closed or self._pending or not isinstance(source, AsyncGenerator):
            return self
        self._closed = True
        self._source.inner = None
        return source

    async def __anext__(self) -> T_co:
        return await self._next(None)

    async def next(self, timeout: float | None = None) -> T_co:
        return await self._next(checked_seconds("timeout", timeout))

    async def _next(self, timeout: float | None) -> T_co:
        if self._busy:
            self._refuse_second()
        if self._closed:
            await self._close_source()
            self._raise_if_cut()
            raise StopAsyncIteration
        item = await self._step(timeout)
        if self._closed:
            await self._close_source()
            raise StopAsyncIteration
        if isinstance(item, Final):
            await self._end(item)
        return cast(T_co, item)

    async def _step(self, timeout: float | None = None) -> Any:
        self._busy = True
        try:
            if timeout is None and self._pending is None:
                return await self._source.next()
            return await self._pull_before(timeout)
        except NoItemYet:
            if timeout is None:
                self._over()
            raise
        except _End:
            if not self._closed:
                self._end_as(self._source.inner)
            self._over()
            raise StopAsyncIteration from None
        except BaseException as error:  # noqa: BLE001  (raised again below)
            fault = self._fault(error)
            self._over()
            try:
                if fault is error:
                    raise
                raise fault from error
            finally:
                # Its traceback holds this frame.
                del fault
        finally:
            self._busy = False

    def _over(self) -> None:
        self._closed = True
        self._release()

    def _fault(self, error: BaseException) -> BaseException:
        """The exception to raise for a failed step; notes whether it was cancelled."""
        runtime = runtimes.current()
        if isinstance(error, runtime.cancelled_class()):
            if runtime.is_being_cancelled():
                # If another task has closed the stream meanwhile, this does not cut it short.
                self._cut = not self._closed
                return error
            return as_fault(error, self._label)
        return error if exits(error) else as_fault(error, self._label)

    def _end_as(self, source: Any) -> None:
        """End the stream, with the final value of a source that is a stream and has one."""
        if not isinstance(source, Stream):
            self._finish()
            return
        # A source that was cut short has no final value.
        with suppress(NotFinished):
            self._finish(source.final)

    async def _pull_before(self, timeout: float | None) -> Any:
        """Wait for one step for a limited time; a longer step goes on."""
        source = self._source.inner
        if isinstance(source, Stream) and self._pending is None:
            try:
                return await source.next(timeout)
            except StopAsyncIteration:
                raise _End from None
        if isinstance(source, Iterator):
            return await self._source.next()
        if self._pending is None:
            self._pending = _Step(self._source.next)
        pending = self._pending
        try:
            if not await pending.wait(timeout):
                raise NoItemYet(f"{self._label}: no item came in time")
        except NoItemYet:
            raise
        except BaseException:
            pending.cancel()
            raise
        self._pending = None
        return pending.result()

    async def _end(self, final: Final[Any]) -> NoReturn:
        # The body after `yield Final(…)` has to run, so the source is asked once more.
        try:
            item = await self._step()
        except StopAsyncIteration:
            self._finish(final.value)
            raise
        self._closed = True
        await self._close_source()
        raise RuntimeError(f"{self._label} yielded {item!r} after its Final value")

    def __del__(self) -> None:
        # The last reference is gone, and no code takes the item of a step that still runs.
        pending = getattr(self, "_pending", None)
        if pending is not None:
            pending.abandon()

    async def aclose(self) -> None:
        self._closed = True
        self._cut = False
        if self._pending is not None:
            await self._pending.stop()
            self._pending = None
        if not self._busy:
            await self._close_source()

    def cancel(self) -> None:
        """End the stream without waiting.

        An async source cleans up at the next use of the stream, or when the stream is dropped.
        """
        self._closed = True
        self._cut = False
        if self._pending is not None:
            self._pending.cancel()
        source = self._source.inner
        if isinstance(source, Stream):
            source.cancel()
        elif not (self._busy or isinstance(source, AsyncIterator)):
            self._release()
            if (close := getattr(source, "close", None)) is not None:
                close()

    def _release(self) -> Any:
        """Drop the reference to the source, and return it; its counts are kept."""
        _ = self.dropped
        source, self._source.inner = self._source.inner, None
        return source

    async def _close_source(self) -> None:
        if self._pending is not None:
            await self._pending.stop()
            self._pending = None
        source = self._release()
        if (aclose := getattr(source, "aclose", None)) is not None:
            await aclose()
        elif (close := getattr(source, "close", None)) is not None:
            close()


class _End(Exception):
    """Raised where the source of a stream has ended."""


class _Source:
    """The source of a stream, apart from the stream, so that a step of it does not hold the stream.

    Attributes:
        inner: An async iterator, an awaitable of one, or a plain iterator; None once it is over.
    """

    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def next(self) -> Any:
        """The next item.

        Raises:
            _End: There is none. No exception that code raises by hand counts as an end.
        """
        # A Stream has an `__await__` that refuses, so it only looks awaitable.
        if not isinstance(self.inner, AsyncIterator) and isawaitable(self.inner):
            self.inner = await self.inner
        source = self.inner
        if isinstance(source, Iterator):
            try:
                return next(source)
            except StopIteration:
                raise _End from None
        if not isinstance(source, AsyncIterator):
            source = self.inner = aiter(source)
        step = source.__anext__()
        try:
            return await step
        except StopAsyncIteration:
            raise _End from None


class _Step:
    """A step of an async source, in a task of its own, which a limited wait can leave running.

    Args:
        step: The step.
    """

    def __init__(self, step: Callable[[], Awaitable[Any]]) -> None:
        self._step = step
        self._done = anyio.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._runtime = runtimes.current()
        self._task = self._runtime.spawn_detached(self._run)

    async def _run(self) -> None:
        try:
            self._value = await self._step()
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            self._error = error
        finally:
            self._done.set()

    async def wait(self, timeout: float | None) -> bool:
        """Wait for the end of the step; returns False if it did not come in time.

        Args:
            timeout: Seconds to wait; None: no limit.
        """
        with anyio.move_on_after(timeout):
            await self._done.wait()
        return self._done.is_set()

    def result(self) -> Any:
        """The item of the step; raises its exception."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._value

    def cancel(self) -> None:
        """Cancel the step without waiting."""
        if not self._done.is_set():
            self._task.cancel()

    def abandon(self) -> None:
        """Cancel the step, from any thread: finalizers run in any."""
        if not self._done.is_set():
            self._runtime.call_threadsafe(self.cancel)

    async def stop(self) -> None:
        """Cancel the step, and wait until it has cleaned up."""
        self.cancel()
        with anyio.CancelScope(shield=True):
            await self._done.wait()


def stream_of(items: Iterable[T] | AsyncIterable[T]) -> Stream[T]:
    """Make a stream over `items`, for a parameter that takes a stream.

    Args:
        items: Any iterable, async or not. A generator is closed when the stream ends, or is left.
    """
    return LocalStream(_each(items), "stream_of(…)")


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """The items of an iterable; a generator, or another source to be closed, is closed at the end."""
    if isinstance(items, AsyncIterable):
        source = aiter(items)
        try:
            async for item in source:
                yield item
        finally:
            if (aclose := getattr(source, "aclose", None)) is not None:
                await aclose()
    else:
        try:
            for item in items:
                yield item
        finally:
            if isinstance(items, Generator):
                items.close()
