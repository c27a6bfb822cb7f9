"""The measurements of the classifier's rounds, in small."""

from __future__ import annotations

from fednet.data.config import DataConfig
from fednet.methods.novelty.experiments import accuracy_by_round, few, first_drift, two_sites
from fednet.methods.novelty.fitting import FitConfig
from fednet.methods.novelty.words import read_cards


def test_the_sites_have_their_labels_and_share_one(tmp_path) -> None:
    cards = read_cards(two_sites(DataConfig(), 0, FitConfig(), tmp_path).cards)
    assert cards["a1"].labels() == (0, 1, 2)
    assert cards["a2"].labels() == (2, 3, 4)
    assert abs(cards["a1"].histogram[2] - cards["a2"].histogram[2]) <= 1
    assert cards["a1"].histogram[2] * 2 - cards["a1"].histogram[1] in range(-4, 5)


def test_few_leaves_as_many_to_learn_from() -> None:
    assert few(DataConfig(), 300).limit == 3750


def test_rounds_teach_what_no_site_knows_alone() -> None:
    accuracies = accuracy_by_round(DataConfig(), seed=0, rounds=3)
    assert len(accuracies) == 3
    assert accuracies[-1] > 0.75


def test_a_pull_holds_the_sites_back() -> None:
    drifts = [first_drift(DataConfig(), seed=0, mu=mu) for mu in (0.0, 1.0)]
    assert drifts[0] > 2 * drifts[1] > 0
