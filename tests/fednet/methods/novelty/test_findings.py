"""What was measured goes through the journal unchanged, whatever its labels and lengths."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from fednet.api import RoundRecord
from fednet.methods.novelty.findings import ClassifierRound, DetectorRound, DetectorScores, FirstModel, NoveltyTrials
from fednet.methods.novelty.validation import ClassifierValidation

CLOSED = RoundRecord(2, "classifier", {"a1": 3.0}, {"a1": {"loss": 0.5}}, ("a2",), {"a3": "left"}, {}, "abc", 0.1, "a1")
VALIDATION = ClassifierValidation(0.75, {0: 2, 3: 2}, {0: 1.0, 3: 0.5}, "abc")


@pytest.mark.parametrize(
    "measured",
    [
        FirstModel("a1", VALIDATION, {"a1": VALIDATION}, {}, CLOSED),
        ClassifierRound(CLOSED, {"a1": VALIDATION}),
        DetectorRound(CLOSED),
        NoveltyTrials({"x": DetectorScores((0.1, 0.3), (2.5,), None)}, {"alone": {"a1": 0.7}}),
    ],
)
def test_it_is_the_same_after_the_journal(measured: Any) -> None:
    adapter = TypeAdapter(type(measured))
    assert adapter.validate_json(adapter.dump_json(measured)) == measured
