"""Questions within one process: every responder hears them, in the order of names."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from fednet.api import Progress, Question
from fednet.federated.local_network import local_ask


class Doubler:
    """Answers with its number times the input."""

    def __init__(self, number: float, asked: list[float]) -> None:
        self.number, self.asked = number, asked

    def prepare(self, progress: Progress) -> str:
        raise AssertionError(progress)

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        self.asked.append(self.number)
        return {"x": self.number * question.inputs["x"]}


def test_a_local_question_reaches_all_in_sorted_order() -> None:
    asked: list[float] = []
    replies = local_ask({"b": Doubler(2.0, asked), "a": Doubler(1.0, asked)})(Question("double", {"x": torch.ones(2)}))
    assert asked == [1.0, 2.0]
    assert list(replies.by_node) == ["a", "b"]
    assert torch.equal(replies.by_node["b"]["x"], torch.full((2,), 2.0))
    assert (replies.late, replies.lost) == ((), {})


def test_an_error_of_a_responder_is_the_callers() -> None:
    with pytest.raises(KeyError, match="x"):
        local_ask({"a": Doubler(1.0, [])})(Question("double", {}))
