"""Change of the agents' log densities along a common trajectory, by Ito's lemma.

For a step dx in reverse time tau with quadratic variation q dtau, and any density p_k that solves the forward SDE's
Fokker-Planck equation,

    d log p_k = <dx, s_k> + [ div f + <f, s_k> - g^2/2 |s_k|^2 ] dtau + (q - g^2)/2 div s_k dtau.

On the reverse SDE q = g^2 and the last term is gone: the scores that are there anyway suffice. On the
probability-flow ODE (q = 0) and in a Langevin corrector (g = f = 0) the divergence of each score is needed. div f is
common to all agents and left out.

That is Ito's product <dx, s_k>, with the scores where the step begins, and it takes for granted that dx has the
quadratic variation q. A rule whose weights depend on the step's noise changes it: weights that keep all log densities
equal cancel the noise along the differences of the scores, and in one dimension nothing of it is left (q = 0). Taken
for q = g^2, two Gaussians of variances v1 and v2 then end log(v1 / v2) / 2 apart, however small the steps. The chain
rule holds for every quadratic variation with Stratonovich's symmetric product <dx, (s_k(x) + s_k(x + dx)) / 2>, and
then has the ODE's form:

    d log p_k = <dx, s_k>_sym + [ div f + <f, s_k> - g^2/2 (|s_k|^2 + div s_k) ] dtau.

So such a rule takes its steps with q = 0 (`SolverStep.as_path`), and `symmetric_correction` adds half of
<dx, s_k(x + dx) - s_k(x)> once the next scores are there.

At t = 1 all p_k are nearly N(alpha m_k, std^2), alike but for their means: log p_k = -std^2 |s_k|^2 / 2 up to a common
constant (`initial_log_density`). Where alpha(1) is nearly 0, as for VP and sub-VP, they start equal.

A deterministic solver that takes few, long steps follows no path that a formula of small steps could use. But log
p_k(x, t) is a function of the end points, so any smooth path between them will do. With y = x / alpha and r = std^2 /
alpha^2 the density of y is p_k(x_0) convolved with N(0, r), and in its natural parameters eta = y / r, rho = 1 / r

    log p_k = log sum over x_0 of p_k(x_0) exp(<eta, x_0> - rho |x_0|^2 / 2) + (the same for all agents)
    d log p_k = <D_k, d eta> - (|D_k|^2 + tr Cov_k) / 2 d rho

with D_k = (x + std^2 s_k) / alpha, the denoised x, and tr Cov_k = r (d + std^2 div s_k), the trace of the covariance of
x_0 given x. The noise in x, which is common to all agents, is gone. `path_change` integrates it along the straight line
between two points, for D_k and tr Cov_k linear in the log signal-to-noise ratio: of second order, and exact where x_0
is known already.

Source: Skreta et al. 2024 (arXiv 2412.17762), theorem 1 for the reverse SDE; the general q follows from the same
lemma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.diffusion.combination import ScoreAnswers, SolverStep
from fednet.diffusion.sde import SDE


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over all but the first two dimensions, a and b (agents, n, ...) or broadcastable."""
    return (a * b).flatten(2).sum(2)


def log_density_change(answers: ScoreAnswers, move: SolverStep, dx: Tensor) -> Tensor:
    """The change d log p_k over a step dx (n, ...), without the part common to all agents; (agents, n).

    Raises:
        ValueError: the step needs divergences and the answers have none.
    """
    scores = answers.scores
    direction = dx if move.drift is None else dx + move.span * move.drift
    change = inner(direction[None], scores) - 0.5 * move.g2 * move.span * inner(scores, scores)
    if not move.needs_divergence:
        return change
    if answers.divergences is None:
        raise ValueError("this step needs the divergences of the scores: query with divergence=True")
    return change + 0.5 * (move.q - move.g2) * move.span * answers.divergences


def symmetric_correction(last: tuple[Tensor, Tensor] | None, answers: ScoreAnswers) -> Tensor | float:
    """What the symmetric product adds to the last step's change, (agents, n), given the scores at its end."""
    if last is None:
        return 0.0
    dx, before = last
    return 0.5 * inner(dx[None], answers.scores - before)


def initial_log_density(answers: ScoreAnswers, std: float) -> Tensor:
    """Log densities (agents, n) at t = 1 of agents whose data is small beside the noise, up to a common constant."""
    log_p = -0.5 * std**2 * inner(answers.scores, answers.scores)
    return log_p - log_p.max(0).values


@dataclass(frozen=True)
class PathPoint:
    """A point (x, t) in the natural parameters of the densities, and what the agents answer there; in float64.

    Attributes:
        eta: alpha x / std^2, (n, ...).
        rho: alpha^2 / std^2, the signal-to-noise ratio.
        denoised: (agents, n, ...), E[x_0 | x] of every agent.
        square: (agents, n), E[|x_0|^2 | x].
    """

    eta: Tensor
    rho: float
    denoised: Tensor
    square: Tensor

    @staticmethod
    def at(sde: SDE, x: Tensor, t: float, answers: ScoreAnswers) -> PathPoint:
        """The point of these answers.

        Raises:
            ValueError: the answers have no divergences.
        """
        if answers.divergences is None:
            raise ValueError(
                "log densities along a path need the divergences of the scores: query with divergence=True"
            )
        alpha, std = (float(value) for value in sde.marginal(torch.tensor(t, dtype=torch.float64)))
        x, scores, ratio = x.double(), answers.scores.double(), (std / alpha) ** 2
        denoised = (x + std**2 * scores) / alpha
        spread = ratio * (x[0].numel() + std**2 * answers.divergences.double())
        return PathPoint(x * (alpha / std**2), 1 / ratio, denoised, inner(denoised, denoised) + spread)


def path_change(start: PathPoint, end: PathPoint) -> Tensor:
    """The change of log p_k between two points, without the part common to all agents; (agents, n), float32."""
    width = math.log(end.rho / start.rho)  # twice that of log(alpha / std)
    late = 0.5 if abs(width) < 1e-6 else 1.0 / -math.expm1(-width) - 1.0 / width
    denoised = torch.lerp(start.denoised, end.denoised, late)
    square = torch.lerp(start.square, end.square, late)
    change = inner(denoised, (end.eta - start.eta)[None]) - 0.5 * (end.rho - start.rho) * square
    return (change - change.mean(0)).float()


def equalising_weights(state: Tensor, answers: ScoreAnswers, move: SolverStep, counts: Tensor) -> Tensor:
    """Weights (agents, n), summing to 1, under which all counting agents' log densities stay equal over the step.

    Solves, for each sample, gain sum_j w_j <s_j, s_k> + r_k + log p_k = the same for all k, where r_k is the part
    of the change that the weights do not touch (noise included) and log p_k the log density so far. Only
    deviations from equal weights along differences of scores matter, so the system is solved there, with a ridge of
    RIDGE times the mean squared score: equal models get equal weights instead of a singular system.

    Args:
        state: log densities so far, (agents, n).
        answers: the scores, with divergences where the move as a path needs them.
        move: the next step.
        counts: bool (agents,), the agents that count.
    """
    scores = answers.scores[counts].double()
    agents = len(scores)
    common = scores.mean(0)
    still = log_density_change(answers, move.as_path, move.displacement(common.to(answers.scores.dtype)))[counts]
    gap = (still + state[counts]).double()
    gap = gap - gap.mean(0)
    apart = (scores - common).flatten(2)
    gram = torch.einsum("knd,jnd->nkj", apart, apart)
    size = RIDGE * scores.flatten(2).square().sum(2).mean(0) + torch.finfo(torch.float64).tiny
    damped = gram + size[:, None, None] * torch.eye(agents, dtype=torch.float64)
    shift = torch.linalg.solve(damped, -gap.T[:, :, None] / move.gain)[:, :, 0].T
    weights = torch.zeros(answers.scores.shape[:2], dtype=torch.float64)
    weights[counts] = 1.0 / agents + shift
    return weights.to(answers.scores.dtype)


RIDGE = 1e-3
"""Relative size of the ridge of `equalising_weights`."""
