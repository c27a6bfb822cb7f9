"""SGD at one site, with and without FedProx's term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress
from fednet.errors import MethodError
from fednet.federated.proximal import drift
from fednet.methods.novelty.config import ClassifierTrainConfig
from fednet.methods.novelty.training import batched_logits, count_correct, train_classifier
from fednet.models.lenet import LeNet


def fresh(seed: int = 0) -> LeNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LeNet(1, 4)


def fitted(pictures: Callable[..., Any], anchor: Any = None, seed: int = 0, **settings: Any) -> Any:
    net = fresh()
    loss = train_classifier(
        net,
        pictures(0, 1),
        ClassifierTrainConfig(lr=0.05, **settings),
        anchor=anchor,
        seed=seed,
        progress=NullProgress(),
    )
    return net.state_dict(), loss


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_repeats_bit_for_bit_and_another_seed_differs(pictures: Callable[..., Any]) -> None:
    first = fitted(pictures)[0]
    torch.rand(1)  # the global random numbers play no part
    assert equal(first, fitted(pictures)[0])
    assert not equal(fitted(pictures)[0], fitted(pictures, seed=1)[0])


def test_without_a_pull_fedprox_is_fedavg_bit_for_bit(pictures: Callable[..., Any]) -> None:
    anchor = fresh(1).state_dict()
    assert equal(fitted(pictures, anchor, mu=0.0)[0], fitted(pictures)[0])
    assert not equal(fitted(pictures, anchor, mu=0.1)[0], fitted(pictures)[0])


def test_a_stronger_pull_keeps_nearer(pictures: Callable[..., Any]) -> None:
    base = fresh().state_dict()
    drifts = [drift(fitted(pictures, base, mu=mu, epochs=5)[0], base) for mu in (0.0, 1.0, 10.0)]
    assert drifts[0] > drifts[1] > drifts[2] > 0


def test_no_global_random_number_moves(pictures: Callable[..., Any]) -> None:
    before = torch.random.get_rng_state()
    fitted(pictures)
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_learns_and_ends_in_evaluation_mode(pictures: Callable[..., Any]) -> None:
    net = fresh()
    train_classifier(
        net, pictures(0, 1, 2), ClassifierTrainConfig(epochs=8), anchor=None, seed=0, progress=NullProgress()
    )
    assert not net.training
    right, there = count_correct(net, pictures(0, 1, 2, seed=9))
    assert there.tolist() == [16, 16, 16, 0]
    assert int(right.sum()) > 40


@pytest.mark.parametrize(("settings", "count"), [({}, 3), ({"epochs": 4}, 12), ({"steps": 5}, 5)])
def test_the_budget_is_kept(pictures: Callable[..., Any], settings: Any, count: int) -> None:
    reported: list[int] = []

    class Counting(NullProgress):
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            reported.append(done)
            assert total == count

    train_classifier(
        fresh(), pictures(0, 1, count=17), ClassifierTrainConfig(**settings), anchor=None, seed=0, progress=Counting()
    )
    assert reported == list(range(1, count + 1))


def test_a_training_that_diverges_says_so(pictures: Callable[..., Any]) -> None:
    with pytest.raises(MethodError, match=r"lower classifier\.lr"):
        train_classifier(
            fresh(),
            pictures(0, 1),
            ClassifierTrainConfig(lr=1e6, epochs=50),
            anchor=None,
            seed=0,
            progress=NullProgress(),
        )


def test_two_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        ClassifierTrainConfig(epochs=1, steps=1)


def test_logits_do_not_depend_on_the_chunks(pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    images, net = pictures(0, 1, 2).images, fresh().eval()
    whole = batched_logits(net, images)
    monkeypatch.setattr("fednet.methods.novelty.training.CHUNK", 7)
    torch.testing.assert_close(batched_logits(net, images), whole, rtol=1e-4, atol=1e-5)
