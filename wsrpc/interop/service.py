"""The controller `Interop` of protocol.md, by which implementations test each other."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Annotated, TypeAlias

import anyio
from pydantic import Field
from typing_extensions import TypedDict

from ..admission.authentication import Grant
from ..context import CallContext, current
from ..contract.decorator import method
from ..errors import Code, RpcError
from ..interfaces import Handshake
from ..limits import Limits
from ..server.server import Server
from ..stream import Tracked

__all__ = ["Interop", "Partner", "Stats", "Token", "WhoAmI", "interop_server"]

Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Number: TypeAlias = int | float

# Keys that `once` counts by, the newest, and characters of one.
MAX_KEYS = 100_000
MAX_KEY = 256

# Seconds between the items of `slow_cleanup`.
SLOW_CLEANUP_INTERVAL = 0.01


class Token(TypedDict):
    """An item of `tokens`."""

    message: str


class WhoAmI(TypedDict):
    """The result of `whoami`."""

    principal: str | None
    metadata: dict[str, str]
    remaining: float | None


class Stats(TypedDict):
    """The result of `stats`, for the whole server process."""

    calls_live: int
    calls_peak: int
    generators_open: int
    cleanups_begun: int
    cleanups_done: int
    sessions: int
    detached: int
    links: int
    outbox_bytes: int
    replay_bytes: int
    frames_ignored: int
    closes: dict[str, int]


class Partner:
    """The methods that both ends have, so that each can call the other back."""

    controller_name = "Interop"

    @method
    async def echo(self, value: object) -> object:
        """The same value."""
        return value

    @method
    async def nested(self, depth: Count) -> int:
        """0 for a depth of 0, else one more than the caller's `nested` of one less."""
        if depth == 0:
            return 0
        return 1 + await current().session.clientize(Partner).nested(depth - 1)


class Interop(Partner):
    """Methods to test an implementation of the protocol against others."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self._cleanups_begun = 0
        self._cleanups_done = 0
        self._executions: dict[str, int] = {}

    @method
    async def sleep(self, seconds: Seconds) -> None:
        """Answer null, that much later."""
        await anyio.sleep(seconds)

    @method
    async def count(self, n: Count, delay: Seconds = 0) -> AsyncIterator[int]:
        """Stream 0 to n - 1, pausing `delay` seconds before each."""
        for i in range(n):
            if delay:
                await anyio.sleep(delay)
            yield i

    @method
    async def forever(self, delay: Seconds) -> AsyncIterator[int]:
        """Stream 0, 1, 2, … without end, pausing `delay` seconds before each."""
        i = 0
        while True:
            if delay:
                await anyio.sleep(delay)
            yield i
            i += 1

    @method
    async def tokens(self, n: Count) -> AsyncIterator[Token]:
        """Stream n messages: token 0, token 1, …"""
        for i in range(n):
            yield {"message": f"token {i}"}

    @method
    async def fail(self, code: Code, message: str, data: object = None) -> None:
        """Fail with these three."""
        raise RpcError(code, message, data)

    @method
    async def fail_after(self, n: Count, data: object = None) -> AsyncIterator[int]:
        """Stream 0 to n - 1, then fail with `data`."""
        for i in range(n):
            yield i
        raise RpcError(Code.ABORTED, f"failed after {n} items", data)

    @method
    async def boom(self) -> None:
        """Raise an unforeseen exception."""
        raise ZeroDivisionError("boom, as asked for")

    @method
    async def sum(self, numbers: AsyncIterator[Number]) -> Number:
        """The sum of the uploaded numbers."""
        total: Number = 0
        async for number in numbers:
            total += number
        return total

    @method
    async def bidi_echo(self, items: AsyncIterator[object]) -> AsyncIterator[object]:
        """Stream back each item as soon as it has come."""
        async for item in items:
            yield item

    @method
    async def call_back(self, times: Count) -> list[object]:
        """The answers of the caller's `Interop.echo` to 0, 1, … times - 1, one after the other."""
        partner = current().session.clientize(Partner)
        return [await partner.echo(i) for i in range(times)]

    @method
    async def progress(self, n: Count, on_progress: Callable[[int], Awaitable[None]]) -> int:
        """Await `on_progress(i)` for i = 1 to n, then answer n."""
        for i in range(1, n + 1):
            await on_progress(i)
        return n

    @method
    async def blob(self, size: Annotated[int, Field(ge=0, le=2**30)]) -> bytes:
        """So many bytes; byte i is i mod 256."""
        return (bytes(range(256)) * (size // 256 + 1))[:size]

    @method
    async def slow_cleanup(self, seconds: Seconds) -> AsyncIterator[int]:
        """Stream 0, 1, 2, … every 10 ms until cancelled, and clean up for `seconds`."""
        i = 0
        try:
            while True:
                yield i
                i += 1
                await anyio.sleep(SLOW_CLEANUP_INTERVAL)
        finally:
            self._cleanups_begun += 1
            await anyio.sleep(seconds)
            self._cleanups_done += 1

    @method
    async def once(self, key: Annotated[str, Field(max_length=MAX_KEY)]) -> int:
        """How often this has been executed with this key, this time included."""
        executions = self._executions
        executions[key] = executions.pop(key, 0) + 1
        if len(executions) > MAX_KEYS:
            del executions[next(iter(executions))]
        return executions[key]

    @method
    async def tracked(
        self, n: Count, delay: Seconds = 0, last_id: str | None = None
    ) -> AsyncIterator[Tracked[int]]:
        """Stream 0 to n - 1, each with its number as id, beginning after the last id."""
        last = current().last_id or last_id
        try:
            first = 0 if last is None else int(last) + 1
        except ValueError:
            raise RpcError(Code.INVALID_ARGUMENT, f"there is no item {last!r}") from None
        for i in range(first, n):
            if delay:
                await anyio.sleep(delay)
            yield Tracked(str(i), i)

    @method
    async def whoami(self) -> WhoAmI:
        """The caller's principal, the call's metadata, and the seconds left of its deadline."""
        call = current()
        return {
            "principal": call.principal,
            "metadata": dict(call.metadata),
            "remaining": None
            if call.deadline is None
            else max(0.0, call.deadline - anyio.current_time()),
        }

    @method
    async def stats(self) -> Stats:
        """Counts of the whole server process."""
        if self.server is None:
            raise RpcError(Code.FAILED_PRECONDITION, "no server is being watched")
        now = self.server.snapshot()
        return {
            "calls_live": now.calls_live,
            "calls_peak": now.calls_peak,
            "generators_open": now.generators_open,
            "cleanups_begun": self._cleanups_begun,
            "cleanups_done": self._cleanups_done,
            "sessions": now.sessions,
            "detached": now.detached,
            "links": now.links,
            "outbox_bytes": now.outbox_bytes,
            "replay_bytes": now.replay_bytes,
            "frames_ignored": now.frames_ignored,
            "closes": {str(code): n for code, n in sorted(now.closes.items())},
        }


def interop_server(
    *,
    limits: Limits | None = None,
    auth_token: str | None = None,
    auth_users: Mapping[str, str] | None = None,
    auth_expires: float | None = None,
    deny: Sequence[str] = (),
    origins: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    debug: bool = False,
) -> Server:
    """A server that offers `Interop`, ready to listen.

    Args:
        limits: Its bounds.
        auth_token: The value that the hello's `auth` must equal; the principal is "token" then.
        auth_users: Other principals, and the token of each.
        auth_expires: Seconds for which credentials hold, from when they were shown.
        deny: Full names of methods that no peer may call.
        origins: More web pages that may connect than those of the host that they ask for; "*"
            among them stands for all.
        trusted_proxies: The proxies that are believed about the addresses of clients.
        debug: Whether unexpected errors cross with their text and traceback.
    """
    users = dict(auth_users or {})
    if auth_token is not None:
        users["token"] = auth_token
    service = Interop()
    service.server = Server(
        [service],
        limits=limits,
        authenticate=_TokenCheck(users, auth_expires) if users else None,
        authorize=_Denial(deny) if deny else None,
        origins="*" if "*" in origins else origins,
        trusted_proxies=trusted_proxies,
        debug=debug,
    )
    return service.server


class _TokenCheck:
    """Lets in peers that know a token."""

    def __init__(self, users: Mapping[str, str], expires_in: float | None) -> None:
        self._users = {name: token.encode() for name, token in users.items()}
        self._expires_in = expires_in

    async def __call__(self, handshake: Handshake, auth: object) -> Grant:
        shown = auth.encode() if isinstance(auth, str) else b""
        known = [name for name, token in self._users.items() if hmac.compare_digest(shown, token)]
        if not known:
            raise RpcError(Code.UNAUTHENTICATED, "wrong token")
        return Grant(known[0], self._expires_in)


class _Denial:
    """Refuses some methods to all peers."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._methods = frozenset(methods)

    async def __call__(self, call: CallContext) -> bool:
        return f"{call.controller}.{call.method}" not in self._methods
