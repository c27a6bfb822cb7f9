"""Small sites with pictures of bright columns, a column a class, and the network of all of them in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Network, NullProgress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.federated.local_network import local_network
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.site import NoveltySite
from fednet.seeds import generator

CLASSES = ("one", "two", "three", "four")
SMALL: Mapping[str, Mapping[str, Any]] = {
    "classifier": {"lr": 0.05, "epochs": 4, "batch": 8},
    "detector": {
        "unet": {"channels": [8], "groups": 4, "attention": False},
        "train": {"steps": 3, "batch": 8},
        "alone": 4,
        "score": {"reconstructions": 2, "steps": 2, "false_alarms": 0.3},
    },
    "disclose": {"calibrate": {"pictures": 2}, "evaluate": {"pictures": 2}},
}


def columns(*labels: int, count: int = 16, seed: int = 0) -> ImageSet:
    """Pictures 1 x 8 x 8 of these classes: two columns of their own are bright, with a little noise."""
    of_each = torch.tensor([label for label in labels for _ in range(count)])
    images = torch.randn(len(of_each), 1, 8, 8, generator=generator(seed, "columns", *labels)) * 0.05 - 0.8
    for index, label in enumerate(of_each.tolist()):
        images[index, :, :, 2 * label : 2 * label + 2] += 1.5
    return ImageSet(images.clamp(-1, 1), of_each, CLASSES)


def small(**changes: Mapping[str, object]) -> NoveltyConfig:
    """The small configuration; a change of a section is merged into it."""
    merged = {key: {**SMALL.get(key, {}), **value} for key, value in {**SMALL, **changes}.items()}
    return NoveltyConfig.model_validate(merged)


class Cluster:
    """Two sites, prepared: a1 with the labels 0-2, a2 with 1-3; and their network."""

    def __init__(self, folder: Path, config: NoveltyConfig, seed: int = 0) -> None:
        held = {"a1": (0, 1, 2), "a2": (1, 2, 3)}
        self.config = config
        self.contexts = {name: SiteContext(name, index, 2, seed, "cpu", folder) for index, name in enumerate(held)}
        self.sites = {
            name: NoveltySite(config, self.contexts[name], columns(*labels, seed=index))
            for index, (name, labels) in enumerate(held.items())
        }
        self.capabilities = {name: site.prepare(NullProgress()) for name, site in self.sites.items()}
        self.network: Network = local_network(self.sites, self.capabilities, seed)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, small())


@pytest.fixture
def make_cluster(cluster_in: Callable[..., Cluster], tmp_path: Path) -> Callable[..., Cluster]:
    return lambda config=None, folder=tmp_path: cluster_in(folder, config)


@pytest.fixture(scope="session")
def cluster_in() -> Callable[..., Cluster]:
    """Makes a cluster in a folder."""
    return lambda folder, config=None: Cluster(folder, config or small())


@pytest.fixture(scope="session")
def pictures() -> Callable[..., ImageSet]:
    return columns


@pytest.fixture(scope="session")
def small_config() -> Callable[..., NoveltyConfig]:
    return small
