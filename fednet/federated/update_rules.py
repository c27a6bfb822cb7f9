"""Rules for updates as formulas, and the reduction of whole contributions by any of them.

The built-in formulas are those of `averaging` and `robust`; `fednet.rules.builtin` registers them. What is combined
chunk by chunk (`chunkwise`) has the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fednet.api import ModelState
from fednet.errors import MethodError
from fednet.federated.averaging import mean_formula
from fednet.federated.blocks import Formula, compute
from fednet.federated.config import Krum, Mean, Median, TrimmedMean
from fednet.federated.robust import (
    is_scored,
    krum_best,
    krum_scores,
    median_formula,
    squared_distances,
    trimmed_mean_formula,
)
from fednet.federated.state import model_tensors
from fednet.rules.contract import Contributions, RuleSettings
from fednet.rules.registry import update_rule


def mean(_: Mean, contributions: Contributions) -> Formula:
    """The mean by the contributors' weights."""
    return mean_formula(contributions.names, contributions.weights)


def median(_: Median, contributions: Contributions) -> Formula:
    """The coordinate-wise median."""
    return median_formula(len(contributions.names))


def trimmed_mean(settings: TrimmedMean, contributions: Contributions) -> Formula:
    """The coordinate-wise trimmed mean."""
    return trimmed_mean_formula(len(contributions.names), settings.trim)


def krum(settings: Krum, contributions: Contributions) -> Formula:
    """The best contribution, or the mean of the best, as whole contributions compare; ties are broken by name."""
    assert contributions.distances is not None  # noqa: S101 - the rule `compares`
    names = contributions.names
    scores = krum_scores(names, contributions.distances, settings.byzantine)
    best = [names.index(name) for name in sorted(krum_best(scores, settings.keep))]
    if len(best) == 1:
        return lambda blocks: (blocks[best[0]],)
    mean = mean_formula([names[index] for index in best], dict.fromkeys(names, 1.0))
    return lambda blocks: mean([blocks[index] for index in best])


def require_enough(rule: RuleSettings, count: int) -> None:
    """Checks that there are as many contributions as a rule needs.

    Raises:
        MethodError: there are not.
    """
    needed = update_rule(rule).least(rule)
    if count < needed:
        options = " and ".join(f"{name}={value}" for name, value in rule if name != "kind")
        raise MethodError(
            f"{rule.kind}{f' with {options}' if options else ''} needs {needed} contributions, got {count}: "
            "lower them, or raise `federation.quorum`"
        )


def reduce(rule: RuleSettings, states: Mapping[str, ModelState], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Combines contributions, or the same shard of all of them.

    Args:
        rule: the rule.
        states: finite states by contributor, of the same names, shapes and dtypes.
        weights: weight of every contributor, > 0; only used by the rules that have use for them.

    Returns:
        A new state without slots.

    Raises:
        MethodError: too few contributions for the rule, or an invalid weight.
    """
    names, models = tuple(sorted(states)), {name: model_tensors(state) for name, state in states.items()}
    if not names:
        raise MethodError("no contributions: expected at least one")
    require_enough(rule, len(names))
    compares = update_rule(rule).compares
    formulas = Formulas(rule, Contributions(names, weights, squared_distances(models) if compares else None))
    return {
        key: compute(formulas.of(like), [models[name][key] for name in names], [like])[0]
        for key, like in models[names[0]].items()
    }


class Formulas:
    """The formula of a rule for each tensor: counters are the median where whole contributions are compared."""

    def __init__(self, rule: RuleSettings, contributions: Contributions) -> None:
        chosen = update_rule(rule)
        self._weights = chosen.formula(rule, contributions)
        self._counters = median_formula(len(contributions.names)) if chosen.compares else self._weights

    def of(self, values: Tensor) -> Formula:
        """The formula for values of this dtype."""
        return self._weights if is_scored(values.dtype) else self._counters
