"""A detector's file: one score network, at most one classifier, and a JSON text of facts about them.

One safetensors file with one note, so that equal content is equal bytes. Nothing of a file is trusted:
what it describes is bounded before it is built, it is built without memory, and its weights must be those of what it
describes, float32 and finite. Knows no detector: the facts are the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fednet.diffusion.sde import SDEConfig
from fednet.errors import ModelError
from fednet.methods.common.checkpoint import read_checkpoint, write_checkpoint
from fednet.models.config import UNetConfig
from fednet.models.lenet import LeNet
from fednet.models.unet import ScoreNet

METADATA_KEY = "detector"
Size = Annotated[int, Field(ge=1, le=4096)]
"""Feature maps, groups, channels, and pixels an edge that a file may ask for."""


class _NetworkDescription(UNetConfig):
    """What `ScoreNet.describe` says, bounded."""

    network: Literal["unet"]
    channels: tuple[Size, ...] = Field(min_length=1, max_length=8)
    layers: int = Field(ge=1, le=16)
    groups: Size
    shape: tuple[Size, Size, Size]
    classes: int = Field(ge=0, le=100_000)
    sde: SDEConfig

    def build(self) -> ScoreNet:
        config = UNetConfig(**{name: getattr(self, name) for name in UNetConfig.model_fields})
        return ScoreNet(config, self.sde, self.shape, self.classes)


class _ClassifierDescription(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Size
    classes: int = Field(ge=2, le=100_000)
    dropout: float = Field(ge=0.0, le=1.0)

    def build(self) -> LeNet:
        return LeNet(self.channels, self.classes, self.dropout)


class _DetectorDescription(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    network: _NetworkDescription
    classifier: _ClassifierDescription | None
    facts: dict[str, Any]


def write_detector(path: Path, net: ScoreNet, classifier: LeNet | None, facts: Mapping[str, Any]) -> None:
    """Writes networks and facts (anything that JSON can say) as one file, all or nothing.

    Raises:
        OSError: it cannot be written.
    """
    description = _DetectorDescription(
        network=_NetworkDescription.model_validate(net.describe()),
        classifier=None if classifier is None else _described(classifier),
        facts=dict(facts),
    )
    tensors = {
        f"{part}.{name}": value
        for part, module in (("net", net), ("classifier", classifier))
        if module is not None
        for name, value in module.state_dict().items()
    }
    text = json.dumps(description.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    write_checkpoint(path, tensors, METADATA_KEY, text)


def read_detector(path: Path) -> tuple[ScoreNet, LeNet | None, dict[str, Any]]:
    """The networks, on the CPU, and the facts of a file that `write_detector` wrote.

    Raises:
        ModelError: it is anything else.
    """

    def parse(note: Any, tensors: dict[str, Tensor]) -> tuple[_DetectorDescription, dict[str, Tensor]]:
        return _DetectorDescription.model_validate(note), tensors

    description, tensors = read_checkpoint(path, METADATA_KEY, parse, "give a detector that Detector.save wrote")
    with torch.device("meta"):
        net = description.network.build()
        classifier = None if description.classifier is None else description.classifier.build()
    _load_tensors({"net": net, **({} if classifier is None else {"classifier": classifier})}, tensors, path)
    return net, classifier, description.facts


def _described(classifier: LeNet) -> _ClassifierDescription:
    return _ClassifierDescription(
        channels=classifier.conv1.in_channels, classes=classifier.head.out_features, dropout=classifier.dropout.p
    )


def _load_tensors(parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Gives networks without memory the tensors of the file, and freezes them."""
    shapes = {f"{part}.{name}": v.shape for part, net in parts.items() for name, v in net.state_dict().items()}
    unfit = [
        name
        for name in sorted(shapes.keys() | tensors.keys())
        if name not in tensors or tensors[name].shape != shapes.get(name)
    ]
    unfit += [name for name, value in tensors.items() if value.dtype != torch.float32 or not value.isfinite().all()]
    if unfit:
        raise ModelError(
            f"{path} does not hold the weights that it describes, float32 and finite: {', '.join(unfit[:3])} "
            f"({len(unfit)} in all)"
        )
    for part, net in parts.items():
        own = {name.removeprefix(f"{part}."): v for name, v in tensors.items() if name.startswith(f"{part}.")}
        net.load_state_dict(own, assign=True)
        net.eval().requires_grad_(False)
