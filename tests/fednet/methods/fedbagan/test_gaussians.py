"""Gaussians of summed moments: those of the pooled pictures, also behind a quantised sum; what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError, ModelError
from fednet.federated.averaging import weighted_mean
from fednet.federated.state_storage import WritableStorage
from fednet.methods.fedbagan.config import MAX_MOMENT
from fednet.methods.fedbagan.gaussians import ClassGaussians, latent_moments, zero_moments
from fednet.privacy.masked_state import MASKED_TENSOR, masked_state, unmasked_state
from fednet.privacy.masking import sum_masked
from fednet.privacy.quantise import Quantiser

CLASSES, WIDE, SITES = 4, 6, 5


@pytest.fixture
def pooled() -> tuple[Tensor, Tensor]:
    """Latent vectors of 300 pictures; class 2 has three of them, class 3 none."""
    random = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 2
    labels[:3] = 2
    mixing = torch.randn(CLASSES, WIDE, WIDE, generator=random) / 2
    latents = torch.einsum("nij,nj->ni", mixing[labels], torch.randn(300, WIDE, generator=random)) + labels[:, None]
    return latents, labels


def shares(latents: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    cuts = [10, 60, 130, 299]  # of very unequal size; the last site has one picture
    return list(zip(latents.tensor_split(cuts), labels.tensor_split(cuts), strict=True))


def per_site(latents: Tensor, labels: Tensor) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    parts = shares(latents, labels)
    states = {f"a{k}": latent_moments(z, y, CLASSES, k, SITES) for k, (z, y) in enumerate(parts)}
    return states, {f"a{k}": float(len(z)) for k, (z, _) in enumerate(parts)}


def test_summed_moments_are_those_of_the_pooled_pictures(pooled: tuple[Tensor, Tensor]) -> None:
    total = weighted_mean(*per_site(*pooled))
    found = ClassGaussians.of(total, shrinkage=1e-9)
    latents, labels = pooled
    for label in (0, 1):
        own = latents[labels == label].double()
        assert float((found.mean[label] - own.mean(0)).abs().max()) <= 1e-5
        assert float((found.covariance[label] - torch.cov(own.T)).abs().max()) <= 1e-5
    together = ClassGaussians.of(latent_moments(latents, labels, CLASSES, 0, SITES), shrinkage=4.0)
    apart = ClassGaussians.of(total, shrinkage=4.0)
    assert float((together.mean - apart.mean).abs().max()) <= 1e-5
    assert float((together.covariance - apart.covariance).abs().max()) <= 1e-5


def test_a_quantised_sum_gives_the_same_gaussians(pooled: tuple[Tensor, Tensor]) -> None:
    """What a secure sum does to the numbers, without the masks, which cancel exactly."""
    states, weights = per_site(*pooled)
    base, largest = zero_moments(SITES, CLASSES, WIDE), max(weights.values())
    quantiser = Quantiser(MAX_MOMENT, SITES)
    relative = {name: weight / largest for name, weight in weights.items()}
    encoded = {
        name: masked_state(
            state, base, MAX_MOMENT, partial(quantiser.encode, weight=relative[name]), WritableStorage
        ).state[MASKED_TENSOR]
        for name, state in states.items()
    }
    mean = partial(quantiser.mean, weights=relative.values())
    found, exact = (
        ClassGaussians.of(unmasked_state(sum_masked(encoded), base, MAX_MOMENT, mean, WritableStorage).state, 4.0),
        ClassGaussians.of(weighted_mean(states, weights), 4.0),
    )
    assert float((found.mean - exact.mean).abs().max()) <= 1e-4
    assert float((found.covariance - exact.covariance).abs().max()) <= 1e-3
    assert torch.equal(found.known, exact.known)


def test_a_rare_class_leans_on_the_others_and_a_missing_one_is_not_known(pooled: tuple[Tensor, Tensor]) -> None:
    found = ClassGaussians.of(weighted_mean(*per_site(*pooled)), shrinkage=4.0)
    assert found.known.tolist() == [True, True, True, False]
    assert bool((torch.linalg.eigvalsh(found.covariance) > 0).all())  # although three vectors span a plane
    weak = ClassGaussians.of(weighted_mean(*per_site(*pooled)), shrinkage=1e6)
    torch.testing.assert_close(weak.covariance[0], weak.covariance[2], rtol=1e-3, atol=1e-4)
    with pytest.raises(ModelError, match="no site has a picture of class 3"):
        found.draw(torch.tensor([0, 3]), torch.Generator())


def test_draws_have_the_moments_of_their_class(pooled: tuple[Tensor, Tensor]) -> None:
    found = ClassGaussians.of(weighted_mean(*per_site(*pooled)), shrinkage=4.0)
    drawn = found.draw(torch.ones(40_000, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert float((drawn.mean(0) - found.mean[1]).abs().max()) < 0.05
    assert float((torch.cov(drawn.T) - found.covariance[1]).abs().max()) < 0.1


def test_what_is_refused(pooled: tuple[Tensor, Tensor]) -> None:
    latents, labels = pooled
    make = partial(latent_moments, labels=labels, classes=CLASSES, site=0, sites=SITES)
    for bad in (latents * 100, torch.full_like(latents, torch.nan)):
        with pytest.raises(MethodError, match=r"raise autoencoder\.penalty"):
            make(bad)
    with pytest.raises(ModelError, match="no moments have been summed yet"):
        ClassGaussians.of(zero_moments(SITES, CLASSES, WIDE), 4.0)
    odd = make(latents)
    with pytest.raises(ModelError, match="are not those of latent vectors"):
        ClassGaussians.of({**odd, "outer": -odd["outer"]}, 4.0)
