"""Decoder and encoder: shapes, a trunk that fits both heads, independence of the batch, what is refused."""

from __future__ import annotations

import pytest
import torch

from fednet.errors import ModelError
from fednet.models.codec import Decoder, Encoder
from fednet.models.config import CodecConfig

SMALL = CodecConfig(latent=6, width=4)


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_they_undo_each_others_shapes(side: int, channels: int) -> None:
    shape = (channels, side, side)
    decoder, encoder = Decoder(SMALL, shape), Encoder(SMALL, shape, SMALL.latent)
    pictures = decoder(torch.randn(2, 6))
    assert pictures.shape == (2, *shape)
    assert float(pictures.detach().abs().max()) <= 1
    assert encoder(pictures).shape == (2, 6)


def test_at_the_sources_width_the_trunk_is_the_sources() -> None:
    with torch.device("meta"):
        encoder = Encoder(CodecConfig(latent=100, width=128), (3, 32, 32), 100)
    widths = [layer.out_channels for layer in encoder.trunk if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [128, 256, 512, 1024]


def test_an_encoders_trunk_becomes_a_discriminators() -> None:
    encoder, discriminator = (Encoder(SMALL, (1, 8, 8), outputs) for outputs in (6, 11))
    discriminator.trunk.load_state_dict(encoder.trunk.state_dict())
    pictures = torch.rand(3, 1, 8, 8)
    assert torch.equal(encoder.trunk(pictures), discriminator.trunk(pictures))


def test_a_picture_is_the_same_alone_and_in_a_batch() -> None:
    decoder, latents = Decoder(SMALL, (1, 8, 8)), torch.randn(5, 6)
    alone = torch.cat([decoder(latent[None]) for latent in latents])
    assert torch.allclose(decoder(latents), alone, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 8, 16), (3, 128, 128)])
def test_other_sides_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ModelError, match=r"set data\.size"):
        Decoder(SMALL, shape)
    with pytest.raises(ModelError, match=r"set data\.size"):
        Encoder(SMALL, shape, 6)
