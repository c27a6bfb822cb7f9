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


def test_only_those_that_a_question_is_for_hear_it() -> None:
    asked: list[float] = []
    ask = local_ask({name: Doubler(float(number), asked) for number, name in enumerate("abc")})
    assert list(ask(Question("double", {"x": torch.ones(1)}, to=("c", "a"))).by_node) == ["a", "c"]
    assert asked == [0.0, 2.0]


def test_single_responders_get_tensors_of_their_own() -> None:
    ask = local_ask({name: Doubler(2.0, []) for name in "abc"})
    replies = ask(Question("double", {}, each={"c": {"x": torch.ones(1)}, "a": {"x": torch.zeros(2)}}))
    assert {name: outputs["x"].tolist() for name, outputs in replies.by_node.items()} == {"a": [0.0, 0.0], "c": [2.0]}
