"""The reduction of whole contributions is the rule's formula, applied to every tensor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.federated.averaging import weighted_mean
from fednet.federated.config import Krum, Mean, Median, TrimmedMean
from fednet.federated.state import digest
from fednet.federated.update_rules import reduce, require_enough
from fednet.rules.contract import RuleSettings

Draw = Callable[..., dict[str, Tensor]]
WEIGHTS = {"a": 2.0, "b": 5.0, "c": 0.3, "d": 1.0, "e": 7.0}


def test_the_mean_is_the_weighted_mean_and_the_rules_differ(state: Draw) -> None:
    states = {name: state(seed) for seed, name in enumerate(WEIGHTS)}
    rules: list[RuleSettings] = [Mean(), Median(), TrimmedMean(trim=0.2), Krum(byzantine=1, keep=2)]
    found = [digest(reduce(rule, states, WEIGHTS)) for rule in rules]
    assert found[0] == digest(weighted_mean(states, WEIGHTS))
    assert len(set(found)) == 4


def test_a_best_contribution_comes_out_as_it_went_in(state: Draw) -> None:
    one = state(1)
    states = {**dict.fromkeys("abcd", one), "e": state(2)}
    chosen = reduce(Krum(), states, WEIGHTS)
    assert all(torch.equal(chosen[key], value) for key, value in one.items() if value.is_floating_point())
    chosen[next(iter(chosen))].zero_()
    assert digest(states["a"]) == digest(state(1))


def test_too_few_are_told_what_the_rule_needs() -> None:
    with pytest.raises(MethodError, match="krum with byzantine=1 and keep=1 needs 5 contributions, got 4"):
        require_enough(Krum(), 4)
    require_enough(RuleSettings(kind="median"), 1)
