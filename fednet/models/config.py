"""Configuration of the networks in `fednet.models`, and of models that a site brings along; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag, field_validator


class UNetConfig(BaseModel):
    """The shape of the score network, a diffusers `UNet2DModel`.

    Attributes:
        kind: selects this network, which fednet trains.
        channels: feature maps by level; every level but the last halves the picture's sides.
        layers: residual blocks a level.
        groups: groups of the group normalisation; divides every entry of `channels`.
        attention: self-attention at the lowest level.
        conditional: the network is told class labels, and one label more that stands for "any class".
        data_scale: root mean square of the pixels in [-1, 1]; only sets the scales inside the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = "unet"
    channels: tuple[int, ...] = Field(default=(32, 32), min_length=1)
    layers: int = Field(default=1, ge=1)
    groups: int = Field(default=8, ge=1)
    attention: bool = True
    conditional: bool = False
    data_scale: float = Field(default=0.8, gt=0.0)


PictureCount = Annotated[int, Field(strict=True, ge=0)]


class _BroughtModel(BaseModel):
    """What is said of every model that a site brings along, instead of training one on its pictures.

    Attributes:
        classes: the names of its labels, in their order; or of what an unconditional model has seen. None: their
            numbers, or none. One name less than its network has labels: the last label stands for "any class".
        pictures: how many pictures it was trained on, its weight among the sites: by class; or a number, of each of
            its classes, in all where it has none.
        range: the smallest and the largest value of its data; None: what its files say, else -1 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] | None = None
    pictures: PictureCount | dict[str, PictureCount] = 1
    range: tuple[FiniteFloat, FiniteFloat] | None = None

    @field_validator("range")
    @classmethod
    def _rising(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError("range needs two numbers, the smallest value of the model's data and the largest")
        return limits


class DiffusersModelConfig(_BroughtModel):
    """A folder of diffusers, as `save_pretrained` writes it: a pipeline, or a network and its scheduler.

    Attributes:
        kind: selects this.
        path: the folder; weights are safetensors files, nothing is downloaded and no code of it is run.
        size: height and width, where the network's configuration does not say them.
        lora: a LoRA of a text-to-image UNet, a safetensors file in peft's format or that of diffusers.
        half: the number format of the network, null for float32; float16 needs a CUDA device, a CPU uses float32 in its
            place. What is asked and answered is float32.
    """

    kind: Literal["diffusers"]
    path: Path
    size: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None
    lora: Path | None = None
    half: Literal["bfloat16", "float16"] | None = None


class PythonModelConfig(_BroughtModel):
    """An object of Python: one with `score(x, t, labels)`, or a denoiser D(x, sigma).

    Attributes:
        kind: selects this.
        object: `package.module:factory`; called once, with `options`, it returns the object.
        options: keyword arguments of the factory.
        shape: channels, height and width of its data.
        conditional: whether it takes labels; `classes` names them.
    """

    kind: Literal["python"]
    object: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    options: dict[str, Any] = Field(default_factory=dict)
    shape: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    conditional: bool = False


def _kind_of_model(value: Any) -> str | None:
    kind = value.get("kind", "unet") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None


BROUGHT_KINDS = ("diffusers", "python")
"""Of models that come trained, with no pictures."""
MODEL_KINDS = ("unet", *BROUGHT_KINDS)
ScoreModelConfig = Annotated[
    Annotated[UNetConfig, Tag("unet")]
    | Annotated[DiffusersModelConfig, Tag("diffusers")]
    | Annotated[PythonModelConfig, Tag("python")],
    Discriminator(
        _kind_of_model,
        custom_error_type="unknown_model",
        custom_error_message="one of {expected_tags} as {discriminator}",
        custom_error_context={"expected_tags": ", ".join(map(repr, MODEL_KINDS)), "discriminator": "kind"},
    ),
]
"""A score model, by `kind`; a mapping without one is the network that fednet trains."""


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
