"""Sparse asking: who is asked, what the others are taken to answer, and how far the samples are from the union's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, LabelCounts, ScoreAnswers
from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import SDE, VE, VP
from fednet.diffusion.sparse import drawn, inclusion
from fednet.diffusion.trajectory import SampledTrajectory
from fednet.errors import MethodError
from fednet.methods.score_inference.rules import make_rule
from fednet.rules.contract import RuleSettings
from fednet.rules.registry import score_rule
from fednet.seeds import generator

SHARES = torch.tensor([5.0, 3.0, 2.0, 4.0, 1.0, 2.0, 3.0, 6.0, 2.0, 2.0])
SAMPLERS = [EulerMaruyama(steps=50), PredictorCorrector(steps=25), ODE(method="rk4", steps=10), DPMSolver(), Heun()]


@dataclass
class Circle:
    """Ten agents, each a normal density of variance `variance` on a circle of radius 4 in the plane.

    `absent` says for a query (from 1) and an agent whether it stays silent when asked; `asked` collects who was asked.
    """

    sde: SDE = field(default_factory=VP)
    variance: float = 0.04
    absent: Callable[[int, int], bool] = lambda _query, _agent: False
    asked: list[Tensor] = field(default_factory=list)

    @property
    def means(self) -> Tensor:
        angles = torch.arange(10) * (2 * math.pi / 10)
        return 4 * torch.stack([angles.cos(), angles.sin()], 1)

    def __call__(self, x: Tensor, t: float, divergence: bool = False, asked: Tensor | None = None) -> ScoreAnswers:
        wanted = torch.ones(10, len(x), dtype=torch.bool) if asked is None else asked
        self.asked.append(wanted)
        alpha, std = (float(v) for v in self.sde.marginal(torch.tensor(t, dtype=torch.float64)))
        variance = alpha**2 * self.variance + std**2
        silent = torch.tensor([self.absent(len(self.asked), k) for k in range(10)])
        there = wanted & ~silent[:, None]
        scores = torch.where(there[..., None], (alpha * self.means[:, None] - x) / variance, 0.0)
        divergences = torch.where(there, -2 / variance, 0.0)
        return ScoreAnswers(scores, wanted.any(1) & ~silent, divergences if divergence else None)


def rule_of(kind: str, top_k: int | None, labels: Tensor | None = None, counts: Tensor = SHARES[:, None]) -> Any:
    held = LabelCounts(tuple(f"a{k}" for k in range(len(counts))), counts, labels)
    settings = score_rule(RuleSettings(kind=kind)).settings.model_validate({"kind": kind, "top_k": top_k})
    return make_rule(settings, held)


def draw(query: Any, rule: CombinationRule, config: Any = SAMPLERS[0], count: int = 400) -> SampledTrajectory:
    latent = query.sde.prior((count, 2), generator(0, "latent"))
    return sample(config, query, rule, query.sde, latent, random=generator(0, "noise"))


def shares_of(query: Circle, x: Tensor) -> Tensor:
    """The share of the samples that lie nearest to each agent's mean."""
    nearest = (x[:, None] - query.means).square().sum(2).argmin(1)
    return torch.bincount(nearest, minlength=10) / len(x)


@pytest.mark.parametrize("top_k", [1, 2, 3, 7])
def test_as_many_are_asked_as_there_should_be_and_each_as_often_as_its_weight_says(top_k: int) -> None:
    weights = torch.softmax(3 * torch.randn(10, 5, generator=generator(0, "weights")), 0)
    chance = inclusion(weights, top_k)
    torch.testing.assert_close(chance.sum(0), torch.full((5,), float(top_k), dtype=torch.float64))
    counted = torch.stack([drawn(weights, top_k, step) for step in range(2000)])
    assert counted.sum(1).unique().tolist() == [top_k]
    torch.testing.assert_close(counted.double().mean(0), chance, atol=0.005, rtol=0)
    below = chance < 1
    ratio = chance / weights
    assert float((ratio.where(below, ratio.amax(0)) - ratio.amax(0)).abs().max()) < 1e-4 * float(ratio.max())


def test_whoever_has_no_weight_is_not_asked_and_where_few_have_one_they_are() -> None:
    weights = torch.tensor([[0.0, 0.5], [1.0, 0.25], [0.0, 0.25]])
    assert drawn(weights, 2, 0)[:, 0].tolist() == [False, True, False]
    assert drawn(weights, 3, 0).tolist() == [[False, True], [True, True], [False, True]]
    assert drawn(weights, 2, 0).sum(0).tolist() == [1, 2]


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda config: config.kind)
@pytest.mark.parametrize(("kind", "sde"), [("mixture", VP()), ("mixture", VE()), ("mean", VP())], ids=str)
def test_all_of_all_are_the_same_samples_bit_for_bit(kind: str, config: Any, sde: SDE) -> None:
    some, everyone = (
        draw(Circle(sde), rule_of(kind, 10), config, 40),
        draw(Circle(sde), rule_of(kind, None), config, 40),
    )
    assert torch.equal(some.x, everyone.x)
    assert torch.equal(some.state.log_p, everyone.state.log_p)
    assert some.evaluations == everyone.evaluations


@pytest.mark.parametrize("kind", ["mixture", "label-count"])
def test_a_site_without_the_label_is_not_asked_and_changes_nothing_bit_for_bit(kind: str) -> None:
    labels, counts = torch.arange(40) % 5, torch.eye(5, dtype=torch.int64).repeat(2, 1)
    query, everyone = Circle(), Circle()
    some = draw(query, rule_of(kind, 2, labels, counts), count=40)
    assert torch.equal(some.x, draw(everyone, rule_of(kind, None, labels, counts), count=40).x)
    for asked in query.asked:
        assert torch.equal(asked, counts[:, labels] > 0)


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda config: config.kind)
def test_after_the_first_question_a_sample_is_sent_to_top_k_agents(config: Any) -> None:
    query = Circle()
    draw(query, rule_of("mixture", 2), config, 40)
    first, *later = query.asked
    assert bool(first.all())
    assert all(int(asked.sum(0).max()) <= 2 and int(asked.sum(0).min()) >= 1 for asked in later)


def test_what_is_not_asked_follows_x_and_t_as_if_the_denoised_stayed() -> None:
    """Exact where x_0 is known: an agent that is one point is predicted forever, and so is its log density."""
    one, all_ = (draw(Circle(variance=0.0), rule_of("mixture", k), DPMSolver(steps=12), 200) for k in (1, None))
    torch.testing.assert_close(one.x, all_.x, atol=2e-3, rtol=0)
    top, other = (torch.softmax(end.state.log_p + SHARES.log()[:, None], 0) for end in (one, all_))
    torch.testing.assert_close(top, other, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "config", [EulerMaruyama(steps=100), DPMSolver(steps=20), Heun(steps=15)], ids=lambda c: c.kind
)
def test_two_of_ten_draw_the_union(config: Any) -> None:
    """Total variation from the union's shares; choosing the first k for good, as they are at the start, has .7."""
    query = Circle(variance=0.3)
    x = draw(query, rule_of("mixture", 2), config, 4000).x
    assert float((shares_of(query, x) - SHARES / SHARES.sum()).abs().sum()) / 2 < 0.04


def spread(top_k: int | None, choose: Any = None) -> float:
    """The mean squared distance from the nearest mean: 2 variances where each sample is drawn by its own agent."""
    query, rule = Circle(variance=0.3), rule_of("mixture", top_k)
    if choose:
        rule = replace(rule, sparse=replace(rule.sparse, choose=choose))
    x = draw(query, rule, EulerMaruyama(steps=100), 4000).x
    return float((x[:, None] - query.means).square().sum(2).min(1).values.mean())


def test_the_error_falls_with_k_and_chance_errs_more_than_responsibilities() -> None:
    def by_chance(weights: Tensor, top_k: int, evaluation: int) -> Tensor:
        return drawn(torch.ones_like(weights), top_k, evaluation)

    exact = spread(None)
    errors = [abs(spread(k) - exact) for k in (1, 2, 5)]
    assert errors[0] < 0.1
    assert max(errors[1:]) < 0.03
    assert abs(spread(2, by_chance) - exact) > 3 * errors[1]


def test_a_site_that_is_lost_on_the_way_leaves_the_others_union() -> None:
    query = Circle(absent=lambda number, agent: agent == 7 and number > 20)
    drawn_ = draw(query, rule_of("mixture", 2), EulerMaruyama(steps=60), 6000)
    lost, survival = drawn_.state.lost, drawn_.state.survival
    assert lost.tolist() == [k == 7 for k in range(10)]
    assert not any(bool(asked[7].any()) for asked in query.asked[25:])
    kept = drawn_.x[survival > torch.rand(6000, generator=generator(0, "keep"))]
    rest = SHARES.clone()
    rest[7] = 0
    assert float((shares_of(query, kept) - rest / rest.sum()).abs().sum()) / 2 < 0.04


def test_a_label_whose_only_site_is_lost_is_asked_of_the_others_at_once() -> None:
    labels, counts = torch.zeros(5, dtype=torch.int64), torch.tensor([[3], [0], [0]]).repeat(1, 2)
    query = Circle(absent=lambda number, agent: agent == 0 and number > 3)

    def three(x: Tensor, t: float, divergence: bool = False, asked: Tensor | None = None) -> ScoreAnswers:
        assert asked is not None
        whole = query(x, t, divergence, torch.cat([asked, asked.new_zeros(7, len(x))]))
        return ScoreAnswers(whole.scores[:3], whole.present[:3], None)

    three.sde = query.sde  # type: ignore[attr-defined]
    drawn_ = draw(three, rule_of("label-count", 1, labels, counts), count=5)
    assert drawn_.state.lost.tolist() == [True, False, False]
    assert [int(asked.sum()) for asked in query.asked[:6]] == [5, 5, 5, 5, 10, 5]
    assert drawn_.evaluations == len(query.asked)
    assert bool(torch.isfinite(drawn_.x).all())


def test_without_anybody_left_it_ends() -> None:
    query = Circle(absent=lambda number, _agent: number > 3)
    with pytest.raises(MethodError, match="no site is left that answers"):
        draw(query, rule_of("mixture", 2), count=40)


@pytest.mark.parametrize("weights", [[[1.0], [0.0]], [[1e-30], [1.0]]])
def test_weights_of_any_size_have_probabilities(weights: Sequence[Sequence[float]]) -> None:
    assert partial(inclusion, torch.tensor(weights))(1).max() == 1.0
