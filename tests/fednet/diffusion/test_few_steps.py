"""Solvers for few steps: their order, and the log densities along their paths, against exact ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.diffusion.combination import LabelCounts, ScoreAnswers
from fednet.diffusion.density import PathPoint, path_change
from fednet.diffusion.few_steps import few_steps, solver_times
from fednet.diffusion.sampler_config import ODE, DPMSolver, Heun, SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.diffusion.trajectory import SampledTrajectory, Trajectory
from fednet.methods.score_inference.rules import make_rule
from fednet.rules.contract import RuleSettings
from fednet.seeds import generator

SDES = [VE(sigma=200), VP(), SubVP()]
WEIGHTS = torch.tensor([5.0, 3.0, 2.0])
MEANS = torch.tensor([[[-2.0, 0.0], [-1.0, 1.5]], [[1.0, 0.0], [2.0, -1.0]], [[0.0, 2.0], [0.5, -2.0]]])
VARIANCES = torch.tensor([[0.05, 0.2], [0.1, 0.1], [0.3, 0.05]])


@dataclass
class Mixtures:
    """A query to three agents, each a mixture of two normal densities in the plane, in closed form."""

    sde: SDE

    def parts(self, x: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log density (agents, parts, n), score (..., 2) and variance of every part."""
        alpha, std = (float(v) for v in self.sde.marginal(torch.tensor(t, dtype=torch.float64)))
        variance = (alpha**2 * VARIANCES + std**2)[:, :, None].double()
        away = x.double() - alpha * MEANS[:, :, None].double()
        log_p = -away.square().sum(3) / (2 * variance) - (2 * math.pi * variance).log() - math.log(2)
        return log_p, -away / variance[..., None], variance

    def __call__(self, x: Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        log_p, scores, variance = self.parts(x, t)
        shares = torch.softmax(log_p, 1)
        score = (shares[..., None] * scores).sum(1)
        second = (shares * (scores.square().sum(3) - 2 / variance)).sum(1)
        divergences = (second - score.square().sum(2)).float() if divergence else None
        return ScoreAnswers(score.float(), torch.ones(3, dtype=torch.bool), divergences)

    def log_density(self, x: Tensor, t: float) -> Tensor:
        return torch.logsumexp(self.parts(x, t)[0], 1)


def draw(query: Any, rule: str, config: SamplerConfig, sizes: Sequence[float] = (5, 3, 2)) -> SampledTrajectory:
    held = LabelCounts(tuple(f"a{k}" for k in range(len(sizes))), torch.tensor(sizes)[:, None], None)
    latent = query.sde.prior((2000, 2), generator(0, "latent"))
    return sample(
        config, query, make_rule(RuleSettings(kind=rule), held), query.sde, latent, random=generator(0, "noise")
    )


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.kind)
@pytest.mark.parametrize("config", [DPMSolver(steps=12), DPMSolver(steps=12, spacing="karras"), Heun(steps=8)], ids=str)
def test_times_fall_from_one_to_eps(sde: SDE, config: DPMSolver | Heun) -> None:
    times = solver_times(sde, config)
    assert (times[0], times[-1], len(times)) == (1.0, sde.eps, config.steps + 1)
    assert all(a > b for a, b in pairwise(times))
    levels = sde.log_ratio(torch.tensor(times, dtype=torch.float64))
    even = levels if config.spacing == "log-snr" else (levels / config.rho).exp()
    torch.testing.assert_close(even.diff(), even.diff().mean().expand(config.steps), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.kind)
@pytest.mark.parametrize("solver", [DPMSolver, Heun])
def test_both_are_of_second_order(gaussians: Any, sde: SDE, solver: type[DPMSolver | Heun]) -> None:
    """Twice the steps, a quarter of the distance from the flow's own end."""

    def end(config: SamplerConfig) -> Tensor:
        return draw(gaussians(sde, (1.5,), (0.3,)), "mean", config, (1,)).x

    exact = end(ODE(rtol=1e-7, atol=1e-7))
    far, near = (float((end(solver(steps=steps)) - exact).abs().mean()) for steps in (20, 40))
    assert near < 0.02
    assert 3.0 < far / near < 6.0


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.kind)
def test_a_path_tells_log_densities_to_second_order(sde: SDE) -> None:
    """Along any smooth path, here one that none of the agents drives."""
    query, random = Mixtures(sde), generator(0, "path")
    end = torch.randn(500, 2, generator=random)
    noise = torch.randn(500, 2, generator=random)

    def point(t: float) -> Tensor:
        alpha, std = (float(v) for v in sde.marginal(torch.tensor(t, dtype=torch.float64)))
        return alpha * end + std * noise

    def error(steps: int) -> float:
        times = solver_times(sde, DPMSolver(steps=steps))
        points = [PathPoint.at(sde, point(t), t, query(point(t), t, True)) for t in times]
        told = torch.stack([path_change(a, b) for a, b in pairwise(points)]).double().sum(0)
        truth = query.log_density(point(times[-1]), times[-1]) - query.log_density(point(1.0), 1.0)
        return float(((told - told.mean(0)) - (truth - truth.mean(0))).abs().median())

    coarse, fine = error(20), error(40)
    assert fine < 0.6
    assert 3.0 < coarse / fine < 5.0


@pytest.mark.parametrize(("steps", "bound"), [(12, 0.02), (40, 0.002)])
@pytest.mark.parametrize("solver", [DPMSolver, Heun])
def test_the_mixture_follows_the_exact_responsibilities(
    solver: type[DPMSolver | Heun], steps: int, bound: float
) -> None:
    """The check of all rules that follow densities: log p_k along the solver's own path, against log p_k there."""
    query = Mixtures(VP())
    held = LabelCounts(("a", "b", "c"), WEIGHTS[:, None], None)
    rule, latent = make_rule(RuleSettings(kind="mixture"), held), VP().prior((2000, 2), generator(0, "latent"))
    trajectory = Trajectory(query, rule, latent, rule.init(2000), 0)
    drawn = few_steps(trajectory, VP(), solver(steps=steps, spacing="log-snr"))
    found, exact = (
        torch.softmax(WEIGHTS.log()[:, None] + log_p, 0)
        for log_p in (drawn.state.log_p, query.log_density(trajectory.x, VP().eps).float())
    )
    assert float((found - exact).abs().max(0).values.mean()) < bound
    assert drawn.evaluations == (2 * steps if solver is Heun else steps) + 1


@pytest.mark.parametrize("solver", [DPMSolver, Heun])
def test_twenty_steps_draw_the_union(gaussians: Any, solver: type[DPMSolver | Heun]) -> None:
    x = draw(gaussians(VP(), (-3.0, 0.0, 4.0), (0.5, 1.0, 0.25)), "mixture", solver(steps=20), (1, 2, 5)).x
    assert float((x.mean(1) > 2).float().mean()) == pytest.approx(5 / 8, abs=0.03)


@pytest.mark.parametrize("solver", [DPMSolver, Heun])
def test_consensus_is_where_both_are_equally_likely(gaussians: Any, solver: type[DPMSolver | Heun]) -> None:
    query = gaussians(VP(), (-1.0, 1.0), (1.0, 0.25))
    drawn = draw(query, "consensus", solver(steps=60), (1, 1))
    truth = query.log_density(drawn.x, 0.0)
    assert float((truth[0] - truth[1]).median()) == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("solver", [DPMSolver, Heun])
def test_a_site_that_is_lost_on_the_way_leaves_the_others_union(gaussians: Any, solver: type[DPMSolver | Heun]) -> None:
    query = gaussians(VP(), (-4.0, 0.0, 4.0), (0.04, 0.09, 0.04), lambda query, site: site == 0 and query > 12)
    drawn = draw(query, "mixture", solver(steps=24), (6, 3, 1))
    kept = drawn.x[drawn.state.survival > torch.rand(2000, generator=generator(0, "keep"))].mean(1)
    assert drawn.state.lost.tolist() == [True, False, False]
    assert float((kept[:, None] - torch.tensor([0.0, 4.0])).abs().min(1).values.max()) < 2.0
    assert float((kept.abs() < 2).float().mean()) == pytest.approx(0.75, abs=0.05)
