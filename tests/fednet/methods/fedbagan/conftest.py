"""A small federation of sites with pictures of stripes, of which one kind is rare, trained for a moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Network, NullProgress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.federated.local_network import local_network
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.site import FedBaganSite

SMALL: dict[str, Any] = {
    "partition": {"kind": "homogeneous", "imbalance": {2: 0.2}},
    "model": {"latent": 4, "width": 4},
    "autoencoder": {"rounds": 2, "steps": 2, "batch": 8},
    "gan": {"rounds": 2, "steps": 2, "batch": 8, "first": 0, "generator_lr": 1e-3},
    "measure": {"judge_steps": 5},
    "report": {"every": 1, "per_class": 40},
}


def stripes(count: int, seed: int = 0, rare: int = 4) -> ImageSet:
    """Pictures 1 x 8 x 8 of three classes: rows, columns, and `rare` checks, with some noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    labels[:rare] = 2
    images = torch.full((count, 1, 8, 8), -0.8)
    images[labels == 0, :, ::2] = 0.8
    images[labels == 1, :, :, ::2] = 0.8
    images[labels == 2, :, :4, :4] = images[labels == 2, :, 4:, 4:] = 0.8
    noise = 0.2 * (2 * torch.rand(images.shape, generator=random) - 1)
    return ImageSet(images + noise, labels, ("rows", "columns", "checks"))


def small(**changes: Any) -> FedBaganConfig:
    """The small configuration; a change of a section is merged into it."""
    merged = dict(SMALL)
    for key, value in changes.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    return FedBaganConfig.model_validate(merged)


class Federation:
    """Sites a1, a2, ..., prepared, and the network of them: with stripes of their own, or with shares of the digits."""

    def __init__(self, folder: Path, config: FedBaganConfig, count: int = 3, *, digits: bool = False) -> None:
        self.config, self.folder = config, folder
        self.sites = {
            f"a{k + 1}": FedBaganSite(
                config, SiteContext(f"a{k + 1}", k, count, 0, "cpu", folder), None if digits else stripes(20 + k, k)
            )
            for k in range(count)
        }
        self.capabilities = {name: site.prepare(NullProgress()) for name, site in self.sites.items()}
        self.network: Network = local_network(self.sites, self.capabilities)


@pytest.fixture
def federation(tmp_path: Path) -> Callable[..., Federation]:
    """Makes a federation of sites with stripes."""

    def make(count: int = 3, folder: str = "run", **changes: Any) -> Federation:
        return Federation(tmp_path / folder, small(**changes), count)

    return make


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Federation]:
    """Makes a federation of sites with digits, of which the sevens are rare: what a whole run needs."""

    def make(**changes: Any) -> Federation:
        partition = {"kind": "homogeneous", "imbalance": {7: 0.2}}
        return Federation(tmp_path_factory.mktemp("whole"), small(partition=partition, **changes), digits=True)

    return make
