"""The aggregate is the rule and then the server's step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.federated.aggregation import aggregate, server_step
from fednet.federated.config import Adam, Federation, Krum, Mean, Momentum, TrimmedMean
from fednet.federated.state import digest
from fednet.federated.update_rules import reduce

Draw = Callable[..., dict[str, Tensor]]
WEIGHTS = {"a": 2.0, "b": 5.0, "c": 0.3, "d": 1.0, "e": 7.0}


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
