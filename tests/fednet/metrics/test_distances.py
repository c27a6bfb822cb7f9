"""Distances between pictures: zero for equals, symmetric, one value a pair, and what they are elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from fednet.errors import MeasureError
from fednet.metrics.distances import Distance, mse, perceptual, ssim
from fednet.models.lenet import LeNet
from fednet.seeds import generator


def pictures(which: str, side: int = 8, channels: int = 1, count: int = 5) -> Tensor:
    return 2 * torch.rand(count, channels, side, side, generator=generator(0, which)) - 1


def features(channels: int = 1) -> LeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LeNet(channels).eval().requires_grad_(False)


DISTANCES = {"mse": mse, "ssim": ssim, "perceptual": perceptual(features().features)}


@pytest.fixture(params=sorted(DISTANCES))
def distance(request: pytest.FixtureRequest) -> Distance:
    return DISTANCES[request.param]


def test_equal_pictures_are_at_distance_zero_and_others_are_not(distance: Distance) -> None:
    a, b = pictures("a"), pictures("b")
    torch.testing.assert_close(distance(a, a), torch.zeros(5), atol=1e-6, rtol=0)
    assert float(distance(a, b).min()) > 1e-3


def test_a_distance_goes_both_ways_and_is_of_a_pair_alone(distance: Distance) -> None:
    a, b = pictures("a"), pictures("b")
    assert distance(a, b).shape == (5,)
    torch.testing.assert_close(distance(a, b), distance(b, a))
    torch.testing.assert_close(distance(a, b)[2:3], distance(a[2:3], b[2:3]))


def test_more_noise_is_farther(distance: Distance) -> None:
    a, noise = 0.5 * pictures("a"), pictures("noise")
    near, far = distance(a, a + 0.05 * noise), distance(a, a + 0.5 * noise)
    assert bool((near < far).all())


def test_pictures_of_different_shapes_are_refused(distance: Distance) -> None:
    with pytest.raises(MeasureError, match="one shape"):
        distance(pictures("a"), pictures("b", side=9))
    with pytest.raises(MeasureError, match="one shape"):
        distance(pictures("a")[0], pictures("b")[0])


def test_mse_is_the_mean_over_the_pixels_of_each_picture() -> None:
    a = torch.zeros(2, 1, 2, 2)
    b = a.clone()
    b[0, 0, 0, 0], b[1] = 2.0, 0.5
    assert mse(a, b).tolist() == [1.0, 0.25]


def test_even_greys_differ_by_their_light_only() -> None:
    """One minus the luminance term of Wang et al. 2004, eq. 6, on [0, 1]; on [-1, 1] it was 1.85 for -.05 and .05."""
    for low, high in ((-0.05, 0.05), (-1.0, 1.0), (0.2, 0.3)):
        a, b = ((1 + grey) / 2 for grey in (low, high))
        light = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
        found = ssim(*(torch.full((1, 1, 16, 16), grey, dtype=torch.float64) for grey in (low, high)))
        assert float(found) == pytest.approx(1 - light, abs=1e-9)
        assert 0 <= float(found) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_torchmetrics_where_the_window_fits(channels: int) -> None:
    a = pictures("a", 32, channels)
    b = (a + 0.4 * pictures("b", 32, channels)).clamp(-1, 1)
    _, everywhere = structural_similarity_index_measure(
        (b + 1) / 2, (a + 1) / 2, data_range=1.0, return_full_image=True
    )
    within = everywhere[..., 5:-5, 5:-5]  # theirs also takes windows that reach beyond the edge
    torch.testing.assert_close(1 - ssim(a, b), within.flatten(1).mean(1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("side", [4, 5, 8, 10, 11, 12])
def test_ssim_takes_small_pictures(side: int) -> None:
    found = ssim(pictures("a", side), pictures("b", side))
    assert bool(((found > 0) & (found < 2)).all())


def test_the_perceptual_distance_sees_directions_not_sizes() -> None:
    """One layer of two channels: (1, 0) and (0, 1) are sqrt(2) apart whatever their lengths, (1, 0) and (3, 0) none."""
    distance = perceptual(lambda x: (x.expand(-1, 2, -1, -1) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1),))
    one = torch.full((1, 1, 2, 2), 0.2)
    assert float(distance(one, 3 * one)) == pytest.approx(0.0, abs=1e-6)
    turned = perceptual(lambda x: (torch.cat([x.clamp(min=0), (-x).clamp(min=0)], 1),))
    assert float(turned(one, -4 * one)) == pytest.approx(2.0, abs=1e-6)


def test_the_perceptual_distance_adds_layers_and_averages_places() -> None:
    half = torch.ones(1, 1, 2, 2)
    half[..., 0] = -1

    def layer(x: Tensor) -> Tensor:
        return torch.cat([x.clamp(min=0), (-x).clamp(min=0)], 1)

    whole = torch.ones(1, 1, 2, 2)
    assert float(perceptual(lambda x: (layer(x),))(whole, half)) == pytest.approx(1.0)
    assert float(perceptual(lambda x: (layer(x), layer(x)))(whole, half)) == pytest.approx(2.0)
