"""A small federation of sites with pictures of stripes, trained for a moment with seeded noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Network, NullProgress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.federated.local_network import local_network
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.site import PrivateGanSite

SMALL: dict[str, Any] = {
    "model": {"kind": "dp-dcgan", "latent": 4, "width": 8},
    "train": {"steps": 3, "rate": 0.2, "critic_steps": 1},
    "privacy": {"seeded": True},
    "rounds": 2,
    "measure": {"judge_steps": 2},
    "report": {"every": 1, "samples": 40},
}


def stripes(count: int, seed: int = 0) -> ImageSet:
    """Pictures 1 x 8 x 8 of two classes: rows or columns, with some noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.full((count, 1, 8, 8), -0.8)
    images[labels == 0, :, ::2] = 0.8
    images[labels == 1, :, :, ::2] = 0.8
    noise = 0.2 * (2 * torch.rand(images.shape, generator=random) - 1)
    return ImageSet(images + noise, labels, ("rows", "columns"))


def small(**changes: Any) -> PrivateGanConfig:
    """The small configuration; a change of a section is merged into it."""
    merged = dict(SMALL)
    for key, value in changes.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    return PrivateGanConfig.model_validate(merged)


class Federation:
    """Sites a1, a2, ... with some pictures each, prepared, and the network of them."""

    def __init__(self, folder: Path, config: PrivateGanConfig, count: int = 3) -> None:
        self.config, self.folder = config, folder
        self.sites = {
            f"a{k + 1}": PrivateGanSite(
                config, SiteContext(f"a{k + 1}", k, count, 0, "cpu", folder), stripes(20 + k, k)
            )
            for k in range(count)
        }
        self.capabilities = {name: site.prepare(NullProgress()) for name, site in self.sites.items()}
        self.network: Network = local_network(self.sites, self.capabilities)


@pytest.fixture
def federation(tmp_path: Path) -> Callable[..., Federation]:
    def make(count: int = 3, folder: str = "run", **changes: Any) -> Federation:
        return Federation(tmp_path / folder, small(**changes), count)

    return make
