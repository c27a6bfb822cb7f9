"""Byzantine-robust aggregation rules.

The coordinate-wise median and trimmed mean (Yin et al. 2018, arXiv 1803.01498, definitions 1 and 2) and Krum
(Blanchard et al. 2017, arXiv 1703.02757, section 4). They ignore weights, since a Byzantine contributor chooses its
own. Contributions are finite; the receiver has validated them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import MethodError
from fednet.federated.averaging import weighted_mean
from fednet.federated.blocks import Formula, compute, squared_distance
from fednet.federated.state import detached_copy


def coordinate_median(states: Mapping[str, ModelState]) -> dict[str, Tensor]:
    """The median of every coordinate; of an even number, the mean of the two in the middle.

    Stays between honest values while fewer than half of the contributions are arbitrary.

    Raises:
        MethodError: no contribution.
    """
    return _without_extremes(states, (len(states) - 1) // 2)


def trimmed_mean(states: Mapping[str, ModelState], trim: float) -> dict[str, Tensor]:
    """The mean of every coordinate without the floor(trim * n) smallest and largest of its n values.

    Stays between honest values while at most floor(trim * n) contributions are arbitrary.

    Args:
        states: by contributor, at least one; all of the same names, shapes and dtypes.
        trim: fraction that is trimmed at either end, in [0, 0.5).

    Raises:
        MethodError: no contribution.
    """
    trimmed = math.floor(trim * len(states) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    return _without_extremes(states, min(trimmed, (len(states) - 1) // 2))


def krum(states: Mapping[str, ModelState], byzantine: int, keep: int) -> dict[str, Tensor]:
    """The contribution that is closest to its neighbours; with `keep` > 1 the mean of the best (Multi-Krum).

    A contribution's score is the sum of its squared distances to the n - byzantine - 2 closest others, over all float
    and complex tensors, in float64; ties are broken by name. Integers and bools (counters, of another scale than
    weights) do not enter the scores; they are the coordinate-wise median of all.

    Args:
        states: n finite states by contributor, all of the same names, shapes and dtypes.
        byzantine: number of contributions that may be arbitrary.
        keep: number of best contributions that are averaged, at most n - byzantine - 2.

    Raises:
        MethodError: n < max(2 * byzantine + 3, byzantine + 2 + keep).
    """
    needed = max(2 * byzantine + 3, byzantine + 2 + keep)
    if len(states) < needed:
        raise MethodError(
            f"krum with byzantine={byzantine} and keep={keep} needs {needed} contributions, got {len(states)}: "
            "lower them, or raise `federation.quorum`"
        )
    scores = krum_scores(states, byzantine)
    best = sorted(sorted(scores), key=scores.__getitem__)[:keep]
    chosen = detached_copy(states[best[0]])
    if keep > 1:
        chosen = weighted_mean({name: states[name] for name in best}, dict.fromkeys(best, 1.0))
    counters = {name: {key: t for key, t in state.items() if not _scored(t)} for name, state in states.items()}
    return {**chosen, **coordinate_median(counters)}


def krum_scores(states: Mapping[str, ModelState], byzantine: int) -> dict[str, float]:
    """Krum score by contributor; the smallest is the best (Blanchard et al. 2017, section 4)."""
    names = sorted(states)
    keys = sorted(key for key, tensor in states[names[0]].items() if _scored(tensor))
    tensors = {name: [states[name][key] for key in keys] for name in names}
    distances: dict[str, list[float]] = {name: [] for name in names}
    for one, other in itertools.combinations(names, 2):
        distance = squared_distance(tensors[one], tensors[other])
        distances[one].append(distance)
        distances[other].append(distance)
    closest = len(names) - byzantine - 2
    return {name: sum(sorted(values)[:closest]) for name, values in distances.items()}


def _without_extremes(states: Mapping[str, ModelState], count: int) -> dict[str, Tensor]:
    """The mean of every coordinate without its `count` smallest and `count` largest values."""
    if not states:
        raise MethodError("no contributions: expected at least one")
    names, formula = sorted(states), _middle(count)
    return {
        tensor: compute(formula, [states[name][tensor] for name in names], [like])[0]
        for tensor, like in states[names[0]].items()
    }


def _middle(count: int) -> Formula:
    def formula(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        rows = _sorted(blocks)[count : len(blocks) - count]
        if len(rows) == 1:
            return (rows[0],)
        mean = rows[0].div_(len(rows))  # divided first: the sum could overflow
        for row in rows[1:]:
            mean.add_(row.div_(len(rows)))
        return (mean,)

    return formula


def _sorted(blocks: Sequence[Tensor]) -> list[Tensor]:
    """Sorts every coordinate by odd-even transposition: minima and maxima of whole rows are faster than torch.sort.

    Negative zeros become positive, since the order of the two is not defined.
    """
    rows = [block.add_(0.0) for block in blocks]
    for turn in range(len(rows)):
        for index in range(turn % 2, len(rows) - 1, 2):
            pair = rows[index], rows[index + 1]
            rows[index], rows[index + 1] = torch.minimum(*pair), torch.maximum(*pair)
    return rows


def _scored(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
