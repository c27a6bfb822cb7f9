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

Source: Skreta et al. 2024 (arXiv 2412.17762), theorem 1 for the reverse SDE; the general q follows from the same
lemma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.diffusion.combination import ScoreAnswers, SolverStep


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
