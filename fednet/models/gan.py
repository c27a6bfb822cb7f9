"""Generators and discriminators for pictures of 8 x 8 to 64 x 64: an MLP, a DCGAN, and one for private training.

    mlp        two hidden layers each (Goodfellow et al. 2014, arXiv 1406.2661), any side
    dcgan      4 x 4 (transposed) convolutions with BatchNorm (Radford et al. 2016, arXiv 1511.06434)
    dp-dcgan   the same with GroupNorm, so that a picture's gradient is that picture's alone

For 64 x 64 and width 64 the DCGAN is the source's: 512-256-128-64-c up, 64-128-256-512-1 down. Weights begin as
N(0, .02), in the norms as N(1, .02). A generator maps latent vectors to pictures in [-1, 1], a discriminator pictures
to one logit each, positive for real. Knows no data and no training.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from fednet.errors import ModelError
from fednet.models.config import GanConfig

Shape = tuple[int, int, int]

LEAST_SIDE, MOST_SIDE, SEED_SIDE = 8, 64, 4
"""Of pictures, and of the first map that a convolutional generator makes."""
LEAK = 0.2
"""Slope of the leaky ReLU."""
GROUPS = 8
"""Of a group normalisation, or as many as divide the channels."""


class Generator(nn.Module):
    """Maps latent vectors (n, latent) to pictures (n, channels, side, side) in [-1, 1].

    Raises:
        ModelError: such pictures cannot be made.
    """

    def __init__(self, config: GanConfig, shape: Shape) -> None:
        super().__init__()
        self.shape, self.latent = _checked(config, shape), config.latent
        if config.kind == "mlp":
            hidden = 4 * config.width
            self.body = nn.Sequential(
                nn.Linear(config.latent, hidden), nn.LeakyReLU(LEAK),
                nn.Linear(hidden, 2 * hidden), nn.LeakyReLU(LEAK),
                nn.Linear(2 * hidden, math.prod(shape)), nn.Tanh(),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(*_upward(config, shape))
            self.apply(_begin)

    def forward(self, latent: Tensor) -> Tensor:
        """Pictures (n, c, h, w)."""
        flat = isinstance(self.body[0], nn.Linear)
        pictures: Tensor = self.body(latent if flat else latent[:, :, None, None])
        return pictures.view(len(latent), *self.shape)

    def as_layers(self) -> nn.Sequential:
        """The same network, with the same weights, as plain layers of torch."""
        if isinstance(self.body[0], nn.Linear):
            return nn.Sequential(*self.body, nn.Unflatten(1, self.shape))
        return nn.Sequential(nn.Unflatten(1, (self.latent, 1, 1)), *self.body)

    def latents(self, count: int, random: torch.Generator) -> Tensor:
        """Standard normal latent vectors (count, latent) on the CPU."""
        return torch.randn(count, self.latent, generator=random)


class Discriminator(nn.Module):
    """Maps pictures (n, channels, side, side) in [-1, 1] to logits (n,), positive for real.

    Raises:
        ModelError: such pictures cannot be told.
    """

    def __init__(self, config: GanConfig, shape: Shape) -> None:
        super().__init__()
        self.shape = _checked(config, shape)
        if config.kind == "mlp":
            hidden = 4 * config.width
            self.body = nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(shape), 2 * hidden), nn.LeakyReLU(LEAK),
                nn.Linear(2 * hidden, hidden), nn.LeakyReLU(LEAK),
                nn.Linear(hidden, 1),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(*_downward(config, shape))
            self.apply(_begin)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n,)."""
        logits: Tensor = self.body(images)
        return logits.flatten()


def _checked(config: GanConfig, shape: Shape) -> Shape:
    _, height, width = shape
    if not LEAST_SIDE <= height == width <= MOST_SIDE:
        raise ModelError(
            f"a GAN makes square pictures of {LEAST_SIDE} to {MOST_SIDE} pixels a side, not {height} x {width}: "
            "set data.size"
        )
    if config.kind != "mlp" and height not in (8, 16, 32, 64):
        raise ModelError(
            f"model.kind {config.kind} doubles {SEED_SIDE} x {SEED_SIDE} maps up to 8, 16, 32 or 64 pixels a side, not "
            f"{height}: set data.size, or take model.kind mlp"
        )
    return shape


def _channels(config: GanConfig, shape: Shape) -> list[int]:
    """Of the maps of 4 x 4, 8 x 8 and so on below the picture's own size."""
    stages = (shape[1] // SEED_SIDE).bit_length() - 1
    return [config.width * 2**stage for stage in reversed(range(stages))]


def _upward(config: GanConfig, shape: Shape) -> list[nn.Module]:
    channels = _channels(config, shape)
    layers = [nn.ConvTranspose2d(config.latent, channels[0], SEED_SIDE, bias=False)]
    body: list[nn.Module] = []
    for inward, outward in zip(channels, [*channels[1:], shape[0]], strict=True):
        body += [layers[-1], _norm(config, inward), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(inward, outward, 4, 2, 1, bias=False))
    return [*body, layers[-1], nn.Tanh()]


def _downward(config: GanConfig, shape: Shape) -> list[nn.Module]:
    channels = _channels(config, shape)[::-1]
    body: list[nn.Module] = [nn.Conv2d(shape[0], channels[0], 4, 2, 1, bias=False), nn.LeakyReLU(LEAK)]
    for inward, outward in pairwise(channels):
        body += [nn.Conv2d(inward, outward, 4, 2, 1, bias=False), _norm(config, outward), nn.LeakyReLU(LEAK)]
    return [*body, nn.Conv2d(channels[-1], 1, SEED_SIDE, bias=False)]


def _norm(config: GanConfig, channels: int) -> nn.Module:
    if config.kind == "dcgan":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _begin(part: nn.Module) -> None:
    """The source's beginning, by which a deep DCGAN trains at all."""
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(part.weight, 0.0, 0.02)
    elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(part.weight, 1.0, 0.02)
        nn.init.zeros_(part.bias)
