"""A decoder and an encoder that mirror each other, for pictures of 8 x 8 to 64 x 64; both can become half of a GAN.

The decoder is also a generator. The encoder is a trunk and one linear layer: with as many outputs as a latent vector
has numbers it encodes, with classes + 1 it is a discriminator, and the trunk of the one can become the other's.

Source: the networks of BAGAN (Mariani et al. 2018, arXiv 1803.09655) as "FedBAGAN" builds them: convolutions 4 x 4 of
stride 2 between 2 x 2 maps and the picture; 1024-512-256-128 of them for 32 x 32 at width 128. Differs in GroupNorm
instead of BatchNorm: no running statistics, so that an average of models needs no special case and a picture is drawn
the same alone or in a batch. Knows no data and no training.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from fednet.errors import ModelError
from fednet.models.config import CodecConfig

ImageShape = tuple[int, int, int]

SIDES = (8, 16, 32, 64)
"""Of pictures."""
SEED_SIDE = 2
"""Of the smallest map."""
LEAK = 0.2
"""Slope of the leaky ReLU."""
GROUPS = 8
"""Of a group normalisation, or as many as divide the channels."""


class Decoder(nn.Module):
    """Maps latent vectors (n, latent) to pictures (n, channels, side, side) in [-1, 1].

    Raises:
        ModelError: such pictures cannot be made.
    """

    def __init__(self, config: CodecConfig, shape: ImageShape) -> None:
        super().__init__()
        self.shape, self.latent = shape, config.latent
        channels = _channels(config, shape)[::-1]
        layers: list[nn.Module] = [
            nn.Linear(config.latent, channels[0] * SEED_SIDE**2),
            nn.Unflatten(1, (channels[0], SEED_SIDE, SEED_SIDE)),
            _norm(channels[0]),
            nn.ReLU(),
        ]
        for inward, outward in pairwise(channels):
            layers += [nn.ConvTranspose2d(inward, outward, 4, 2, 1), _norm(outward), nn.ReLU()]
        layers += [nn.ConvTranspose2d(channels[-1], channels[-1], 4, 2, 1), _norm(channels[-1]), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels[-1], shape[0], 3, padding=1), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        """Pictures (n, c, h, w)."""
        pictures: Tensor = self.body(latent)
        return pictures

    def as_layers(self) -> nn.Sequential:
        """The same network, with the same weights, as plain layers of torch."""
        return self.body


class Encoder(nn.Module):
    """Maps pictures (n, channels, side, side) in [-1, 1] to `outputs` numbers each, (n, outputs).

    Raises:
        ModelError: such pictures cannot be read.
    """

    def __init__(self, config: CodecConfig, shape: ImageShape, outputs: int) -> None:
        super().__init__()
        channels = _channels(config, shape)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], channels[0], 4, 2, 1), nn.LeakyReLU(LEAK)]
        for inward, outward in pairwise(channels):
            layers += [nn.Conv2d(inward, outward, 4, 2, 1), _norm(outward), nn.LeakyReLU(LEAK)]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels[-1] * SEED_SIDE**2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Numbers (n, outputs)."""
        numbers: Tensor = self.head(self.trunk(images))
        return numbers


def _channels(config: CodecConfig, shape: ImageShape) -> list[int]:
    """Of the maps from half the picture's side down to the smallest."""
    _, height, width = shape
    if height != width or height not in SIDES:
        raise ModelError(
            f"a decoder makes square pictures of {', '.join(map(str, SIDES))} pixels a side, not {height} x {width}: "
            "set data.size"
        )
    return [config.width * 2**stage for stage in range((height // SEED_SIDE).bit_length() - 1)]


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
