"""Step sizes of a site's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.errors import ModelError
from fednet.methods.private_gan.adaptive_step import MAX_FACTOR, MIN_FACTOR, AdaptiveStepSize, next_factor

BASE = {"w": torch.zeros(4), "n": torch.tensor(3)}
AHEAD, BACK = ({"w": sign * torch.ones(4), "n": torch.tensor(3)} for sign in (1.0, -1.0))


def test_who_pulls_where_all_go_steps_further_within_bounds() -> None:
    assert next_factor(1.0, BASE, AHEAD, AHEAD) > 1.0 > next_factor(1.0, BASE, BACK, AHEAD)
    assert next_factor(1.0, BASE, BASE, AHEAD) == 1.0 == next_factor(1.0, BASE, AHEAD, BASE)
    fast = slow = 1.0
    for _ in range(30):
        fast, slow = next_factor(fast, BASE, AHEAD, AHEAD), next_factor(slow, BASE, BACK, AHEAD)
    assert (fast, slow) == (MAX_FACTOR, MIN_FACTOR)


def test_a_round_counts_once_and_is_remembered(tmp_path: Path) -> None:
    pace = AdaptiveStepSize(tmp_path)
    pace.closed("gan", 1, AHEAD)
    assert pace.of("gan") == 1.0  # it had not contributed
    pace.contributed("gan", 2, BASE, AHEAD)
    pace.closed("gan", 2, AHEAD)
    once = pace.of("gan")
    pace.closed("gan", 2, AHEAD)
    assert pace.of("gan") == once == AdaptiveStepSize(tmp_path).of("gan") > 1.0
    pace.contributed("gan", 3, BASE, AHEAD)
    pace.closed("gan", 4, AHEAD)
    assert pace.of("gan") == once


def test_a_site_that_dies_before_the_end_of_a_round_learns_from_it_in_its_next_life(tmp_path: Path) -> None:
    undisturbed = AdaptiveStepSize(tmp_path / "here")
    undisturbed.contributed("gan", 1, BASE, AHEAD)
    undisturbed.closed("gan", 1, AHEAD)
    AdaptiveStepSize(tmp_path / "there").contributed("gan", 1, BASE, AHEAD)
    AdaptiveStepSize(tmp_path / "there").closed("gan", 1, AHEAD)
    again = AdaptiveStepSize(tmp_path / "there")
    again.closed("gan", 1, AHEAD)
    assert again.of("gan") == undisturbed.of("gan") > 1.0


def test_a_damaged_contribution_is_named(tmp_path: Path) -> None:
    pace = AdaptiveStepSize(tmp_path)
    pace.contributed("gan", 1, BASE, AHEAD)
    path = tmp_path / "gan.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"gan.safetensors cannot be used"):
        pace.closed("gan", 1, AHEAD)
