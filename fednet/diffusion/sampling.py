"""Samplers: SDE and ODE solvers from noise at t = 1 to samples, with a rule's combined score.

Each is a plain function of a score function, a rule, an SDE and a latent; those for few steps are in `few_steps`. Each
ends at t = eps with a denoising step (Tweedie's formula), which removes the remaining noise.

Source: Song et al. 2021 (arXiv 2011.13456), algorithms 1 to 5 and section 4.3; torchdiffeq for the ODE. The Langevin
step follows their algorithm 5 with the expected instead of the measured norms, eps = 2 (snr std(t))^2: it then does
not depend on the other samples of the batch.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, RuleState, ScoreAnswers, ScoreFunction, SolverStep
from fednet.diffusion.density import initial_log_density
from fednet.diffusion.few_steps import few_steps
from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector, SamplerConfig
from fednet.diffusion.sde import SDE
from fednet.diffusion.trajectory import SampledTrajectory, Trajectory, flow_step
from fednet.errors import SolverError

LONGEST_STEP = 0.2
"""Longest step of dopri5: near t = 1 a VP flow hardly moves, and from there it would step right over the rest (a
variance of .65 instead of 1 was measured)."""


def sample(
    config: SamplerConfig,
    query: ScoreFunction,
    rule: CombinationRule,
    sde: SDE,
    latent: Tensor,
    *,
    random: torch.Generator,
    lost: Tensor | None = None,
) -> SampledTrajectory:
    """Draws samples with the configured sampler.

    Samples whose `state.survival` is below 1 have followed an agent that was lost on the way. Each kept with that
    probability, these are samples of what the remaining agents model; the others must be drawn again.

    Args:
        config: settings of the sampler.
        query: queries the agents.
        rule: combines their scores.
        sde: the forward diffusion of all agents.
        latent: (n, ...), noise at t = 1, see `SDE.prior`.
        random: for the noise of the stochastic samplers; not used by the ODE.
        lost: bool (agents,), agents that rules which follow densities leave out from the start.

    Raises:
        SolverError: an adaptive solver does not come to an end, or a rule that resamples is given one without noise.
    """
    start = rule.init(len(latent))
    if lost is not None:
        start = replace(start, lost=lost)
    latent = latent / math.sqrt(rule.power(start.lost))
    trajectory = Trajectory(query, rule, latent, start, 0)
    begin = rule.begin or (_initial_densities if rule.follows_density else None)
    if begin is not None and sde.remembers:
        answers = trajectory.ask(sde, latent, reverse_step(sde, latent, 1.0, sde.eps))
        std = float(sde.marginal(torch.ones((), dtype=torch.float64))[1])
        trajectory.state = rule.admit(begin(trajectory.state, answers, latent, std), answers)
    if rule.resample is not None and not config.noisy:
        raise SolverError(f"the rule resamples, and {config.kind} adds no noise: use one of {_NOISY}")
    if isinstance(config, ODE):
        return _probability_flow(trajectory, sde, config)
    if isinstance(config, DPMSolver | Heun):
        return few_steps(trajectory, sde, config)
    corrections = config.corrections if isinstance(config, PredictorCorrector) else 0
    level = config.noise if isinstance(config, EulerMaruyama) else 1.0
    for t, span in _times(sde, config.steps):
        trajectory.step(sde, reverse_step(sde, trajectory.x, t, span, random, level=level))
        trajectory.resample(random)
        for _ in range(corrections):
            trajectory.step(sde, langevin_step(sde, trajectory.x, t - span, config.snr, random))  # type: ignore[union-attr]
    trajectory.resample(random, final=True)
    return trajectory.denoised(sde, reverse_step(sde, trajectory.x, sde.eps, sde.eps))


def _initial_densities(state: RuleState, answers: ScoreAnswers, _: Tensor, std: float) -> RuleState:
    return state.at(initial_log_density(answers, std))


def _probability_flow(trajectory: Trajectory, sde: SDE, config: ODE) -> SampledTrajectory:
    """The probability-flow ODE dx/dtau = -f + g^2/2 s.

    The log densities of rules that follow them are integrated as part of the solver's state, with the divergences
    that the agents estimate. Solvers evaluate beyond the ends of the interval (dopri5 was seen at t = -.086), so t
    is clamped.
    """
    flow = _Flow(trajectory, sde, config)
    times = torch.tensor([0.0, 1.0 - sde.eps], dtype=torch.float64)
    grid = torch.linspace(0.0, 1.0 - sde.eps, config.steps + 1, dtype=torch.float64)
    if config.method == "dopri5":
        options: dict[str, object] = {"max_step": LONGEST_STEP}
    else:
        options = {"grid_constructor": lambda _func, _y, _t: grid}
    follows = trajectory.rule.follows_density
    start = (trajectory.x, trajectory.state.log_p) if follows else (trajectory.x,)
    import torchdiffeq  # noqa: PLC0415 - of the extra `diffusion`, and needed by the ODE alone

    try:
        x, *rest = torchdiffeq.odeint(
            flow, start, times, rtol=config.rtol, atol=config.atol, method=config.method, options=options
        )
    except AssertionError as error:  # of torchdiffeq: a step became too small, or the state is not finite
        raise SolverError(f"{config.method} gave up at t = {flow.t:.4f}: {error}; {_REMEDY}") from error
    trajectory.x = x[-1]
    if rest:
        trajectory.state = trajectory.state.at(rest[0][-1])
    return trajectory.denoised(sde, flow_step(sde, trajectory.x, sde.eps))


_NOISY = "euler-maruyama, predictor-corrector"
_REMEDY = "the scores are not smooth there: allow larger errors (rtol, atol), or take a method with fixed steps"


def reverse_step(
    sde: SDE, x: Tensor, t: float, span: float, random: torch.Generator | None = None, *, level: float = 1.0
) -> SolverStep:
    """A step of the reverse SDE at (x, t): q = level g^2; without a generator, without its noise."""
    at = torch.tensor(t, dtype=torch.float64)
    g = float(sde.diffusion(at))
    q = level * g * g
    noise = None if random is None else math.sqrt(level) * g * math.sqrt(span) * _normal(x, random)
    return SolverStep(t, span, float(sde.drift_rate(at)) * x, g * g, q, noise)


def langevin_step(sde: SDE, x: Tensor, t: float, snr: float, random: torch.Generator) -> SolverStep:
    """A Langevin step at (x, t) of size eps = 2 (snr std(t))^2: dx = eps s + sqrt(2 eps) z."""
    std = float(sde.marginal(torch.tensor(t, dtype=torch.float64))[1])
    q = (2.0 * snr * std) ** 2
    return SolverStep(t, 1.0, None, 0.0, q, math.sqrt(q) * _normal(x, random))


class _Flow:
    """The right-hand side that torchdiffeq integrates: tau -> (dx/dtau, d log p/dtau)."""

    def __init__(self, trajectory: Trajectory, sde: SDE, config: ODE) -> None:
        self.trajectory, self.sde, self.config, self.t = trajectory, sde, config, 1.0

    def __call__(self, tau: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        trajectory, rule, x = self.trajectory, self.trajectory.rule, y[0]
        self.t = t = min(1.0, max(self.sde.eps, 1.0 - float(tau)))
        if self.config.method == "dopri5" and trajectory.evaluations >= self.config.evaluations:
            raise SolverError(f"dopri5 is at t = {t:.4f} after {trajectory.evaluations} evaluations; {_REMEDY}")
        move = flow_step(self.sde, x, t)
        answers = trajectory.ask(self.sde, x, move)
        here = rule.admit(trajectory.state.at(y[1]) if rule.follows_density else trajectory.state, answers)
        dx = move.displacement(rule.combine(here, answers, move))
        after = rule.advance(here.at(torch.zeros_like(here.log_p)), answers, move, dx)
        trajectory.state = replace(here, begun=True)
        return (dx, after.log_p) if rule.follows_density else (dx,)


def _times(sde: SDE, steps: int) -> list[tuple[float, float]]:
    """(t, span) of equal steps from 1 down to eps."""
    span = (1.0 - sde.eps) / steps
    return [(1.0 - index * span, span) for index in range(steps)]


def _normal(x: Tensor, random: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=random, dtype=x.dtype)
