"""Configuration of the networks in `fednet.models`; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class UNetConfig(BaseModel):
    """The shape of the score network, a diffusers `UNet2DModel`.

    Attributes:
        channels: feature maps by level; every level but the last halves the picture's sides.
        layers: residual blocks a level.
        groups: groups of the group normalisation; divides every entry of `channels`.
        attention: self-attention at the lowest level.
        conditional: the network is told class labels, and one label more that stands for "any class".
        data_scale: root mean square of the pixels in [-1, 1]; only sets the scales inside the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, ...] = Field(default=(32, 32), min_length=1)
    layers: int = Field(default=1, ge=1)
    groups: int = Field(default=8, ge=1)
    attention: bool = True
    conditional: bool = False
    data_scale: float = Field(default=0.8, gt=0.0)


GanKind = Literal["mlp", "dcgan", "dp-dcgan"]


class GanConfig(BaseModel):
    """The shape of both networks.

    Attributes:
        kind: see the module.
        latent: numbers in a latent vector; the source's nz.
        width: channels of the widest maps of the convolutions; hidden units of the MLP are four times that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: GanKind = "dp-dcgan"
    latent: int = Field(default=100, ge=1, le=10_000)
    width: int = Field(default=64, ge=4, le=1024)


class CodecConfig(BaseModel):
    """The shape of both networks.

    Attributes:
        latent: numbers in a latent vector.
        width: channels of the widest map; every halving of the sides doubles them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent: int = Field(default=32, ge=1, le=1024)
    width: int = Field(default=32, ge=4, le=512)
