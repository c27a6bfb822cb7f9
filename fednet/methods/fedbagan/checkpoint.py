"""A generator in a file: its weights, the classes' Gaussians, and a description; enough to generate without a cluster.

One safetensors file with one note, a JSON text. Nothing of a file is trusted: what it describes is bounded before it
is built, the network is built without memory, and its tensors must be those of what it describes, float32 and finite.
Knows no sites and no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from torch import Tensor

from fednet.federated.state import require_finite, require_like
from fednet.methods.common.checkpoint import read_checkpoint, write_checkpoint
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.models.codec import Decoder
from fednet.models.config import CodecConfig

METADATA_KEY = "fedbagan"
MAX_BYTES = 1 << 30
MAX_CLASSES = 1000
CHUNK = 256
"""Pictures generated at once."""

ClassName = Annotated[str, StringConstraints(max_length=200)]


class CheckpointDescription(BaseModel):
    """What a checkpoint holds.

    Attributes:
        method: always "fedbagan".
        model: the shape of the network.
        shape: channels, height and width of a picture.
        classes: the classes' names.
        round: after which round of adversarial training; 0 is the decoder alone.
        distance: its Frechet distance to the judge's pictures, by which the best is chosen; None where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["fedbagan"] = "fedbagan"
    model: CodecConfig
    shape: tuple[Annotated[int, Field(ge=1, le=4)], int, int]
    classes: tuple[ClassName, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    round: int = Field(ge=0)
    distance: float | None = Field(default=None, ge=0.0)


@dataclass(frozen=True)
class GeneratorCheckpoint:
    """A generator ready to generate: the network in evaluation mode, the Gaussians, and their description."""

    generator: Decoder
    gaussians: ClassGaussians
    about: CheckpointDescription

    def draw(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Pictures float32 (n, c, h, w) in [-1, 1] of labels int64 (n,), from standard normal vectors (n, latent).

        Raises:
            ModelError: no site had a picture of one of the labels.
        """
        return generate(self.generator, self.gaussians.place(labels, noise))

    def write(self, path: Path) -> None:
        """Writes it as one file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        tensors = _tensors(self.generator.state_dict(), self.gaussians)
        write_checkpoint(path, tensors, METADATA_KEY, self.about.model_dump_json())

    @classmethod
    def read(cls, path: Path) -> GeneratorCheckpoint:
        """Reads what `write` has written.

        Raises:
            ModelError: the file is anything else.
        """

        def parse(note: Any, tensors: dict[str, Tensor]) -> tuple[CheckpointDescription, dict[str, Tensor]]:
            return CheckpointDescription.model_validate(note), tensors

        remedy = "give a checkpoint of fedbagan, which a run leaves in checkpoints/"
        about, tensors = read_checkpoint(path, METADATA_KEY, parse, remedy, MAX_BYTES)
        with torch.device("meta"):
            net = Decoder(about.model, about.shape)
            expected = _tensors(net.state_dict(), ClassGaussians.blank(len(about.classes), about.model.latent))
        require_like(tensors, expected, str(path))
        require_finite(tensors, str(path))
        weights = {name.removeprefix("generator."): value for name, value in tensors.items() if "generator." in name}
        net.load_state_dict(weights, assign=True)
        net.eval().requires_grad_(False)
        return cls(net, ClassGaussians(tensors["mean"], tensors["factor"], tensors["known"]), about)


@torch.no_grad()
def generate(net: Decoder, latents: Tensor) -> Tensor:
    """Pictures float32 (n, c, h, w) in [-1, 1] of latent vectors (n, latent)."""
    return torch.cat([net(chunk) for chunk in torch.split(latents, CHUNK)]).clamp(-1, 1)


def _tensors(weights: Mapping[str, Tensor], gaussians: ClassGaussians) -> dict[str, Tensor]:
    named = {f"generator.{name}": value for name, value in weights.items()}
    return {**named, "mean": gaussians.mean, "factor": gaussians.factor, "known": gaussians.known}
