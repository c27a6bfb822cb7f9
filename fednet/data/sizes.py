"""Sizes of the agents' shares: rounding of fractions, and random unequal sizes within bounds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
CLOSE = 1e-9
"""Tolerance, so that .29 of 100 is 29, although the float product is a little less."""
SMALLEST = 10
"""An unequal part is at least one over this of an even part (PFLlib)."""


def train_size(count: int, ratio: float) -> int:
    """How many of so many pictures are trained on, where the rest tests: floor(ratio * count), at least one.

    Args:
        count: > 0.
        ratio: in (0, 1].
    """
    return max(1, int(ratio * count + CLOSE))


def apportion(wanted: NDArray[np.float64], sizes: Counts) -> Counts:
    """Rounds to integers with the rounded sum: largest remainder first, then smallest size so far.

    Args:
        wanted: float64 (K,), not negative; 0 stays 0.
        sizes: int64 (K,), the current sizes.
    """
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    missing = round(float(wanted.sum())) - int(counts.sum())
    remainder = np.round(wanted - counts, 9)
    open_ = [k for k in range(len(wanted)) if wanted[k] > 0]
    order = sorted(open_, key=lambda k: (-remainder[k], sizes[k] + counts[k], k))
    for k in order[:missing]:
        counts[k] += 1
    return counts


def random_sizes(total: int, holders: int, least: float, rng: np.random.Generator) -> Counts:
    """Draws unequal sizes: all but the last are uniform between a tenth of an even part and an even part.

    The last has the rest, so at least an even part. This is how PFLlib (`dataset/utils/dataset_utils.py`) makes
    divisions that are not balanced.

    Args:
        total: sum of the sizes.
        holders: number of sizes, K > 0.
        least: lower bound of every size, unless an even part is smaller.
        rng: random generator.

    Returns:
        int64 (K,) with the sum `total`.
    """
    even = total // holders
    low = min(math.ceil(max(total / holders / SMALLEST, least)), even)
    counts: Counts = rng.integers(low, even, size=holders, endpoint=True)
    counts[-1] = total - counts[:-1].sum()
    return counts
