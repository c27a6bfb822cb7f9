"""Deterministic solvers for few steps, for every rule: log densities are followed from point to point.

Both integrate the probability-flow ODE from t = 1 to eps in the variables y = x / alpha and r = std / alpha, in which
it is dy = (y - D) / r dr with D = (x + std^2 s) / alpha, whatever the SDE; s is the combined score. A first-order step
(DDIM, Euler in r) is x' = (std' / std) x - alpha' expm1(-h) D with h the step in log(alpha / std).

- DPM-Solver++ (2M) puts D + (D - D_before) h / (2 h_before) for D: the linear extrapolation to the middle of the step,
  from the evaluation before (Lu et al. 2022, arXiv 2211.01095, algorithm 2). The first step is of first order.
- Heun takes a first-order step and repeats it with the mean of the slopes at its ends (Karras et al. 2022, arXiv
  2206.00364, algorithm 1, whose last step, to r = 0, is the denoising step here).

A rule that follows densities is asked with the first-order step: `consensus` balances them over it. A step is a
stretch of any smooth path, and `fednet.diffusion.density.path_change` tells the log densities at its end.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from fednet.diffusion.combination import SolverStep
from fednet.diffusion.sampler_config import DPMSolver, Heun
from fednet.diffusion.sde import SDE
from fednet.diffusion.trajectory import SampledTrajectory, Trajectory, flow_step

BISECTIONS = 60
"""Halvings of the interval in which a time is sought: to the last bit of a float."""


def few_steps(trajectory: Trajectory, sde: SDE, config: DPMSolver | Heun) -> SampledTrajectory:
    """Takes a trajectory from t = 1 to a sample."""
    before: tuple[Tensor, float] | None = None
    for t, after in pairwise(solver_times(sde, config)):
        x, move = trajectory.x, stretch(sde, trajectory.x, t, after)
        score = trajectory.leave(sde, move)
        if isinstance(config, Heun):
            trajectory.x = _heun(trajectory, sde, move, score, after)
            continue
        (alpha, std), width = _marginal(sde, t), _log_ratio(sde, t) - _log_ratio(sde, after)
        denoised = (x + std**2 * score) / alpha
        ahead = denoised if before is None else denoised + (denoised - before[0]) * (width / (2 * before[1]))
        trajectory.x = x + move.displacement((alpha * ahead - x) / std**2)
        before = denoised, width
    return trajectory.denoised(sde, flow_step(sde, trajectory.x, sde.eps))


def solver_times(sde: SDE, config: DPMSolver | Heun) -> list[float]:
    """The times of the steps, falling from 1 to eps; one more than there are steps."""
    parts = [index / config.steps for index in range(1, config.steps)]
    high, low = _log_ratio(sde, 1.0), _log_ratio(sde, sde.eps)
    if config.spacing == "log-snr":
        levels = [high + part * (low - high) for part in parts]
    else:
        top, bottom = math.exp(high / config.rho), math.exp(low / config.rho)
        levels = [config.rho * math.log(top + part * (bottom - top)) for part in parts]
    return [1.0, *(_time(sde, level) for level in levels), sde.eps]


def stretch(sde: SDE, x: Tensor, t: float, after: float) -> SolverStep:
    """The first-order step from (x, t) to a smaller time, as a step with the drift and g^2 that it amounts to."""
    (alpha, std), (later, less) = _marginal(sde, t), _marginal(sde, after)
    span = t - after
    kept = -math.expm1(_log_ratio(sde, after) - _log_ratio(sde, t))  # 1 - exp(-h)
    shrink, gain = less / std + later / alpha * kept - 1.0, later / alpha * kept * std**2
    return SolverStep(t, span, x * (-shrink / span), 2.0 * gain / span, 0.0)


def _heun(trajectory: Trajectory, sde: SDE, move: SolverStep, score: Tensor, after: float) -> Tensor:
    """The point at `after` by the mean of the slopes (y - D) / r = -r alpha s at both ends of a first-order step."""
    x = trajectory.x
    (alpha, std), (later, less) = _marginal(sde, move.t), _marginal(sde, after)
    predicted = x + move.displacement(score)
    corrected = trajectory.evaluate(sde, predicted, flow_step(sde, predicted, after)).score
    slope = -0.5 * (std * score + less * corrected)  # r alpha = std
    return (x / alpha + (less / later - std / alpha) * slope) * later


def _time(sde: SDE, level: float) -> float:
    """The time at which log(std / alpha) has a value, which grows with t."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _log_ratio(sde, middle) < level else (low, middle)
    return high


def _log_ratio(sde: SDE, t: float) -> float:
    return float(sde.log_ratio(torch.tensor(t, dtype=torch.float64)))


def _marginal(sde: SDE, t: float) -> tuple[float, float]:
    alpha, std = sde.marginal(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(std)
