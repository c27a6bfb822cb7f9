"""Monte Carlo dropout: the uncertainty of a classifier over random dropout masks.

The network stays in evaluation mode; only its dropout layers are made to drop, from a generator of their own, so that
no global random number is touched. Every picture meets the same thinned networks: its result does not depend on the
batch it comes in. Knows no data and no particular network.

Source: Gal and Ghahramani 2016 (arXiv 1506.02142), section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fednet.errors import MeasureError, ModelError
from fednet.seeds import generator

PASSES = 100


@dataclass(frozen=True)
class Uncertainty:
    """What the passes say of each picture; CPU tensors.

    Attributes:
        logits: float32 (n, classes), the mean over the passes.
        predicted: int64 (n,), the class of the largest mean logit.
        probability: float32 (n,) in [0, 1], the mean probability of that class.
        deviation: float32 (n,) in [0, .5], the deviation of its probability over the passes (divided by their
            number, not by one less).
    """

    logits: Tensor
    predicted: Tensor
    probability: Tensor
    deviation: Tensor


@torch.no_grad()
def mc_dropout(network: nn.Module, images: Tensor, *, passes: int = PASSES, seed: int = 0) -> Uncertainty:
    """Classifies every picture `passes` times with dropout.

    Args:
        network: pictures (n, ...) -> logits (n, classes); left in the mode that it is in.
        images: (n, ...), n > 0, on the network's device.
        passes: how many thinned networks, at least 1.
        seed: decides which units they lack.

    Raises:
        ModelError: the network has no `torch.nn.Dropout` layer.
        MeasureError: no pictures or no passes.
    """
    if passes < 1 or not len(images):
        raise MeasureError(f"dropout needs at least one pass and one picture; got {passes} and {len(images)}")
    training = network.training
    network.eval()
    try:
        rows = [_passes(network, image, passes, seed) for image in images]
    finally:
        network.train(training)
    logits = torch.stack(rows)
    mean = logits.double().mean(1)
    predicted = mean.argmax(1)
    chosen = logits.double().softmax(2)[torch.arange(len(rows)), :, predicted]
    return Uncertainty(mean.float(), predicted, chosen.mean(1).float(), chosen.std(1, correction=0).float())


def _passes(network: nn.Module, image: Tensor, passes: int, seed: int) -> Tensor:
    """The logits (passes, classes) of one picture."""
    with _dropping(network, generator(seed, "dropout")):
        logits: Tensor = network(image.expand(passes, *image.shape))
    return logits.cpu()


@contextmanager
def _dropping(network: nn.Module, chance: torch.Generator) -> Iterator[None]:
    """Makes the dropout layers of a network in evaluation mode drop."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Dropout)]
    if not layers:
        raise ModelError(f"{type(network).__name__} has no dropout layer: its answer is the same every time")

    def drop(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rate = float(layer.p)  # type: ignore[arg-type]  # only dropout layers are hooked
        keep = torch.rand(output.shape, generator=chance).to(output.device) >= rate
        return output * keep / max(1.0 - rate, torch.finfo(output.dtype).tiny)

    hooks = [layer.register_forward_hook(drop) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
