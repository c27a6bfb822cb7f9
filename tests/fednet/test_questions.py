"""Whom a question is for, and what each of them receives."""

from __future__ import annotations

import torch

from fednet.api import Question
from fednet.questions import asked_of, recipients

X = {"x": torch.ones(1)}


def test_a_question_is_for_all_for_some_or_for_each_with_its_own() -> None:
    assert recipients(Question("q", X)) is None
    assert recipients(Question("q", X, to=("b", "a", "b"))) == ("a", "b")
    assert recipients(Question("q", X, to=())) == ()
    assert recipients(Question("q", X, each={"c": X, "a": X})) == ("a", "c")


def test_each_receives_what_all_receive_and_its_own() -> None:
    own = {"x": torch.zeros(2)}
    question = Question("q", {**X, "common": X["x"]}, {"t": 1.0}, each={"a": own})
    received = asked_of(question, "a")
    assert (received.task, received.options, received.to, received.each) == ("q", {"t": 1.0}, None, None)
    assert received.inputs["x"] is own["x"]
    assert received.inputs["common"] is X["x"]
    assert asked_of(question, "b").inputs["x"] is X["x"]
