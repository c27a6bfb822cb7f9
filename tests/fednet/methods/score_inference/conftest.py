"""A small federation of real sites on pictures of stripes, trained for a moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Responder, SiteContext
from fednet.data.datasets import ImageSet
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.site import ScoreInferenceSite

SMALL: dict[str, dict[str, Any]] = {
    "model": {"channels": [8], "groups": 4, "attention": False},
    "train": {"steps": 3},
    "sampler": {"kind": "euler-maruyama", "steps": 3},
    "samples": {"total": 6},
}


def stripes(label: int, count: int = 12) -> ImageSet:
    """Pictures 1 x 4 x 4 of one of three classes: its own column is bright."""
    images = -torch.ones(count, 1, 4, 4)
    images[:, :, :, label] = 1
    return ImageSet(images, torch.full((count,), label), ("one", "two", "three"))


def small(**changes: Mapping[str, Any]) -> ScoreInferenceConfig:
    """The small configuration; a change of a section is merged into it."""
    merged = {key: {**SMALL.get(key, {}), **value} for key, value in {**SMALL, **changes}.items()}
    return ScoreInferenceConfig.model_validate(merged)


class Federation:
    """Sites a1, a2, ... with a class each, prepared, and their capabilities."""

    def __init__(self, folder: Path, config: ScoreInferenceConfig, count: int = 3) -> None:
        self.config = config
        self.sites: dict[str, Responder] = {
            f"a{k + 1}": ScoreInferenceSite(
                config, SiteContext(f"a{k + 1}", k, count, 0, "cpu", folder), stripes(k % 3, 12 + k)
            )
            for k in range(count)
        }
        self.capabilities = {name: site.prepare(NullProgress()) for name, site in self.sites.items()}


@pytest.fixture
def federation(tmp_path: Path) -> Callable[..., Federation]:
    def make(config: ScoreInferenceConfig | None = None, count: int = 3) -> Federation:
        return Federation(tmp_path, config or small(), count)

    return make


@pytest.fixture
def small_config() -> Callable[..., ScoreInferenceConfig]:
    return small
