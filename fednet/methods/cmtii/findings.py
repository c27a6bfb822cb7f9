"""What a run has measured so far: exchanges, accuracies by arm, measures of generated pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fednet.api import ExchangeRecord

ClassCounts = Mapping[str, list[list[int]]]
"""Right and all by class, of the pictures of a "test" that all sites share and of the sites' "local" ones."""


@dataclass(frozen=True)
class CmtiiFindings:
    """What was measured so far.

    Attributes:
        exchanges: the records of all exchanges, in order.
        arms: by arm and site, how many pictures of each class were right.
        central: right and all by class, of the centralised baseline.
        rounds: accuracy on the shared test after each round of exchange, mean of all sites.
        evaluations: by site, the measures of its generated pictures, and what its words leak.
    """

    exchanges: tuple[ExchangeRecord, ...] = ()
    arms: Mapping[str, Mapping[str, ClassCounts]] = field(default_factory=dict)
    central: list[list[int]] | None = None
    rounds: tuple[float, ...] = ()
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def accuracy(counts: list[list[int]]) -> float:
    """The share of right pictures in counts by class; NaN where there are none."""
    right, total = (sum(column) for column in zip(*counts, strict=True))
    return right / total if total else float("nan")
