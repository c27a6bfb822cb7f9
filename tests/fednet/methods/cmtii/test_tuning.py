"""Tuning leaves the encoder alone, weight 0 is absence, and counts add up."""

from __future__ import annotations

import pytest
import torch

from fednet.api import NullProgress
from fednet.federated.state import digest, frozen
from fednet.methods.cmtii.backend import Backend
from fednet.methods.cmtii.config import TuneConfig
from fednet.methods.cmtii.lexicon import merged
from fednet.methods.cmtii.tuning import Mixture, adapted, image_features, tally, tune

CONFIG = TuneConfig(steps=3, batch=16, rank=2)


def mixture(count: int = 12, weight: float = 1.0) -> Mixture:
    random = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(count, 1, 8, 8, generator=random) - 1
    return Mixture(images, torch.arange(count) % 10, torch.full((count,), weight))


def texts(backend: Backend) -> torch.Tensor:
    return merged(backend.clip, [[backend.clip.tokens(str(digit))] for digit in range(10)])


def tuned(backend: Backend, what: Mixture) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return tune(backend.clip, texts(backend), what, CONFIG, seed=3, random=random, progress=NullProgress())[0]


def test_the_encoder_is_what_it_was(backend: Backend) -> None:
    before = digest(frozen(backend.clip.image_encoder.state_dict()))
    state = tuned(backend, mixture())
    assert digest(frozen(backend.clip.image_encoder.state_dict())) == before
    bare = image_features(backend.clip, mixture().images)
    with adapted(backend.clip, CONFIG, state):
        assert not torch.equal(image_features(backend.clip, mixture().images), bare)
    assert torch.equal(image_features(backend.clip, mixture().images), bare)


def test_pictures_of_weight_nought_are_not_there(backend: Backend) -> None:
    some = mixture()
    more = Mixture(
        torch.cat([some.images, -some.images]),
        torch.cat([some.labels, some.labels]),
        torch.cat([some.weights, torch.zeros(len(some.weights))]),
    )
    assert digest(tuned(backend, some)) == digest(tuned(backend, more))


def test_equal_weights_may_have_any_size(backend: Backend) -> None:
    whole, tenth = tuned(backend, mixture()), tuned(backend, mixture(weight=0.1))
    assert all(torch.allclose(whole[name], tenth[name], atol=1e-5) for name in whole)


def test_counts_add_up(backend: Backend) -> None:
    some = mixture(20)
    found = tally(backend.clip, texts(backend), some.images, some.labels)
    assert found[:, 1].tolist() == [2] * 10
    assert bool((found[:, 0] <= found[:, 1]).all())
    assert tally(backend.clip, texts(backend), some.images[:0], some.labels[:0]).sum() == 0


def test_an_adapter_of_another_size_is_refused(backend: Backend) -> None:
    state = tuned(backend, mixture())
    with pytest.raises(Exception, match="adapter"), adapted(backend.clip, TuneConfig(rank=4), state):
        pass
