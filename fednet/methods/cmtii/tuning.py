"""Tuning a site's image encoder by LoRA on its own pictures and on generated ones, and classifying with it.

A class is the text feature of its words (`lexicon.class_text_features`), which is fixed. Every picture counts by its
weight, and one of weight 0 has no effect. The encoder itself is never changed: an adapter is attached, trained, kept as
a state, and detached. Knows no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fednet.api import ModelState, Progress
from fednet.errors import MethodError
from fednet.methods.cmtii.adapters import LoraAdapter, LoraAdapterConfig
from fednet.methods.cmtii.backend import ClipModel
from fednet.methods.cmtii.config import LoraTuningConfig
from fednet.methods.cmtii.losses import contrastive_losses, weighted_mean
from fednet.methods.common.training import descend

CHUNK = 256
"""Pictures encoded at once where nothing is trained."""


@dataclass(frozen=True)
class WeightedImages:
    """Pictures to tune with.

    Attributes:
        images: float32 (n, c, h, w) in [-1, 1].
        labels: int64 (n,).
        weights: float32 (n,), at least 0, one of them above.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor


def tune_adapter(
    clip: ClipModel,
    texts: Tensor,
    mixture: WeightedImages,
    config: LoraTuningConfig,
    *,
    seed: int,
    random: Generator,
    progress: Progress,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Trains an adapter; the encoder is afterwards what it was.

    Args:
        clip: whose image encoder.
        texts: of the classes, (classes, features), of length 1.
        mixture: what to learn from.
        config: how.
        seed: decides what the adapter begins with.
        random: draws the batches.
        progress: told of every step.

    Returns:
        The adapter's state, and the mean loss of the last half of the steps.

    Raises:
        MethodError: the training diverges.
        Stopped: `progress` asks for the end.
    """
    history: list[Tensor] = []
    there = mixture.weights.nonzero().flatten()
    with _attached_adapter(clip, config, seed) as adapter:
        optimiser = torch.optim.AdamW(adapter.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        for step in range(config.steps):
            chosen = there[torch.randint(len(there), (config.batch,), generator=random)]
            features, targets = clip.image_features(mixture.images[chosen]), mixture.labels[chosen]
            losses = contrastive_losses(features, texts, clip.logit_scale, targets.to(features.device))
            loss = weighted_mean(losses, mixture.weights[chosen].to(features.device))
            if not math.isfinite(float(loss.detach())):
                raise MethodError(f"tuning diverges (loss {float(loss.detach())}): lower tune.lr")
            descend(optimiser, loss)
            rate.step()
            history.append(loss.detach())
            progress.report("tuning the image encoder", step + 1, config.steps)
        state = adapter.state()
    return state, {"loss": float(torch.stack(history[len(history) // 2 :]).mean())}


@contextmanager
def with_adapter(clip: ClipModel, config: LoraTuningConfig, state: ModelState | None) -> Iterator[LoraAdapter | None]:
    """Attaches an adapter to a CLIP's image encoder for the time of the context; None attaches nothing."""
    if state is None:
        yield None
        return
    with _attached_adapter(clip, config, 0) as adapter:
        adapter.take(dict(state), "the adapter")
        yield adapter


@torch.no_grad()
def batched_image_features(clip: ClipModel, images: Tensor) -> Tensor:
    """Features of many pictures, (n, features)."""
    return torch.cat([clip.image_features(chunk) for chunk in torch.split(images, CHUNK)])


def count_correct(clip: ClipModel, texts: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """How many pictures of each class are classified correctly: int64 (classes, 2), right and all."""
    if not len(labels):
        return torch.zeros(len(texts), 2, dtype=torch.int64)
    predicted = (batched_image_features(clip, images) @ texts.T).argmax(1).cpu()
    right = torch.bincount(labels[predicted == labels], minlength=len(texts))
    return torch.stack([right, torch.bincount(labels, minlength=len(texts))], 1)


@contextmanager
def _attached_adapter(clip: ClipModel, config: LoraTuningConfig, seed: int) -> Iterator[LoraAdapter]:
    adapter = LoraAdapter(clip.image_encoder, LoraAdapterConfig(rank=config.rank, alpha=config.alpha), seed)
    try:
        yield adapter
    finally:
        adapter.detach()
