"""Proxies that choose a member for each call."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Mapping,
)
from types import EllipsisType
from typing import Any, Protocol

import anyio

from ..contract.controller import interface
from ..contract.signature import near
from ..errors import Code, ConnectionLost, DeadlineExceeded, RpcError
from ..stream import LocalStream
from ..unary import UnaryCall
from .errors import NoMember
from .methods import method_of
from .node import Node

__all__ = ["Choice", "Chooser", "choosing_proxy"]

UNARY_TIMEOUT = 30.0

# Seconds until members that had no room are asked again.
ROUND = 0.05

# Items of an upload that are kept until its call is known to have begun.
KEPT = 4

# Proxies that one choosing proxy keeps.
PROXIES = 1024


class Choice:
    """The member chosen for one call.

    Attributes:
        session: The id of the member's session.
        back: Called when the call is over.
        stop: Stops the call; set by the code that makes it.
        lost: Whether the chooser has given the member up.
    """

    __slots__ = ("back", "lost", "session", "stop")

    def __init__(self, session: str) -> None:
        self.session = session
        self.back: Callable[[], None] = _nothing
        self.stop: Callable[[], None] = _nothing
        self.lost = False

    def give_up(self) -> None:
        """Let the call go to another member, if that may be, since this one is gone."""
        self.lost = True
        self.stop()


class Chooser(Protocol):
    """Chooses the members."""

    async def choose(self, tried: Collection[str]) -> Choice:
        """Choose the member for a call; waits until one is free.

        Args:
            tried: The members that have refused the call.

        Raises:
            NoMember: No member could ever take it.
        """
        ...

    def may_repeat(self, error: RpcError[Any], idempotent: bool) -> bool:
        """Whether a call that failed like this goes to another member."""
        ...


def choosing_proxy(
    node: Node,
    chooser: Chooser,
    controller: Any,
    options: Mapping[str, Any],
    attempts: int = 3,
    pool: str | None = None,
) -> Any:
    """A proxy of which each call goes to the member that the chooser chooses.

    Args:
        node: This node.
        chooser: Chooses the members.
        controller: As for `Session.clientize`.
        options: As for `Session.clientize`.
        attempts: Attempts at a call that may have begun.
        pool: The pool whose capacity the member's node has to enforce.
    """
    given = dict(options) if pool is None else {**options, "worker_of": pool}
    return _ChoosingProxy(node, chooser, controller, given, attempts)


class _ChoosingProxy:
    def __init__(
        self, node: Node, chooser: Chooser, controller: Any, options: dict[str, Any], attempts: int
    ) -> None:
        self._node = node
        self.chooser = chooser
        self._controller = controller
        self.timeout = options.pop("timeout", ...)
        self._options = {**options, "timeout": None}
        self.attempts = attempts
        self._proxies: dict[str, Any] = {}
        known = isinstance(controller, (str, Mapping))
        self._interface = None if known else interface(controller)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._interface is None:
            return _ChoosingMethod(self, name, f"{name}", "untyped", False)
        spec = self._interface.specs.get(name)
        title = self._interface.name
        if spec is None:
            names = near(name, self._interface.specs)
            hint = f"; did you mean {' or '.join(names)}?" if names else ""
            raise AttributeError(f"{title} has no method {name!r}{hint}")
        return _ChoosingMethod(self, name, f"{title}.{name}", spec.kind, spec.idempotent)

    def method(self, session: str, name: str) -> Any:
        """The method at one session."""
        proxy = self._proxies.get(session)
        if proxy is None:
            proxy = self._node.clientize(session, self._controller, self._options)
            if len(self._proxies) >= PROXIES:
                self._proxies.clear()
            self._proxies[session] = proxy
        return method_of(proxy, name)


class _ChoosingMethod:
    def __init__(
        self, proxy: _ChoosingProxy, name: str, label: str, kind: str, idempotent: bool
    ) -> None:
        self._proxy = proxy
        self._name = name
        self._label = label
        self._kind = kind
        self._idempotent = idempotent

    def __repr__(self) -> str:
        return f"<method {self._label} of the chosen member>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._kind == "stream":
            return LocalStream(self._items(args, kwargs), self._label)
        if self._kind == "untyped":
            return _Untyped(self, args, kwargs)
        return UnaryCall(self.value(args, kwargs), self._label)

    def items(self, args: Any, kwargs: Any) -> LocalStream[Any, Any]:
        return LocalStream(self._items(args, kwargs), self._label)

    async def value(self, args: Any, kwargs: Any) -> Any:
        timeout: float | EllipsisType | None = self._proxy.timeout
        seconds = UNARY_TIMEOUT if timeout is ... else timeout
        with anyio.move_on_after(seconds) as scope:
            return await self._repeated(args, kwargs)
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"{self._label} did not answer before its deadline")
        raise AssertionError("neither a value nor a deadline")

    async def _repeated(self, args: Any, kwargs: Any) -> Any:
        tries = _Tries(self._proxy, self._idempotent, args, kwargs)
        try:
            while True:
                choice = await tries.next()
                args, kwargs = tries.arguments()
                try:
                    with anyio.CancelScope() as scope:
                        choice.stop = scope.cancel
                        method = self._proxy.method(choice.session, self._name)
                        return await method(*args, **kwargs)
                    tries.failed(choice, _gone(self._label))
                except RpcError as error:
                    tries.failed(choice, error)
                finally:
                    choice.back()
        finally:
            await tries.close()

    async def _items(self, args: Any, kwargs: Any) -> AsyncGenerator[Any, None]:
        tries = _Tries(self._proxy, self._idempotent, args, kwargs)
        try:
            while True:
                choice = await tries.next()
                args, kwargs = tries.arguments()
                begun = False
                try:
                    method = self._proxy.method(choice.session, self._name)
                    async with method(*args, **kwargs) as items:
                        choice.stop = items.cancel
                        async for item in items:
                            begun = True
                            yield item
                        if not choice.lost:
                            return
                        raise _gone(self._label)
                except RpcError as error:
                    if begun:
                        raise
                    tries.failed(choice, error)
                finally:
                    choice.back()
        finally:
            await tries.close()


class _Tries:
    """The attempts at one call."""

    def __init__(self, proxy: _ChoosingProxy, idempotent: bool, args: Any, kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs
        self._uploads: dict[int, _Upload] = {}
        self._proxy = proxy
        self._idempotent = idempotent
        self._tried: set[str] = set()
        # Members that had no room when they were asked; they may have room by now.
        self._full: set[str] = set()
        self._left = proxy.attempts
        self._last: RpcError[Any] | None = None

    async def next(self) -> Choice:
        while True:
            try:
                return await self._proxy.chooser.choose(self._tried | self._full)
            except NoMember as error:
                if not self._full:
                    raise self._last or error from None
            self._full.clear()
            await anyio.sleep(ROUND)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the next attempt."""
        args = [self._upload(one) for one in self._args]
        return args, {name: self._upload(one) for name, one in self._kwargs.items()}

    def _upload(self, value: Any) -> Any:
        if not isinstance(value, AsyncIterable):
            return value
        upload = self._uploads.get(id(value))
        if upload is None:
            upload = self._uploads[id(value)] = _Upload(value)
        return upload.attempt()

    async def close(self) -> None:
        """Close the sources of uploads, since the call is over."""
        if not self._uploads:
            return
        with anyio.CancelScope(shield=True):
            for upload in self._uploads.values():
                await upload.close()

    def _is_whole(self, error: RpcError[Any]) -> bool:
        """Whether another member would get all of each upload."""
        if error.not_started:
            return not any(upload.spoilt for upload in self._uploads.values())
        return not any(upload.read for upload in self._uploads.values())

    def failed(self, choice: Choice, error: RpcError[Any]) -> None:
        """Go on to the next member, or raise the error."""
        full = error.not_started and error.code == Code.RESOURCE_EXHAUSTED
        (self._full if full else self._tried).add(choice.session)
        self._last = error
        if not error.not_started:
            self._left -= 1
        if (
            not self._is_whole(error)
            or self._left <= 0
            or not self._proxy.chooser.may_repeat(error, self._idempotent)
        ):
            raise error


class _Upload:
    """An upload of a call that may go to another member.

    The node of a worker that has no room refuses the call after it was sent, and by then the first
    items may have been read. They are kept, and the next member gets them again.

    Attributes:
        read: Whether an attempt has read any of it.
        spoilt: Whether a part is lost to further attempts.
    """

    __slots__ = ("_items", "_kept", "_source", "read", "spoilt")

    def __init__(self, source: AsyncIterable[Any]) -> None:
        self.read = self.spoilt = False
        self._source = source
        self._items: AsyncIterator[Any] | None = None
        self._kept: list[Any] = []

    async def attempt(self) -> AsyncGenerator[Any, None]:
        """The whole of it, for one member."""
        self.read = True
        for item in list(self._kept):
            yield item
        if self._items is None:
            self._items = aiter(self._source)
        while True:
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                return
            except BaseException:
                # A generator that was cancelled while it waited is over: it has no further items.
                self.spoilt = True
                raise
            if self.spoilt or len(self._kept) >= KEPT:
                self.spoilt = True
                self._kept.clear()
            else:
                self._kept.append(item)
            yield item

    async def close(self) -> None:
        """Close the source."""
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()


class _Untyped:
    """A call by bare name: await it, or iterate it."""

    def __init__(self, method: _ChoosingMethod, args: Any, kwargs: Any) -> None:
        self._method = method
        self._args = args
        self._kwargs = kwargs

    def __await__(self) -> Any:
        return self._method.value(self._args, self._kwargs).__await__()

    def __aiter__(self) -> LocalStream[Any, Any]:
        return self._method.items(self._args, self._kwargs)


def _nothing() -> None:
    """Do nothing."""


def _gone(label: str) -> ConnectionLost:
    return ConnectionLost(f"{label}: the worker lost its connection, and did not come back in time")
