"""Generators and discriminators: shapes, the source's sizes, and what cannot be made."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fednet.errors import ModelError
from fednet.models.config import GanConfig, GanKind
from fednet.models.gan import Discriminator, Generator


@pytest.mark.parametrize("kind", ["mlp", "dcgan", "dp-dcgan"])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 16), (3, 32), (1, 64)])
def test_pictures_out_and_pictures_in(kind: GanKind, channels: int, side: int) -> None:
    config = GanConfig(kind=kind, latent=6, width=8)
    shape = (channels, side, side)
    generator, discriminator = Generator(config, shape), Discriminator(config, shape)
    drawn = generator(generator.latents(3, torch.Generator().manual_seed(0)))
    assert drawn.shape == (3, *shape)
    assert float(drawn.detach().abs().max()) <= 1.0
    assert discriminator(drawn).shape == (3,)


def test_the_dcgan_for_64_pixels_is_the_sources() -> None:
    config = GanConfig(kind="dcgan", latent=100, width=64)
    up = [part for part in Generator(config, (3, 64, 64)).modules() if isinstance(part, nn.ConvTranspose2d)]
    assert [(part.in_channels, part.out_channels) for part in up] == [
        (100, 512), (512, 256), (256, 128), (128, 64), (64, 3),
    ]  # fmt: skip
    down = [part for part in Discriminator(config, (3, 64, 64)).modules() if isinstance(part, nn.Conv2d)]
    assert [part.out_channels for part in down] == [64, 128, 256, 512, 1]
    assert sum(p.numel() for p in Generator(config, (3, 64, 64)).parameters()) == 3_576_704
    assert sum(p.numel() for p in Discriminator(config, (3, 64, 64)).parameters()) == 2_765_568


def test_only_the_private_one_keeps_its_pictures_apart() -> None:
    """A picture's logit does not depend on its neighbours, in training mode, unless batches are normalised."""
    images = torch.randn(4, 1, 16, 16)
    for kind, apart in (("dp-dcgan", True), ("mlp", True), ("dcgan", False)):
        torch.manual_seed(0)
        net = Discriminator(GanConfig(kind=kind, width=8), (1, 16, 16)).train()
        alone = torch.cat([net(image[None]) for image in images])
        assert torch.allclose(net(images), alone, atol=1e-5) is apart


def test_pictures_that_cannot_be_made_are_refused() -> None:
    for kind, shape in (("mlp", (1, 4, 4)), ("mlp", (1, 16, 8)), ("mlp", (1, 128, 128)), ("dcgan", (1, 28, 28))):
        config = GanConfig(kind=kind, width=8)
        for make in (Generator, Discriminator):
            with pytest.raises(ModelError, match=r"set data\.size"):
                make(config, shape)
    Generator(GanConfig(kind="mlp", width=8), (1, 28, 28))
