"""Samplers against models whose samples are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fednet.diffusion.combination import CombinationRule, RuleState, ScoreAnswers, ScoreFunction, SolverStep
from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector, SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.diffusion.trajectory import SampledTrajectory
from fednet.errors import SolverError
from fednet.seeds import generator

SDES = [VE(sigma=200), VP(), SubVP()]  # a wide VE: its prior is centred at 0, its marginals are not
SAMPLERS: list[SamplerConfig] = [
    ODE(),
    ODE(method="euler", steps=400),
    ODE(method="midpoint", steps=60),
    ODE(method="heun3", steps=60),
    ODE(method="rk4", steps=40),
    EulerMaruyama(steps=200),
    PredictorCorrector(steps=120),
    DPMSolver(steps=20),
    Heun(steps=30),
]


def name(config: SamplerConfig) -> str:
    return getattr(config, "method", config.kind)


def alone() -> CombinationRule:
    """Follows the only agent and remembers nothing."""

    def combine(_state: RuleState, answers: ScoreAnswers, _move: SolverStep) -> torch.Tensor:
        return answers.scores[0]

    return CombinationRule(
        lambda count: RuleState.fresh(1, count), combine, lambda state, _answers, _move, _dx: state, False
    )


def draw(query: ScoreFunction, sde: SDE, config: SamplerConfig, count: int = 4000, seed: int = 0) -> SampledTrajectory:
    latent = sde.prior((count, 1), generator(seed, "latent"))
    return sample(config, query, alone(), sde, latent, random=generator(seed, "noise"))


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.kind)
@pytest.mark.parametrize("config", SAMPLERS, ids=name)
def test_every_sampler_draws_from_the_model(gaussians: Any, sde: SDE, config: SamplerConfig) -> None:
    x = draw(gaussians(sde, (1.5,), (0.49,)), sde, config).x
    assert float(x.mean()) == pytest.approx(1.5, abs=0.06)
    assert float(x.var()) == pytest.approx(0.49, abs=0.06)


@pytest.mark.parametrize("config", SAMPLERS, ids=name)
def test_the_last_step_removes_the_last_noise(gaussians: Any, config: SamplerConfig) -> None:
    x = draw(gaussians(VP(), (0.5,), (0.0,)), VP(), config, count=200).x
    torch.testing.assert_close(x, torch.full_like(x, 0.5), atol=2e-3, rtol=0)


@pytest.mark.parametrize("config", SAMPLERS, ids=name)
def test_time_stays_in_bounds_and_every_query_is_counted(gaussians: Any, config: SamplerConfig) -> None:
    query = gaussians(VP(), (0.5,), (0.3,))
    drawn = draw(query, VP(), config, count=50)
    assert drawn.evaluations == len(query.times)
    assert min(query.times) == pytest.approx(VP().eps)
    assert max(query.times) == 1.0


def test_fixed_steps_cost_what_they_should(gaussians: Any) -> None:
    costs = {"euler": 1, "midpoint": 2, "heun3": 3, "rk4": 4}
    for method, stages in costs.items():
        drawn = draw(gaussians(VP(), (0.0,), (1.0,)), VP(), ODE(method=method, steps=10), count=5)
        assert drawn.evaluations == 10 * stages + 1
    assert draw(gaussians(VP(), (0.0,), (1.0,)), VP(), EulerMaruyama(steps=10), count=5).evaluations == 11
    assert draw(gaussians(VP(), (0.0,), (1.0,)), VP(), DPMSolver(steps=10), count=5).evaluations == 11
    assert draw(gaussians(VP(), (0.0,), (1.0,)), VP(), Heun(steps=10), count=5).evaluations == 21
    corrected = PredictorCorrector(steps=10, corrections=2)
    assert draw(gaussians(VP(), (0.0,), (1.0,)), VP(), corrected, count=5).evaluations == 31


def test_an_adaptive_solver_that_comes_to_no_end_says_so(gaussians: Any) -> None:
    query, random = gaussians(VP(), (0.0,), (1.0,)), generator(0, "rough")

    def rough(x: torch.Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        answers = query(x, t, divergence)
        return ScoreAnswers(answers.scores + torch.randn(answers.scores.shape, generator=random), answers.present)

    def endless(x: torch.Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        answers = query(x, t, divergence)
        return ScoreAnswers(answers.scores * (torch.inf if t < 0.5 else 1.0), answers.present)

    with pytest.raises(SolverError, match=r"dopri5 is at t = \d\.\d+ after 300 evaluations; .*fixed steps"):
        draw(rough, VP(), ODE(evaluations=300), count=5)
    with pytest.raises(SolverError, match=r"dopri5 gave up at t = 0\.4\d+: .*fixed steps"):
        draw(endless, VP(), ODE(), count=5)
    assert len(draw(rough, VP(), ODE(method="euler", evaluations=1), count=5).x) == 5


def test_tighter_tolerances_cost_more_and_change_little(gaussians: Any) -> None:
    loose, tight = (
        draw(gaussians(VP(), (1.0,), (0.1,)), VP(), ODE(rtol=tol, atol=tol), count=200) for tol in (1e-3, 1e-6)
    )
    assert tight.evaluations > loose.evaluations
    torch.testing.assert_close(loose.x, tight.x, atol=0.01, rtol=0)


@pytest.mark.parametrize("config", SAMPLERS, ids=name)
def test_the_same_seed_replays_bit_for_bit(gaussians: Any, config: SamplerConfig) -> None:
    one, two = (draw(gaussians(VP(), (1.0,), (0.5,)), VP(), config, count=20) for _ in range(2))
    assert torch.equal(one.x, two.x)


def test_the_ode_is_a_function_of_the_latent_and_the_sde_of_latent_and_noise(gaussians: Any) -> None:
    latent, sde = VP().prior((20, 1), generator(1, "latent")), VP()

    def drawn(config: SamplerConfig, seed: int) -> torch.Tensor:
        query = gaussians(sde, (1.0,), (0.5,))
        return sample(config, query, alone(), sde, latent, random=generator(seed, "noise")).x

    assert torch.equal(drawn(ODE(), 0), drawn(ODE(), 1))
    assert not torch.equal(drawn(EulerMaruyama(steps=20), 0), drawn(EulerMaruyama(steps=20), 1))
    assert torch.corrcoef(torch.stack([drawn(ODE(), 0)[:, 0], latent[:, 0]]))[0, 1] > 0.99


def test_the_latent_is_left_as_it_was(gaussians: Any) -> None:
    latent = VP().prior((5, 1), generator(1, "latent"))
    kept = latent.clone()
    for config in SAMPLERS:
        sample(config, gaussians(VP(), (1.0,), (0.5,)), alone(), VP(), latent, random=generator(0, "noise"))
    assert torch.equal(latent, kept)
