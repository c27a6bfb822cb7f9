"""The interface's values are immutable, and a local question reaches every responder in sorted order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from fednet.api import Exchanger, NullProgress, Participant, Progress, Question, Replies, Responder, local_ask
from fednet.errors import MethodError


class Doubler:
    """Answers with its number times the input."""

    def __init__(self, number: float, asked: list[float]) -> None:
        self.number, self.asked = number, asked

    def prepare(self, progress: Progress) -> str:
        progress.report("preparing", 1, 1)
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        if question.ask != "double":
            raise MethodError(f"unknown question {question.ask!r}; expected 'double'")
        self.asked.append(self.number)
        return {"x": self.number * question.inputs["x"]}


def test_a_local_question_reaches_all_in_sorted_order() -> None:
    asked: list[float] = []
    responders: dict[str, Responder] = {"b": Doubler(2.0, asked), "a": Doubler(1.0, asked)}
    replies = local_ask(responders)(Question("double", {"x": torch.ones(2)}))
    assert asked == [1.0, 2.0]
    assert list(replies.by_node) == ["a", "b"]
    assert torch.equal(replies.by_node["b"]["x"], torch.full((2,), 2.0))
    assert (replies.late, replies.lost) == ((), {})


def test_an_error_of_a_responder_is_the_callers() -> None:
    with pytest.raises(MethodError, match="unknown question 'halve'"):
        local_ask({"a": Doubler(1.0, [])})(Question("halve", {}))


def test_a_responder_is_neither_participant_nor_exchanger() -> None:
    doubler = Doubler(1.0, [])
    assert doubler.prepare(NullProgress()) == "{}"
    assert not isinstance(doubler, Participant)
    assert not isinstance(doubler, Exchanger)


def test_values_are_immutable() -> None:
    replies = Replies({})
    with pytest.raises(FrozenInstanceError):
        replies.late = ("a",)  # type: ignore[misc]
