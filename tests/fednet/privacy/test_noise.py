"""The noise is normal and secret; its seeded twin repeats itself and says what it is."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from scipy.stats import kstest

from fednet.privacy.noise import STRETCH, NoiseSource


def test_secret_noise_differs_between_sources_and_seeded_noise_does_not() -> None:
    assert not torch.equal(NoiseSource().gaussian(50), NoiseSource().gaussian(50))
    assert torch.equal(NoiseSource.seeded(3).gaussian(50), NoiseSource.seeded(3).gaussian(50))
    assert not torch.equal(NoiseSource.seeded(3).gaussian(50), NoiseSource.seeded(4).gaussian(50))
    assert (NoiseSource().private, NoiseSource.seeded(0).private) == (True, False)


def test_it_is_standard_normal_and_uncorrelated() -> None:
    numbers = NoiseSource.seeded(0).gaussian(40_001)
    assert numbers.shape == (40_001,)
    assert kstest(numbers.numpy(), "norm").pvalue > 1e-3
    assert abs(float((numbers[1:] * numbers[:-1]).mean())) < 0.02
    first, second = numbers[:20_000], numbers[20_001:]
    assert abs(float((first * second).mean())) < 0.025  # the two numbers of a pair
    assert kstest(NoiseSource.seeded(1).uniform(40_000).numpy(), "uniform").pvalue > 1e-3


def test_a_sample_holds_each_position_with_the_rate() -> None:
    source = NoiseSource.seeded(0)
    sizes = torch.tensor([len(source.poisson(1000, 0.1)) for _ in range(400)], dtype=torch.float64)
    assert float(sizes.mean()) == pytest.approx(100, abs=2)
    assert float(sizes.var()) == pytest.approx(90, rel=0.3)  # binomial: the size itself is random
    assert len(source.poisson(1000, 0.0)) == 0
    assert source.poisson(5, 1.0).tolist() == [0, 1, 2, 3, 4]


def test_a_stream_never_begins_again() -> None:
    source = NoiseSource.seeded(0)
    first = source.uniform(4)
    source._left = 0
    assert not torch.equal(source.uniform(4), first)
    assert source._left > STRETCH - 100


def test_a_source_tells_nothing_and_cannot_be_copied() -> None:
    source = NoiseSource()
    assert repr(source) == "NoiseSource(secret)"
    assert "NOT PRIVATE" in repr(NoiseSource.seeded(0))
    for attempt in (lambda: pickle.dumps(source), lambda: copy.copy(source), lambda: copy.deepcopy(source)):
        with pytest.raises(TypeError, match="not copied or stored"):
            attempt()
