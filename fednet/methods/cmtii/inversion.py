"""Learning the pseudo-words of a site's classes: embeddings are trained, every model is frozen.

Two losses, alone or together: the word shall tell the pictures of its class from all others (contrastive), and the
image generator shall denoise them best under it (diffusion). In the first every class appears once, by the site's own
word or by the tokens of its name; words of other sites do not, since they would be further classes for the same
pictures.

Source: CoOp (Zhou et al. 2022, arXiv 2109.01134) with one word a class for the first; Textual Inversion (Gal et al.
2022, arXiv 2208.01618) for the second. Knows no network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from fednet.api import Progress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.config import InversionConfig
from fednet.methods.cmtii.losses import contrastive_losses
from fednet.methods.cmtii.tuning import batched_image_features
from fednet.methods.common.training import descend

INIT_IMAGES, INIT_NOISE_DRAWS = 32, 4
"""Pictures of a class, and noise draws a picture, by which its initial word is chosen."""


def classes_to_learn(pictures: ImageSet, config: InversionConfig, number: int) -> tuple[int, ...]:
    """The classes to learn in a round, from 1: those with enough pictures, all of them or some in turn."""
    there = [label for label, count in enumerate(pictures.histogram()) if count >= config.least]
    if config.classes is None or config.classes >= len(there):
        return tuple(there)
    first = (number - 1) * config.classes
    return tuple(sorted(there[(first + k) % len(there)] for k in range(config.classes)))


def invert_words(
    backend: CmtiiBackend,
    pictures: ImageSet,
    initial: Sequence[Tensor],
    labels: Sequence[int],
    config: InversionConfig,
    *,
    random: Generator,
    progress: Progress,
) -> tuple[dict[int, Tensor], dict[str, float]]:
    """Learns the words of some classes.

    Args:
        backend: the models.
        pictures: the site's.
        initial: the present word of every class, in class order, each (tokens, width).
        labels: the classes to learn, at least one picture of each.
        config: how.
        random: draws batches, times and noise.
        progress: told of every step.

    Returns:
        The words by class, and the mean losses of the last half of the steps.

    Raises:
        MethodError: the training diverges.
        Stopped: `progress` asks for the end.
    """
    seed = int(torch.randint(2**62, (1,), generator=random))
    words = {label: initial_word(backend, pictures, label, initial[label], seed).requires_grad_() for label in labels}
    places = [(pictures.labels == label).nonzero().flatten() for label in labels]
    features = batched_image_features(backend.clip, pictures.images) if config.contrastive else None
    optimiser = torch.optim.AdamW(list(words.values()), lr=config.lr, weight_decay=config.weight_decay)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    history: list[dict[str, Tensor]] = []
    for step in range(config.steps):
        chosen = _batch(places, config.batch, random)
        targets = pictures.labels[chosen]
        losses: dict[str, Tensor] = {}
        if features is not None:
            losses["contrastive"] = _contrastive(backend, features[chosen], targets, initial, words)
        if config.diffusion:
            conditions = [words[label] for label in targets.tolist()]
            losses["diffusion"] = backend.image_generator.denoising_loss(
                pictures.images[chosen], conditions, random
            ).mean()
        total = sum(getattr(config, name) * loss for name, loss in losses.items())
        _optimiser_step(optimiser, torch.as_tensor(total))
        rate.step()
        history.append({name: loss.detach() for name, loss in losses.items()})
        progress.report("learning words", step + 1, config.steps)
    return {label: word.detach().to("cpu", torch.float32) for label, word in words.items()}, _mean_losses(history)


@torch.no_grad()
def initial_word(backend: CmtiiBackend, pictures: ImageSet, label: int, initial: Tensor, seed: int) -> Tensor:
    """The initial word of a class: of the known ones, the word under which its pictures are denoised best.

    A word that is initialised far off may end where pictures are denoised well and nothing sensible is generated.

    Args:
        backend: the models.
        pictures: the site's.
        label: the class.
        initial: its present word, which is kept where no known word is better.
        seed: draws the noise, the same for all.
    """
    images = pictures.images[pictures.labels == label][:INIT_IMAGES]

    def loss(word: Tensor) -> float:
        random = torch.Generator().manual_seed(seed)
        draws = [
            backend.image_generator.denoising_loss(images, [word] * len(images), random)
            for _ in range(INIT_NOISE_DRAWS)
        ]
        return float(torch.stack(draws).mean())

    known = backend.known(pictures.classes[label])
    return min([initial, *known], key=loss).clone() if known else initial.clone()


def _contrastive(
    backend: CmtiiBackend, features: Tensor, targets: Tensor, initial: Sequence[Tensor], words: Mapping[int, Tensor]
) -> Tensor:
    clip = backend.clip
    texts = clip.text_features([words.get(label, word) for label, word in enumerate(initial)])
    return contrastive_losses(features, texts, clip.logit_scale, targets.to(features.device)).mean()


def _batch(places: Sequence[Tensor], count: int, random: Generator) -> Tensor:
    """Positions of `count` pictures, their classes drawn evenly."""
    classes = torch.randint(len(places), (count,), generator=random)
    picks = torch.rand(count, generator=random)
    return torch.stack([places[k][int(u * len(places[k]))] for k, u in zip(classes.tolist(), picks, strict=True)])


def _optimiser_step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    if not math.isfinite(float(loss.detach())):
        raise MethodError(f"learning a word diverges (loss {float(loss.detach())}): lower learn.lr")
    descend(optimiser, loss)


def _mean_losses(history: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    last = history[len(history) // 2 :]
    return {name: float(torch.stack([losses[name] for losses in last]).mean()) for name in last[0]}
