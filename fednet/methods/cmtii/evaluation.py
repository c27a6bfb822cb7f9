"""Measures of generated pictures, and membership attacks on pseudo-words; computed at the site.

The judge's weights come with the question, so that the pictures stay. The attack's statistic is how well the image
generator denoises a picture under a word: better than others of the class, and the picture is taken for one that the
word was learnt from. `calibrated` subtracts the loss of the same noisy picture under the tokens of the class's name, so
that a picture is not taken for a member because it is an easy one (Watson et al. 2022, arXiv
2111.08440). Reads private pictures; knows no other site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fednet.data.datasets import ImageSet
from fednet.errors import MeasureError
from fednet.federated.state import detached_copy, model_tensors, require_finite, require_like
from fednet.methods.cmtii.backend import ImageGenerator
from fednet.metrics.frechet import frechet_distance
from fednet.metrics.inception import inception_score
from fednet.metrics.judge import Judge, fraction_right
from fednet.metrics.membership_inference import halves, loss_attack, nearest_attack
from fednet.metrics.novelty import nearest_distance
from fednet.models.classifier import FEATURES, Classifier
from fednet.seeds import derive, generator

CHUNK = 256
"""Noisy pictures at a time."""
JUDGE_PREFIX = "judge."
"""Of the names of a judge's weights in a question."""


def judge_to_inputs(judge: Judge) -> dict[str, Tensor]:
    """A judge's weights as inputs of a question."""
    return {JUDGE_PREFIX + name: part for name, part in detached_copy(judge.network.state_dict()).items()}


def judge_from_inputs(
    inputs: Mapping[str, Tensor], shape: tuple[int, int, int], classes: tuple[str, ...], device: str
) -> Judge:
    """The judge of a question.

    Raises:
        ModelError: it is a judge of other pictures, or not finite.
    """
    network = Classifier(shape[0], shape[1], len(classes))
    state = {name.removeprefix(JUDGE_PREFIX): part for name, part in inputs.items() if name.startswith(JUDGE_PREFIX)}
    require_like(state, detached_copy(model_tensors(network.state_dict())), "the judge")
    require_finite(state, "the judge")
    network.load_state_dict(state)
    return Judge(network.to(device).eval().requires_grad_(requires_grad=False), shape, classes, device)


def evaluate_generated(judge: Judge, images: Tensor, labels: Tensor, real: ImageSet) -> dict[str, Any]:
    """The measures of generated pictures beside real ones of the same classes.

    Args:
        judge: classifies them.
        images: generated, (n, c, h, w).
        labels: the classes of their words, int64 (n,).
        real: pictures that no site trained on.

    Returns:
        count; accuracy, in all and by class; inception_score; frechet, the distance to the real ones in the judge's
        features, and floor, that of one half of the real ones to the other; None where there are too few.
    """
    if not len(images):
        return {"count": 0, "accuracy": None, "by_class": {}, "inception_score": None, "frechet": None, "floor": None}
    probabilities = judge.probabilities(images)
    right = probabilities.argmax(1) == labels
    by_class = {judge.classes[k]: float(right[labels == k].double().mean()) for k in sorted(set(labels.tolist()))}
    alike = judge.features(real.images[torch.isin(real.labels, labels)])
    alike = alike[torch.randperm(len(alike), generator=generator(0, "real halves"))]
    enough = min(len(images), len(alike) // 2) > FEATURES
    return {
        "count": len(images),
        "accuracy": fraction_right(probabilities, labels),
        "by_class": by_class,
        "inception_score": inception_score(probabilities) if len(images) >= len(judge.classes) else None,
        "frechet": frechet_distance(judge.features(images), alike) if enough else None,
        "floor": frechet_distance(*alike.tensor_split(2)) if enough else None,
    }


@dataclass(frozen=True)
class WordLeakage:
    """What the word of one class leaks.

    Attributes:
        label: the class.
        generated: the distance of every picture generated from the word to the nearest that it was learnt from.
        strangers: the same distance of real pictures that no site trained on.
        loss: AUC of the attack by the loss.
        calibrated: the same, calibrated.
        nearest: AUC of the attack by the nearest generated picture.
        count: members, and strangers, each.
    """

    label: int
    generated: tuple[float, ...]
    strangers: tuple[float, ...]
    loss: float
    calibrated: float
    nearest: float
    count: int


def measure_leakage(
    net: ImageGenerator,
    label: int,
    words: tuple[Tensor, Tensor],
    pictures: tuple[Tensor, Tensor],
    generated: Tensor,
    *,
    views: int,
    seed: int,
) -> WordLeakage:
    """Attacks one word.

    Args:
        net: the image generator, which all sites and the attacker have.
        label: its class.
        words: the word, and the tokens of the class's name.
        pictures: those that it was learnt from, and others of the same class and source, at least one of each.
        generated: from the word.
        views: noisy views of a picture that are averaged.
        seed: draws them, the same for all pictures and both words.
    """
    (word, tokens), (members, strangers) = words, pictures
    inside, outside = halves(len(members), len(strangers), generator(seed, "halves", label))
    tried = torch.cat([members[inside], strangers[outside]])
    raw = _losses(net, tried, word, views, derive(seed, "views", label))
    known = _losses(net, tried, tokens, views, derive(seed, "views", label))
    count = len(inside)
    return WordLeakage(
        label=label,
        generated=tuple(nearest_distance(generated, members).tolist()),
        strangers=tuple(nearest_distance(strangers, members).tolist()),
        loss=loss_attack(raw[:count], raw[count:]),
        calibrated=loss_attack((raw - known)[:count], (raw - known)[count:]),
        nearest=nearest_attack(members[inside], strangers[outside], generated),
        count=count,
    )


def pool_leakage(leaks: Sequence[WordLeakage]) -> dict[str, Any]:
    """All words of a site: distances pooled, AUCs averaged by their counts.

    Raises:
        MeasureError: there are none.
    """
    if not leaks:
        raise MeasureError("no word was learnt here, so none can be attacked")
    total = sum(one.count for one in leaks)
    pooled = {
        name: torch.tensor([d for one in leaks for d in getattr(one, name)]) for name in ("generated", "strangers")
    }
    return {
        "words": len(leaks),
        "count": total,
        **{name: sum(getattr(one, name) * one.count for one in leaks) / total for name in ATTACK_AUCS},
        **{f"{name}_mean": float(distances.mean()) for name, distances in pooled.items()},
        **{f"{name}_least": float(distances.min()) for name, distances in pooled.items()},
    }


ATTACK_AUCS = ("loss", "calibrated", "nearest")


@torch.no_grad()
def _losses(net: ImageGenerator, images: Tensor, word: Tensor, views: int, seed: int) -> Tensor:
    """The mean loss of every picture (n,); the same seed shows the same noise."""
    random, parts = torch.Generator().manual_seed(seed), torch.split(images, CHUNK)
    draws = [
        torch.cat([net.denoising_loss(part, [word] * len(part), random).cpu() for part in parts]) for _ in range(views)
    ]
    return torch.stack(draws).mean(0)
