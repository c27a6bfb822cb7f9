"""Byzantine-robust aggregation rules.

The coordinate-wise median and trimmed mean (Yin et al. 2018, arXiv 1803.01498, definitions 1 and 2) and Krum
(Blanchard et al. 2017, arXiv 1703.02757, section 4). They ignore weights, since a Byzantine contributor chooses its
own. Contributions are finite; the receiver has validated them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import MethodError
from fednet.federated.averaging import weighted_mean
from fednet.federated.blocks import Formula, compute, squared_distance
from fednet.federated.hash_tree import CHUNK, chunk_count, chunk_size
from fednet.federated.state import detached_copy
from fednet.federated.state_file import Segment, StateFile


def coordinate_median(states: Mapping[str, ModelState]) -> dict[str, Tensor]:
    """The median of every coordinate; of an even number, the mean of the two in the middle.

    Stays between honest values while fewer than half of the contributions are arbitrary.

    Raises:
        MethodError: no contribution.
    """
    return _coordinate_wise(states, median_formula(len(states)))


def trimmed_mean(states: Mapping[str, ModelState], trim: float) -> dict[str, Tensor]:
    """The mean of every coordinate without the floor(trim * n) smallest and largest of its n values.

    Stays between honest values while at most floor(trim * n) contributions are arbitrary.

    Args:
        states: by contributor, at least one; all of the same names, shapes and dtypes.
        trim: fraction that is trimmed at either end, in [0, 0.5).

    Raises:
        MethodError: no contribution.
    """
    return _coordinate_wise(states, trimmed_mean_formula(len(states), trim))


def median_formula(count: int) -> Formula:
    """The median of `count` blocks."""
    return _middle((count - 1) // 2)


def trimmed_mean_formula(count: int, trim: float) -> Formula:
    """The mean of `count` blocks without the floor(trim * count) smallest and largest."""
    trimmed = math.floor(trim * count + 1e-9)  # 0.29 * 100 is 28.999999999999996
    return _middle(min(trimmed, (count - 1) // 2))


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
    require_enough(len(states), byzantine, keep)
    best = krum_best(krum_scores(states, byzantine), keep)
    chosen = detached_copy(states[best[0]])
    if keep > 1:
        chosen = weighted_mean({name: states[name] for name in best}, dict.fromkeys(best, 1.0))
    counters = {name: {key: t for key, t in state.items() if not is_scored(t.dtype)} for name, state in states.items()}
    return {**chosen, **coordinate_median(counters)}


def require_enough(count: int, byzantine: int, keep: int) -> None:
    """Checks that there are as many contributions as Krum needs.

    Raises:
        MethodError: there are not.
    """
    needed = max(2 * byzantine + 3, byzantine + 2 + keep)
    if count < needed:
        raise MethodError(
            f"krum with byzantine={byzantine} and keep={keep} needs {needed} contributions, got {count}: "
            "lower them, or raise `federation.quorum`"
        )


def krum_scores(states: Mapping[str, ModelState], byzantine: int) -> dict[str, float]:
    """Krum score by contributor; the smallest is the best (Blanchard et al. 2017, section 4)."""
    distances = SquaredDistances(sorted(states))
    files = [StateFile(states[name]) for name in sorted(states)]
    for index in range(chunk_count(files[0].layout.size)):
        span = index * CHUNK, chunk_size(files[0].layout.size, index)
        segments = files[0].layout.segments(span[0], sum(span))
        distances.add(segments, [file.read(*span) for file in files])
    return distances.scores(byzantine)


def krum_best(scores: Mapping[str, float], keep: int) -> list[str]:
    """The names of the `keep` best scores; ties are broken by name."""
    return sorted(sorted(scores), key=scores.__getitem__)[:keep]


class SquaredDistances:
    """The squared distances between all pairs of contributions, chunk after chunk in the order of their file.

    Args:
        names: of the contributors, sorted.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sums = dict.fromkeys(itertools.combinations(range(len(names)), 2), 0.0)

    def add(self, segments: Iterable[Segment], parts: Sequence[bytes | memoryview]) -> None:
        """Adds the same chunk of all contributions, in the order of their names."""
        scored = [segment for segment in segments if is_scored(segment.dtype)]
        values = [[segment.values(part) for segment in scored] for part in parts]
        for one, other in self._sums:
            self._sums[one, other] += squared_distance(values[one], values[other])

    def scores(self, byzantine: int) -> dict[str, float]:
        """Krum score by contributor, once all chunks are added."""
        distances: list[list[float]] = [[] for _ in self._names]
        for (one, other), distance in self._sums.items():
            distances[one].append(distance)
            distances[other].append(distance)
        closest = len(self._names) - byzantine - 2
        return {name: sum(sorted(each)[:closest]) for name, each in zip(self._names, distances, strict=True)}


def is_scored(dtype: torch.dtype) -> bool:
    """Whether values of this dtype enter the scores."""
    return dtype.is_floating_point or dtype.is_complex


def _coordinate_wise(states: Mapping[str, ModelState], formula: Formula) -> dict[str, Tensor]:
    if not states:
        raise MethodError("no contributions: expected at least one")
    names = sorted(states)
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
