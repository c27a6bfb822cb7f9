"""What a report of progress accepts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from protocol.messages import ProgressReport

GOOD: dict[str, Any] = {"phase": "training", "done": 3, "total": 10, "values": {"loss": 0.5}}


def test_a_note_is_not_needed_and_a_value_need_not_be_finite() -> None:
    assert ProgressReport(**GOOD).note == ""
    assert math.isnan(ProgressReport(**(GOOD | {"values": {"loss": math.nan}})).values["loss"])
    assert type(ProgressReport(**(GOOD | {"values": {"epoch": 2}})).values["epoch"]) is float


@pytest.mark.parametrize(
    "wrong",
    [
        {"phase": ""},
        {"phase": "x" * 65},
        {"done": -1},
        {"total": 0.5},
        {"values": {"": 1.0}},
        {"values": {"loss": "low"}},
        {"values": {"loss": None}},
        {"values": {"loss": True}},
        {"values": {"loss": torch.tensor(0.5)}},
        {"values": {f"v{index}": 0.0 for index in range(257)}},
        {"note": "x" * 201},
        {"note": None},
    ],
)
def test_anything_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProgressReport(**(GOOD | wrong))
