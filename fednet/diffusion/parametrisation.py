"""What a diffusion network predicts (noise, v, clean data, flow, score), as a score at the marginal of a run.

A network was trained for y_s = a(s) y_0 + b(s) z, at its own times s, of data y_0 = scale x_0 + shift; a run asks at
x_t = alpha x_0 + std z. Both are the same pictures under the same noise where their signal-to-noise ratios agree:

    scale x_t / alpha + shift = y_0 + sigma z,  sigma = scale std / alpha = b(s) / a(s),  y_s = a(s) (y_0 + sigma z)

so the model's time s is the one at which log(b / a) = log sigma, found by linear interpolation of its table of log
sigma (minus half the log signal-to-noise ratio), and the noise z that it sees in y_s is that in x_t: score = -z / std.

What the table does not reach: below its smallest sigma a model resolves nothing, and the score of the data with that
much noise stands for it, (scale / alpha) grad log p_sigma_min; above its largest, the clean data that the model sees at
sigma_max, with the noise scaled down to it, stand for those at sigma (an error of the order var / (sigma sigma_max) of
the score, exact as var / sigma_max^2 vanishes). A table that ends where data are still seen (`require_reach`) is
refused.

Sources: Kingma et al. 2021 (arXiv 2107.00630), section 3.4 and appendix: diffusions with equal log-SNR differ by a
rescaling of x alone; Karras et al. 2022 (arXiv 2206.00364), appendix C.3, for discrete models at continuous sigma;
Ho et al. 2020 (arXiv 2006.11239) for noise; Salimans and Ho 2022 (arXiv 2202.00512), section 4 and appendix D, for
v = a z - b y_0; Lipman et al. 2023 (arXiv 2210.02747) and Liu et al. 2023 (arXiv 2209.03003) for the flow z - y_0.
Knows no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fednet.errors import ModelError

Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction", "score"]
"""What a network predicts, as diffusers names it; "score" is grad log p of y_s."""
ForwardPath = Literal["vp", "ve", "flow"]
"""How a and b follow from sigma = b / a: a^2 + b^2 = 1, a = 1, a + b = 1."""
PREDICTIONS = get_args(Prediction)
SMALLEST_REACH = 5.0
"""sigma over half the range of the data that a table must reach: the data are then a 25th of the variance."""
LARGEST_REST = 0.1
"""sigma over half the range of the data below which a table must begin, or samples stay blurred."""


@dataclass(frozen=True)
class NoiseLevel:
    """One time of a model: y = alpha y_0 + std z."""

    time: float
    alpha: float
    std: float


@dataclass(frozen=True)
class NoiseLevels:
    """The times of a model and how noisy its data are at them.

    Attributes:
        times: float64 (T,), what the network is told.
        log_sigmas: float64 (T,), log(b / a) at them, strictly rising.
        path: how a and b follow from sigma.
    """

    times: Tensor
    log_sigmas: Tensor
    path: ForwardPath

    def __post_init__(self) -> None:
        if len(self.times) < 2 or self.times.shape != self.log_sigmas.shape:
            raise ModelError(f"a table of noise levels needs two times or more, got {tuple(self.times.shape)}")
        if not bool(self.log_sigmas.isfinite().all()) or not bool((self.log_sigmas.diff() > 0).all()):
            raise ModelError("a table of noise levels must hold finite log sigmas that rise with its times")

    @property
    def smallest(self) -> float:
        """The smallest sigma of the table."""
        return math.exp(float(self.log_sigmas[0]))

    @property
    def largest(self) -> float:
        """The largest sigma of the table."""
        return math.exp(float(self.log_sigmas[-1]))

    def at(self, sigma: float) -> NoiseLevel:
        """The model's time at a sigma within the table, between two of its times by linear interpolation."""
        log_sigma = min(max(math.log(sigma), float(self.log_sigmas[0])), float(self.log_sigmas[-1]))
        above = int(torch.searchsorted(self.log_sigmas, log_sigma).clamp(1, len(self.times) - 1))
        low, high = float(self.log_sigmas[above - 1]), float(self.log_sigmas[above])
        share = (log_sigma - low) / (high - low)
        time = float(self.times[above - 1]) * (1 - share) + float(self.times[above]) * share
        sigma = math.exp(log_sigma)
        alpha = {"vp": 1 / math.hypot(1.0, sigma), "ve": 1.0, "flow": 1 / (1 + sigma)}[self.path]
        return NoiseLevel(time, alpha, sigma * alpha)


def levels_of_signals(signals: Tensor) -> NoiseLevels:
    """The table of a discrete variance-preserving model, from its alpha-bar by step (Ho et al. 2020), float64 (T,).

    Steps without signal, where the ratio is infinite, are left out.
    """
    kept = signals > 0
    times = torch.arange(len(signals), dtype=torch.float64)[kept]
    signals = signals[kept].double()
    return NoiseLevels(times, 0.5 * ((1 - signals) / signals).log(), "vp")


def levels_of_sigmas(
    time_of: Callable[[Tensor], Tensor], path: ForwardPath, smallest: float, largest: float, count: int = 4097
) -> NoiseLevels:
    """The table of a model with continuous time: `count` sigmas, evenly spaced in their logarithm."""
    log_sigmas = torch.linspace(math.log(smallest), math.log(largest), count, dtype=torch.float64)
    return NoiseLevels(time_of(log_sigmas.exp()).double(), log_sigmas, path)


def noise_of(prediction: Prediction, output: Tensor, y: Tensor, level: NoiseLevel) -> Tensor:
    """The noise z in y = alpha y_0 + std z, of y's shape, from what a network predicts there.

    Args:
        prediction: what it predicts.
        output: its output, of y's shape.
        y: what it was given.
        level: alpha and std.
    """
    alpha, std = level.alpha, level.std
    match prediction:
        case "epsilon":
            return output
        case "v_prediction":  # v = a z - b y_0
            return (alpha * output + std * y) / (alpha**2 + std**2)
        case "sample":
            return (y - alpha * output) / std
        case "flow_prediction":  # u = z - y_0, y = a (z - u) + b z
            return (y + alpha * output) / (alpha + std)
        case "score":
            return -std * output
    raise ModelError(f"unknown prediction {prediction!r}; expected one of {', '.join(PREDICTIONS)}")


@dataclass(frozen=True)
class Parametrisation:
    """How a network is asked, and how its output becomes a score.

    Attributes:
        prediction: what it predicts.
        levels: its times.
        scale: its data are scale x_0 + shift, for x_0 of the run.
        shift: see `scale`.
    """

    prediction: Prediction
    levels: NoiseLevels
    scale: float = 1.0
    shift: float = 0.0

    def score(self, predict: Callable[[Tensor, float], Tensor], x: Tensor, alpha: float, std: float) -> Tensor:
        """The score of x_t = alpha x_0 + std z, of x's shape; see the module for sigmas beyond the table.

        Args:
            predict: (y, time) -> the network's output, of y's shape.
            x: float32 (n, ...).
            alpha: of the run, at the time of the query.
            std: of the run, > 0.
        """
        levels, sigma = self.levels, self.scale * std / alpha
        here = min(max(sigma, levels.smallest), levels.largest)
        level = levels.at(here)
        shrunk = min(1.0, levels.largest / sigma)
        y = level.alpha * (shrunk * self.scale / alpha * x + self.shift)
        noise = noise_of(self.prediction, predict(y, level.time), y, level)
        if sigma <= levels.largest:
            return noise * (-self.scale / (alpha * here))
        clean = (y / level.alpha - here * noise - self.shift) / self.scale
        return (alpha * clean - x) / std**2

    def require_reach(self, half_range: float, whose: str) -> None:
        """Checks that the table goes from nearly clean data to nearly pure noise.

        Args:
            half_range: half the distance from the smallest to the largest value of the model's data.
            whose: for the message.

        Raises:
            ModelError: it does not.
        """
        smallest, largest = self.levels.smallest / half_range, self.levels.largest / half_range
        if smallest > LARGEST_REST or largest < SMALLEST_REACH:
            raise ModelError(
                f"{whose} knows noise of {smallest:.3g} to {largest:.3g} times its data's range: expected at most "
                f"{LARGEST_REST} to at least {SMALLEST_REACH}; check its scheduler's configuration and `range`"
            )
