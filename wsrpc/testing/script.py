"""A recording as a script to replay: its sessions, and their frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..close_codes import CloseCode
from ..protocol.codec import Codec
from ..telemetry.recorded_frames import (
    UNREADABLE,
    RecordedFrame,
    RecordingError,
    frames,
    read_records,
)
from ..telemetry.recording_format import Lost
from ..telemetry.redaction import LEFT_OUT

__all__ = ["Played", "Script", "Token", "Tokens", "is_numbered", "script_of"]

LINK_FRAMES = ("hello", "ack", "ping", "pong", "goaway", "auth", "close", "unread")

# The codes with which a side tells that the other one broke the protocol; the offending frames are
# not replayed.
BREACHES = {
    CloseCode.PROTOCOL_ERROR,
    CloseCode.UNSUPPORTED_DATA,
    CloseCode.INVALID_DATA,
    CloseCode.TOO_BIG,
    CloseCode.BAD_FRAME,
    CloseCode.VIOLATION,
    CloseCode.VERSION,
}


@dataclass(frozen=True, slots=True)
class Token:
    """A step of one side on an id, regardless of its division into frames.

    Attributes:
        id: The id.
        kind: "call", "notify", "item", "result", "end", "error" or "cancel".
        value: The item, the result, the list with the final value, the error's body, the cancel's
            reason; of a call its method, arguments and options.
    """

    id: int
    kind: str
    value: Any


class Tokens:
    """Makes tokens of one side's frames: items out of messages, values out of chunks.

    Args:
        codec: The codec of the session.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # For each id, the frame whose value is on its way, and the pieces that have come.
        self._begun: dict[int, tuple[list[Any], list[Any]]] = {}

    def take(self, frame: list[Any]) -> list[Token]:
        """The tokens that a frame completes."""
        name = frame[0]
        if not is_numbered(frame) or name == "credit" or len(frame) < 2:
            return []
        id = frame[1]
        if name == "chunk":
            return self._chunk(id, frame)
        if name == "cancel":
            return [Token(id, name, frame[2] if len(frame) > 2 and frame[2] else "cancelled")]
        self._begun.pop(id, None)
        place = 5 if name in ("call", "notify") else 3
        if len(frame) > place and frame[place] is not None:
            self._begun[id] = (frame, [])
            return []
        return _whole(frame)

    def _chunk(self, id: int, frame: list[Any]) -> list[Token]:
        begun = self._begun.get(id)
        if begun is None:
            return []
        opening, pieces = begun
        pieces.append(frame[3])
        if not frame[2]:
            return []
        del self._begun[id]
        value = self._joined(pieces)
        name = opening[0]
        whole = list(opening[: 5 if name in ("call", "notify") else 3])
        if name in ("call", "notify"):
            whole[3] = value
        elif name in ("message", "end"):
            whole[2] = [value]
        elif name == "error":
            whole[2] = {**opening[2], "data": value}
        else:
            whole[2] = value
        return _whole(whole)

    def _joined(self, pieces: list[Any]) -> Any:
        if all(isinstance(one, str) for one in pieces):
            return self._codec.load("".join(pieces).encode())
        if all(isinstance(one, bytes) for one in pieces):
            return self._codec.load(b"".join(pieces))
        return {LEFT_OUT: 0}


def _whole(frame: list[Any]) -> list[Token]:
    name, id = frame[0], frame[1]
    if name in ("call", "notify"):
        options = frame[4] if len(frame) > 4 and frame[4] else {}
        return [Token(id, name, [frame[2], frame[3], options])]
    if name == "message":
        return [Token(id, "item", item) for item in frame[2]]
    if name == "end":
        final = frame[2] if len(frame) > 2 and frame[2] is not None else []
        return [Token(id, name, final)]
    if name in ("result", "error"):
        return [Token(id, name, frame[2])]
    return []


def is_numbered(frame: list[Any]) -> bool:
    """Whether both sides count a frame."""
    return frame[0] not in LINK_FRAMES and not frame[0].startswith("x-")


@dataclass(slots=True, eq=False)
class Played:
    """A session of a recording.

    Attributes:
        number: The number of its first connection.
        codec: "json" or "msgpack".
        hello: The first hello of the connecting side.
        path: The path of the request.
        unplayable: The reason why it cannot be replayed; "" if it can.
    """

    number: int
    codec: str
    hello: dict[str, Any] = field(default_factory=dict)
    path: str = "/"
    unplayable: str = ""


@dataclass(slots=True)
class Script:
    """The sessions and frames to replay.

    Attributes:
        sessions: The sessions, in the order in which they began.
        events: The frames of all sessions in the order in which they passed, each with its session.
            Frames that were sent again after a resume are there once.
    """

    sessions: list[Played]
    events: list[tuple[Played, RecordedFrame]]


class _Merged:
    """A session while it is assembled from its connections."""

    def __init__(self, played: Played) -> None:
        self.played = played
        self.at = {"C": 0, "S": 0}
        self.most = {"C": 0, "S": 0}
        self.broken: RecordedFrame | None = None

    def is_new(self, sender: str) -> bool:
        """Whether the next numbered frame of a side is a new one."""
        self.at[sender] += 1
        if self.at[sender] <= self.most[sender]:
            return False
        self.most[sender] = self.at[sender]
        return True


def script_of(path: Path, link: Iterable[int] = ()) -> Script:
    """The sessions of a recording.

    Args:
        path: The recording.
        link: Numbers of connections; only the sessions that began with one of them. All if empty.

    Raises:
        RecordingError: The recording cannot be read, or lacks messages.
    """
    records = list(read_records(path))
    if any(isinstance(record, Lost) for record in records):
        raise RecordingError(
            f"{path} lacks messages that came faster than they could be written, so it cannot be "
            "played; record it again with a larger max_pending"
        )
    script = Script([], [])
    links: dict[int, _Merged] = {}
    names: dict[str, _Merged] = {}
    greetings: dict[int, RecordedFrame] = {}
    for one in frames(iter(records)):
        name = one.frame[0]
        merged = links.get(one.link)
        if merged is None:
            merged = links[one.link] = _Merged(Played(one.link, one.codec))
            script.sessions.append(merged.played)
        if name == "hello" and one.sender == "C" and one.link not in greetings:
            greetings[one.link] = one
            merged.played.hello = one.frame[1]
        elif name == "hello" and one.sender == "S":
            body = one.frame[1]
            known = names.get(body.get("session"))
            if body.get("resumed") and known is not None and known is not merged:
                _resume(script, known, merged, greetings.get(one.link), body)
                links[one.link] = known
                continue
            if body.get("session"):
                names[body["session"]] = merged
        if is_numbered(one.frame) and one.sender is not None and not merged.is_new(one.sender):
            continue
        _judge(merged.played, one)
        script.events.append((merged.played, one))
        if name == "close":
            del links[one.link]
    chosen = set(link)
    if chosen:
        script.sessions = [one for one in script.sessions if one.number in chosen]
        if not script.sessions:
            raise RecordingError(f"no session of {path} began with connection {min(chosen)}")
        script.events = [one for one in script.events if one[0].number in chosen]
    return script


def _resume(
    script: Script,
    known: _Merged,
    link: _Merged,
    greeting: RecordedFrame | None,
    answer: dict[str, Any],
) -> None:
    """Let a session go on, as if its connection had not been lost."""
    known.at["C"] = answer.get("received") or 0
    if greeting is not None:
        known.at["S"] = greeting.frame[1].get("received") or 0
    script.sessions.remove(link.played)
    # Neither the loss nor the return is replayed.
    script.events = [
        (played, one)
        for played, one in script.events
        if played is not link.played and not (played is known.played and one.frame[0] == "close")
    ]


def _judge(played: Played, one: RecordedFrame) -> None:
    """Note the reason why a session cannot be replayed, if this frame is one."""
    if played.unplayable:
        return
    if one.frame[0] == "unread" and one.sender == "C":
        played.unplayable = "the client sent a message that was no batch"
    elif one.frame[0] == "close" and one.sender == "S" and one.frame[1] in BREACHES:
        played.unplayable = f"the client broke the protocol (close code {one.frame[1]})"
    elif one.frame[0] == "close" and one.frame[1] == CloseCode.CANNOT_RESUME:
        played.unplayable = "the client came back to a session that was gone"
    elif one.sender == "C" and one.frame[0] != "hello" and _is_left_out(one.frame):
        played.unplayable = "values of the client are left out of the recording"
    elif one.sender == "C" and one.frame[0] == "message" and _is_unreadable(one.frame):
        played.unplayable = "the client sent an item that cannot be read"


def _is_unreadable(message: list[Any]) -> bool:
    return len(message) > 2 and isinstance(message[2], dict) and UNREADABLE in message[2]


def _is_left_out(value: Any) -> bool:
    # This is no recursion: a recorded value may be nested deeper than the bound.
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            if LEFT_OUT in one:
                return True
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
    return False
