"""Cases of parametrized tests: few in the quick suite, all of them in the slow one.

A fault that no single value shows is nearly always one of two values together (pairwise testing: Kuhn, Wallace and
Gallo, "Software fault interactions and implications for software testing", IEEE TSE 2004). Knows no test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any

import pytest

Choice = tuple[tuple[int, int], ...]
"""Axes and the index of a value of each."""


def covering(*axes: Sequence[Any], together: int = 2) -> list[Any]:
    """All combinations of a value of each axis; those beyond the few that cover everything are marked `slow`.

    Args:
        axes: the values of two or more parameters.
        together: how many axes' values are covered in every combination: 2 for all pairs of values, 1 for all values.

    Returns:
        The arguments of `pytest.mark.parametrize`, in the order of `itertools.product`.
    """
    everything = [tuple(enumerate(indices)) for indices in product(*(range(len(axis)) for axis in axes))]
    quick = _covering(everything, together)
    return [
        pytest.param(*(axes[axis][index] for axis, index in choice), marks=() if choice in quick else pytest.mark.slow)
        for choice in everything
    ]


def first(count: int, values: Iterable[Any]) -> list[Any]:
    """Values of one parameter of which only the first few are quick, such as seeds: the others are marked `slow`."""
    return [pytest.param(value, marks=() if at < count else pytest.mark.slow) for at, value in enumerate(values)]


def _covering(everything: Sequence[Choice], together: int) -> set[Choice]:
    """Greedily: next the choice that covers most, and of these one whose values have been used least."""
    missing = {part for choice in everything for part in combinations(choice, together)}
    used: Counter[tuple[int, int]] = Counter()
    chosen: set[Choice] = set()
    while missing:
        best = max(
            everything,
            key=lambda choice: (
                sum(part in missing for part in combinations(choice, together)),
                -sum(used[value] for value in choice),
            ),
        )
        missing.difference_update(combinations(best, together))
        used.update(best)
        chosen.add(best)
    return chosen
