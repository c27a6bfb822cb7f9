"""Secure sums among liars, for some seeds, and what is found where a protection is missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fednet.privacy.secure_sum_setup import SecureSumParameters
from nodes.rounds import secure_sum
from nodes.rounds.revealed import RevealedSums
from tests.byzantine.sums import SumWorld, simulate_sums
from tests.byzantine.test_harness import first_violation

BATCHES, RUNS = 4, 5
"""Some eight seconds of one core; `tests/soak/byzantine.py --sums` has more of them."""

LEAD: dict[str, Any] = {"names": ("a", "b", "c", "d"), "liars": ("a",), "role": "lead"}
TWO: dict[str, Any] = {"names": ("a", "b", "c", "d", "e"), "liars": ("a", "b"), "role": "member"}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_liars_compute_no_contribution(batch: int) -> None:
    told = Counter[str]()
    for seed in range(batch * RUNS, (batch + 1) * RUNS):
        told.update(simulate_sums(seed))
    assert told["adoptions"], "sums are unmasked among the lies"


@pytest.mark.parametrize("seed", [300807, 302825])
def test_who_has_revealed_for_others_has_no_part_in_another_sum(seed: int) -> None:
    """It masked its contribution, and then refused to unmask the sum for which the others had revealed: for good."""
    assert simulate_sums(seed)["adoptions"]


@pytest.mark.parametrize(
    ("broken", "scenario", "found"),
    [
        ([(RevealedSums, "require_only", lambda *_: None)], LEAD, "can compute"),
        ([(SumWorld, "floor", lambda *_: 1)], {**LEAD, "quorum": 4}, "below its floor"),
        (
            [(secure_sum, "threshold_of", lambda *_: 2), (SecureSumParameters, "__post_init__", lambda _: None)],
            TWO,
            "can compute",
        ),
    ],
    ids=["one sum of a base", "floors", "thresholds"],
)
def test_a_protection_that_is_missing_is_found(
    monkeypatch: pytest.MonkeyPatch, broken: list[Any], scenario: dict[str, Any], found: str
) -> None:
    for place in broken:
        monkeypatch.setattr(*place)
    assert found in first_violation(lambda seed: simulate_sums(seed, **scenario), range(300))
