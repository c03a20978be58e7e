"""VALUE-1 and VALUE-2: what a value is, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.protocol.value_space import (
    MAX_DEPTH,
    NO_STRING_KEY,
    NOT_FINITE,
    TOO_DEEP,
    WIDE_INT,
    why_outside,
)


def nested(depth: int) -> Any:
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.rule("VALUE-1", "VALUE-2")
@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**64 - 1, 1.5, "ü", b"\x00", [], {}, [{"a": [b""]}], nested(100)],
)
def test_a_value_is_inside(value: Any) -> None:
    assert why_outside(value) is None


@pytest.mark.rule("VALUE-1", "VALUE-2")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-(2**63) - 1, WIDE_INT),
        (2**64, WIDE_INT),
        (float("nan"), NOT_FINITE),
        (float("-inf"), NOT_FINITE),
        ({1: 2}, NO_STRING_KEY),
        ({None: 2}, NO_STRING_KEY),
        (nested(101), TOO_DEEP),
    ],
)
def test_what_is_outside_is_refused_with_its_reason_however_deep_it_lies(
    value: Any, reason: Any
) -> None:
    assert why_outside(value) == reason
    if reason is not TOO_DEEP:
        assert why_outside([0, {"a": value}]) == reason


def test_bytes_are_no_value_where_the_caller_says_so() -> None:
    assert why_outside([b""], bytes=False) is not None


@pytest.mark.parametrize("value", [(1,), {1}, object(), bytearray(b""), 1j])
def test_other_types_are_no_values_and_the_reason_names_the_type(value: Any) -> None:
    reason = why_outside({"a": value})
    assert reason is not None
    assert type(value).__name__ in reason.text


def test_room_counts_from_the_value_down() -> None:
    assert MAX_DEPTH == 100
    assert why_outside([], 0) is TOO_DEEP
    assert why_outside([0], 1) is None
    assert why_outside([[]], 1) is TOO_DEEP
