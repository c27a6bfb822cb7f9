"""The judge: a small classifier for evaluating samples, trained on images that no site has.

Its probabilities give label accuracy and Inception Score, its feature layer the space of the Frechet distance. It
always judges in evaluation mode, and refuses pictures that are not in [-1, 1]: the source of method 1 judged real
and generated pictures in different ranges with a network in training mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from fednet.api import NullProgress, Progress
from fednet.data.datasets import ImageSet
from fednet.errors import MeasureError
from fednet.images import require_pictures
from fednet.metrics.config import STEPS
from fednet.models.classifier import Classifier
from fednet.seeds import derive, generator, seeded

BATCH = 64
LEARNING_RATE = 2e-3
TURN, ZOOM, SHIFT = 0.2, 0.12, 0.12
"""Augmentation: rotation in radians, scale, and shift as part of half the side; each uniform, both ways."""
CHUNK = 256
"""Pictures judged at once."""


@dataclass(frozen=True)
class Judge:
    """A trained classifier; its methods take pictures float (n, c, h, w) in [-1, 1] and return CPU tensors.

    Attributes:
        network: the classifier, in evaluation mode.
        shape: channels, height and width of the pictures it was trained on, the only ones it judges.
        classes: the classes' names.
        device: where the network lies.
    """

    network: Classifier
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    device: str

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities float32 (n, classes), rows adding up to 1.

        Raises:
            MeasureError: the pictures are not in [-1, 1], not finite or not of the judge's shape.
        """
        return self._through(lambda chunk: self.network(chunk).softmax(1), images)

    def features(self, images: Tensor) -> Tensor:
        """The feature layer's activations float32 (n, d).

        Raises:
            MeasureError: as for `probabilities`.
        """
        return self._through(self.network.features, images)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The fraction of pictures that the judge takes for their label (int64 (n,)).

        Raises:
            MeasureError: as for `probabilities`, or not one label in range per picture.
        """
        return fraction_right(self.probabilities(images), labels)

    @torch.no_grad()
    def _through(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        require_pictures(images, "pictures to judge")
        if tuple(images.shape[1:]) != self.shape:
            raise MeasureError(f"pictures to judge are {tuple(images.shape[1:])}; the judge knows {self.shape} only")
        chunks = torch.split(images.to(torch.float32), CHUNK)
        return torch.cat([function(chunk.to(self.device)).cpu() for chunk in chunks])


def fraction_right(probabilities: Tensor, labels: Tensor) -> float:
    """The fraction of rows of probabilities (n, k) whose largest is at the label (int64 (n,)).

    Raises:
        MeasureError: not one label from 0 to k - 1 per row.
    """
    count, classes = probabilities.shape
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise MeasureError(f"{count} pictures need int64 labels ({count},); got {labels.dtype} {tuple(labels.shape)}")
    labels = labels.cpu()
    if count == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise MeasureError(f"labels must lie in 0 to {classes - 1}; got {sorted(set(labels.tolist()))[:20]}")
    return float((probabilities.argmax(1) == labels).double().mean())


def train_judge(
    split: ImageSet, *, seed: int, progress: Progress | None = None, device: str = "cpu", steps: int = STEPS
) -> Judge:
    """Trains a judge on its own split: AdamW on a one-cycle rate, with turned, zoomed and shifted pictures.

    Args:
        split: pictures that neither the agents nor the comparison use.
        seed: the run's seed; the same seed, device and threads give the same judge.
        progress: told of phase "judge" every few batches, and may stop the training.
        device: where to train and to judge.
        steps: batches of 64; the default is enough for digits and MNIST, colour photographs need many more.

    Raises:
        MeasureError: the training diverged.
        Stopped: `progress` stops the training.
    """
    progress = progress or NullProgress()
    network = _fresh(split, seed).to(device)
    chance = generator(seed, "judge", "batches")
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(split), (BATCH,), generator=chance)
        pictures = augment(split.images[chosen], chance).to(device)
        loss = cross_entropy(network(pictures), split.labels[chosen].to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimiser.step()
        rate.step()
        if step % 10 == 9 or step == steps - 1:
            progress.report("judge", step + 1, steps, loss=_finite(loss.item()))
    return Judge(network.eval().requires_grad_(False), split.shape, split.classes, device)


def augment(images: Tensor, chance: torch.Generator) -> Tensor:
    """Turns, zooms and shifts each picture (n, c, h, w) a little; what comes in from outside repeats the border."""
    count = len(images)
    turn, zoom, *shift = (2 * torch.rand(4, count, generator=chance) - 1).unbind()
    scale, angle = 1 + ZOOM * zoom, TURN * turn
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [cos, -sin, SHIFT * shift[0], sin, cos, SHIFT * shift[1]]
    places = affine_grid(torch.stack(rows, 1).view(count, 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, places, padding_mode="border", align_corners=False)


def _fresh(split: ImageSet, seed: int) -> Classifier:
    with seeded(derive(seed, "judge", "weights")):
        return Classifier(split.shape[0], split.shape[1], len(split.classes))


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise MeasureError(f"the judge's training diverged (loss {loss}): look at the data with `fednet check`")
    return loss
