"""The trajectory of a batch of samples: where it is, the rule's state there, and how often the agents were asked.

What all samplers share: an evaluation, a step of an SDE, the denoising step at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from fednet.diffusion.combination import (
    CombinationRule,
    RuleState,
    ScoreAnswers,
    ScoreFunction,
    SolverStep,
    SparseScoreFunction,
)
from fednet.diffusion.density import PathPoint, path_change
from fednet.diffusion.sde import SDE
from fednet.diffusion.sparse import Place, ask_sparsely


@dataclass(frozen=True)
class SampledTrajectory:
    """The result of a sampler.

    Attributes:
        x: the denoised samples, of the latent's shape.
        state: the rule's state at t = eps, log densities included.
        evaluations: number of queries, the denoising step included.
    """

    x: Tensor
    state: RuleState
    evaluations: int


@dataclass(frozen=True)
class CombinedScore:
    """The agents' answers at a point, the rule's state there, and the combined score."""

    answers: ScoreAnswers
    state: RuleState
    score: Tensor


class Trajectory:
    """A trajectory: x, the rule's state, and the number of queries so far.

    Args:
        query: queries the agents.
        rule: combines their scores.
        x: noise at t = 1.
        state: the rule's, at the start.
        evaluations: queries so far.
    """

    def __init__(
        self, query: ScoreFunction, rule: CombinationRule, x: Tensor, state: RuleState, evaluations: int
    ) -> None:
        self.query, self.rule, self.x, self.state, self.evaluations = query, rule, x, state, evaluations
        self._left: PathPoint | None = None

    def ask(self, sde: SDE, x: Tensor, move: SolverStep) -> ScoreAnswers:
        """The agents' answers at x where a step begins; predicted ones of those that a sparse rule does not ask."""
        divergence = self.rule.needs_divergence(move)
        if self.rule.sparse is None:
            self.evaluations += 1
            return self.query(x, move.t, divergence)
        place = Place.at(sde, x, move.t)
        found = ask_sparsely(
            cast("SparseScoreFunction", self.query), self.rule.sparse, self.state, place, divergence=divergence
        )
        self.state, self.evaluations = replace(self.state, held=found.held), self.evaluations + found.queries
        return found.answers

    def evaluate(self, sde: SDE, x: Tensor, move: SolverStep) -> CombinedScore:
        """The combined score at x, where a step begins; the trajectory stays where it is.

        After `leave`, log densities are those at x: they have followed a smooth path from the point that was left.
        """
        answers = self.ask(sde, x, move)
        state = self.rule.admit(self.state, answers)
        if self._left is not None:
            change = path_change(self._left, PathPoint.at(sde, x, move.t, answers))
            state = state.at(torch.where(answers.present[:, None], state.log_p + change, state.log_p))
        return CombinedScore(answers, state, self.rule.combine(state, answers, move))

    def leave(self, sde: SDE, move: SolverStep) -> Tensor:
        """The combined score at x, from where a deterministic solver goes on along any smooth path."""
        here = self.evaluate(sde, self.x, move)
        self.state = replace(here.state, begun=True)
        if self.rule.follows_density:
            self._left = PathPoint.at(sde, self.x, move.t, here.answers)
        return here.score

    def step(self, sde: SDE, move: SolverStep) -> None:
        """Takes a step of an SDE."""
        here = self.evaluate(sde, self.x, move)
        dx = move.displacement(here.score)
        self.state = replace(self.rule.advance(here.state, here.answers, move, dx), begun=True)
        self.x = self.x + dx

    def resample(self, random: torch.Generator, *, final: bool = False) -> None:
        """Has the rule resample its particles, if it has some."""
        found = None if self.rule.resample is None else self.rule.resample(self.state, random, final)
        if found is not None:
            origin, self.state = found
            self.x = self.x[origin]

    def denoised(self, sde: SDE, move: SolverStep) -> SampledTrajectory:
        """E[x_0 | x_t] = (x + std^2 / B s) / alpha, with the score as the rule combines it for `move`.

        B is the rule's `power`: a product of densities with noise of variance std^2 has noise of variance std^2 / B.
        """
        here = self.evaluate(sde, self.x, move)
        alpha, std = sde.marginal(torch.tensor(move.t, dtype=torch.float64))
        x = (self.x + float(std) ** 2 / self.rule.power(here.state.lost) * here.score) / float(alpha)
        return SampledTrajectory(x, here.state, self.evaluations)


def flow_step(sde: SDE, x: Tensor, t: float) -> SolverStep:
    """The probability flow at (x, t), as a rate: q = 0, span 1, no noise."""
    at = torch.tensor(t, dtype=torch.float64)
    return SolverStep(t, 1.0, float(sde.drift_rate(at)) * x, float(sde.diffusion(at)) ** 2, 0.0)
