"""Inversion: words are trained, models are frozen; which classes are learnt when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fednet.api import NullProgress
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.config import InversionConfig
from fednet.methods.cmtii.inversion import INIT_NOISE_DRAWS, classes_to_learn, initial_word, invert_words

CLASSES = tuple(map(str, range(10)))


def pictures() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([1] * 6 + [4] * 5 + [7] * 2 + [8] * 4)
    return ImageSet(2 * torch.rand(len(labels), 1, 8, 8, generator=random) - 1, labels, CLASSES)


def names(backend: CmtiiBackend) -> list[torch.Tensor]:
    return [backend.clip.tokens(name) for name in CLASSES]


def inverted(backend: CmtiiBackend, config: InversionConfig) -> tuple[dict[int, torch.Tensor], dict[str, float]]:
    random = torch.Generator().manual_seed(2)
    return invert_words(backend, pictures(), names(backend), (1, 4), config, random=random, progress=NullProgress())


def test_classes_with_enough_pictures_are_learnt() -> None:
    assert classes_to_learn(pictures(), InversionConfig(least=4), 1) == (1, 4, 8)
    assert classes_to_learn(pictures(), InversionConfig(least=3), 5) == (1, 4, 8)


def test_classes_are_learnt_in_turn() -> None:
    rounds = [classes_to_learn(pictures(), InversionConfig(classes=1), number) for number in range(1, 5)]
    assert rounds == [(1,), (4,), (8,), (1,)]
    assert classes_to_learn(pictures(), InversionConfig(classes=2), 2) == (1, 8)


@pytest.mark.parametrize("loss", [{"contrastive": 0.0}, {"diffusion": 0.0}, {"contrastive": 0.5}])
def test_words_move_and_models_do_not(backend: CmtiiBackend, loss: dict[str, float]) -> None:
    net = backend.image_generator
    assert isinstance(net, nn.Module)
    before = [part.clone() for part in [*net.parameters(), *backend.clip.image_encoder.parameters()]]
    words, losses = inverted(backend, InversionConfig(steps=2, batch=8, **loss))
    assert sorted(words) == [1, 4]
    assert all(not torch.equal(word, names(backend)[label]) for label, word in words.items())
    after = [*net.parameters(), *backend.clip.image_encoder.parameters()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert all(not word.requires_grad for word in words.values())
    assert sorted(losses) == sorted(name for name, part in {"contrastive": 1, "diffusion": 1, **loss}.items() if part)


def test_the_same_seed_learns_the_same(backend: CmtiiBackend) -> None:
    once, again = (inverted(backend, InversionConfig(steps=2, batch=8))[0] for _ in range(2))
    assert all(torch.equal(once[label], again[label]) for label in once)


def test_the_contrastive_loss_falls(backend: CmtiiBackend) -> None:
    short, long = (
        inverted(backend, InversionConfig(steps=steps, batch=16, diffusion=0.0, contrastive=1.0, lr=0.1))[1][
            "contrastive"
        ]
        for steps in (2, 40)
    )
    assert long < short


def test_a_word_that_diverges_is_refused(backend: CmtiiBackend) -> None:
    with pytest.raises(MethodError, match=r"diverges|NaN"):
        inverted(backend, InversionConfig(steps=5, batch=8, lr=1e30))


def test_a_word_begins_where_its_pictures_are_denoised_best(backend: CmtiiBackend) -> None:
    def losses(word: torch.Tensor) -> float:
        images, random = pictures().images[pictures().labels == 4], torch.Generator().manual_seed(5)
        looks = [
            backend.image_generator.denoising_loss(images, [word] * len(images), random)
            for _ in range(INIT_NOISE_DRAWS)
        ]
        return float(torch.stack(looks).mean().detach())

    name = backend.clip.tokens("4")
    found = initial_word(backend, pictures(), 4, name, 5)
    assert losses(found) == min(losses(word) for word in [name, *backend.known("4")])
    assert torch.equal(initial_word(replace(backend, known=lambda _name: ()), pictures(), 4, name, 5), name)
