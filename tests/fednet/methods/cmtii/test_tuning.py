"""Tuning leaves the encoder alone, weight 0 is absence, and counts add up."""

from __future__ import annotations

import pytest
import torch

from fednet.api import NullProgress
from fednet.federated.state import detached_copy, digest
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.config import LoraTuningConfig
from fednet.methods.cmtii.lexicon import class_text_features
from fednet.methods.cmtii.tuning import (
    WeightedImages,
    batched_image_features,
    count_correct,
    tune_adapter,
    with_adapter,
)

CONFIG = LoraTuningConfig(steps=3, batch=16, rank=2)


def mixture(count: int = 12, weight: float = 1.0) -> WeightedImages:
    random = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(count, 1, 8, 8, generator=random) - 1
    return WeightedImages(images, torch.arange(count) % 10, torch.full((count,), weight))


def texts(backend: CmtiiBackend) -> torch.Tensor:
    return class_text_features(backend.clip, [[backend.clip.tokens(str(digit))] for digit in range(10)])


def tuned(backend: CmtiiBackend, what: WeightedImages) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return tune_adapter(backend.clip, texts(backend), what, CONFIG, seed=3, random=random, progress=NullProgress())[0]


def test_the_encoder_is_what_it_was(backend: CmtiiBackend) -> None:
    before = digest(detached_copy(backend.clip.image_encoder.state_dict()))
    state = tuned(backend, mixture())
    assert digest(detached_copy(backend.clip.image_encoder.state_dict())) == before
    untuned = batched_image_features(backend.clip, mixture().images)
    with with_adapter(backend.clip, CONFIG, state):
        assert not torch.equal(batched_image_features(backend.clip, mixture().images), untuned)
    assert torch.equal(batched_image_features(backend.clip, mixture().images), untuned)


def test_pictures_of_weight_nought_are_not_there(backend: CmtiiBackend) -> None:
    some = mixture()
    more = WeightedImages(
        torch.cat([some.images, -some.images]),
        torch.cat([some.labels, some.labels]),
        torch.cat([some.weights, torch.zeros(len(some.weights))]),
    )
    assert digest(tuned(backend, some)) == digest(tuned(backend, more))


def test_equal_weights_may_have_any_size(backend: CmtiiBackend) -> None:
    whole, tenth = tuned(backend, mixture()), tuned(backend, mixture(weight=0.1))
    assert all(torch.allclose(whole[name], tenth[name], atol=1e-5) for name in whole)


def test_counts_add_up(backend: CmtiiBackend) -> None:
    some = mixture(20)
    found = count_correct(backend.clip, texts(backend), some.images, some.labels)
    assert found[:, 1].tolist() == [2] * 10
    assert bool((found[:, 0] <= found[:, 1]).all())
    assert count_correct(backend.clip, texts(backend), some.images[:0], some.labels[:0]).sum() == 0


def test_an_adapter_of_another_size_is_refused(backend: CmtiiBackend) -> None:
    state = tuned(backend, mixture())
    with pytest.raises(Exception, match="adapter"), with_adapter(backend.clip, LoraTuningConfig(rank=4), state):
        pass
