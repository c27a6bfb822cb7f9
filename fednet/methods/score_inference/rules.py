"""How the agents' scores become one: the rules of combination, each three pure functions.

`mean`, `data-size`, `label-count` and `median` look only at the scores of the moment: who answers counts. `mixture`
and `consensus` follow every agent's log density along the trajectory (`fednet.diffusion.density`): an agent that
misses a step has lost track of the trajectory and leaves it for good. Knows no network and no solver.

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
"""Weights of the agents, (agents,) or (agents, n), summing to 1 over the agents."""


@dataclass(frozen=True)
class LabelCounts:
    """What the agents say of their data, which decides how much their word counts for which label.

    Attributes:
        names: the agents, sorted.
        counts: (agents, classes), images of each class; (agents, 1) where labels play no part.
        labels: int64 (n,), the label that each sample shall have, or None.
    """

    names: tuple[str, ...]
    counts: Tensor
    labels: Tensor | None

    def of_each_sample(self) -> Tensor:
        """(agents, n): what each agent holds of each sample's label; (agents, 1) without labels."""
        if self.labels is None:
            return self.counts.sum(1, keepdim=True).float()
        return self.counts[:, self.labels].float()

    def labels_without_data(self, present: Tensor) -> frozenset[int]:
        """The labels asked for that none of the agents `present` (bool (agents,)) holds."""
        if self.labels is None:
            return frozenset()
        bare = self.counts[present].sum(0) == 0
        return frozenset(label for label in set(self.labels.tolist()) if bare[label])


def mean(label_counts: LabelCounts) -> CombinationRule:
    """Everyone who answers counts the same: a product of experts, right when all agents model the same data."""
    ones = torch.ones(len(label_counts.names), 1)
    return _weighted(label_counts, lambda _state, answers, _move: _normalised(ones, answers.present))


def data_size(label_counts: LabelCounts) -> CombinationRule:
    """Everyone counts as much as the images it was trained on."""
    sizes = label_counts.counts.sum(1, keepdim=True).float()
    return _weighted(label_counts, lambda _state, answers, _move: _normalised(sizes, answers.present))


def label_count(label_counts: LabelCounts) -> CombinationRule:
    """Everyone counts as much as its images of the label asked for; for a label that nobody holds, the same."""
    counts = label_counts.of_each_sample()
    return _weighted(label_counts, lambda _state, answers, _move: _normalised(counts, answers.present))


def mixture(label_counts: LabelCounts) -> CombinationRule:
    """The union of the agents' data: weights proportional to w_k p_k(x), w_k what agent k holds."""
    shares = label_counts.of_each_sample()

    def responsibilities(state: RuleState, answers: ScoreAnswers, _: SolverStep) -> Tensor:
        counted = _answering_since_start(state, answers)
        logits = _normalised(shares, counted).log() + state.log_p
        return torch.softmax(logits.masked_fill(~counted[:, None], -torch.inf), 0)

    return _weighted(label_counts, responsibilities, _advance_density, follows_density=True)


def consensus(label_counts: LabelCounts) -> CombinationRule:
    """What all agents find equally likely: weights that keep all log p_k equal along the trajectory."""

    def balanced(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        return equalising_weights(state.log_p, answers, move, _answering_since_start(state, answers))

    return _weighted(label_counts, balanced, _advance_density, follows_density=True)


def median(label_counts: LabelCounts) -> CombinationRule:
    """The median of each coordinate, robust to a faulty minority (Yin et al. 2018, arXiv 1803.01498)."""

    def middle(_state: RuleState, answers: ScoreAnswers, _move: SolverStep) -> Tensor:
        return torch.quantile(answers.scores[answers.present], 0.5, dim=0)

    return CombinationRule(_initial_state(label_counts), middle, _keep_state, follows_density=False)


RULES: dict[RuleName, Callable[[LabelCounts], CombinationRule]] = {
    "mean": mean,
    "data-size": data_size,
    "label-count": label_count,
    "mixture": mixture,
    "consensus": consensus,
    "median": median,
}


def rule_for(phases: Sequence[RulePhase], label_counts: LabelCounts) -> CombinationRule:
    """The rule of an arm: one rule, or a schedule of rules over t.

    Raises:
        MethodError: a phase names agents that the run does not have.
    """
    if len(phases) == 1 and phases[0].agents is None:
        return RULES[phases[0].rule](label_counts)
    return schedule(phases, label_counts)


def schedule(phases: Sequence[RulePhase], label_counts: LabelCounts) -> CombinationRule:
    """Rules that take turns as t falls, each with all agents or some; log densities are followed throughout."""
    parts = [(phase.below, RULES[phase.rule](label_counts), _phase_members(phase, label_counts)) for phase in phases]
    follows = any(rule.follows_density for _, rule, _ in parts)

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        _, rule, members = [part for part in parts if move.t <= part[0] + 1e-9][-1]
        counted = answers.present & members
        return rule.combine(state, replace(answers, present=counted if counted.any() else answers.present), move)

    return CombinationRule(_initial_state(label_counts), combine, _advance_density if follows else _keep_state, follows)


def _phase_members(phase: RulePhase, label_counts: LabelCounts) -> Tensor:
    if phase.agents is None:
        return torch.ones(len(label_counts.names), dtype=torch.bool)
    unknown = sorted(set(phase.agents) - set(label_counts.names))
    if unknown:
        raise MethodError(f"a schedule names the agents {unknown}, this run has {list(label_counts.names)}")
    return torch.tensor([name in phase.agents for name in label_counts.names])


def _keep_state(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:  # noqa: ARG001 - a rule's shape
    return state


def _advance_density(state: RuleState, answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> RuleState:
    change = log_density_change(answers, move, dx)
    log_p = torch.where(answers.present[:, None], state.log_p + change, state.log_p)
    return RuleState(log_p, state.lost | ~answers.present)


def _initial_state(label_counts: LabelCounts) -> Callable[[int], RuleState]:
    return partial(RuleState.fresh, len(label_counts.names))


def _weighted(
    label_counts: LabelCounts,
    weigh: WeightFunction,
    advance: Callable[[RuleState, ScoreAnswers, SolverStep, Tensor], RuleState] = _keep_state,
    follows_density: bool = False,
) -> CombinationRule:
    """A rule whose score is the weighted sum of the scores, added up in the order of the agents' names."""

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        weights = weigh(state, answers, move)
        weights = weights.view(*weights.shape, *[1] * (answers.scores.dim() - 2))
        total = torch.zeros_like(answers.scores[0])
        for weight, score, present in zip(weights, answers.scores, answers.present.tolist(), strict=True):
            if present:
                total = total + weight * score
        return total

    return CombinationRule(_initial_state(label_counts), combine, advance, follows_density)


def _normalised(amounts: Tensor, counted: Tensor) -> Tensor:
    """Amounts (agents, n) as shares of those who count; equal shares where those hold nothing."""
    amounts = amounts * counted[:, None]
    empty = amounts.sum(0, keepdim=True) == 0
    amounts = torch.where(empty, counted[:, None].to(amounts.dtype), amounts)
    return amounts / amounts.sum(0, keepdim=True)


def _answering_since_start(state: RuleState, answers: ScoreAnswers) -> Tensor:
    """Who answers and has followed the trajectory from its start."""
    counted = answers.present & ~state.lost
    if not counted.any():
        raise MethodError(
            "no agent that answers has followed these samples from the start, so their log densities are unknown: "
            "draw them again, or use a rule without memory (mean, data-size, label-count, median)"
        )
    return counted
