"""The forward diffusions against their own moment equations."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fednet.diffusion.sde import SDE, VE, VP, SDEConfig, SubVP, over
from fednet.seeds import generator

ALL = [VE(), VP(), SubVP()]
TIMES = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)


@pytest.mark.parametrize("sde", ALL, ids=lambda sde: sde.kind)
def test_the_marginal_solves_the_moment_equations(sde: SDE) -> None:
    h = 1e-5
    (a0, s0), (a1, s1) = sde.marginal(TIMES - h), sde.marginal(TIMES + h)
    alpha, std = sde.marginal(TIMES)
    rate, g = sde.drift_rate(TIMES), sde.diffusion(TIMES)
    torch.testing.assert_close((a1 - a0) / (2 * h), rate * alpha, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((s1**2 - s0**2) / (2 * h), 2 * rate * std**2 + g**2, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("sde", ALL, ids=lambda sde: sde.kind)
def test_everything_starts_clean_and_ends_as_noise(sde: SDE) -> None:
    alpha, std = sde.marginal(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert alpha[0] == 1
    assert std[0] == 0
    assert std[1] / alpha[1] > 9


@pytest.mark.parametrize("sde", ALL, ids=lambda sde: sde.kind)
def test_the_condition_covers_0_to_1000_and_grows(sde: SDE) -> None:
    told = sde.condition(torch.linspace(sde.eps, 1, 200, dtype=torch.float64))
    assert told[0] == pytest.approx(0, abs=1e-6)
    assert told[-1] == pytest.approx(1000)
    assert bool((told.diff() > 0).all())


@pytest.mark.parametrize("sde", ALL, ids=lambda sde: sde.kind)
def test_the_prior_has_the_deviation_of_the_end(sde: SDE) -> None:
    noise = sde.prior((20_000,), generator(0, "prior"))
    assert noise.dtype == torch.float32
    assert float(noise.std()) == pytest.approx(float(sde.marginal(torch.ones(()))[1]), rel=0.02)
    assert torch.equal(noise, sde.prior((20_000,), generator(0, "prior")))


def test_noised_mixes_sample_by_sample() -> None:
    x, t, noise = torch.ones(2, 1, 2, 2), torch.tensor([0.001, 1.0]), torch.full((2, 1, 2, 2), 3.0)
    alpha, std = VP().marginal(t)
    torch.testing.assert_close(VP().noised(x, t, noise)[:, 0, 0, 0], alpha + 3 * std)


def test_ve_is_the_tutorials() -> None:
    alpha, std = VE(sigma=25).marginal(torch.tensor(1.0, dtype=torch.float64))
    assert alpha == 1
    assert float(std) ** 2 == pytest.approx((25**2 - 1) / (2 * 3.2188758), rel=1e-6)


def test_over_shapes_a_value_for_each_sample() -> None:
    assert over(torch.ones(3), torch.ones(3, 1, 2, 2)).shape == (3, 1, 1, 1)
    assert over(torch.ones(()), torch.ones(3, 1)).shape == ()


def test_the_kind_chooses_the_sde() -> None:
    adapter: TypeAdapter[SDE] = TypeAdapter(SDEConfig)
    assert adapter.validate_python({"kind": "ve", "sigma": 10}) == VE(sigma=10)
    with pytest.raises(ValidationError, match="kind"):
        adapter.validate_python({"kind": "vpp"})


@pytest.mark.parametrize("bad", [{"eps": 0}, {"beta_min": 30}, {"beta": 1}])
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        VP(**bad)
