"""Products of the sites' densities by weighted particles: Feynman-Kac correctors.

The target at every t is q_t ~ prod_k p_k,t^beta_k, so at t = 0 the product of the densities of the data. Its score is
s = sum_k beta_k s_k, but the reverse SDE with this score does not keep to q_t (`mean` draws something else). In
tau = 1 - t each p_k obeys

    d/dtau log p_k = div f + <f, s_k> - g^2/2 (div s_k + |s_k|^2)

so that, with B = sum_k beta_k,   d/dtau log q = B div f + <f, s> - g^2/2 (div s + sum_k beta_k |s_k|^2) + const. A
process dx = (-f + (g^2 + q)/2 s) dtau with noise of quadratic variation q dtau changes log q by
div f + <f, s> - g^2/2 (div s + |s|^2), whatever q. What is missing are weights: particles with

    d log w = g^2/2 (|s|^2 - sum_k beta_k |s_k|^2) dtau

(div f is the same everywhere) are distributed as q_t. Two sites with beta = 1 have g^2 <s_1, s_2>, the geometric mean
-g^2/2 beta (1 - beta) |s_1 - s_2|^2, annealing of one g^2/2 beta (beta - 1) |s|^2; no divergence is needed. A Langevin
step (g = 0) keeps q_t and changes no weight. At t = 1, q is N(0, std^2 / B); under VE, whose sites differ there still,
the first weights are those of prod_k p_k^beta_k over it. At the end the noise that is left has variance std^2 / B, too.

Particles are the samples of one batch and of one label: the more, the better. They are resampled when the effective
sample size (sum w)^2 / sum w^2 falls below a share of them, and at the end. Resampling doubles some, which steps with
noise part again; so samples of a batch are not independent. More noise (`sampler.noise`, or a corrector) changes no
weight and mixes them: with q = g^2 the particles of N(0, 1)^B alone would have the variance 1 / (2 B - 1) and weights
with long tails, with q = 4 g^2 4 / (5 B - 1), near 1 / B. Of N(.6, .1), a (geometric mean)^4, 20,000 particles
and 300 steps tell, over six seeds, mean .571 and variance .094 with q = g^2, .599 and .102 with q = 3 g^2.

Source: Skreta et al. 2025 (arXiv 2503.02819), the correctors for annealing, geometric averages and products; derived
above in the signs of this code. Systematic resampling: Kitagawa 1996; Doucet and Johansen 2009, section 3.4.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, LabelCounts, RuleState, ScoreAnswers, SolverStep
from fednet.diffusion.density import inner
from fednet.methods.score_inference.rule_settings import Tempered


def product(settings: Tempered, counts: LabelCounts) -> CombinationRule:
    """The product of the sites' densities (AND), or the geometric mean of them to a power: B = K or as set."""
    groups = _groups(counts)

    def power(lost: Tensor) -> float:
        return settings.power or float((~lost).sum())

    def exponents(state: RuleState) -> Tensor:
        there = ~state.lost
        return there * (power(state.lost) / there.sum())

    def combine(state: RuleState, answers: ScoreAnswers, _: SolverStep) -> Tensor:
        return _weighted_sum(exponents(state), answers.scores)

    def advance(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:  # noqa: ARG001 - a rule's shape
        betas, scores = exponents(state), answers.scores.double()
        whole = _weighted_sum(betas, scores)[None]
        parts = torch.where(betas[:, None] > 0, inner(scores, scores), 0.0)
        rate = inner(whole, whole)[0] - (betas[:, None] * parts).sum(0)
        return replace(state, log_w=state.log_w + 0.5 * move.g2 * move.span * rate)

    def begin(state: RuleState, answers: ScoreAnswers, x: Tensor, std: float) -> RuleState:
        betas, scores = exponents(state), answers.scores.double()
        sites = torch.where(betas[:, None] > 0, inner(scores, scores), 0.0)
        wide = x.double().flatten(1).square().sum(1) * (float(betas.sum()) / std**2)
        return replace(state, log_w=0.5 * (wide - std**2 * (betas[:, None] * sites).sum(0)))

    def resample(state: RuleState, random: torch.Generator, final: bool) -> tuple[Tensor, RuleState] | None:
        return resampled(state, groups or [torch.arange(len(state.log_w))], random, 1.0 if final else settings.resample)

    return CombinationRule(
        lambda count: RuleState.fresh(len(counts.names), count), combine, advance, follows_density=False,
        admit=_admit, power=power, begin=begin, resample=resample,
    )  # fmt: skip


def resampled(
    state: RuleState, groups: list[Tensor], random: torch.Generator, share: float
) -> tuple[Tensor, RuleState] | None:
    """Systematic resampling of the groups of particles whose effective sample size is below a share of them.

    Returns:
        Where each particle comes from, int64 (n,), and the state after it; None where no group is resampled.
    """
    origin, log_w = torch.arange(len(state.log_w)), state.log_w.clone()
    for group in groups:
        weights = torch.softmax(log_w[group], 0)
        if float(1.0 / weights.square().sum()) >= share * len(group) * (1.0 - 1e-9):
            continue
        places = (torch.arange(len(group)) + torch.rand((), generator=random, dtype=torch.float64)) / len(group)
        chosen = torch.searchsorted(weights.cumsum(0), places).clamp_(max=len(group) - 1)
        origin[group], log_w[group] = group[chosen], 0.0
    if torch.equal(log_w, state.log_w):
        return None
    return origin, replace(state, log_p=state.log_p[:, origin], survival=state.survival[origin], log_w=log_w)


def _groups(counts: LabelCounts) -> list[Tensor]:
    """The samples of each label; no groups without labels."""
    if counts.labels is None:
        return []
    return [(counts.labels == label).nonzero().flatten() for label in sorted(set(counts.labels.tolist()))]


def _admit(state: RuleState, answers: ScoreAnswers) -> RuleState:
    """A site that is missed leaves particles that are not those of the others' product: all are drawn again."""
    missed = ~answers.present & ~state.lost
    survival = torch.zeros_like(state.survival) if missed.any() else state.survival
    return replace(state, lost=state.lost | missed, survival=survival)


def _weighted_sum(weights: Tensor, scores: Tensor) -> Tensor:
    """sum_k weights_k scores_k, in the order of the sites."""
    total = torch.zeros_like(scores[0])
    for weight, score in zip(weights.tolist(), scores, strict=True):
        if weight:
            total = total + weight * score
    return total
