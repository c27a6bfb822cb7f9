"""A question goes to what answers it, and to nothing else."""

from __future__ import annotations

import pytest
import torch

from fednet.api import Question
from fednet.errors import MethodError
from fednet.methods.common.dispatch import QuestionHandlers, dispatch

ASKS: QuestionHandlers = {
    "twice": lambda question: {"y": 2 * question.inputs["x"]},
    "half": lambda question: {"y": question.inputs["x"] / 2},
}


def test_each_question_is_answered_by_its_own() -> None:
    x = torch.ones(3)
    assert dispatch(ASKS, Question("twice", {"x": x}), "a1")["y"].equal(2 * x)
    assert dispatch(ASKS, Question("half", {"x": x}), "a1")["y"].equal(x / 2)


def test_what_cannot_be_asked_is_named_in_short_with_what_can() -> None:
    with pytest.raises(MethodError, match=r"a1 answers twice, half; not 'x{40}'$"):
        dispatch(ASKS, Question("x" * 99, {}), "a1")
