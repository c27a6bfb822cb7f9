"""The interface between samplers, the agents' score functions and the rules that combine their scores.

A sampler queries all agents at every evaluation, calls the rule's `combine` for the score to follow and the rule's
`advance` with the step taken. The rule's state is an explicit value, so that the same rule serves every sampler, in one
process or over a network, and replays bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScoreAnswers:
    """The agents' answers at one (x, t), stacked in the sorted order of their names.

    Attributes:
        scores: (agents, n, ...); zero for an absent agent.
        present: bool (agents,); at least one is True.
        divergences: (agents, n), estimates of div s_k, if requested.
    """

    scores: Tensor
    present: Tensor
    divergences: Tensor | None = None


class ScoreFunction(Protocol):
    """Queries every agent for its score."""

    def __call__(self, x: Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        """Queries at x (n, ...) and time t; with `divergence` also for the divergence of the score."""


class SparseScoreFunction(ScoreFunction, Protocol):
    """Queries every agent for its score, or each for some of the samples only."""

    def __call__(self, x: Tensor, t: float, divergence: bool = False, asked: Tensor | None = None) -> ScoreAnswers:
        """As `ScoreFunction`; with `asked` (bool (agents, n)) each agent is sent its own samples only.

        The others' scores and divergences are zero; `present` says who has answered: no agent that was asked nothing.
        """


@dataclass(frozen=True)
class SolverStep:
    """The next step of a sampler, dx = (-f + (g^2 + q)/2 s) dtau + noise, with s the combined score.

    tau runs against t. The reverse SDE has q = g^2, the probability-flow ODE q = 0 and no noise. A Langevin step
    of size eps has f = g = 0 and q dtau = 2 eps: write it as span 1 and q = 2 eps.

    Attributes:
        t: the time at which the step starts.
        span: dtau > 0; 1 for a rate instead of a step (the ODE).
        drift: f(x, t), of x's shape, or None for zero.
        g2: g(t)^2 of the forward SDE.
        q: quadratic variation of the step by unit of tau, for each coordinate.
        noise: the step's random part, of x's shape, or None.
    """

    t: float
    span: float
    drift: Tensor | None
    g2: float
    q: float
    noise: Tensor | None = None

    @property
    def needs_divergence(self) -> bool:
        """Whether the change of a log density along this step depends on the divergence of its score."""
        return self.q != self.g2

    @property
    def as_path(self) -> SolverStep:
        """The same step as a stretch of a smooth path, q = 0, for densities that are followed symmetrically."""
        return replace(self, q=0.0)

    @property
    def gain(self) -> float:
        """The coefficient of the score: (g^2 + q)/2 dtau."""
        return 0.5 * (self.g2 + self.q) * self.span

    def displacement(self, score: Tensor) -> Tensor:
        """The displacement dx under the combined score, of its shape."""
        step = self.gain * score
        if self.drift is not None:
            step = step - self.span * self.drift
        return step if self.noise is None else step + self.noise


@dataclass(frozen=True)
class HeldAnswers:
    """What each agent has last answered for each sample, kept for the steps at which it is not asked.

    Attributes:
        denoised: (agents, n, ...), E[x_0 | x_t] under the agent, where it was asked last.
        spread: (agents, n), the trace of the covariance of x_0 given x_t there; zero until divergences were asked for.
        known: bool (agents, n), whether it has ever answered for the sample.
        asked: bool (agents, n), whether it was asked at the last evaluation.
        evaluations: how many there have been.
    """

    denoised: Tensor
    spread: Tensor
    known: Tensor
    asked: Tensor
    evaluations: int = 0


@dataclass(frozen=True)
class SparseAsking:
    """Which agents are asked for which samples (`fednet.diffusion.sparse`).

    Attributes:
        top_k: the largest number of agents that a sample is sent to at a step, at least 1.
        weights: (state, agents that count, bool (agents,)) -> the rule's weights (agents, n) before anybody is asked,
            summing to 1 over these.
        choose: (weights, `top_k`, number of the evaluation) -> bool (agents, n), who is asked.
    """

    top_k: int
    weights: Callable[[RuleState, Tensor], Tensor]
    choose: Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True)
class RuleState:
    """The state of a rule over a batch of trajectories.

    Attributes:
        log_p: (agents, n), log density of each sample under each agent since the start, up to a constant common to
            all agents; zero under rules that do not follow densities.
        lost: bool (agents,), agents that missed a step; rules that follow densities exclude them for good.
        survival: (n,) in [0, 1], the probability with which each sample may be kept after the losses so far; 1 under
            rules that need nothing drawn again.
        begun: whether a step has been taken.
        last: the last step dx and the scores where it began, for a rule that follows densities symmetrically.
        log_w: (n,) float64, log weights of samples that are particles; zero under rules without weights.
        held: the agents' last answers, under a rule that asks sparsely.
    """

    log_p: Tensor
    lost: Tensor
    survival: Tensor
    begun: bool = False
    last: tuple[Tensor, Tensor] | None = None
    log_w: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    held: HeldAnswers | None = None

    @staticmethod
    def fresh(agents: int, count: int) -> RuleState:
        """The initial state, with equal log densities."""
        log_p, lost = torch.zeros(agents, count), torch.zeros(agents, dtype=torch.bool)
        return RuleState(log_p, lost, torch.ones(count), log_w=torch.zeros(count, dtype=torch.float64))

    def at(self, log_p: Tensor) -> RuleState:
        """The same state with other log densities."""
        return replace(self, log_p=log_p)


@dataclass(frozen=True)
class LabelCounts:
    """How many images of each class every agent has, and the labels of a batch of samples.

    Attributes:
        names: the agents, sorted.
        counts: (agents, classes), images of each class; (agents, 1) where labels play no part.
        labels: int64 (n,), the label of each sample, or None.
    """

    names: tuple[str, ...]
    counts: Tensor
    labels: Tensor | None

    def of_each_sample(self) -> Tensor:
        """(agents, n): each agent's images of each sample's label; (agents, 1) without labels."""
        if self.labels is None:
            return self.counts.sum(1, keepdim=True).float()
        return self.counts[:, self.labels].float()

    def labels_without_data(self, present: Tensor) -> frozenset[int]:
        """The requested labels of which none of the agents `present` (bool (agents,)) has an image."""
        if self.labels is None:
            return frozenset()
        missing = self.counts[present].sum(0) == 0
        return frozenset(label for label in set(self.labels.tolist()) if missing[label])


@dataclass(frozen=True)
class CombinationRule:
    """A combination rule: pure functions over an explicit state.

    `fednet.testing.check_rule` tests what every rule must keep: its weights sum to `power`, K equal agents are one, the
    order of the agents does not matter, agents that do not answer have no part.

    Attributes:
        init: number of samples -> the state at t = 1.
        combine: (state, answers, step) -> the score to follow, of x's shape.
        advance: (state, answers, step, dx) -> the state after the step dx.
        follows_density: whether `combine` and `advance` need the divergences that a step requires.
        admit: (state, answers) -> the state once it is known who answers, before `combine`.
        symmetric: whether log densities are followed by the symmetric product (`fednet.diffusion.density`), which
            always needs divergences: for rules whose score depends on a step's noise.
        power: lost agents, bool (agents,) -> sum of the weights, B: the rule samples p^B where all agents have the
            density p; 1 but for products. Its noise has the variance std^2 / B: at t = 1, and in the denoising step.
        begin: (state, answers, x, std) -> the state at t = 1 under an SDE that `remembers`; None for that of rules that
            follow densities (`fednet.diffusion.density.initial_log_density`), or as it is.
        resample: (state, random, whether it is the end) -> where each sample comes from, int64 (n,), and the state
            then; or None for as they are. Rules with it weigh samples as particles, and need a sampler with noise.
        sparse: which agents are asked for which samples; None: all for all.
    """

    init: Callable[[int], RuleState]
    combine: Callable[[RuleState, ScoreAnswers, SolverStep], Tensor]
    advance: Callable[[RuleState, ScoreAnswers, SolverStep, Tensor], RuleState]
    follows_density: bool
    admit: Callable[[RuleState, ScoreAnswers], RuleState] = lambda state, _: state
    symmetric: bool = False
    power: Callable[[Tensor], float] = lambda _: 1.0
    begin: Callable[[RuleState, ScoreAnswers, Tensor, float], RuleState] | None = None
    resample: Callable[[RuleState, torch.Generator, bool], tuple[Tensor, RuleState] | None] | None = None
    sparse: SparseAsking | None = None

    def needs_divergence(self, move: SolverStep) -> bool:
        """Whether the agents must be asked for divergences at a step."""
        return self.follows_density and (move.as_path if self.symmetric else move).needs_divergence
