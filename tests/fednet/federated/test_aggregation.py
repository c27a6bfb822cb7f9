"""Every rule is its function; the aggregate is the rule and then the server's step."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.federated.aggregation import RULES, aggregate, reduce, server_step
from fednet.federated.averaging import weighted_mean
from fednet.federated.config import Adam, Federation, Krum, Mean, Median, Momentum, RuleConfig, TrimmedMean
from fednet.federated.robust import coordinate_median, krum, trimmed_mean
from fednet.federated.state import digest

Draw = Callable[..., dict[str, Tensor]]
WEIGHTS = {"a": 2.0, "b": 5.0, "c": 0.3, "d": 1.0, "e": 7.0}


def test_every_rule_is_in_the_table_and_is_its_function(state: Draw) -> None:
    assert set(RULES) == set(get_args(get_args(RuleConfig)[0]))
    states = {name: state(seed) for seed, name in enumerate(WEIGHTS)}
    expected: dict[RuleConfig, dict[str, Tensor]] = {
        Mean(): weighted_mean(states, WEIGHTS),
        Median(): coordinate_median(states),
        TrimmedMean(trim=0.2): trimmed_mean(states, 0.2),
        Krum(byzantine=1, keep=2): krum(states, 1, 2),
    }
    assert len({digest(result) for result in expected.values()}) == 4
    for rule, result in expected.items():
        assert digest(reduce(rule, states, WEIGHTS)) == digest(result)


@pytest.mark.parametrize("server", [Momentum(), Adam()])
def test_the_aggregate_is_rule_and_step(state: Draw, server: Momentum | Adam) -> None:
    federation = Federation(rule=TrimmedMean(), server=server)
    base = server_step(server, state(9), state(8))
    states = {name: state(seed) for seed, name in enumerate(WEIGHTS)}
    expected = server_step(server, base, reduce(federation.rule, states, WEIGHTS))
    assert digest(aggregate(federation, base, states, WEIGHTS)) == digest(expected)


def test_slots_in_a_contribution_do_not_count() -> None:
    states = {"a": {"w": torch.ones(1), "server/velocity/w": torch.ones(1)}, "b": {"w": torch.ones(1)}}
    assert set(reduce(Mean(), states, WEIGHTS)) == {"w"}


def test_krum_of_too_few_is_a_method_error() -> None:
    with pytest.raises(MethodError, match="krum"):
        aggregate(Federation(rule=Krum()), {"w": torch.ones(1)}, {"a": {"w": torch.ones(1)}}, {"a": 1.0})
