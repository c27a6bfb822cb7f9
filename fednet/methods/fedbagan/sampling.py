"""A visitor's wish: so many pictures of some classes, drawn by a live cluster or from a checkpoint.

Both draw the same pictures from the same seed, if the cluster is where the checkpoint was. Knows no files but the
checkpoint that the visitor names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import Network, Progress, Question
from fednet.errors import MethodError
from fednet.methods.fedbagan.checkpoint import GeneratorCheckpoint
from fednet.methods.fedbagan.messages import read_fedbagan_capabilities
from fednet.methods.sample_request import SampleRequest
from fednet.reporting.samples import SampleBatch
from fednet.seeds import generator

MAX_IMAGES = 20_000
"""In one question and in one wish."""


def sample(network: Network, request: SampleRequest, progress: Progress) -> SampleBatch:
    """Has a cluster draw: the first site that answers does, since all have the same generator.

    Raises:
        MethodError: a class that the sites do not know, too many pictures, or nobody answers.
        Stopped: the watch asks for the end.
    """
    capabilities = read_fedbagan_capabilities(network.capabilities)
    first, card = next(iter(capabilities.items()))
    labels = validated_labels(request, card.classes)
    progress.report("drawing", 0, 1)
    inputs = {"noise": seeded_noise(request, len(labels), card.latent), "labels": labels}
    images = network.ask(Question("draw", inputs, {}, (first,))).by_node[first].get("images")
    if images is None or tuple(images.shape) != (len(labels), *card.shape):
        raise MethodError(f"{first} has drawn nothing that fits")
    progress.report("drawing", 1, 1)
    return SampleBatch(images, labels, (f"{len(images)} pictures by {first}, whose generator is that of all sites",))


def sample_from(path: Path, request: SampleRequest) -> SampleBatch:
    """Draws from a checkpoint.

    Raises:
        ModelError: the file is no checkpoint of fedbagan.
        MethodError: a class that it does not know, or too many pictures.
    """
    kept = GeneratorCheckpoint.read(path)
    labels = validated_labels(request, kept.about.classes)
    images = kept.draw(labels, seeded_noise(request, len(labels), kept.about.model.latent))
    after = f"round {kept.about.round}" if kept.about.round else "no adversarial round"
    return SampleBatch(images, labels, (f"{len(images)} pictures by the generator of {path.name}, after {after}",))


def validated_labels(request: SampleRequest, classes: Sequence[str]) -> Tensor:
    """The labels to draw, int64 (n,), class after class.

    Raises:
        MethodError: a class that there is not, none at all, or too many pictures.
    """
    labels = tuple(range(len(classes))) if request.labels is None else request.labels
    if unknown := [label for label in labels if not 0 <= label < len(classes)]:
        named = ", ".join(f"{label} {name}" for label, name in enumerate(classes[:10]))
        raise MethodError(f"there is no class {unknown[0]}: the labels are 0 to {len(classes) - 1} ({named})")
    total = len(labels) * request.count
    if not 1 <= total <= MAX_IMAGES:
        raise MethodError(f"{total} pictures cannot be drawn at once: 1 to {MAX_IMAGES}")
    return torch.tensor(labels, dtype=torch.int64).repeat_interleave(request.count)


def seeded_noise(request: SampleRequest, count: int, latent: int) -> Tensor:
    """The standard normal vectors (count, latent) of a seed."""
    return torch.randn(count, latent, generator=generator(request.seed, "sample"))
