"""The centralised baseline: counts of all test pictures, the same for the same seed, from all sites' pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fednet.api import NullProgress, Progress, Stopped
from fednet.data.datasets import load
from fednet.methods.cmtii.centralised_baseline import centralised_counts
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.site_data import CmtiiDataSplit

pytestmark = pytest.mark.usefixtures("quick_inversion")


def counts(config: CmtiiConfig, folder: Path, progress: Progress | None = None) -> Tensor:
    test = CmtiiDataSplit(config.data, config.public).oriented(load(config.data)).test
    return centralised_counts(config, test, sites=3, folder=folder, seed=0, progress=progress or NullProgress())


def test_every_test_picture_is_counted_and_a_run_repeats(small: Callable[..., CmtiiConfig], tmp_path: Path) -> None:
    config = small(learn={"diffusion": 0.0, "contrastive": 1.0})
    first = counts(config, tmp_path)
    test = CmtiiDataSplit(config.data, config.public).oriented(load(config.data)).test
    assert first[:, 1].tolist() == list(test.histogram())
    assert bool((first[:, 0] <= first[:, 1]).all())
    assert torch.equal(first, counts(config, tmp_path))


def test_all_classes_are_learnt_whatever_a_round_of_a_site_learns(
    small: Callable[..., CmtiiConfig], tmp_path: Path
) -> None:
    everything, some = small(), small(learn={"classes": 1})
    assert torch.equal(counts(everything, tmp_path), counts(some, tmp_path))


def test_it_can_be_stopped(small: Callable[..., CmtiiConfig], tmp_path: Path) -> None:
    class Impatient:
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            if phase == "learning words":
                raise Stopped

    with pytest.raises(Stopped):
        counts(small(), tmp_path, Impatient())
