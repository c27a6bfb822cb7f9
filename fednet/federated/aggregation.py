"""From contributions to the next model: the configured rule, then the configured server step.

Deterministic: the same contributions give the same bytes, whatever the order of the mapping and the number of
threads. Refuses to know where the contributions come from; whoever receives them has checked that they fit and are
finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from fednet.api import ModelState
from fednet.federated.averaging import weighted_mean
from fednet.federated.config import Federation, Krum, Mean, Median, RuleConfig, TrimmedMean
from fednet.federated.robust import coordinate_median, krum, trimmed_mean
from fednet.federated.server import server_step
from fednet.federated.state import model_tensors

AggregationRule = Callable[[Any, Mapping[str, ModelState], Mapping[str, float]], dict[str, Tensor]]

RULES: Mapping[type, AggregationRule] = {
    Mean: lambda _, states, weights: weighted_mean(states, weights),
    Median: lambda _, states, __: coordinate_median(states),
    TrimmedMean: lambda rule, states, _: trimmed_mean(states, rule.trim),
    Krum: lambda rule, states, _: krum(states, rule.byzantine, rule.keep),
}


def reduce(rule: RuleConfig, states: Mapping[str, ModelState], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Combines contributions, or the same shard of all of them.

    Args:
        rule: how.
        states: finite states by contributor, without the server's slots, of the same names, shapes and dtypes.
        weights: of every contributor, > 0; only the mean looks at them.

    Returns:
        A new state without slots.

    Raises:
        MethodError: too few contributions for the rule, or a weight that is none.
    """
    return RULES[type(rule)](rule, {name: model_tensors(state) for name, state in states.items()}, weights)


def aggregate(
    federation: Federation, base: ModelState, states: Mapping[str, ModelState], weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """The model after a round: `advance(server, base, reduce(rule, contributions))`.

    Args:
        federation: the rule and the server's optimiser.
        base: what the last round left, with the server's slots if it left any.
        states: as for `reduce`.
        weights: as for `reduce`.

    Raises:
        MethodError: as `reduce` and `advance` do.
    """
    return server_step(federation.server, base, reduce(federation.rule, states, weights))
