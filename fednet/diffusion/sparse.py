"""Sparse asking: at each evaluation a sample is sent to a few agents only, and the others' answers are predicted.

**Who is asked.** At most k agents a sample, drawn by the rule's own weights w_k (under `mixture` the responsibilities):
agent k is asked with the probability pi_k = min(1, c w_k), c such that these add up to k. That is the selection with
the least variance of all that keep k agents and every weight in expectation (Fearnhead and Clifford 2003),
drawn systematically (Kitagawa 1996). The place of the draw runs through [0, 1) by the golden ratio from evaluation to
evaluation, and by another irrational number from sample to sample: an agent of pi_k is asked about every 1 / pi_k
evaluations, and everything replays. An agent with a weight that has never been asked for a sample is asked, so at first
all are; an agent of weight 0 is not. Where no more than k agents have a weight, these are asked: nothing is predicted,
and the samples are those of asking all, bit for bit.

**What the others are taken to answer.** The denoised x_0 of the last time that they were asked for this sample: with
D_k = (x + std^2 s_k) / alpha and the trace of Cov[x_0 | x_t] held, s_k = (alpha D_k - x) / std^2 and div s_k = (alpha^2
tr Cov_k / std^2 - d) / std^2 follow x and t, where a held score would not. Rules see these as answers, so log p_k is
followed through the steps at which agent k is not asked. In natural parameters (`fednet.diffusion.density`) log p_k is
convex, with the gradient (D_k, -E|x_0|^2 / 2), so a held answer with its trace follows a tangent: a lower bound, exact
for an agent whose x_0 is known, whose error is of second order in the distance since it was asked. Without divergences
the trace is 0, the tangent that of a point at D_k.

**What is exact, and what is not.** Given weights, the drawing is unbiased for sums over those asked; but the combined
score takes the predicted scores of the others too (a control variate without its correction, which adds more noise
than it takes away: measured), so with k below the number of agents it is biased by sum_k w_k (predicted s_k - s_k)
over those not asked: small, since large weights are asked, and where x_0 is known, 0. Choosing the k largest weights
and leaving the others out, as a trained router's experts are used (McAllister et al. 2025, arXiv 2501.05450; Jiang et
al. 2025, arXiv 2510.03434), is biased by the weights that are left out; where weights are only followed while an agent
is asked, samples go to those that were chosen first. `tests/experiments/sparse_table.py` measures all of these.

An agent that does not answer is not asked again for the batch, under any rule. Knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fednet.diffusion.combination import HeldAnswers, RuleState, ScoreAnswers, SparseAsking, SparseScoreFunction
from fednet.diffusion.sde import SDE
from fednet.errors import MethodError

GOLDEN, PLASTIC = 0.6180339887498949, 0.7548776662466927
"""Steps, modulo 1, of the place of a draw from evaluation to evaluation and from sample to sample."""


@dataclass(frozen=True)
class SparseAnswers:
    """The answers of those asked and the predicted ones of the others, what is held now, and how often was asked."""

    answers: ScoreAnswers
    held: HeldAnswers
    queries: int


def drawn(weights: Tensor, top_k: int, evaluation: int) -> Tensor:
    """Who is asked for each sample, bool (agents, n): `top_k` agents, or all with a weight where they are no more.

    Args:
        weights: (agents, n), at least 0, of a positive sum over the agents.
        top_k: at least 1.
        evaluation: its number, from 0.
    """
    chance = inclusion(weights, top_k)
    surely = chance >= 1.0
    samples = torch.arange(weights.shape[1], dtype=torch.float64)
    place = (samples * PLASTIC + evaluation * GOLDEN) % 1.0
    upper = torch.where(surely, 0.0, chance).cumsum(0) + place
    lower = torch.cat([place[None], upper[:-1]])
    return surely | (upper.floor() > lower.floor())


def inclusion(weights: Tensor, top_k: int) -> Tensor:
    """The probabilities min(1, c w_k) that add up to `top_k`, or 1 for each positive weight; (agents, n), float64."""
    ordered = weights.double().sort(0, descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)  # of those from the m-th largest on
    slots = top_k - torch.arange(len(weights), dtype=torch.float64)[:, None]
    fits = (slots > 0) & (ordered * slots <= rest)  # with the m largest asked surely, no other probability is above 1
    first = fits.int().argmax(0, keepdim=True)
    factor = (slots / rest.clamp_min(torch.finfo(torch.float64).tiny)).gather(0, first)
    few = (ordered > 0).sum(0, keepdim=True) <= top_k
    return torch.where(few, (weights > 0).double(), (factor * weights.double()).clamp(max=1.0))


@dataclass(frozen=True)
class Place:
    """Samples x (n, ...) at time t in [eps, 1], where x_t = alpha x_0 + std z."""

    x: Tensor
    t: float
    alpha: float
    std: float

    @staticmethod
    def at(sde: SDE, x: Tensor, t: float) -> Place:
        """The place (x, t) of a forward diffusion."""
        alpha, std = sde.marginal(torch.tensor(t, dtype=torch.float64))
        return Place(x, t, float(alpha), float(std))

    def wide(self, of: Tensor) -> Tensor:
        """A tensor (agents, n), shaped so that it multiplies (agents, n, ...)."""
        return of.view(*of.shape, *[1] * (self.x.dim() - 1))


def ask_sparsely(
    query: SparseScoreFunction, sparse: SparseAsking, state: RuleState, place: Place, *, divergence: bool
) -> SparseAnswers:
    """Asks some agents at a place, and predicts what the others would answer.

    Those that do not answer are not counted, and where that leaves agents with a weight that have never been asked for
    a sample, these are asked at once.

    Args:
        query: queries the agents.
        sparse: who is asked.
        state: of the rule.
        place: where.
        divergence: whether divergences are needed.

    Raises:
        MethodError: no agent is left.
    """
    counted, held, queries = ~state.lost, state.held or _nothing(state, place.x), 0
    fresh = ScoreAnswers(torch.zeros_like(held.denoised), counted, torch.zeros_like(held.spread))
    asked = torch.zeros_like(held.known)
    while counted.any():
        weights = sparse.weights(state, counted) * counted[:, None]
        wanted = (weights > 0) & ~held.known
        if not queries:
            wanted = wanted | sparse.choose(weights, sparse.top_k, held.evaluations)
        if not wanted.any():
            held = replace(held, asked=asked, evaluations=held.evaluations + 1)
            return SparseAnswers(_completed(fresh, held, counted, place, divergence=divergence), held, queries)
        found = query(place.x, place.t, divergence, asked=wanted)
        got, queries = wanted & found.present[:, None], queries + 1
        counted = counted & (found.present | ~wanted.any(1))
        fresh, held, asked = _merged(fresh, found, got, place), _learnt(held, found, got, place), asked | got
    raise MethodError(f"no site is left that answers at t = {place.t:.4f}: draw the samples again")


def _nothing(state: RuleState, x: Tensor) -> HeldAnswers:
    agents, count = state.log_p.shape
    nobody = torch.zeros(agents, count, dtype=torch.bool)
    return HeldAnswers(x.new_zeros(agents, *x.shape), x.new_zeros(agents, count), nobody, nobody)


def _merged(fresh: ScoreAnswers, found: ScoreAnswers, got: Tensor, place: Place) -> ScoreAnswers:
    """All answers of an evaluation so far."""
    divergences = fresh.divergences
    if found.divergences is not None and divergences is not None:
        divergences = torch.where(got, found.divergences, divergences)
    return ScoreAnswers(torch.where(place.wide(got), found.scores, fresh.scores), fresh.present, divergences)


def _learnt(held: HeldAnswers, found: ScoreAnswers, got: Tensor, place: Place) -> HeldAnswers:
    """What is held after an answer."""
    alpha, std, size = place.alpha, place.std, place.x[0].numel()
    denoised = torch.where(place.wide(got), (place.x + std**2 * found.scores) / alpha, held.denoised)
    spread = held.spread
    if found.divergences is not None:
        spread = torch.where(got, (std / alpha) ** 2 * (size + std**2 * found.divergences), spread)
    return replace(held, denoised=denoised, spread=spread, known=held.known | got)


def _completed(
    fresh: ScoreAnswers, held: HeldAnswers, counted: Tensor, place: Place, *, divergence: bool
) -> ScoreAnswers:
    """The answers, and predicted ones of those that were not asked; zero where nothing is held."""
    alpha, std, size = place.alpha, place.std, place.x[0].numel()
    scores = torch.where(place.wide(held.known), (alpha * held.denoised - place.x) / std**2, 0.0)
    scores = torch.where(place.wide(held.asked), fresh.scores, scores)
    if not divergence or fresh.divergences is None:
        return ScoreAnswers(scores, counted)
    predicted = torch.where(held.known, ((alpha / std) ** 2 * held.spread - size) / std**2, 0.0)
    return ScoreAnswers(scores, counted, torch.where(held.asked, fresh.divergences, predicted))
