"""What a run has measured so far: exchanges, accuracies by arm, measures of generated pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from fednet.api import ExchangeRecord

ClassCounts = Mapping[str, list[list[int]]]
"""Right and all by class, of the sites' "local" test pictures and, where there is one, of a "test" that all share."""


@dataclass(frozen=True)
class CmtiiFindings:
    """What was measured so far.

    Attributes:
        exchanges: the records of all exchanges, in order.
        arms: by arm and site, how many pictures of each class were right.
        central: right and all by class, of the centralised baseline.
        rounds: accuracy after each round of exchange, see `mean_accuracy`.
        evaluations: by site, the measures of its generated pictures, and what its words leak.
    """

    exchanges: tuple[ExchangeRecord, ...] = ()
    arms: Mapping[str, Mapping[str, ClassCounts]] = field(default_factory=dict)
    central: list[list[int]] | None = None
    rounds: tuple[float, ...] = ()
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def mean_accuracy(counts: Mapping[str, ClassCounts]) -> float:
    """The accuracy of all sites on the shared test, on the average; of those that have one on their own without it.

    NaN where no site has any.
    """
    known = [accuracy(one.get("test") or one["local"]) for one in counts.values()]
    known = [value for value in known if not math.isnan(value)]
    return mean(known) if known else math.nan


def accuracy(counts: list[list[int]]) -> float:
    """The share of right pictures in counts by class; NaN where there are none."""
    right, total = (sum(column) for column in zip(*counts, strict=True))
    return right / total if total else float("nan")
