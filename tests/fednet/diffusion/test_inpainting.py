"""Inpainting: known pixels stay, and the hole is what the model expects there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fednet.diffusion.inpainting import Draw, Score, inpaint
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.seeds import generator

SHAPE = (1, 4, 4)
SDES = pytest.mark.parametrize("sde", [VP(), SubVP(), VE(sigma=10.0)], ids=lambda sde: sde.kind)


def normal(sde: SDE, mean: float, deviation: float) -> Score:
    """The score of independent pixels N(mean, deviation^2)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        alpha, std = sde.marginal(t)
        return (alpha * mean - x) / ((alpha * deviation) ** 2 + std**2)

    return score


def pictures(count: int = 5) -> Tensor:
    return 2 * torch.rand(count, *SHAPE, generator=generator(0, "pictures")) - 1


def left() -> Tensor:
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[:, :2] = True
    return known


def noise(shape: tuple[int, ...]) -> Draw:
    random = generator(0, "noise")
    return lambda: torch.randn(shape, generator=random)


def drawn(sde: SDE, images: Tensor, known: Tensor, score: Score | None = None, steps: int = 20) -> Tensor:
    return inpaint(score or normal(sde, 0.0, 0.5), sde, images, known, steps=steps, draw=noise(images.shape))


@SDES
def test_known_pixels_are_those_of_the_picture_bit_for_bit(sde: SDE) -> None:
    images, known = pictures(), left()
    result = drawn(sde, images, known)
    assert torch.equal(result[:, :, known], images[:, :, known])
    assert not torch.isclose(result[:, :, ~known], images[:, :, ~known]).any()


def test_what_is_all_known_comes_back_and_every_picture_can_have_its_own_mask() -> None:
    images = pictures()
    assert torch.equal(drawn(VP(), images, torch.ones(4, 4, dtype=torch.bool)), images)
    known = torch.rand(5, 1, 4, 4, generator=generator(0, "masks")) < 0.5
    result = drawn(VP(), images, known)
    assert torch.equal(result == images, known)


@SDES
def test_whenever_the_model_is_asked_the_known_region_is_the_picture_at_that_noise(sde: SDE) -> None:
    images, known, one = pictures(), left(), 0.25
    seen: list[tuple[Tensor, Tensor]] = []

    def score(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x, t))
        return -x

    inpaint(score, sde, images, known, steps=6, draw=lambda: torch.full(images.shape, one))
    assert len(seen) == 7
    prior = sde.marginal(torch.ones(()))[1] * one
    torch.testing.assert_close(seen[0][0][:, :, ~known], prior.expand(5, 1, 8))
    for x, t in seen:
        alpha, std = sde.marginal(t.double())
        torch.testing.assert_close(x[:, :, known], (alpha * images + std * one).float()[:, :, known])


@SDES
def test_unknown_pixels_are_never_looked_at(sde: SDE) -> None:
    images, known = pictures(), left()
    other = torch.where(known, images, 0.7 * torch.ones(()))
    assert torch.equal(drawn(sde, images, known)[:, :, ~known], drawn(sde, other, known)[:, :, ~known])


@SDES
def test_the_hole_follows_the_models_distribution(sde: SDE) -> None:
    images = pictures(1).expand(1500, *SHAPE)
    result = drawn(sde, images, left(), normal(sde, 0.4, 0.3), steps=100)
    hole = result[:, :, ~left()]
    assert float(hole.mean()) == pytest.approx(0.4, abs=0.02)
    assert float(hole.std()) == pytest.approx(0.3, abs=0.03)


def test_the_hole_follows_the_known_pixels_where_the_model_joins_them() -> None:
    """A model in which the right half repeats the left: x = (u, u), u normal."""
    sde = VP()

    def score(x: Tensor, t: Tensor) -> Tensor:
        alpha, std = sde.marginal(t)
        one, two = x.chunk(2, 3)
        cov, var = 0.25 * alpha**2, 0.25 * alpha**2 + std**2
        gap = var**2 - cov**2
        return -torch.cat([var * one - cov * two, var * two - cov * one], 3) / gap

    images = pictures(200)
    result = drawn(sde, images, left(), score, steps=300)
    ideal = images[..., :2]
    assert float((result[..., 2:] - ideal).abs().mean()) < 0.3 * float((0 - ideal).abs().mean())


def test_the_last_denoise_stands_in_the_hole() -> None:
    """A model of one picture only: what is left of the noise at t = eps must be gone."""
    sde = VP(eps=0.05)
    result = drawn(sde, pictures(), left(), normal(sde, -0.5, 0.0), steps=50)
    torch.testing.assert_close(result[:, :, ~left()], torch.full((5, 1, 8), -0.5), atol=1e-4, rtol=0)


def test_the_same_noise_draws_the_same_and_a_picture_does_not_depend_on_its_batch() -> None:
    images, known = pictures(), left()
    everything = noise((400, *images.shape))()

    def turn(rows: slice) -> Tensor:
        at = iter(everything)
        return inpaint(normal(VP(), 0.0, 0.5), VP(), images[rows], known, steps=20, draw=lambda: next(at)[rows])

    torch.testing.assert_close(turn(slice(0, 5))[2:3], turn(slice(2, 3)))


def test_steps_are_counted_and_may_end_it() -> None:
    asked: list[float] = []
    ticks: list[int] = []

    def score(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return -x

    inpaint(score, VP(), pictures(), left(), steps=7, draw=noise((5, *SHAPE)), tick=lambda: ticks.append(len(asked)))
    assert ticks == [1, 2, 3, 4, 5, 6, 7]
    assert len(asked) == 8
    assert asked[0] == 1.0
    assert asked[-1] == pytest.approx(VP().eps)
    assert asked == sorted(asked, reverse=True)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inpaint(score, VP(), pictures(), left(), steps=7, draw=noise((5, *SHAPE)), tick=stop)
    assert len(asked) == 9


@pytest.mark.parametrize("sde", [VP(), SubVP()], ids=lambda sde: sde.kind)
def test_resampling_draws_the_hole_given_what_is_known(sde: SDE) -> None:
    """Two unit normals with correlation .9, the first is 1: p(hole | known) = N(.9, .19); once a step, N(.63, .31)."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    images, known = torch.ones(4000, 1, 1, 2), torch.tensor([[True, False]])

    def score(x: Tensor, t: Tensor) -> Tensor:
        alpha, std = sde.marginal(t.double())
        precision = torch.linalg.inv(alpha**2 * covariance + std**2 * torch.eye(2, dtype=torch.float64))
        return -(x.flatten(1) @ precision.float()).view_as(x)

    def hole(resamplings: int) -> Tensor:
        draw = noise(tuple(images.shape))
        return inpaint(score, sde, images, known, steps=200, draw=draw, resamplings=resamplings)[..., 1]

    assert float(hole(1).mean()) < 0.7
    often = hole(10)
    assert float(often.mean()) == pytest.approx(0.9, abs=0.05)
    assert float(often.var()) == pytest.approx(0.19, abs=0.04)
