"""What a call gives its caller: a value to await, or a stream to iterate."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Iterable,
    Iterator,
)
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, cast

from typing_extensions import TypeVar

from .errors import WsrpcError

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
    """`Stream.final` was read before the stream had come to its end."""


class Final(Generic[T_co]):
    """Ends a stream with a value that is no item, when yielded last.

    A method annotated `AsyncIterator[Token | Final[Usage]]` may `yield Final(usage)`; the caller
    iterates tokens only and reads the usage as `stream.final`.

    Args:
        value: What the caller reads.

    Attributes:
        value: The same.
    """

    __slots__ = ("value",)

    if TYPE_CHECKING:
        # No item type may match Final, or checkers would take `T | Final[U]` for T as a whole.
        __dir__: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, value: T_co) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Final({self.value!r})"


class Tracked(Generic[T_co]):
    """An item with a name, by which a stream can be taken up again.

    A method annotated `AsyncIterator[Tracked[T]]` yields `Tracked("some id", value)`. When the stream
    is lost for good, as by a restart of the server, the caller's side opens it again by itself and
    names the last item that its application has got: `current().last_id`, behind which the method
    goes on. It is None the first time.

    Args:
        id: What the method needs to go on behind this item; at most 1,024 characters.
        value: The item proper.

    Attributes:
        id: The same.
        value: The same.
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
    stopped. Leaving `async with`, `aclose()` and `cancel()` end it on the other side too, and
    nothing more is yielded after them.

    A subclass implements `__anext__`, `aclose` and `cancel`, and calls `_finish` at a clean end.
    """

    __slots__ = ("__weakref__", "_final", "_label")

    def __init__(self, label: str) -> None:
        self._label = label
        self._final: Any = _ABSENT

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        raise NotImplementedError

    async def aclose(self) -> None:
        """End the stream and wait until its source has cleaned up, as far as that is known."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End the stream without waiting."""
        raise NotImplementedError

    async def collect(self) -> list[T_co]:
        """All items that are still to come, as a list."""
        async with self:
            return [item async for item in self]

    @property
    def final(self) -> U_co:
        """The value that the stream ended with; None if it ended without one.

        Raises:
            NotFinished: The stream has not come to its end, or was cut short.
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

        With `overflow="block"` it tells how far the consumer is behind only up to the window, since
        the producer waits then.
        """
        return 0

    @property
    def dropped(self) -> int:
        """Items let go so far because the consumer did not keep up.

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
    """A stream over an iterator of this process: what a method gives when called locally.

    Args:
        source: An async iterator, an awaitable of one, or a plain iterator.
        label: What messages call it, such as "HelloController.tokens".
    """

    __slots__ = ("_busy", "_closed", "_dropped", "_source")

    def __init__(
        self,
        source: AsyncIterable[Any] | Awaitable[AsyncIterable[Any]] | Iterator[Any],
        label: str = "stream",
    ) -> None:
        super().__init__(label)
        self._source: Any = source
        self._busy = False
        self._closed = False
        self._dropped = 0

    @property
    def lag(self) -> int:
        return self._source.lag if isinstance(self._source, Stream) else 0

    @property
    def dropped(self) -> int:
        # A stream that a method hands on comes from another session, and may lose items there.
        if isinstance(self._source, Stream):
            self._dropped = self._source.dropped
        return self._dropped

    async def __anext__(self) -> T_co:
        if self._busy:
            self._refuse_second()
        if self._closed:
            await self._close_source()
            raise StopAsyncIteration
        item = await self._step()
        if self._closed:
            await self._close_source()
            raise StopAsyncIteration
        if isinstance(item, Final):
            await self._end(item)
        return cast(T_co, item)

    async def _step(self) -> Any:
        self._busy = True
        try:
            return await self._pull()
        except BaseException as error:
            if isinstance(error, StopAsyncIteration) and not self._closed:
                self._end_as(self._source)
            self._closed = True
            self._release()
            raise
        finally:
            self._busy = False

    def _end_as(self, source: Any) -> None:
        """The source is at its end: take over the final value of a stream, if it has one."""
        if not isinstance(source, Stream):
            self._finish()
            return
        # One that was cut short has none, and so has this one.
        with suppress(NotFinished):
            self._finish(source.final)

    async def _pull(self) -> Any:
        # A Stream has `__await__`, to refuse: it only looks awaitable.
        if not isinstance(self._source, AsyncIterator) and isawaitable(self._source):
            self._source = await self._source
        source = self._source
        if isinstance(source, Iterator):
            try:
                return next(source)
            except StopIteration:
                raise StopAsyncIteration from None
        if not isinstance(source, AsyncIterator):
            source = self._source = aiter(source)
        return await anext(source)

    async def _end(self, final: Final[Any]) -> NoReturn:
        # The body behind `yield Final(…)` has to run, so the source is asked once more.
        try:
            item = await self._step()
        except StopAsyncIteration:
            self._finish(final.value)
            raise
        self._closed = True
        await self._close_source()
        raise RuntimeError(f"{self._label} yielded {item!r} after its Final value")

    async def aclose(self) -> None:
        self._closed = True
        if not self._busy:
            await self._close_source()

    def cancel(self) -> None:
        """End the stream without waiting.

        An async source cleans up at the next look at the stream, or when it is dropped.
        """
        self._closed = True
        source = self._source
        if isinstance(source, Stream):
            source.cancel()
        elif not (self._busy or isinstance(source, AsyncIterator)):
            self._release()
            if (close := getattr(source, "close", None)) is not None:
                close()

    def _release(self) -> Any:
        """Let go of the source, and return it; what it has told stays known."""
        _ = self.dropped
        source, self._source = self._source, None
        return source

    async def _close_source(self) -> None:
        source = self._release()
        if (aclose := getattr(source, "aclose", None)) is not None:
            await aclose()
        elif (close := getattr(source, "close", None)) is not None:
            close()


async def stream_of(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """An async iterator over `items`, for a parameter that takes a stream.

    Args:
        items: Any iterable, async or not.
    """
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
