"""Agents whose scores are known in closed form, to check samplers and rules against theory; folders of diffusers."""

from __future__ import annotations

import json
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


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion folder with random weights, as `save_pretrained` writes it; pictures are 3 x 16 x 16."""
    import diffusers
    import transformers

    folder = tmp_path_factory.mktemp("text-to-image")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "words").mkdir()
    (folder / "words" / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "words" / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": words[0], "eos_token": words[1], "unk_token": words[1], "pad_token": words[1]}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 12, **special}
    (folder / "words" / "tokenizer_config.json").write_text(json.dumps(settings))
    blocks = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                max_position_embeddings=12, bos_token_id=0, eos_token_id=1,
            )
        )  # fmt: skip
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, cross_attention_dim=16, attention_head_dim=4, **blocks,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )  # fmt: skip
        vae = diffusers.AutoencoderKL(
            sample_size=16, latent_channels=4, **blocks,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=encoder, unet=unet, scheduler=scheduler,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "words", local_files_only=True),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "model")  # fmt: skip
    return folder / "model"
