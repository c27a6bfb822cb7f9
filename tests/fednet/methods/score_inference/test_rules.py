"""The rules of combination against theory, with sites known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from fednet.diffusion.combination import CombinationRule, LabelCounts, ScoreAnswers, SolverStep
from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector, SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import VE, VP, SubVP
from fednet.diffusion.trajectory import SampledTrajectory
from fednet.errors import MethodError
from fednet.methods.score_inference.config import RulePhase
from fednet.methods.score_inference.rules import make_rule, rule_for
from fednet.rules import registry
from fednet.rules.contract import RuleSettings
from fednet.seeds import generator
from tests.cases import covering

PARTICLES = ("geometric-mean", "product")  # see test_products.py
RULES = {
    name: partial(make_rule, RuleSettings(kind=name)) for name in registry.names("scores") if name not in PARTICLES
}
SDE200 = EulerMaruyama(steps=200)
SAMPLERS = [
    SDE200,
    ODE(),
    ODE(method="rk4", steps=40),
    PredictorCorrector(steps=120),
    DPMSolver(steps=40),
    Heun(steps=40),
]
WIDE = VE(sigma=400)  # its prior is centred at 0 and its marginals are not: only a wide one starts all sites equal
MOVE = SolverStep(0.5, 0.01, None, g2=1.0, q=1.0)


def name(config: SamplerConfig) -> str:
    return getattr(config, "method", config.kind)


def label_counts(*sizes: int, labels: torch.Tensor | None = None) -> LabelCounts:
    return LabelCounts(tuple(f"a{k}" for k in range(len(sizes))), torch.tensor(sizes)[:, None], labels)


def draw(query: Any, rule: CombinationRule, config: SamplerConfig, count: int = 8000) -> SampledTrajectory:
    latent = query.sde.prior((count, 1), generator(0, "latent"))
    return sample(config, query, rule, query.sde, latent, random=generator(0, "noise"))


@pytest.mark.parametrize(("sde", "config"), covering([WIDE, VP(), SubVP()], SAMPLERS, together=1))
def test_the_mixture_is_the_union_and_the_mean_is_between(gaussians: Callable[..., Any], sde: Any, config: Any) -> None:
    sites = (-2.0, 2.0), (1.0, 1.0)
    union = draw(gaussians(sde, *sites), RULES["mixture"](label_counts(1, 1)), config).x
    product = draw(gaussians(sde, *sites), RULES["mean"](label_counts(1, 1)), config).x
    assert float(union.var()) == pytest.approx(5, abs=0.3)
    assert float(product.var()) == pytest.approx(1, abs=0.1)
    assert float(union.mean()) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("config", SAMPLERS, ids=name)
def test_three_unequal_components_keep_their_shares(gaussians: Callable[..., Any], config: Any) -> None:
    means, variances, shares = torch.tensor([-3.0, 0, 4]), torch.tensor([0.5, 1, 0.25]), torch.tensor([1.0, 2, 5]) / 8
    mean = (shares * means).sum()
    variance = (shares * (variances + means**2)).sum() - mean**2
    query = gaussians(VP(), tuple(means.tolist()), tuple(variances.tolist()))
    x = draw(query, RULES["mixture"](label_counts(1, 2, 5)), config, 20_000).x
    assert float(x.mean()) == pytest.approx(float(mean), abs=0.1)
    assert float(x.var()) == pytest.approx(float(variance), abs=0.3)
    assert float((x > 2).float().mean()) == pytest.approx(5 / 8, abs=0.02)


@pytest.mark.parametrize(
    ("config", "rule"), covering([ODE(rtol=1e-5, atol=1e-5), *SAMPLERS[2:], SDE200], sorted(RULES), together=1)
)
def test_equal_models_federate_to_the_single_model(gaussians: Callable[..., Any], rule: str, config: Any) -> None:
    sizes = (3, 1, 2)
    labels = torch.zeros(500, dtype=torch.int64)
    many = draw(gaussians(VP(), (1.0,) * 3, (0.5,) * 3), RULES[rule](label_counts(*sizes, labels=labels)), config, 500)
    one = draw(gaussians(VP(), (1.0,), (0.5,)), RULES["mean"](label_counts(1)), config, 500)
    torch.testing.assert_close(many.x, one.x, atol=5e-3 if name(config) == "dopri5" else 1e-4, rtol=0)


@pytest.mark.parametrize("config", [SDE200, ODE(), PredictorCorrector(steps=120)], ids=name)
def test_the_followed_log_densities_are_the_agents_own(gaussians: Callable[..., Any], config: Any) -> None:
    query = gaussians(VP(), (-1.0, 1.5), (0.5, 2.0))
    drawn = draw(query, RULES["mixture"](label_counts(1, 1)), config, 2000)
    truth = query.log_density(drawn.x, 0.0)
    estimated, known = drawn.state.log_p[1] - drawn.state.log_p[0], truth[1] - truth[0]
    assert float((estimated - known).abs().median()) < 0.15
    assert float(torch.corrcoef(torch.stack([estimated, known]))[0, 1]) > 0.98


@pytest.mark.parametrize("config", [SDE200, ODE(), PredictorCorrector(steps=120)], ids=name)
def test_consensus_samples_are_equally_likely_everywhere(gaussians: Callable[..., Any], config: Any) -> None:
    query = gaussians(VP(), (-2.0, 1.0), (1.0, 1.0))
    drawn = draw(query, RULES["consensus"](label_counts(1, 1)), config, 500)
    estimated = drawn.state.log_p
    truth = query.log_density(drawn.x, 0.0)
    assert float((estimated[0] - estimated[1]).abs().mean()) < 0.05
    assert float((truth[0] - truth[1]).abs().mean()) < 0.3
    assert float(drawn.x.mean()) == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("config", [EulerMaruyama(steps=400), ODE(), PredictorCorrector(steps=200)], ids=name)
def test_consensus_of_unequal_spreads_is_where_both_are_equally_likely(
    gaussians: Callable[..., Any], config: Any
) -> None:
    """Followed by Ito's product, log p_0 - log p_1 ends at log(v_1 / v_0) / 2 = -.69 on the reverse SDE."""
    query = gaussians(VP(), (-1.0, 1.0), (1.0, 0.25))
    drawn = draw(query, RULES["consensus"](label_counts(1, 1)), config, 500)
    truth = query.log_density(drawn.x, 0.0)
    assert float((truth[0] - truth[1]).median()) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(
    ("config", "mean", "variance"), [(SDE200, 0.33, 0.46), (ODE(), 0.23, 0.50)], ids=["sde", "ode"]
)
def test_the_mean_is_no_product(gaussians: Callable[..., Any], config: Any, mean: float, variance: float) -> None:
    """By the equations in its docstring; the product is N(.6, .2), the geometric mean N(.6, .4)."""
    x = draw(gaussians(VP(), (-1.0, 1.0), (1.0, 0.25)), RULES["mean"](label_counts(1, 1)), config, 40_000).x
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.var()) == pytest.approx(variance, abs=0.02)


@pytest.mark.parametrize("config", [EulerMaruyama(steps=400), ODE()], ids=name)
def test_a_ve_starts_with_the_densities_that_its_sites_have_there(gaussians: Callable[..., Any], config: Any) -> None:
    """std(1) = 9.85 is not far above the distance of the means: equal shares at the start are wrong ones at the end.

    The exact score of the union, from the same noise, is the measure: the prior N(0, std^2) is off for it as well.
    """
    sizes, means, variances = (6, 3, 1), (-4.0, 2.0, 9.0), (0.5, 0.25, 0.5)
    sde = VE()
    query = gaussians(sde, means, variances)
    shares = torch.tensor(sizes).float()[:, None] / sum(sizes)

    def union(x: torch.Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        answers = query(x, t, divergence)
        gamma = torch.softmax(shares.log() + query.log_density(x, t), 0)
        return ScoreAnswers((gamma[:, :, None] * answers.scores).sum(0)[None], torch.tensor([True]))

    union.sde = sde  # type: ignore[attr-defined]
    exact = draw(union, RULES["mean"](label_counts(1)), config, 10_000).x
    found = draw(query, RULES["mixture"](label_counts(*sizes)), config, 10_000).x

    def parts(x: torch.Tensor) -> list[float]:
        return [float(part.float().mean()) for part in (x < -1, (x > -1) & (x < 5.5), x > 5.5)]

    assert parts(found) == pytest.approx(parts(exact), abs=0.015)


@pytest.mark.parametrize("config", [SDE200, ODE(), PredictorCorrector(steps=120)], ids=name)
@pytest.mark.parametrize("when", [0.3, 0.1])
def test_what_survives_a_loss_is_the_union_of_the_others(
    gaussians: Callable[..., Any], config: Any, when: float
) -> None:
    """The site of weight .6 is lost on the way; the others share what is kept as 3 to 1, and nothing strays."""
    means, variances = torch.tensor([-4.0, 0.0, 4.0]), (0.04, 0.09, 0.04)

    class Dying:
        sde = VP()
        inner = gaussians(VP(), tuple(means.tolist()), variances)

        def __call__(self, x: torch.Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
            answers = self.inner(x, t, divergence)
            return replace(answers, present=torch.tensor([t > when, True, True]))

    drawn = draw(Dying(), RULES["mixture"](label_counts(6, 3, 1)), config, 20_000)
    kept = drawn.x[drawn.state.survival > torch.rand(20_000, generator=generator(0, "keep"))]
    assert len(kept) == pytest.approx(0.4 * 20_000, rel=0.05)
    near = (kept - means).abs() < 1.5
    assert float(near.any(1).float().mean()) > 0.999
    assert float(near[:, 1].float().mean()) == pytest.approx(0.75, abs=0.02)
    assert not bool(near[:, 0].any()) or float(near[:, 0].float().mean()) < 0.001


def test_who_never_came_costs_no_sample(gaussians: Callable[..., Any]) -> None:
    for sde in (VP(), VE()):
        query = gaussians(sde, (-2.0, 2.0), (1.0, 1.0), lambda _query, site: site == 1)
        drawn = draw(query, RULES["mixture"](label_counts(1, 1)), SDE200, 50)
        assert drawn.state.lost.tolist() == [False, True]
        assert torch.equal(drawn.state.survival, torch.ones(50))


def test_an_agent_that_misses_a_step_leaves_the_mixture_for_good(gaussians: Callable[..., Any]) -> None:
    def absent(query: int, site: int) -> bool:
        return site == 1 and query == 20

    for config in (SDE200, ODE(), PredictorCorrector(steps=120)):
        query = gaussians(VP(), (-2.0, 2.0), (1.0, 1.0), absent)
        drawn = draw(query, RULES["mixture"](label_counts(1, 1)), config)
        assert drawn.state.lost.tolist() == [False, True]
        assert float(drawn.x.mean()) < -1.5
        assert float(drawn.state.survival.min()) < 0.5 < float(drawn.state.survival.max())


def test_an_agent_that_misses_a_step_is_missed_by_the_mean_for_that_step_only() -> None:
    scores = torch.tensor([[[1.0]], [[5.0]], [[0.0]]])
    there = ScoreAnswers(scores, torch.tensor([True, True, False]))
    rule = RULES["mean"](label_counts(1, 1, 1))
    state = rule.advance(rule.init(1), there, MOVE, torch.zeros(1, 1))
    assert float(rule.combine(state, there, MOVE)) == 3.0
    back = ScoreAnswers(scores, torch.tensor([True, True, True]))
    assert float(rule.combine(state, back, MOVE)) == 2.0


def test_without_anybody_who_followed_the_mixture_gives_up(gaussians: Callable[..., Any]) -> None:
    query = gaussians(VP(), (0.0, 0.0), (1.0, 1.0), lambda query, site: query == 2 + site)
    with pytest.raises(MethodError, match="from the start"):
        draw(query, RULES["mixture"](label_counts(1, 1)), SDE200, 5)


def test_data_size_and_label_count_weigh_by_what_agents_hold() -> None:
    counts = torch.tensor([[6, 0], [2, 2]])
    scores = torch.tensor([[[1.0], [1.0]], [[0.0], [0.0]]])
    held = LabelCounts(("a", "b"), counts, torch.tensor([0, 1]))
    answers = ScoreAnswers(scores, torch.tensor([True, True]))
    weighed = {
        key: RULES[key](held).combine(RULES[key](held).init(2), answers, MOVE) for key in ("data-size", "label-count")
    }
    torch.testing.assert_close(weighed["data-size"], torch.tensor([[0.6], [0.6]]))
    torch.testing.assert_close(weighed["label-count"], torch.tensor([[0.75], [0.0]]))


def test_orphaned_labels_fall_back_to_the_mean_and_are_named() -> None:
    counts = torch.tensor([[5, 0, 0], [0, 5, 0], [0, 5, 0]])
    held = LabelCounts(("a", "b", "c"), counts, torch.tensor([0, 1, 2]))
    scores = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1).expand(3, 3, 1)
    present = torch.tensor([False, True, True])
    rule = RULES["label-count"](held)
    combined = rule.combine(rule.init(3), ScoreAnswers(scores, present), MOVE)
    assert combined.flatten().tolist() == [3.0, 3.0, 3.0]
    assert held.labels_without_data(present) == {0, 2}
    assert held.labels_without_data(torch.tensor([True, True, True])) == {2}
    assert label_counts(1, 2).labels_without_data(torch.tensor([True, False])) == frozenset()


def test_the_mixture_of_labelled_models_starts_from_what_agents_hold_of_the_label() -> None:
    held = LabelCounts(("a", "b"), torch.tensor([[9, 0], [3, 5]]), torch.tensor([0, 1]))
    rule = RULES["mixture"](held)
    scores = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 2, 1)
    combined = rule.combine(rule.init(2), ScoreAnswers(scores, torch.tensor([True, True])), MOVE)
    torch.testing.assert_close(combined.flatten(), torch.tensor([0.75, 0.0]))


def test_the_median_ignores_a_faulty_agent() -> None:
    scores = torch.stack([torch.full((2, 3), 1.0), torch.full((2, 3), 1.2), torch.full((2, 3), 1e6)])
    rule = RULES["median"](label_counts(1, 1, 1))
    everyone = ScoreAnswers(scores, torch.tensor([True, True, True]))
    torch.testing.assert_close(rule.combine(rule.init(2), everyone, MOVE), torch.full((2, 3), 1.2))
    two = ScoreAnswers(scores, torch.tensor([True, True, False]))
    torch.testing.assert_close(rule.combine(rule.init(2), two, MOVE), torch.full((2, 3), 1.1))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rules_are_pure(rule: str) -> None:
    made, random = RULES[rule](label_counts(1, 2, labels=None)), generator(0, "answers")
    scores, divergences = torch.randn(2, 4, 3, generator=random), torch.randn(2, 4, generator=random)
    answers, state = ScoreAnswers(scores.clone(), torch.tensor([True, True]), divergences.clone()), made.init(4)
    one, two = (made.combine(state, answers, MOVE) for _ in range(2))
    after = made.advance(state, answers, MOVE, one)
    assert torch.equal(one, two)
    assert torch.equal(answers.scores, scores)
    assert torch.equal(state.log_p, torch.zeros(2, 4))
    assert made.follows_density is bool(after.log_p.any())


def test_absent_agents_do_not_leak_into_the_score() -> None:
    scores = torch.stack([torch.ones(2, 1), torch.full((2, 1), torch.nan)])
    answers = ScoreAnswers(scores, torch.tensor([True, False]))
    for key in ("mean", "data-size", "median"):
        rule = RULES[key](label_counts(1, 1))
        assert torch.equal(rule.combine(rule.init(2), answers, MOVE), torch.ones(2, 1))


def test_a_schedule_switches_rules_and_agents_as_t_falls() -> None:
    phases = [
        RulePhase(below=1, rule="mean", sites=("a0",)),
        RulePhase(below=0.5, rule="mean"),
        RulePhase(below=0.2, rule="median"),
    ]
    rule = rule_for(phases, label_counts(1, 1, 1))
    scores = torch.tensor([1.0, 2.0, 9.0]).view(3, 1, 1)
    answers = ScoreAnswers(scores, torch.tensor([True, True, True]))
    state = rule.init(1)
    seen = {
        t: float(rule.combine(state, answers, SolverStep(t, 0.01, None, 1.0, 1.0)))
        for t in (1.0, 0.51, 0.5, 0.3, 0.2, 0.01)
    }
    assert seen == {1.0: 1.0, 0.51: 1.0, 0.5: 4.0, 0.3: 4.0, 0.2: 2.0, 0.01: 2.0}
    alone = ScoreAnswers(scores, torch.tensor([False, True, True]))
    assert float(rule.combine(state, alone, SolverStep(0.9, 0.01, None, 1.0, 1.0))) == 5.5


@pytest.mark.parametrize("config", [SDE200, ODE()], ids=name)
def test_a_schedule_follows_densities_from_the_start(gaussians: Callable[..., Any], config: Any) -> None:
    phases = [RulePhase(below=1, rule="mean"), RulePhase(below=0.7, rule="mixture")]
    late = draw(gaussians(VP(), (-2.0, 2.0), (1.0, 1.0)), rule_for(phases, label_counts(1, 1)), config).x
    assert float(late.var()) == pytest.approx(5, abs=0.6)


def test_a_schedule_with_unknown_agents_is_refused() -> None:
    with pytest.raises(MethodError, match="a7"):
        rule_for([RulePhase(below=1, rule="mean", sites=("a7",))], label_counts(1, 1))
