"""The configuration of the small models and of their pretraining. Imports no torch, as `pretrained_config.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fednet.methods.common.config import ConfigSection

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class PretrainConfig(ConfigSection):
    """How a model is pretrained.

    Attributes:
        steps: of AdamW, on a one-cycle rate.
        batch: pictures a step.
        lr: the highest step size.
        noise: deviation of what is added to words, so that what lies between words means something, too.
        jitter: the public pictures are zoomed and shifted by up to this part of half a side.
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: Positive
    noise: float = Field(default=0.1, ge=0.0)
    jitter: float = Field(default=0.06, ge=0.0, lt=1.0)


class SmallClipConfig(ConfigSection):
    """The small CLIP.

    Attributes:
        width: numbers in a word.
        features: numbers in a feature.
        vision: width of the image tower; heads are 16 wide.
        vision_layers: of the image tower.
        text_layers: of the text tower, whose width is that of a word.
        patch: side of the image tower's patches, in pixels.
        pretraining: how it is trained.
    """

    width: int = Field(default=16, ge=8, multiple_of=8)
    features: int = Field(default=32, ge=2)
    vision: int = Field(default=64, ge=16, multiple_of=16)
    vision_layers: int = Field(default=3, ge=1)
    text_layers: int = Field(default=2, ge=1)
    patch: int = Field(default=2, ge=1)
    pretraining: PretrainConfig = PretrainConfig(steps=800, batch=128, lr=2e-3, jitter=0.15)


class ImageGeneratorConfig(ConfigSection):
    """The small image generator.

    Attributes:
        channels: feature maps by level; every level but the last halves the sides.
        layers: residual blocks a level.
        silence: probability that a picture is shown without its word, for guidance.
        steps: of DDIM for a picture.
        guidance: classifier-free guidance; 1 for none.
        batch: pictures generated at a time.
        gamma: of the min-SNR weights.
        pretraining: how it is trained.
    """

    channels: tuple[int, ...] = Field(default=(24, 48), min_length=1)
    layers: int = Field(default=1, ge=1)
    silence: float = Field(default=0.1, ge=0.0, lt=1.0)
    steps: int = Field(default=20, ge=1, le=1000)
    guidance: float = Field(default=2.0, ge=1.0)
    batch: int = Field(default=256, ge=1)
    gamma: Positive = 5.0
    pretraining: PretrainConfig = PretrainConfig(steps=2000, batch=64, lr=4e-3, noise=0.15)


class SmallBackendConfig(ConfigSection):
    """Small models that need no download: pretrained on a public part of the run's own data set.

    Attributes:
        kind: selects this back-end.
        public: the fraction of the training pictures that is public; the sites share the rest, transposed.
        seed: of the pretraining, not of the run: the same models in every run.
        clip: its size and pretraining.
        image_generator: its size and pretraining.
        store: a folder for the pretrained models; default: one in the run's folder.
    """

    kind: Literal["embedded"] = "embedded"
    public: float = Field(default=0.4, gt=0.0, lt=1.0)
    seed: int = Field(default=0, ge=0)
    clip: SmallClipConfig = SmallClipConfig()
    image_generator: ImageGeneratorConfig = ImageGeneratorConfig()
    store: Path | None = None
