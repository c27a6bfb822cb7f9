"""Replies become answers, and an account of who contributed."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from fednet.api import NullProgress, Question, Replies
from fednet.diffusion.combination import LabelCounts
from fednet.diffusion.sde import VP
from fednet.errors import MethodError
from fednet.methods.score_inference.federated_score import FederatedScore
from fednet.questions import asked_of, recipients
from fednet.reporting.summary import ParticipationAccount

X = torch.zeros(2, 1, 2, 2)
HELD = LabelCounts(("a", "b", "c"), torch.tensor([[4, 0], [0, 4], [4, 0]]), torch.tensor([0, 1]))


def score(value: float) -> dict[str, torch.Tensor]:
    return {"score": torch.full((2, 1, 2, 2), value), "divergence": torch.full((2,), value)}


class Scripted:
    """Gives prepared replies, one a question."""

    def __init__(self, *replies: Replies) -> None:
        self.replies, self.asked = list(replies), list[Question]()

    def __call__(self, question: Question) -> Replies:
        self.asked.append(question)
        return self.replies.pop(0)


def query(ask: Scripted, account: ParticipationAccount | None = None) -> FederatedScore:
    booked = account or ParticipationAccount.of("query", HELD.names)
    return FederatedScore(ask, HELD, {"guidance": 2.0, "probe_seed": 5}, booked, NullProgress(), "x", VP())


def test_the_question_carries_labels_time_and_options() -> None:
    ask = Scripted(Replies({name: score(1.0) for name in "abc"}))
    answers = query(ask)(X, 0.25, True)
    (asked,) = ask.asked
    assert asked.task == "score"
    assert dict(asked.options) == {"guidance": 2.0, "probe_seed": 5, "t": 0.25, "divergence": True}
    assert asked.inputs["labels"] is HELD.labels
    assert answers.divergences is not None
    assert answers.divergences.shape == (3, 2)


def test_answers_stand_in_the_order_of_names_and_gaps_are_marked() -> None:
    answers = query(Scripted(Replies({"c": score(3.0), "a": score(1.0)}, late=("b",))))(X, 0.5)
    assert answers.scores[:, 0, 0, 0, 0].tolist() == [1.0, 0.0, 3.0]
    assert answers.present.tolist() == [True, False, True]
    assert answers.divergences is None


def test_the_account_knows_who_contributed_when() -> None:
    account = ParticipationAccount.of("query", HELD.names)
    ask = Scripted(
        Replies({"a": score(1.0), "b": score(1.0)}, late=("c",)),
        Replies({"a": score(1.0), "c": score(1.0)}, lost={"b": "died"}),
        Replies({"a": score(1.0), "c": score(1.0)}, lost={"b": "died"}),
    )
    asking = query(ask, account)
    for _ in range(3):
        asking(X, 0.5)
    assert asking.uncovered_labels == {1}
    assert asdict(account) == {
        "unit": "query",
        "steps": 3,
        "nodes": {
            "a": {"contributed": 3, "first": 1, "last": 3, "late": 0},
            "b": {"contributed": 1, "first": 1, "last": 1, "late": 0},
            "c": {"contributed": 2, "first": 2, "last": 3, "late": 1},
        },
        "lost": {"b": {"step": 2, "reason": "died"}},
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "nothing"),
        ({"score": torch.zeros(2, 1, 2, 3)}, "2, 3"),
        ({"score": X.double()}, "float64"),
        ({"score": X + torch.inf}, "not finite"),
        ({"score": X + 1e30}, "e+29 times what data of at most 1 allow"),
    ],
)
def test_an_unusable_answer_is_left_out_and_reported(bad: dict[str, torch.Tensor], message: str) -> None:
    account = ParticipationAccount.of("query", HELD.names)
    answers = query(Scripted(Replies({"a": score(1.0), "b": bad, "c": score(1.0)})), account)(X, 0.5)
    assert answers.present.tolist() == [True, False, True]
    assert message in str(account.lost["b"].reason)


def test_a_huge_divergence_names_its_site() -> None:
    account = ParticipationAccount.of("query", HELD.names)
    huge = {**score(1.0), "divergence": torch.tensor([1.0, -1e30])}
    answers = query(Scripted(Replies({"a": score(1.0), "b": huge, "c": score(1.0)})), account)(X, 0.5, True)
    assert answers.present.tolist() == [True, False, True]
    assert "its divergence at t = 0.5000" in account.lost["b"].reason


def test_strangers_are_not_heard() -> None:
    answers = query(Scripted(Replies({"a": score(1.0), "z": score(9.0)})))(X, 0.5)
    assert answers.present.tolist() == [True, False, False]
    assert float(answers.scores.max()) == 1


def test_without_any_usable_answer_the_run_ends() -> None:
    with pytest.raises(MethodError, match="none of"):
        query(Scripted(Replies({"z": score(1.0)})))(X, 0.5)


def test_each_site_gets_its_own_samples_only_and_the_answers_are_put_back() -> None:
    account, x = ParticipationAccount.of("query", HELD.names), torch.arange(8.0).view(2, 1, 2, 2)
    one = {"score": torch.ones(1, 1, 2, 2), "divergence": torch.ones(1)}
    ask = Scripted(Replies({"a": one, "c": score(3.0)}))
    asking = query(ask, account)
    answers = asking(x, 0.5, True, torch.tensor([[False, True], [False, False], [True, True]]))
    (asked,) = ask.asked
    assert recipients(asked) == ("a", "c")
    assert torch.equal(asked_of(asked, "a").inputs["x"], x[1:])
    assert asked_of(asked, "a").inputs["labels"].tolist() == [1]
    assert torch.equal(asked_of(asked, "c").inputs["x"], x)
    assert answers.scores[:, :, 0, 0, 0].tolist() == [[0.0, 1.0], [0.0, 0.0], [3.0, 3.0]]
    assert answers.divergences is not None
    assert answers.divergences.tolist() == [[0.0, 1.0], [0.0, 0.0], [3.0, 3.0]]
    assert answers.present.tolist() == [True, False, True]
    assert account.lost == {}
    assert {name: one.samples for name, one in asking.traffic.sites().items()} == {"a": 1, "c": 2}


def test_a_site_that_was_asked_some_samples_and_answers_others_is_refused() -> None:
    account = ParticipationAccount.of("query", HELD.names)
    answers = query(Scripted(Replies({"a": score(1.0)})), account)(
        X, 0.5, False, torch.tensor([[True, False], [False, False], [False, False]])
    )
    assert not answers.present.any()
    assert list(account.lost) == ["a"]
    assert "float32 (1, 1, 2, 2)" in account.lost["a"].reason
