"""A generator in a file: its weights, the classes' Gaussians, and what both are; enough to draw without a cluster.

The whole is one safetensors file with one note, a JSON text. Nothing of a file is believed: what it describes is
bounded before it is built, the network is built without memory, and its tensors must be those of what it describes,
float32 and finite. Knows no sites and no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated.state import detached_copy, require_finite, require_like
from fednet.files import write_whole
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.models.codec import CodecConfig, Decoder

METADATA_KEY = "fedbagan"
MAX_BYTES = 1 << 30
MAX_CLASSES = 1000
CHUNK = 256
"""Pictures drawn at once."""

ClassName = Annotated[str, StringConstraints(max_length=200)]


class CheckpointDescription(BaseModel):
    """What a checkpoint is of.

    Attributes:
        method: always "fedbagan".
        model: the shape of the network.
        shape: channels, height and width of a picture.
        classes: the classes' names.
        round: after which round of adversarial training; 0 is the decoder alone.
        distance: its Frechet distance to the judge's pictures, by which the best is chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["fedbagan"] = "fedbagan"
    model: CodecConfig
    shape: tuple[Annotated[int, Field(ge=1, le=4)], int, int]
    classes: tuple[ClassName, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    round: int = Field(ge=0)
    distance: float = Field(ge=0.0)


@dataclass(frozen=True)
class GeneratorCheckpoint:
    """A generator that can draw: the network in evaluation mode, the Gaussians, and what they are."""

    generator: Decoder
    gaussians: ClassGaussians
    about: CheckpointDescription

    def draw(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Pictures float32 (n, c, h, w) in [-1, 1] of labels int64 (n,), from standard normal vectors (n, latent).

        Raises:
            ModelError: nobody had a picture of one of the labels.
        """
        latents = self.gaussians.place(labels, noise)
        with torch.no_grad():
            return torch.cat([self.generator(chunk) for chunk in torch.split(latents, CHUNK)]).clamp(-1, 1)

    def write(self, path: Path) -> None:
        """Writes it as one file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        tensors = _tensors(self.generator.state_dict(), self.gaussians)
        write_whole(path, save(detached_copy(tensors), {METADATA_KEY: self.about.model_dump_json()}))

    @classmethod
    def read(cls, path: Path) -> GeneratorCheckpoint:
        """What `write` has written.

        Raises:
            ModelError: it is anything else.
        """
        about, tensors = _read_file(path)
        with torch.device("meta"):
            net = Decoder(about.model, about.shape)
            kinds, wide = len(about.classes), about.model.latent
            like = _tensors(net.state_dict(), ClassGaussians.blank(kinds, wide))
        require_like(tensors, like, str(path))
        require_finite(tensors, str(path))
        weights = {name.removeprefix("generator."): value for name, value in tensors.items() if "generator." in name}
        net.load_state_dict(weights, assign=True)
        net.eval().requires_grad_(False)
        return cls(net, ClassGaussians(tensors["mean"], tensors["factor"], tensors["known"]), about)


def _tensors(weights: Mapping[str, Tensor], gaussians: ClassGaussians) -> dict[str, Tensor]:
    named = {f"generator.{name}": value for name, value in weights.items()}
    return {**named, "mean": gaussians.mean, "factor": gaussians.factor, "known": gaussians.known}


def _read_file(path: Path) -> tuple[CheckpointDescription, dict[str, Tensor]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            if text is None:
                raise ValueError("it does not say that it is one")
            about = CheckpointDescription.model_validate_json(text)
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
    except (OSError, SafetensorError, ValueError) as error:
        detail = f"{error.error_count()} faults in its note" if isinstance(error, ValidationError) else str(error)
        raise ModelError(
            f"{path} is no checkpoint of fedbagan ({detail}): give one that a run has left in checkpoints/"
        ) from error
