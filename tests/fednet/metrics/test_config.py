"""Every distance that a configuration names exists."""

from __future__ import annotations

from typing import get_args

from fednet.metrics.config import DistanceName


def test_the_names_are_those_of_the_distances() -> None:
    assert set(get_args(DistanceName)) == {"mse", "ssim", "perceptual", "lpips"}
