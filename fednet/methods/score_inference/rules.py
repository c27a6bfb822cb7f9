"""The built-in rules for scores; each is a few pure functions, registered by `fednet.rules.builtin`.

`mean`, `data-size`, `label-count` and `median` use the scores of one query only: every site that answered counts.
`mixture` and `consensus` follow every site's log density along the trajectory (`fednet.diffusion.density`): a site that
misses a step has an unknown log density from then on and is left out of the trajectory. Knows no network and no solver.

Sources: the mean is the source system's; `mixture` ("OR") and `consensus` ("AND") are Skreta et al. 2024
(arXiv 2412.17762), algorithm 1, eq. 13 and proposition 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fednet.diffusion.combination import (
    CombinationRule,
    LabelCounts,
    RuleState,
    ScoreAnswers,
    SolverStep,
    SparseAsking,
)
from fednet.diffusion.density import equalising_weights, log_density_change, symmetric_correction
from fednet.diffusion.sparse import drawn
from fednet.errors import MethodError
from fednet.methods.score_inference.config import RulePhase
from fednet.methods.score_inference.rule_settings import Weighted
from fednet.rules.contract import RuleSettings
from fednet.rules.registry import score_rule

WeightFunction = Callable[[RuleState, ScoreAnswers, SolverStep], Tensor]
"""Weights of the sites, (sites,) or (sites, n), summing to 1 over the sites."""


def mean(settings: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """Equal weights of the sites that answered, as in the source; right where all sites model the same data.

    At every t this is the score of the normalised geometric mean of the p_k,t, and noising the geometric mean of the
    p_k gives other densities. So what is drawn is neither that geometric mean nor the product of the p_k, and depends
    on the sampler: of N(-1, 1) and N(1, 1/4) the reverse SDE (VP) draws N(.33, .46) and the ODE N(.23, .50), where the
    geometric mean is N(.6, .4) and the product N(.6, .2). Samples of Gaussians are Gaussian with, in tau = 1 - t, c_k =
    alpha^2 v_k + std^2 and the means over k taken,

        reverse SDE   d mean = (-f mean + g^2 (E[alpha m / c] - mean E[1 / c])) dtau
                      d var  = (-2 f var - 2 g^2 var E[1 / c] + g^2) dtau
        ODE           g^2 replaced by g^2 / 2 where it multiplies E, and no noise g^2
    """
    return _by_amounts(settings, counts, torch.ones(len(counts.names), 1))


def data_size(settings: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """Weights proportional to the number of images that a site was trained on."""
    return _by_amounts(settings, counts, counts.counts.sum(1, keepdim=True).float())


def label_count(settings: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """Weights proportional to a site's images of the requested label; equal ones for a label that no site has."""
    return _by_amounts(settings, counts, counts.of_each_sample())


def mixture(settings: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """The union of the sites' data: weights gamma_k proportional to w_k p_k(x), w_k the images of site k.

    A sample that was on its way to a site's data when the site is lost would end nowhere: the others' scores lead it to
    none of their data. At the loss x_t has the density sum_k w_k p_k,t. Each kept with probability 1 - gamma_lost(x_t),
    they have that of the remaining sites' union, the sum over k != lost of w_k p_k,t up to its norm, as has every one
    that is drawn again without the lost site. `RuleState.survival` is the product of these probabilities.
    """
    shares = counts.of_each_sample()

    def weights_of(state: RuleState, counted: Tensor) -> Tensor:
        logits = _normalised(shares, counted).log() + state.log_p
        return torch.softmax(logits.masked_fill(~counted[:, None], -torch.inf), 0)

    def responsibilities(state: RuleState, answers: ScoreAnswers, _: SolverStep) -> Tensor:
        return weights_of(_corrected(state, answers), _answering_since_start(state, answers))

    def admit(state: RuleState, answers: ScoreAnswers) -> RuleState:
        missed = ~answers.present & ~state.lost
        if state.begun and missed.any():
            remaining = weights_of(state, ~state.lost)[~missed].sum(0).clamp(max=1.0)
            state = replace(state, survival=state.survival * remaining)
        return _admit(state, answers)

    def asking(state: RuleState, counted: Tensor) -> Tensor:
        least = torch.finfo(torch.float32).tiny * (_normalised(shares, counted) > 0)
        return torch.maximum(weights_of(state, counted), least)  # no site with a share is without one by underflow

    return _sparsely(settings, _following(counts, responsibilities, admit=admit), asking)


def consensus(_: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """What all sites find equally likely: weights that keep all log p_k equal along the trajectory.

    The weights cancel the noise of a step along the differences of the scores, so densities are followed symmetrically.
    """

    def balanced(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        log_p = _corrected(state, answers).log_p
        return equalising_weights(log_p, answers, move, _answering_since_start(state, answers))

    return _following(counts, balanced, symmetric=True)


def median(_: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """The median of each coordinate, robust to a faulty minority (Yin et al. 2018, arXiv 1803.01498)."""

    def middle(_state: RuleState, answers: ScoreAnswers, _move: SolverStep) -> Tensor:
        return torch.quantile(answers.scores[answers.present], 0.5, dim=0)

    return CombinationRule(_initial_state(counts), middle, _keep_state, follows_density=False)


def make_rule(settings: RuleSettings, counts: LabelCounts) -> CombinationRule:
    """The rule that settings name, for a batch of samples.

    Raises:
        UnknownRule: there is none for scores.
    """
    return score_rule(settings).make(settings, counts)


def rule_for(phases: Sequence[RulePhase], counts: LabelCounts) -> CombinationRule:
    """The rule of an arm: one rule, or a schedule of rules over t.

    Raises:
        MethodError: a phase names sites that the run does not have.
    """
    if len(phases) == 1 and phases[0].sites is None:
        return make_rule(phases[0].rule, counts)
    return schedule(phases, counts)


def schedule(phases: Sequence[RulePhase], counts: LabelCounts) -> CombinationRule:
    """Rules that take turns as t falls, each with all sites or some; log densities are followed throughout."""
    parts = [(phase.below, make_rule(phase.rule, counts), _phase_members(phase, counts)) for phase in phases]

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        _, rule, members = [part for part in parts if move.t <= part[0] + 1e-9][-1]
        counted = answers.present & members
        return rule.combine(state, replace(answers, present=counted if counted.any() else answers.present), move)

    def admit(state: RuleState, answers: ScoreAnswers) -> RuleState:
        return parts[-1][1].admit(state, answers)  # samples end as those of the last phase

    if not any(rule.follows_density for _, rule, _ in parts):
        return CombinationRule(_initial_state(counts), combine, _keep_state, follows_density=False)
    symmetric = any(rule.symmetric for _, rule, _ in parts)
    return CombinationRule(_initial_state(counts), combine, _advance(symmetric), True, admit, symmetric)


def _phase_members(phase: RulePhase, counts: LabelCounts) -> Tensor:
    if phase.sites is None:
        return torch.ones(len(counts.names), dtype=torch.bool)
    unknown = sorted(set(phase.sites) - set(counts.names))
    if unknown:
        raise MethodError(f"a schedule names the sites {unknown}; this run has {list(counts.names)}")
    return torch.tensor([name in phase.sites for name in counts.names])


def _keep_state(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:  # noqa: ARG001 - a rule's shape
    return state


def _advance(symmetric: bool) -> Callable[[RuleState, ScoreAnswers, SolverStep, Tensor], RuleState]:
    """Follows log densities along a step, by Ito's product or by the symmetric one."""

    def advance(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:
        state = _corrected(state, answers)
        change = log_density_change(answers, move.as_path if symmetric else move, dx)
        log_p = torch.where(answers.present[:, None], state.log_p + change, state.log_p)
        return replace(state, log_p=log_p, last=(dx, answers.scores) if symmetric and move.q else None)

    return advance


def _corrected(state: RuleState, answers: ScoreAnswers) -> RuleState:
    """The state with the last step's change completed, where it is followed symmetrically."""
    if state.last is None:
        return state
    return replace(state, log_p=state.log_p + symmetric_correction(state.last, answers), last=None)


def _admit(state: RuleState, answers: ScoreAnswers) -> RuleState:
    """The state without those that do not answer."""
    return replace(state, lost=state.lost | ~answers.present)


def _initial_state(counts: LabelCounts) -> Callable[[int], RuleState]:
    return partial(RuleState.fresh, len(counts.names))


def _following(
    counts: LabelCounts,
    weigh: WeightFunction,
    *,
    admit: Callable[[RuleState, ScoreAnswers], RuleState] = _admit,
    symmetric: bool = False,
) -> CombinationRule:
    """A weighted rule that follows log densities."""
    combine = _weighted(counts, weigh).combine
    return CombinationRule(_initial_state(counts), combine, _advance(symmetric), True, admit, symmetric)


def _by_amounts(settings: RuleSettings, counts: LabelCounts, amounts: Tensor) -> CombinationRule:
    """A rule whose weights are shares of fixed amounts (sites, n) or (sites, 1)."""

    def weights(state: RuleState, counted: Tensor) -> Tensor:
        return _normalised(amounts, counted).expand(-1, state.log_p.shape[1])

    rule = _weighted(counts, lambda _state, answers, _move: _normalised(amounts, answers.present))
    sparse = _sparsely(settings, rule, weights)
    return rule if sparse is rule else replace(sparse, admit=_admit)


def _sparsely(
    settings: RuleSettings, rule: CombinationRule, weights: Callable[[RuleState, Tensor], Tensor]
) -> CombinationRule:
    """The rule, with `top_k` sites asked for each sample where the settings say so."""
    if not isinstance(settings, Weighted) or settings.top_k is None:
        return rule
    return replace(rule, sparse=SparseAsking(settings.top_k, weights, drawn))


def _weighted(counts: LabelCounts, weigh: WeightFunction) -> CombinationRule:
    """A rule whose score is the weighted sum of the scores, added up in the order of the sites' names."""

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        weights = weigh(state, answers, move)
        weights = weights.view(*weights.shape, *[1] * (answers.scores.dim() - 2))
        total = torch.zeros_like(answers.scores[0])
        for weight, score, present in zip(weights, answers.scores, answers.present.tolist(), strict=True):
            if present:
                total = total + weight * score
        return total

    return CombinationRule(_initial_state(counts), combine, _keep_state, follows_density=False)


def _normalised(amounts: Tensor, counted: Tensor) -> Tensor:
    """Amounts (sites, n) as shares of the counted sites (bool (sites,)); equal shares where those have none."""
    amounts = amounts * counted[:, None]
    empty = amounts.sum(0, keepdim=True) == 0
    amounts = torch.where(empty, counted[:, None].to(amounts.dtype), amounts)
    return amounts / amounts.sum(0, keepdim=True)


def _answering_since_start(state: RuleState, answers: ScoreAnswers) -> Tensor:
    """The sites that answered and have followed the trajectory from its start."""
    counted = answers.present & ~state.lost
    if not counted.any():
        raise MethodError(
            "no site that answers has followed these samples from the start, so their log densities are unknown: "
            "draw the samples again, or use a rule without memory (mean, data-size, label-count, median)"
        )
    return counted
