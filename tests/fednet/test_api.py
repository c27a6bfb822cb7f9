"""The interface's values are immutable, and its protocols tell sites apart by what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest
from torch import Tensor

from fednet.api import Exchanger, NullProgress, Participant, Progress, Question, Replies
from fednet.errors import MethodError


class Doubler:
    """Answers with its number times the input."""

    def __init__(self, number: float, asked: list[float]) -> None:
        self.number, self.asked = number, asked

    def prepare(self, progress: Progress) -> str:
        progress.report("preparing", 1, 1)
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        if question.task != "double":
            raise MethodError(f"unknown question {question.task!r}; expected 'double'")
        self.asked.append(self.number)
        return {"x": self.number * question.inputs["x"]}


def test_a_responder_is_neither_participant_nor_exchanger() -> None:
    doubler = Doubler(1.0, [])
    assert doubler.prepare(NullProgress()) == "{}"
    assert not isinstance(doubler, Participant)
    assert not isinstance(doubler, Exchanger)


def test_values_are_immutable() -> None:
    replies = Replies({})
    with pytest.raises(FrozenInstanceError):
        replies.late = ("a",)  # type: ignore[misc]
