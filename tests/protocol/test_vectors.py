"""The vectors against the core of the package, and against the text that they come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.test_rules import rules
from wsrpc.interop.vector_files import Name, expand, load
from wsrpc.protocol.codec import Codec

from .harness import decode, plain, rejected
from .vector_player import Player

TEXT = (Path(__file__).parents[2] / "protocol.md").read_text(encoding="utf-8")
NAMES: list[Name] = ["frames", "conversations", "refused"]


def title(vector: Any) -> str:
    return str(vector.get("title") or vector["json"][:40])


# ------------------------------------------------------------------------ against the core


@pytest.mark.parametrize("vector", load("frames"), ids=title)
def test_a_frame_is_read_as_the_vector_says_and_written_so_that_it_reads_the_same(
    vector: dict[str, Any], codec: Codec
) -> None:
    shown = expand(vector["frame"], text=codec.text)
    data = vector["json"].encode() if codec.text else bytes.fromhex(vector["msgpack"])
    assert decode(codec, data) == shown, "the vector contradicts itself"
    frame: Any = codec.decode_one(Raw(data))
    if shown[0].startswith("x-"):
        return
    if shown[0] == "chunk":
        _, id, last, piece = shown
        value = (piece.encode() if codec.text else piece) + (b"" if last else b"more")
        written, _ = codec.chunk(id, value, 0, len(piece))
        assert decode(codec, written) == shown
        return
    again = plain(without_nulls(decode(codec, codec.encode(frame))))
    assert again[: len(shown)] == plain(without_nulls(shown))


def without_nulls(frame: list[Any]) -> list[Any]:
    """What is null is absent: what is encoded again need not have it (BATCH-4)."""
    return [
        {key: value for key, value in part.items() if value is not None}
        if isinstance(part, dict) and frame[0] in ("hello", "error")
        else part
        for part in frame
    ]


@pytest.mark.parametrize("vector", load("refused"), ids=title)
def test_what_must_be_refused_is_refused_with_its_code(
    vector: dict[str, Any], codec: Codec
) -> None:
    raw = "json" if "json" in vector else "msgpack" if "msgpack" in vector else None
    if raw is not None and (raw == "json") != codec.text:
        pytest.skip("a message of the other codec")
    player = Player(vector["to"], codec, vector.get("limits"), greet=not vector.get("first", False))
    for side, frames in vector.get("before", ()):
        player.line(side, frames)

    def hand_over() -> None:
        bare = player.bare
        if raw is not None:
            data = vector[raw]
            bare.receive(data.encode() if raw == "json" else bytes.fromhex(data))
        else:
            bare.say(*expand(vector["send"], text=codec.text))
        # On a new link the hello is only read; its endpoint acts on it.
        bare.accept()

    assert rejected(hand_over) == vector["code"]


@pytest.mark.parametrize("vector", load("conversations"), ids=title)
@pytest.mark.parametrize("side", ["C", "S"])
def test_a_conversation_is_held_as_the_vector_says(
    vector: dict[str, Any], codec: Codec, side: str
) -> None:
    if side not in vector.get("plays", ("C", "S")):
        pytest.skip("the vector has this side say what no endpoint says by itself")
    if vector.get("codec", "json") != ("json" if codec.text else "msgpack") and "codec" in vector:
        pytest.skip("a message of the other codec")
    player = Player(side, codec)
    for who, frames in vector["lines"]:
        player.line(who, frames, any_order=vector.get("any_order", False))
    assert not [frame for frame in player.heard if frame[0] not in ("ack", "credit", "cancel")]


# ------------------------------------------------------------------------ against the text


@pytest.mark.parametrize("name", NAMES)
def test_vectors_name_rules_that_exist(name: Name) -> None:
    known = set.union(*rules())
    assert {rule for vector in load(name) for rule in vector["rules"]} <= known


def test_titles_of_vectors_are_unique() -> None:
    for name in NAMES[1:]:
        titles = [vector["title"] for vector in load(name)]
        assert len(set(titles)) == len(titles)


def test_every_frame_of_the_text_has_a_vector() -> None:
    table = TEXT[TEXT.index("| frame | sent by |") : TEXT.index("## `hello`")]
    names = set(re.findall(r"`([a-z]+)`", table)) - {"x"}
    assert {vector["frame"][0] for vector in load("frames")} - {"x-trace"} == names


# Rules whose breach no single message shows: they concern time, rates, room, or a second link.
NO_MESSAGE = {
    "HELLO-6", "HELLO-7", "HELLO-9", "AUTH-1", "AUTH-3", "AUTH-4", "RESUME-3", "RESUME-4", "LIMIT-1",
    "LIMIT-2", "LIMIT-3", "OUT-4", "HEART-2", "DRAIN-3", "CLOSE-1", "CLOSE-2", "CLOSE-4", "LINK-2",
    "VALUE-2",
}  # fmt: skip


def codes_of_rules() -> dict[str, set[int]]:
    """The close codes that each rule names as what a breach of it gets."""
    found: dict[str, set[int]] = {}
    for rule, said in re.findall(r"^- \*\*([A-Z]+-\d+)\*\* (.*)$", TEXT, re.MULTILINE):
        codes = re.findall(r"(?:closed with|closes with|otherwise) (\d{4})", said)
        if codes:
            found[rule] = set(map(int, codes))
    return found


def test_every_rule_that_names_a_close_code_has_a_vector_with_that_code() -> None:
    implemented, _ = rules()
    vectors: dict[str, set[int]] = {}
    for vector in load("refused"):
        for rule in vector["rules"]:
            vectors.setdefault(rule, set()).add(vector["code"])
    wanted = {
        rule: codes
        for rule, codes in codes_of_rules().items()
        if rule in implemented and rule not in NO_MESSAGE
    }
    assert len(wanted) > 15
    missing = {
        rule: codes for rule, codes in wanted.items() if not codes & vectors.get(rule, set())
    }
    assert missing == {}
    stray = {
        rule: found - codes_of_rules()[rule]
        for rule, found in vectors.items()
        if rule in codes_of_rules() and found - codes_of_rules()[rule] - {4500}
    }
    assert stray == {}, "a vector with a code that its rule does not name"
