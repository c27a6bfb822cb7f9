"""The types that fields of messages are made of."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocol.limits import DEFAULT
from protocol.messages.base import (
    MAX_TENSORS,
    MAX_TOPICS,
    Address,
    Count,
    Label,
    Latest,
    Name,
    Real,
    Seconds,
    Topic,
    WireValue,
)
from protocol.topics import LARGEST

TYPES: list[tuple[Any, list[Any], list[Any]]] = [
    (Real, [0.5, math.inf, -math.inf], ["1", None, b"1", [1.0]]),
    (Count, [0, 1, LARGEST], [-1, LARGEST + 1, 1.0, True, "1", None]),
    (Name, ["a", "0-_", "n" * 32], ["", "A", "a/", "n" * 33, "-a", b"a"]),
    (Topic, ["a/", "to/anna/", "a/b/c/"], ["", "a", "/", "a/b", "a/b/c/d/", "A/", b"a/"]),
    (
        Address,
        ["tcp://h:1", "ipc:///tmp/a", "memory://a", "hub@tcp://h:1"],
        ["h:1", "tcp://*:1", "", "a@b", b"ipc:///a"],
    ),
    (Label, ["x", "x" * 64, "\u00e9"], ["", "x" * 65, b"x", 1]),
    (Seconds, [0, 0.0, 1e300], [-1e-9, math.inf, math.nan, "1"]),
]


@pytest.mark.parametrize(("kind", "right", "wrong"), TYPES)
def test_a_type_accepts_its_values_and_no_others(kind: Any, right: list[Any], wrong: list[Any]) -> None:
    adapter = TypeAdapter(kind, config={"strict": True})
    for value in right:
        assert adapter.validate_python(value) == value
    for value in wrong:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_an_int_becomes_a_float_where_one_is_expected() -> None:
    for kind in (Real, Seconds):
        assert isinstance(TypeAdapter(kind, config={"strict": True}).validate_python(3), float)


def test_latest_numbers_are_bounded_like_the_maps_of_a_header() -> None:
    latest = {f"t{index}/": index for index in range(MAX_TOPICS)}
    adapter = TypeAdapter(Latest, config={"strict": True})
    assert adapter.validate_python(latest) == latest
    with pytest.raises(ValidationError):
        adapter.validate_python(latest | {"more/": 1})
    assert (DEFAULT.max_items, DEFAULT.max_tensors) == (MAX_TOPICS, MAX_TENSORS)


def test_a_value_is_frozen_and_knows_all_its_fields() -> None:
    class Point(WireValue):
        x: int

    assert Point(x=1) == Point(x=1)
    assert hash(Point(x=1)) == hash(Point(x=1))
    with pytest.raises(ValidationError):
        Point(x=1).x = 2  # type: ignore[misc]
    for wrong in ({"x": 1, "y": 2}, {}, {"x": 1.0}, {"x": "1"}):
        with pytest.raises(ValidationError):
            Point.model_validate(wrong)
