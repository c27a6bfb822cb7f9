"""Numbers that are not finite: as strings in JSON, which pydantic reads as floats, and as text."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import TypeAdapter

from fednet.reporting.json_text import NON_FINITE, number_text, to_json


def test_what_is_not_finite_is_a_string_at_any_depth() -> None:
    value = {"a": (1.5, [math.nan, {"b": -math.inf}]), "c": "NaN", "d": None, "e": True}
    read = json.loads(to_json(value), parse_constant=pytest.fail)
    assert read == {"a": [1.5, ["NaN", {"b": "-Infinity"}]], "c": "NaN", "d": None, "e": True}


def test_pydantic_reads_it_as_a_float() -> None:
    read = TypeAdapter(list[float]).validate_json(to_json([math.inf, -math.inf, math.nan, 0.5]))
    assert read[:2] == [math.inf, -math.inf]
    assert math.isnan(read[2])
    assert read[3] == 0.5


def test_a_number_as_text() -> None:
    assert [number_text(value) for value in (math.nan, math.inf, -math.inf)] == list(NON_FINITE)
    assert number_text(1234.56) == "1235"


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        to_json({"a": object()})
