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
from fednet.federated.blocks import Formula, squared_distance
from fednet.federated.hash_tree import CHUNK, chunk_count, chunk_size
from fednet.federated.state_file import Segment, StateFile


def median_formula(count: int) -> Formula:
    """The median of every coordinate of `count` blocks; of an even number, the mean of the two in the middle.

    Stays between honest values while fewer than half of the contributions are arbitrary.
    """
    return _middle((count - 1) // 2)


def trimmed_mean_formula(count: int, trim: float) -> Formula:
    """The mean of every coordinate of `count` blocks without the floor(trim * count) smallest and largest values.

    Stays between honest values while at most floor(trim * count) contributions are arbitrary; trim in [0, 0.5).
    """
    trimmed = math.floor(trim * count + 1e-9)  # 0.29 * 100 is 28.999999999999996
    return _middle(min(trimmed, (count - 1) // 2))


def krum_scores(names: Sequence[str], distances: Mapping[tuple[int, int], float], byzantine: int) -> dict[str, float]:
    """Krum score by contributor; the smallest is the best (Blanchard et al. 2017, section 4).

    The sum of the squared distances to the n - byzantine - 2 closest others, over all float and complex tensors.
    Integers and bools (counters, of another scale than weights) do not enter.

    Args:
        names: of the n contributors.
        distances: see `fednet.rules.contract.Contributions`.
        byzantine: number of contributions that may be arbitrary.
    """
    rows: list[list[float]] = [[] for _ in names]
    for (one, other), distance in distances.items():
        rows[one].append(distance)
        rows[other].append(distance)
    closest = len(names) - byzantine - 2
    return {name: sum(sorted(row)[:closest]) for name, row in zip(names, rows, strict=True)}


def squared_distances(states: Mapping[str, ModelState]) -> Mapping[tuple[int, int], float]:
    """The squared distances between whole contributions by the positions of their names in sorted order."""
    distances = SquaredDistances(len(states))
    files = [StateFile(states[name]) for name in sorted(states)]
    for index in range(chunk_count(files[0].layout.size)):
        span = index * CHUNK, chunk_size(files[0].layout.size, index)
        segments = files[0].layout.segments(span[0], sum(span))
        distances.add(segments, [file.read(*span) for file in files])
    return distances.sums


def krum_best(scores: Mapping[str, float], keep: int) -> list[str]:
    """The names of the `keep` best scores; ties are broken by name."""
    return sorted(sorted(scores), key=scores.__getitem__)[:keep]


class SquaredDistances:
    """The squared distances between all pairs of contributions, chunk after chunk in the order of their file.

    Args:
        count: number of contributions.

    Attributes:
        sums: so far, by the positions of two contributions in the order of their names.
    """

    def __init__(self, count: int) -> None:
        self.sums = dict.fromkeys(itertools.combinations(range(count), 2), 0.0)

    def add(self, segments: Iterable[Segment], parts: Sequence[bytes | memoryview]) -> None:
        """Adds the same chunk of all contributions, in the order of their names."""
        scored = [segment for segment in segments if is_scored(segment.dtype)]
        values = [[segment.values(part) for segment in scored] for part in parts]
        for one, other in self.sums:
            self.sums[one, other] += squared_distance(values[one], values[other])


def is_scored(dtype: torch.dtype) -> bool:
    """Whether values of this dtype enter the scores."""
    return dtype.is_floating_point or dtype.is_complex


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
