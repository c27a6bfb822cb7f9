"""Log densities along foreign paths, against the truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.diffusion.combination import ScoreAnswers, SolverStep
from fednet.diffusion.density import equalising_weights, log_density_change
from fednet.diffusion.sampling import langevin_step, reverse_step
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.diffusion.trajectory import flow_step
from fednet.seeds import generator
from tests.cases import covering

DIMENSIONS = 3


def walk(agents: Any, sde: SDE, kind: str, steps: int) -> tuple[Tensor, Tensor]:
    """Log density changes along a path from t = .6 to .2 driven by a foreign score: as told, and in truth."""
    random = generator(0, kind)
    start, end = 0.6, 0.2
    span = (start - end) / steps
    x = torch.randn(50, DIMENSIONS, generator=random) * sde.marginal(torch.tensor(start))[1]
    told, before, t = torch.zeros(2, 50), agents.log_density(x, start), start
    for _ in range(steps):
        if kind == "corrector":
            move, after = langevin_step(sde, x, t, 0.01, random), t
        elif kind == "reverse":
            move, after = reverse_step(sde, x, t, span, random), t - span
        else:
            rate = flow_step(sde, x, t)
            move, after = SolverStep(t, span, rate.drift, rate.g2, 0.0), t - span
        answers = agents(x, t, True)
        dx = move.displacement(-0.3 * x)
        common = 0.0 if kind == "corrector" else DIMENSIONS * float(sde.drift_rate(torch.tensor(t))) * span
        told = told + log_density_change(answers, move, dx) + common
        x, t = x + dx, after
    return told, agents.log_density(x, t) - before


@pytest.mark.parametrize(
    ("sde", "kind"), covering([VE(sigma=5), VP(), SubVP()], ["reverse", "flow", "corrector"], together=1)
)
def test_the_changes_add_up_to_the_true_log_density(gaussians: Any, sde: SDE, kind: str) -> None:
    agents = gaussians(sde, (-1.0, 2.0), (0.5, 1.5))
    told, truth = walk(agents, sde, kind, 2000)
    assert float(truth.std()) > 0.3
    assert float((told - truth).abs().mean()) < 0.06 * float(truth.std()) + 0.02


def test_a_flow_without_divergences_is_refused() -> None:
    answers = ScoreAnswers(torch.zeros(2, 4, 1), torch.tensor([True, True]))
    move = SolverStep(0.5, 1.0, None, g2=1.0, q=0.0)
    with pytest.raises(ValueError, match="divergence"):
        log_density_change(answers, move, torch.zeros(4, 1))


def random_answers(agents: int, seed: int = 0) -> ScoreAnswers:
    random = generator(seed, "answers")
    scores = torch.randn(agents, 6, 1, 4, 4, generator=random)
    return ScoreAnswers(scores, torch.ones(agents, dtype=torch.bool), torch.randn(agents, 6, generator=random))


@pytest.mark.parametrize("q", [0.0, 2.0])
def test_balanced_weights_equalise_the_log_densities(q: float) -> None:
    answers, log_p = random_answers(3), torch.randn(3, 6, generator=generator(0, "log p")) * 0.1
    noise = torch.randn(6, 1, 4, 4, generator=generator(0, "noise")) * 0.1
    move = SolverStep(0.5, 0.05, torch.ones(6, 1, 4, 4), g2=2.0, q=q, noise=noise)
    weights = equalising_weights(log_p, answers, move, answers.present)
    torch.testing.assert_close(weights.sum(0), torch.ones(6))
    score = (weights[:, :, None, None, None] * answers.scores).sum(0)
    after = log_p + log_density_change(answers, move.as_path, move.displacement(score))
    spread = (after - after.mean(0)).abs().max()
    assert float(spread) < 0.01 * float((log_p - log_p.mean(0)).abs().max())


def test_balanced_weights_of_equal_models_are_equal() -> None:
    one = random_answers(1)
    assert one.divergences is not None
    answers = ScoreAnswers(
        one.scores.repeat(4, 1, 1, 1, 1), torch.ones(4, dtype=torch.bool), one.divergences.repeat(4, 1)
    )
    move = SolverStep(0.5, 0.05, None, g2=2.0, q=0.0)
    weights = equalising_weights(torch.zeros(4, 6), answers, move, answers.present)
    torch.testing.assert_close(weights, torch.full((4, 6), 0.25))


def test_who_does_not_count_gets_no_weight() -> None:
    answers, move = random_answers(3), SolverStep(0.5, 0.05, None, g2=2.0, q=2.0)
    weights = equalising_weights(torch.zeros(3, 6), answers, move, torch.tensor([True, False, True]))
    assert torch.equal(weights[1], torch.zeros(6))
    torch.testing.assert_close(weights.sum(0), torch.ones(6))
