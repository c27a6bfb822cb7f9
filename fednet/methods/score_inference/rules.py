"""Combination rules: how the scores of several sites become one; each is three pure functions.

`mean`, `data-size`, `label-count` and `median` use the scores of one query only: every site that answered counts.
`mixture` and `consensus` follow every site's log density along the trajectory (`fednet.diffusion.density`): a site that
misses a step has an unknown log density from then on and is left out of the trajectory. Knows no network and no solver.

Sources: the mean is the source system's; `mixture` ("OR") and `consensus` ("AND") are Skreta et al. 2024
(arXiv 2412.17762), algorithm 1, eq. 13 and proposition 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, RuleState, ScoreAnswers, SolverStep
from fednet.diffusion.density import equalising_weights, log_density_change
from fednet.errors import MethodError
from fednet.methods.score_inference.config import RuleName, RulePhase

WeightFunction = Callable[[RuleState, ScoreAnswers, SolverStep], Tensor]
"""Weights of the sites, (sites,) or (sites, n), summing to 1 over the sites."""


@dataclass(frozen=True)
class LabelCounts:
    """How many images of each class every site has, and the labels of a batch of samples.

    Attributes:
        names: the sites, sorted.
        counts: (sites, classes), images of each class; (sites, 1) where labels play no part.
        labels: int64 (n,), the label of each sample, or None.
    """

    names: tuple[str, ...]
    counts: Tensor
    labels: Tensor | None

    def of_each_sample(self) -> Tensor:
        """(sites, n): each site's images of each sample's label; (sites, 1) without labels."""
        if self.labels is None:
            return self.counts.sum(1, keepdim=True).float()
        return self.counts[:, self.labels].float()

    def labels_without_data(self, present: Tensor) -> frozenset[int]:
        """The requested labels of which none of the sites `present` (bool (sites,)) has an image."""
        if self.labels is None:
            return frozenset()
        missing = self.counts[present].sum(0) == 0
        return frozenset(label for label in set(self.labels.tolist()) if missing[label])


def mean(counts: LabelCounts) -> CombinationRule:
    """Equal weights of the sites that answered: a product of experts, right when all sites model the same data."""
    ones = torch.ones(len(counts.names), 1)
    return _weighted(counts, lambda _state, answers, _move: _normalised(ones, answers.present))


def data_size(counts: LabelCounts) -> CombinationRule:
    """Weights proportional to the number of images that a site was trained on."""
    sizes = counts.counts.sum(1, keepdim=True).float()
    return _weighted(counts, lambda _state, answers, _move: _normalised(sizes, answers.present))


def label_count(counts: LabelCounts) -> CombinationRule:
    """Weights proportional to a site's images of the requested label; equal ones for a label that no site has."""
    amounts = counts.of_each_sample()
    return _weighted(counts, lambda _state, answers, _move: _normalised(amounts, answers.present))


def mixture(counts: LabelCounts) -> CombinationRule:
    """The union of the sites' data: weights proportional to w_k p_k(x), w_k the images of site k."""
    shares = counts.of_each_sample()

    def responsibilities(state: RuleState, answers: ScoreAnswers, _: SolverStep) -> Tensor:
        counted = _answering_since_start(state, answers)
        logits = _normalised(shares, counted).log() + state.log_p
        return torch.softmax(logits.masked_fill(~counted[:, None], -torch.inf), 0)

    return _weighted(counts, responsibilities, _advance_density, follows_density=True)


def consensus(counts: LabelCounts) -> CombinationRule:
    """What all sites find equally likely: weights that keep all log p_k equal along the trajectory."""

    def balanced(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        return equalising_weights(state.log_p, answers, move, _answering_since_start(state, answers))

    return _weighted(counts, balanced, _advance_density, follows_density=True)


def median(counts: LabelCounts) -> CombinationRule:
    """The median of each coordinate, robust to a faulty minority (Yin et al. 2018, arXiv 1803.01498)."""

    def middle(_state: RuleState, answers: ScoreAnswers, _move: SolverStep) -> Tensor:
        return torch.quantile(answers.scores[answers.present], 0.5, dim=0)

    return CombinationRule(_initial_state(counts), middle, _keep_state, follows_density=False)


RULES: dict[RuleName, Callable[[LabelCounts], CombinationRule]] = {
    "mean": mean,
    "data-size": data_size,
    "label-count": label_count,
    "mixture": mixture,
    "consensus": consensus,
    "median": median,
}


def rule_for(phases: Sequence[RulePhase], counts: LabelCounts) -> CombinationRule:
    """The rule of an arm: one rule, or a schedule of rules over t.

    Raises:
        MethodError: a phase names sites that the run does not have.
    """
    if len(phases) == 1 and phases[0].sites is None:
        return RULES[phases[0].rule](counts)
    return schedule(phases, counts)


def schedule(phases: Sequence[RulePhase], counts: LabelCounts) -> CombinationRule:
    """Rules that take turns as t falls, each with all sites or some; log densities are followed throughout."""
    parts = [(phase.below, RULES[phase.rule](counts), _phase_members(phase, counts)) for phase in phases]
    follows = any(rule.follows_density for _, rule, _ in parts)

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        _, rule, members = [part for part in parts if move.t <= part[0] + 1e-9][-1]
        counted = answers.present & members
        return rule.combine(state, replace(answers, present=counted if counted.any() else answers.present), move)

    return CombinationRule(_initial_state(counts), combine, _advance_density if follows else _keep_state, follows)


def _phase_members(phase: RulePhase, counts: LabelCounts) -> Tensor:
    if phase.sites is None:
        return torch.ones(len(counts.names), dtype=torch.bool)
    unknown = sorted(set(phase.sites) - set(counts.names))
    if unknown:
        raise MethodError(f"a schedule names the sites {unknown}; this run has {list(counts.names)}")
    return torch.tensor([name in phase.sites for name in counts.names])


def _keep_state(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:  # noqa: ARG001 - a rule's shape
    return state


def _advance_density(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:
    change = log_density_change(answers, move, dx)
    log_p = torch.where(answers.present[:, None], state.log_p + change, state.log_p)
    return RuleState(log_p, state.lost | ~answers.present)


def _initial_state(counts: LabelCounts) -> Callable[[int], RuleState]:
    return partial(RuleState.fresh, len(counts.names))


def _weighted(
    counts: LabelCounts,
    weigh: WeightFunction,
    advance: Callable[[RuleState, ScoreAnswers, SolverStep, Tensor], RuleState] = _keep_state,
    follows_density: bool = False,
) -> CombinationRule:
    """A rule whose score is the weighted sum of the scores, added up in the order of the sites' names."""

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        weights = weigh(state, answers, move)
        weights = weights.view(*weights.shape, *[1] * (answers.scores.dim() - 2))
        total = torch.zeros_like(answers.scores[0])
        for weight, score, present in zip(weights, answers.scores, answers.present.tolist(), strict=True):
            if present:
                total = total + weight * score
        return total

    return CombinationRule(_initial_state(counts), combine, advance, follows_density)


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
