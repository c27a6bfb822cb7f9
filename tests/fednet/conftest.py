"""Agents whose scores are known in closed form, to check samplers and rules against theory; folders of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.diffusion.combination import ScoreAnswers
from fednet.diffusion.sde import SDE

torch.set_num_threads(1)  # small operations on a shared machine: threads that wait for each other cost minutes


@dataclass
class Gaussians:
    """A query to agents that model normal densities N(mean_k, variance_k), the same in every coordinate.

    `absent` says for a query (counted from 1) and an agent whether it stays silent; `times` collects every t.
    """

    sde: SDE
    means: tuple[float, ...]
    variances: tuple[float, ...]
    absent: Callable[[int, int], bool] = lambda _query, _agent: False
    times: list[float] = field(default_factory=list)

    def moments(self, t: float) -> tuple[Tensor, Tensor]:
        """Means and variances of the agents at t."""
        alpha, std = self.sde.marginal(torch.tensor(t, dtype=torch.float64))
        return torch.tensor(self.means) * float(alpha), torch.tensor(self.variances) * float(alpha**2) + float(std**2)

    def __call__(self, x: Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        self.times.append(t)
        present = [not self.absent(len(self.times), k) for k in range(len(self.means))]
        moments = list(zip(*self.moments(t), strict=True))
        scores = [(m - x) / v if there else x * 0 for (m, v), there in zip(moments, present, strict=True)]
        size = x[0].numel()
        divergences = torch.stack([torch.full((len(x),), -size / float(v)) for _, v in moments])
        return ScoreAnswers(torch.stack(scores), torch.tensor(present), divergences if divergence else None)

    def log_density(self, x: Tensor, t: float) -> Tensor:
        """Log densities (agents, n) of x (n, ...) at t."""
        rows = [
            torch.distributions.Normal(m, v.sqrt()).log_prob(x).flatten(1).sum(1)
            for m, v in zip(*self.moments(t), strict=True)
        ]
        return torch.stack(rows)


@pytest.fixture
def gaussians() -> type[Gaussians]:
    return Gaussians


@pytest.fixture
def diffusers_folder(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny UNet2DModel with random weights and a scheduler, as `save_pretrained` does; returns the folder."""

    def make(name: str = "folder", scheduler: Any = None, seed: int = 0, **changes: Any) -> Path:
        import diffusers  # most tests need none

        size = {"block_out_channels": (8, 8), "down_block_types": ("DownBlock2D",) * 2, "layers_per_block": 1}
        up = {"up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 4, "add_attention": False}
        shape = {"sample_size": 4, "in_channels": 1, "out_channels": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = diffusers.UNet2DModel(**{**shape, **size, **up, **changes})
        network.save_pretrained(tmp_path / name / "unet")
        (scheduler or diffusers.DDPMScheduler()).save_pretrained(tmp_path / name / "scheduler")
        return tmp_path / name

    return make
