"""Replays the connecting side of a recording against a server, and compares the server's frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import anyio

from ..close_codes import CloseCode
from ..errors import Code, ProtocolError, WsrpcError
from ..limits import Limits
from ..protocol.codec import CODECS
from ..telemetry.recorded_frames import RecordedFrame, plain_frame
from ..telemetry.redaction import LEFT_OUT, MASKED, masked
from ..transport.base import Link, LinkClosed
from ..transport.registry import open_link
from .replayed_uploads import ReplayedUploads
from .script import Played, Script, Token, Tokens, is_numbered, script_of

__all__ = ["Difference", "Replayed", "replay"]

# Fields of a hello that must be the same.
SAME_HELLO = ("version", "window", "limits", "features", "heartbeat", "resume_window")

# Options of a call of the server that must be the same.
SAME_OPTIONS = ("metadata", "last_id")

# The codes with which a server closes for reasons of time, not because of the client's frames.
OF_ITS_TIME = {
    CloseCode.GOING_AWAY,
    CloseCode.CONNECTION_LOST,
    CloseCode.NO_STATUS,
    CloseCode.RESTART,
    CloseCode.TRY_AGAIN_LATER,
    CloseCode.SLOW_CONSUMER,
    CloseCode.HEARTBEAT,
    CloseCode.AUTH_EXPIRED,
    CloseCode.SUPERSEDED,
}


class Difference(AssertionError):
    """The server sends another frame than in the recording.

    Attributes:
        frame: The first frame of the recording that differs.
        expected: The frame of the recording.
        found: The frame that the server sent instead; None where none came.
    """

    def __init__(self, frame: RecordedFrame, expected: Any, found: Any, seconds: float) -> None:
        said = f"nothing for {seconds:g} s" if found is None else _short(found)
        where = f"id {frame.id}" if frame.id is not None else frame.frame[0]
        of = f" of {frame.method}" if frame.method else ""
        super().__init__(
            f"connection {frame.link}, message {frame.message}, {where}{of}: "
            f"recorded {_short(expected)}, and the server said {said}"
        )
        self.frame = frame
        self.expected = expected
        self.found = found


@dataclass(slots=True)
class Replayed:
    """The result of a replay.

    Attributes:
        sessions: Sessions that were replayed.
        sent: Frames that were sent.
        compared: Frames of the recording with which the server's frames were compared.
        left_out: The reasons why sessions were not replayed, a sentence each.
    """

    sessions: int = 0
    sent: int = 0
    compared: int = 0
    left_out: list[str] = field(default_factory=list)


async def replay(
    path: str | PathLike[str],
    url: str,
    *,
    auth: Any = None,
    speed: Literal["full", "recorded"] = "full",
    ignore: Mapping[str, Sequence[str]] | None = None,
    links: Sequence[int] = (),
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Replayed:
    """Replay the client of a recording against a server.

    The frames go out in the recorded order, each after the server's frames that precede it in the
    recording. docs/recording.md lists the parts that are not compared, since no two runs share
    them, such as tokens, ids of errors, times, acks, and the division of items into messages.

    Args:
        path: The recording.
        url: The server.
        auth: The credentials, which a recording never holds.
        speed: "recorded" keeps the pauses; "full" leaves them out.
        ignore: Fields of values that are not compared, by pattern of the method's full name, such
            as `{"Clock.*": ["now"]}`; the field "*" stands for all values of the method.
        links: Only the sessions that began with these connections, by number.
        headers: Further headers of the handshake.
        timeout: Seconds within which the server has to send each recorded frame.

    Returns:
            The counts of the replay.

    Raises:
        Difference: The server sends another frame; the error names the first frame that differs.
        RecordingError: The recording cannot be read, or is not complete.
        ConnectError: The server cannot be reached.
    """
    script = script_of(Path(path), links)
    player = _Player(script, url, auth, ignore or {}, dict(headers or {}), timeout)
    outcome: Replayed | Exception = Replayed()
    async with anyio.create_task_group() as group:
        try:
            outcome = await player.play(group, paced=speed == "recorded")
        except (AssertionError, WsrpcError) as error:
            # The error itself is raised, not a group of one.
            outcome = error
        group.cancel_scope.cancel()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class _Player:
    def __init__(
        self,
        script: Script,
        url: str,
        auth: Any,
        ignore: Mapping[str, Sequence[str]],
        headers: dict[str, str],
        timeout: float,
    ) -> None:
        self._script = script
        self._url = url
        self._auth = auth
        self._ignore = [(pattern, frozenset(fields)) for pattern, fields in ignore.items()]
        self._headers = headers
        self._timeout = timeout
        self._sessions: dict[Played, _Session] = {}
        self._report = Replayed()

    async def play(self, group: anyio.abc.TaskGroup, *, paced: bool) -> Replayed:
        report, events = self._report, self._script.events
        for played in self._script.sessions:
            if played.unplayable:
                report.left_out.append(f"connection {played.number}: {played.unplayable}")
        begun = anyio.current_time()
        async with AsyncExitStack() as stack:
            for played, one in events:
                if played.unplayable:
                    continue
                if paced:
                    await anyio.sleep_until(begun + one.time - events[0][1].time)
                session = self._sessions.get(played)
                if session is None:
                    report.sessions += 1
                    session = await self._open(played, one, stack, group)
                    self._sessions[played] = session
                await session.act(one)
        report.sent = sum(one.sent for one in self._sessions.values())
        report.compared = sum(one.compared for one in self._sessions.values())
        return report

    async def _open(
        self,
        played: Played,
        first: RecordedFrame,
        stack: AsyncExitStack,
        group: anyio.abc.TaskGroup,
    ) -> _Session:
        limits = (played.hello.get("limits") or {}).get("max_batch") or 65_536
        link = await stack.enter_async_context(
            open_link(
                self._url,
                CODECS[played.codec].subprotocol,
                limits=Limits(max_batch=max(limits, 65_536)),
                headers=self._headers,
                transport="websockets",
            )
        )
        session = _Session(link, played, self._auth, self._fields, self._timeout)
        group.start_soon(session.listen)
        return session

    def _fields(self, method: str | None) -> frozenset[str]:
        rules = [
            fields
            for pattern, fields in self._ignore
            if method is not None and fnmatchcase(method.partition("(")[0], pattern)
        ]
        return frozenset().union(*rules)


class _Session:
    """One session, replayed over one connection."""

    def __init__(
        self,
        link: Link,
        played: Played,
        auth: Any,
        fields: Callable[[str | None], frozenset[str]],
        timeout: float,
    ) -> None:
        self.sent = self.compared = 0
        self._link = link
        self._codec = CODECS[played.codec]
        self._auth = auth
        self._fields = fields
        self._timeout = timeout
        self._recorded = Tokens(self._codec)
        self._live = Tokens(self._codec)
        self._sending = anyio.Lock()
        self._news = anyio.Event()
        # The server's tokens by id, and its calls, in their order.
        self._lanes: dict[int, list[Token]] = {}
        self._calls: list[Token] = []
        self._hello: dict[str, Any] | None = None
        self._closed: tuple[int, str] | None = None
        self._taken = 0
        # The server's ids in the recording, and its present ids for them.
        self._ids: dict[int, int] = {}
        self._uploads = ReplayedUploads(self._codec)
        # Ids that this side has cancelled, and ids on which it has sent its last frame.
        self._cancelled: set[int] = set()
        self._finished: set[int] = set()

    # ------------------------------------------------------------ frames that come

    async def listen(self) -> None:
        """Take the server's frames until it closes."""
        try:
            while True:
                await self._take(await self._link.receive())
        except LinkClosed as gone:
            self._closed = (gone.code, gone.reason)
        except ProtocolError as error:
            self._closed = (error.close_code, error.reason)
        self._tell()

    async def _take(self, data: bytes) -> None:
        answers: list[bytes] = []
        before = self._taken
        for raw in self._codec.split(data):
            frame = plain_frame(self._codec, bytes(raw))
            name = frame[0]
            if name == "hello":
                self._hello = frame[1]
                answers.append(self._codec.dump(["ack", 0]))
                self._uploads.grant_all(self._window)
            elif name == "ping":
                answers.append(self._codec.dump(["pong", frame[1]]))
            else:
                self._uploads.take(frame)
            self._taken += is_numbered(frame)
            for token in self._live.take(frame):
                if token.kind in ("call", "notify"):
                    self._calls.append(token)
                else:
                    if token.kind in ("result", "end", "error"):
                        self._uploads.end_of_call(token.id)
                    self._lanes.setdefault(token.id, []).append(token)
        if self._taken != before and (self._hello or {}).get("resume_window"):
            answers.append(self._codec.dump(["ack", self._taken]))
        answers += self._uploads.due()
        self._tell()
        if answers:
            await self._send(answers)

    @property
    def _window(self) -> int:
        return (self._hello or {}).get("window") or 0

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def _until(self, holds: Callable[[], bool]) -> bool:
        """Wait for a condition; returns False if it does not hold in time, or the server closes."""
        with anyio.move_on_after(self._timeout):
            while not holds():
                if self._closed is not None:
                    return False
                await self._news.wait()
            return True
        return False

    # ------------------------------------------------------------ frames to play

    async def act(self, one: RecordedFrame) -> None:
        """Send a frame of the client, or wait for one of the server and compare it.

        Raises:
            Difference: The server's frame differs.
        """
        if one.frame[0] == "close":
            await self._close(one)
        elif one.sender == "C":
            await self._say(one)
        elif one.sender == "S":
            await self._compare(one)

    async def _close(self, one: RecordedFrame) -> None:
        code, reason = one.frame[1], one.frame[2]
        if one.sender == "S" and code not in OF_ITS_TIME:
            await self._until(lambda: False)
            if self._closed is None or self._closed[0] != code:
                raise self._difference(one, ["close", code], self._closed)
            self.compared += 1
        elif one.sender is None:
            self._link.abort()
        else:
            if one.sender == "C" and not await self._until(lambda: not self._uploads.waiting):
                raise self._difference(one, "credit for the uploads", self._closed)
            await self._link.close(code if one.sender == "C" else CloseCode.NORMAL, reason)

    async def _say(self, one: RecordedFrame) -> None:
        frame, name = one.frame, one.frame[0]
        if name in ("ack", "ping", "pong"):
            return
        if name == "hello":
            body = {**frame[1], "auth": self._auth, "token": None, "received": 0, "link": 1}  # nosec B105 - a token that is none
            await self._send([self._codec.dump(["hello", body])])
        elif name == "auth":
            if self._auth is not None:
                await self._send([self._codec.dump(["auth", self._auth])])
        elif name in ("message", "end", "error") and frame[1] in self._uploads:
            await self._upload(one)
        else:
            self._note(frame)
            await self._send([self._mapped(one)])
        self.sent += 1

    def _note(self, frame: list[Any]) -> None:
        name = frame[0]
        if name in ("call", "notify") and len(frame) > 4 and isinstance(frame[4], dict):
            self._uploads.begin(frame[1], frame[4].get("uploads") or {}, self._window)
        elif name == "cancel":
            self._cancelled.add(frame[1])
        elif name in ("result", "end", "error"):
            self._finished.add(frame[1])

    async def _upload(self, one: RecordedFrame) -> None:
        """Send uploaded items as far as the server's credit allows."""
        id = one.frame[1]
        if one.frame[0] == "message":
            parts = self._codec.split_array(one.data)
            self._uploads.add(id, self._codec.split_array(parts[2]), list(parts[3:]))
        else:
            self._note(one.frame)
            self._uploads.finish(id, self._mapped(one))
        frames = self._uploads.due()
        if frames:
            await self._send(frames)

    def _mapped(self, one: RecordedFrame) -> bytes:
        """A frame with the ids that the server uses in this run."""
        frame, ids = one.frame, self._ids
        changed: dict[int, Any] = {}
        if len(frame) > 1 and isinstance(frame[1], int):
            changed[1] = ids.get(frame[1], frame[1])
        if frame[0] in ("call", "notify"):
            if isinstance(frame[2], int):
                changed[2] = ids.get(frame[2], frame[2])
            options = frame[4] if len(frame) > 4 and isinstance(frame[4], dict) else {}
            if options.get("parent") in ids:
                changed[4] = {**options, "parent": ids[options["parent"]]}
        if all(frame[at] == value for at, value in changed.items()):
            # The frame goes as it was recorded, even where it has a value that cannot be read.
            return one.data
        parts: list[Any] = list(self._codec.split_array(one.data))
        for at, value in changed.items():
            parts[at] = value
        return self._codec.dump(parts)

    async def _send(self, frames: Sequence[bytes]) -> None:
        async with self._sending:
            try:
                await self._link.send(self._codec.join(frames))
            except LinkClosed:
                # The task that waits for the server finds out, and raises it.
                return

    # ------------------------------------------------------------------ comparison

    async def _compare(self, one: RecordedFrame) -> None:
        frame = one.frame
        if frame[0] == "hello":
            if not await self._until(lambda: self._hello is not None):
                raise self._difference(one, frame, self._closed)
            assert self._hello is not None
            for key in SAME_HELLO:
                if self._hello.get(key) != frame[1].get(key):
                    raise self._difference(
                        one, {key: frame[1].get(key)}, {key: self._hello.get(key)}
                    )
            self.compared += 1
            return
        for token in self._recorded.take(frame):
            await self._expect(one, token)
            self.compared += 1

    async def _expect(self, one: RecordedFrame, token: Token) -> None:
        if token.kind in ("call", "notify"):
            await self._expect_call(one, token)
            return
        id = self._ids.get(token.id, token.id)
        lane = self._lanes.setdefault(id, [])
        if token.id in self._cancelled:
            if token.kind == "item":
                return
            await self._until(lambda: any(found.kind != "item" for found in lane))
            while lane and lane[0].kind == "item":
                del lane[0]
        elif token.kind == "cancel" and token.id in self._finished:
            # It crossed the last frame of this side in the recording, and need not do so again.
            return
        if token.kind != "cancel":
            await self._until(lambda: any(found.kind != "cancel" for found in lane))
            while lane and lane[0].kind == "cancel":
                del lane[0]
        else:
            await self._until(lambda: bool(lane))
        if not lane:
            raise self._difference(one, token, self._closed)
        found = lane.pop(0)
        if token.id in self._cancelled:
            # The order of end, beginning and cancel is a matter of time, but two errors must have
            # the same code.
            if token.kind == found.kind == "error" and token.value["code"] != found.value["code"]:
                raise self._difference(one, token, found)
            return
        fields = self._fields(one.method)
        same = token.kind == found.kind and _same(
            self._comparable(token, fields), self._comparable(found, fields)
        )
        if not same:
            raise self._difference(one, token, found)

    async def _expect_call(self, one: RecordedFrame, token: Token) -> None:
        """Find the server's call that matches this one: others may come before it in this run."""
        fields = self._fields(one.method)
        wanted = self._comparable(token, fields)

        def fitting() -> list[Token]:
            return [
                made
                for made in self._calls
                if made.kind == token.kind and _same(wanted, self._comparable(made, fields))
            ]

        await self._until(lambda: bool(fitting()))
        found = fitting()
        if not found:
            raise self._difference(one, token, self._calls[0] if self._calls else self._closed)
        made = found[0]
        self._calls.remove(made)
        self._ids[token.id] = made.id
        for group in ("uploads", "callbacks"):
            now = made.value[2].get(group) or {}
            for name, id in (token.value[2].get(group) or {}).items():
                self._ids[id] = now.get(name, id)

    def _comparable(self, token: Token, fields: frozenset[str]) -> Any:
        """The part of a token that must be the same in every run."""
        value = token.value
        if token.kind in ("call", "notify"):
            method, args, options = value
            same = {key: options.get(key) for key in SAME_OPTIONS}
            for group in ("uploads", "callbacks"):
                same[group] = sorted(options.get(group) or {})
            return [method, _without(args, fields), _without(same, fields)]
        if token.kind == "error" and isinstance(value, dict):
            if value.get("code") == Code.DEADLINE_EXCEEDED:
                # Whether the call had begun is a matter of time, and so is the rest of the error.
                return value["code"]
            kept = {key: value.get(key) for key in ("code", "message", "type", "not_started")}
            if value.get("error_id") and isinstance(kept["message"], str):
                kept["message"] = kept["message"].replace(value["error_id"], "")
            return {**kept, "data": _without(value.get("data"), fields)}
        return _without(value, fields)

    def _difference(self, one: RecordedFrame, expected: Any, found: Any) -> Difference:
        if isinstance(found, tuple):
            found = ["close", *found]
        return Difference(one, _told(expected), _told(found), self._timeout)


def _without(value: Any, fields: frozenset[str]) -> Any:
    if "*" in fields:
        return None
    return masked(value, fields) if fields else value


def _same(recorded: Any, found: Any) -> bool:
    """Whether two values are equal in all parts that the recording holds."""
    todo = [(recorded, found)]
    while todo:
        one, other = todo.pop()
        if isinstance(one, dict) and LEFT_OUT in one:
            continue
        if isinstance(one, dict):
            if not isinstance(other, dict) or one.keys() != other.keys():
                return False
            todo.extend((one[key], other[key]) for key in one)
        elif isinstance(one, list):
            if not isinstance(other, list):
                return False
            if len(one) == 1 and isinstance(one[0], dict) and LEFT_OUT in one[0]:
                continue
            if len(one) != len(other):
                return False
            todo.extend(zip(one, other, strict=True))
        elif one != MASKED and (isinstance(one, bool) or isinstance(other, bool)):
            if one is not other:
                return False
        elif one not in (MASKED, other):
            return False
    return True


def _told(what: Any) -> Any:
    return [what.kind, what.value] if isinstance(what, Token) else what


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"
