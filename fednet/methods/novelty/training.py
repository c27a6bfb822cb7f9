"""Training of the classifier at one site: plain SGD from given weights, optionally with FedProx's term.

Deterministic from a seed: the order of the pictures and the dropout have generators of their own, and no global
random state is changed. Knows no federation.

Source: McMahan et al. 2017 (arXiv 1602.05629), algorithm 1, ClientUpdate; Li et al. 2020 (arXiv 1812.06127),
algorithm 2, for mu > 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fednet.api import ModelState, Progress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.federated.proximal import proximal_term
from fednet.methods.common.training import descend
from fednet.methods.novelty.config import ClassifierTrainConfig
from fednet.seeds import derive, generator, seeded

CHUNK = 256
"""Pictures classified at once."""


def train_classifier(
    net: nn.Module,
    pictures: ImageSet,
    config: ClassifierTrainConfig,
    *,
    anchor: ModelState | None,
    seed: int,
    progress: Progress,
) -> float:
    """Trains `net` in place, on the device it is on, and leaves it in evaluation mode.

    Args:
        net: pictures (n, c, h, w) -> logits (n, classes).
        pictures: to train on, n > 0.
        config: budget and step sizes.
        anchor: the parameters by name that FedProx's term pulls towards; None for no such term.
        seed: decides the order of the pictures and the dropout.
        progress: told of every batch.

    Returns:
        The mean loss of the last epoch, or of all batches if there are fewer; without FedProx's term.

    Raises:
        MethodError: the loss is not finite.
        Stopped: `progress` asks for the end.
    """
    device = next(net.parameters()).device
    images, labels = pictures.images.to(device), pictures.labels.to(device)
    optimiser = torch.optim.SGD(net.parameters(), lr=config.lr, momentum=config.momentum)
    steps = config.batches(len(pictures))
    held = None if anchor is None or config.mu == 0.0 else {k: v.to(device) for k, v in anchor.items()}
    losses: list[float] = []
    net.train()
    with seeded(derive(seed, "dropout"), device):
        for chosen in _batches(len(pictures), config.batch, steps, generator(seed, "batches")):
            loss = cross_entropy(net(images[chosen]), labels[chosen])
            losses.append(float(loss.detach()))
            if held is not None:
                loss = loss + proximal_term(dict(net.named_parameters()), held, config.mu)
            descend(optimiser, loss)
            if not math.isfinite(losses[-1]):
                raise MethodError(
                    f"training loss is {losses[-1]} at step {len(losses)}: lower classifier.lr ({config.lr})"
                )
            progress.report("training classifier", len(losses), steps, loss=losses[-1])
    net.eval()
    last = losses[-min(steps, -(-len(pictures) // config.batch)) :]
    return sum(last) / len(last)


@torch.no_grad()
def batched_logits(net: nn.Module, images: Tensor) -> Tensor:
    """The logits float32 (n, classes) of pictures, on the CPU."""
    device = next(net.parameters()).device
    return torch.cat([net(chunk.to(device)).float().cpu() for chunk in torch.split(images, CHUNK)])


def count_correct(net: nn.Module, pictures: ImageSet) -> Tensor:
    """How many pictures of each class are classified correctly, and how many there are: int64 (2, classes)."""
    hits = batched_logits(net, pictures.images).argmax(1) == pictures.labels
    classes = len(pictures.classes)
    return torch.stack([torch.bincount(pictures.labels[hits], minlength=classes), torch.tensor(pictures.histogram())])


def _batches(count: int, batch: int, steps: int, random: torch.Generator) -> Iterator[Tensor]:
    """Yields `steps` index batches, one shuffled pass after another; a pass's last batch may be smaller."""
    done = 0
    while done < steps:
        for chosen in torch.split(torch.randperm(count, generator=random), batch)[: steps - done]:
            yield chosen
            done += 1
