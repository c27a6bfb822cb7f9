"""Products by weighted particles, against Gaussians in closed form: where `mean` errs and they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fednet.diffusion.combination import LabelCounts, RuleState, ScoreAnswers, SolverStep
from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector, SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.diffusion.trajectory import SampledTrajectory
from fednet.errors import SolverError
from fednet.methods.score_inference.config import ArmConfig, ScoreInferenceConfig
from fednet.methods.score_inference.products import resampled
from fednet.methods.score_inference.rules import make_rule
from fednet.rules.registry import score_rule
from fednet.seeds import generator
from tests.cases import covering

SITES = ((-1.0, 1.0), (1.0, 0.25))
"""Means and variances: precisions 1 and 4, so that the product is N(.6, .2) and the geometric mean N(.6, .4)."""
STEPS = EulerMaruyama(steps=300, noise=4.0)


def draw(
    query: Any, rule: dict[str, Any], config: SamplerConfig = STEPS, count: int = 20_000, sites: int = 2
) -> SampledTrajectory:
    held = LabelCounts(tuple(f"a{k}" for k in range(sites)), torch.ones(sites, 1), None)
    (phase,) = ArmConfig.model_validate({"rule": rule}).phases()
    latent = query.sde.prior((count, 1), generator(0, "latent"))
    return sample(config, query, make_rule(phase.rule, held), query.sde, latent, random=generator(0, "noise"))


PRODUCTS: list[tuple[dict[str, Any], float, float]] = [
    ({"kind": "product"}, 0.6, 0.2),
    ({"kind": "geometric-mean"}, 0.6, 0.4),
    ({"kind": "geometric-mean", "power": 4.0}, 0.6, 0.1),
    ({"kind": "geometric-mean", "power": 0.5}, 0.6, 0.8),
]
"""Rules, and the mean and variance of what they draw."""


@pytest.mark.parametrize(("sde", "drawn"), covering([VP(), SubVP(), VE(sigma=25)], PRODUCTS, together=1))
def test_it_is_the_product_of_the_densities(
    gaussians: Callable[..., Any], sde: SDE, drawn: tuple[dict[str, Any], float, float]
) -> None:
    rule, mean, variance = drawn
    means, variances = zip(*SITES, strict=True)
    x = draw(gaussians(sde, means, variances), rule).x
    assert float(x.mean()) == pytest.approx(mean, abs=0.03)
    assert float(x.var()) == pytest.approx(variance, rel=0.08)


def test_the_mean_draws_neither(gaussians: Callable[..., Any]) -> None:
    means, variances = zip(*SITES, strict=True)
    x = draw(gaussians(VP(), means, variances), {"kind": "mean"}, EulerMaruyama(steps=300)).x
    assert float(x.mean()) == pytest.approx(0.33, abs=0.02)
    assert float(x.var()) == pytest.approx(0.46, abs=0.02)


def test_a_corrector_changes_no_weight(gaussians: Callable[..., Any]) -> None:
    means, variances = zip(*SITES, strict=True)
    x = draw(gaussians(VP(), means, variances), {"kind": "product"}, PredictorCorrector(steps=150)).x
    assert float(x.mean()) == pytest.approx(0.6, abs=0.03)
    assert float(x.var()) == pytest.approx(0.2, rel=0.08)


def test_one_site_to_a_power_is_annealed(gaussians: Callable[..., Any]) -> None:
    query = gaussians(VP(), (0.5,), (0.6,))
    x = draw(query, {"kind": "geometric-mean", "power": 3.0}, sites=1).x
    assert float(x.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(x.var()) == pytest.approx(0.2, rel=0.08)


def test_a_product_of_two_bumps_keeps_the_common_one() -> None:
    """(.5 N(-2) + .5 N(0)) (.5 N(0) + .5 N(2)), all of variance .04, is N(0, .02): all of it lies at 0."""

    class Bumps:
        sde, places = VP(), torch.tensor([[-2.0, 0.0], [0.0, 2.0]])

        def __call__(self, x: torch.Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
            alpha, std = (float(v) for v in self.sde.marginal(torch.tensor(t, dtype=torch.float64)))
            variance = 0.04 * alpha**2 + std**2
            away = alpha * self.places[:, :, None] - x[:, 0]
            shares = torch.softmax(-away.square() / (2 * variance), 1)
            return ScoreAnswers((shares * away / variance).sum(1)[:, :, None], torch.tensor([True, True]))

    x = draw(Bumps(), {"kind": "product"}).x
    assert float((x.abs() < 1).float().mean()) > 0.98
    assert float(x[x.abs() < 1].var()) == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize("config", [ODE(), DPMSolver(), Heun()], ids=lambda config: config.kind)
def test_steps_without_noise_are_refused(gaussians: Callable[..., Any], config: SamplerConfig) -> None:
    with pytest.raises(SolverError, match="adds no noise"):
        draw(gaussians(VP(), (0.0, 0.0), (1.0, 1.0)), {"kind": "product"}, config)
    arms = {"arms": {"and": {"rule": "product", "sampler": config.model_dump()}}}
    with pytest.raises(ValidationError, match=f"arms.and: rule product resamples, and {config.kind.replace('+', '.')}"):
        ScoreInferenceConfig.model_validate(arms)
    with pytest.raises(ValidationError, match="no schedule"):
        ArmConfig.model_validate({"rule": [{"below": 1, "rule": "product"}]})


def test_a_site_that_is_missed_has_all_drawn_again(gaussians: Callable[..., Any]) -> None:
    query = gaussians(VP(), (-1.0, 1.0, 5.0), (1.0, 0.25, 0.1), lambda query, site: site == 2 and query == 9)
    drawn = draw(query, {"kind": "product"}, EulerMaruyama(steps=20), 50, sites=3)
    assert drawn.state.lost.tolist() == [False, False, True]
    assert torch.equal(drawn.state.survival, torch.zeros(50))
    held = LabelCounts(("a", "b", "c"), torch.ones(3, 1), None)
    (phase,) = ArmConfig.model_validate({"rule": "product"}).phases()
    again = sample(
        STEPS, query, make_rule(phase.rule, held), VP(), VP().prior((20_000, 1), generator(1, "latent")),
        random=generator(1, "noise"), lost=drawn.state.lost,
    )  # fmt: skip
    assert float(again.x.mean()) == pytest.approx(0.6, abs=0.03)
    assert float(again.x.var()) == pytest.approx(0.2, rel=0.08)


def test_the_weights_are_the_correctors_of_the_paper() -> None:
    """g^2 <s_1, s_2> for a product of two, -g^2/2 beta (1 - beta) |s_1 - s_2|^2 for a geometric mean."""
    scores = torch.randn(2, 5, 3, generator=generator(0, "scores"))
    answers, move = ScoreAnswers(scores, torch.tensor([True, True])), SolverStep(0.5, 0.01, None, g2=3.0, q=3.0)
    held = LabelCounts(("a", "b"), torch.ones(2, 1), None)
    expected = {
        "product": 3.0 * (scores[0] * scores[1]).sum(1),
        "geometric-mean": -0.5 * 3.0 * 0.25 * (scores[0] - scores[1]).square().sum(1),
    }
    for kind, rate in expected.items():
        (phase,) = ArmConfig.model_validate({"rule": kind}).phases()
        rule = make_rule(phase.rule, held)
        state = rule.advance(rule.init(5), answers, move, torch.zeros(5, 3))
        torch.testing.assert_close(state.log_w.float(), 0.01 * rate)


def test_particles_are_resampled_within_their_label_by_their_weights() -> None:
    log_w = torch.tensor([0.0, -torch.inf, 0.0, -torch.inf, 0.0, 0.0], dtype=torch.float64)
    groups = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5])]
    state = replace(RuleState.fresh(1, 6), log_p=torch.arange(6.0)[None], log_w=log_w)
    found = resampled(state, groups, generator(0, "resample"), 0.9)
    assert found is not None
    origin, after = found
    assert origin.tolist() == [0, 0, 2, 2, 4, 5]
    assert after.log_p.tolist() == [[0, 0, 2, 2, 4, 5]]
    assert torch.equal(after.log_w, torch.zeros(6, dtype=torch.float64))
    assert resampled(after, groups, generator(0, "resample"), 1.0) is None


def test_a_particle_comes_as_often_as_its_weight_says() -> None:
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).repeat_interleave(25)
    state = replace(RuleState.fresh(1, 100), log_w=weights.log())
    found = resampled(state, [torch.arange(100)], generator(0, "resample"), 1.0)
    assert found is not None
    assert torch.bincount(found[0] // 25).tolist() == pytest.approx([10, 20, 30, 40], abs=2)
    assert score_rule(ArmConfig.model_validate({"rule": "product"}).phases()[0].rule).resamples
