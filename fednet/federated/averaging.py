"""The weighted mean of contributions (FedAvg, McMahan et al. 2017, arXiv 1602.05629, algorithm 1).

sum over k of (n_k / n) w_k, in float64, in sorted order of the contributors' names, with separate products and sums
(a fused one rounds differently), so that every peer gets the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from fednet.api import ModelState
from fednet.errors import MethodError
from fednet.federated.blocks import Formula, compute


def weighted_mean(states: Mapping[str, ModelState], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The mean of states weighted by the contributors' weights.

    Args:
        states: finite states by contributor, at least one; all of the same names, shapes and dtypes.
        weights: weight of every contributor, finite and > 0; only their ratios matter.

    Returns:
        A new state: float and complex tensors rounded once to their dtype, integers rounded half to even, bools by
        weighted majority (a tie is False).

    Raises:
        MethodError: no contribution, or a weight that is missing, not finite or not positive.
    """
    names = sorted(states)
    mean = mean_formula(names, weights)
    return {
        tensor: compute(mean, [states[name][tensor] for name in names], [like])[0]
        for tensor, like in states[names[0]].items()
    }


def shares(names: Sequence[str], weights: Mapping[str, float]) -> list[float]:
    """Each contributor's share of the total weight, in the order of `names`; they add up to 1.

    Raises:
        MethodError: no names, or a weight that is missing, not finite or not positive.
    """
    if not names:
        raise MethodError("no contributions: expected at least one")
    for name in names:
        weight = weights.get(name)
        if weight is None or not (math.isfinite(weight) and weight > 0):
            raise MethodError(f"{name} contributes with weight {weight}: expected a finite number > 0")
    largest = max(weights[name] for name in names)
    relative = [weights[name] / largest for name in names]  # their sum cannot overflow
    total = math.fsum(relative)
    return [part / total for part in relative]


def mean_formula(names: Sequence[str], weights: Mapping[str, float]) -> Formula:
    """The weighted mean of blocks in the order of `names`.

    Raises:
        MethodError: see `shares`.
    """
    parts = shares(names, weights)

    def formula(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        mean = blocks[0].mul_(parts[0])
        for block, part in zip(blocks[1:], parts[1:], strict=True):
            mean.add_(block.mul_(part))
        return (mean,)

    return formula
