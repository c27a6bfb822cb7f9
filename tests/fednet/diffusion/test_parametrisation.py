"""Every parametrisation of an exact model gives the exact score, at any marginal of a run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fednet.diffusion.parametrisation import (
    PREDICTIONS,
    NoiseLevel,
    NoiseLevels,
    Parametrisation,
    Prediction,
    levels_of_sigmas,
    levels_of_signals,
    noise_of,
)
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.errors import ModelError
from fednet.seeds import generator

MEAN, DEVIATION = 0.3, 0.5
"""Of the run's data, a Gaussian."""


def linear_levels() -> NoiseLevels:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return levels_of_signals((1 - betas).cumprod(0))


def cosine_levels() -> NoiseLevels:
    s = torch.linspace(0, 1, 1001, dtype=torch.float64)
    bar = torch.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    return levels_of_signals((1 - betas).cumprod(0))


TABLES = {
    "linear": linear_levels(),
    "cosine": cosine_levels(),
    "karras": levels_of_sigmas(lambda sigma: sigma.log() / 4, "ve", 0.002, 80.0),
    "flow": levels_of_sigmas(lambda sigma: 1000 * sigma / (1 + sigma), "flow", 1e-3, 1e3),
}
CASES = [(each, table) for each in PREDICTIONS for table in TABLES if each != "flow_prediction" or table == "flow"]
"""A flow is defined on its own path."""


def exact(prediction: Prediction, y: Tensor, level: NoiseLevel, mean: float, deviation: float) -> Tensor:
    """What the perfect network of N(mean, deviation^2) predicts: the conditional expectation of its target."""
    variance = (level.alpha * deviation) ** 2 + level.std**2
    score = -(y - level.alpha * mean) / variance
    noise = -level.std * score
    clean = (y - level.std * noise) / level.alpha
    return {
        "epsilon": noise,
        "v_prediction": level.alpha * noise - level.std * clean,
        "sample": clean,
        "flow_prediction": noise - clean,
        "score": score,
    }[prediction]


def points() -> Tensor:
    return torch.randn(64, 1, 2, 2, generator=generator(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize(("prediction", "table"), CASES)
def test_the_noise_comes_back_from_every_target(prediction: Prediction, table: str) -> None:
    level, clean, noise = TABLES[table].at(0.7), points(), points().flip(0)
    y = level.alpha * clean + level.std * noise
    target = {
        "epsilon": noise,
        "v_prediction": level.alpha * noise - level.std * clean,
        "sample": clean,
        "flow_prediction": noise - clean,
        "score": -noise / level.std,
    }[prediction]
    torch.testing.assert_close(noise_of(prediction, target, y, level), noise)


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda sde: sde.kind)
@pytest.mark.parametrize(("prediction", "table"), CASES)
def test_an_exact_model_gives_the_exact_score(prediction: Prediction, table: str, sde: SDE) -> None:
    levels = TABLES[table]
    for scale, shift in ((1.0, 0.0), (0.5, 0.5), (1.25, 0.0)):  # pixels in [-1, 1], in [0, 1], of unit variance

        def predict(y: Tensor, time: float, scale: float = scale, shift: float = shift) -> Tensor:
            log_sigma = float(_interpolated(levels, time))
            level = levels.at(math.exp(log_sigma))
            assert level.time == pytest.approx(time, rel=1e-6, abs=1e-6)
            return exact(prediction, y, level, scale * MEAN + shift, scale * DEVIATION)

        made = Parametrisation(prediction, levels, scale, shift)
        for t in (0.05, 0.2, 0.5, 0.9):
            alpha, std = map(float, sde.marginal(torch.tensor(t, dtype=torch.float64)))
            x = alpha * (MEAN + DEVIATION * points()) + std * points().flip(0)
            truth = -(x - alpha * MEAN) / ((alpha * DEVIATION) ** 2 + std**2)
            torch.testing.assert_close(made.score(predict, x, alpha, std), truth, rtol=1e-4, atol=1e-4)


def _interpolated(levels: NoiseLevels, time: float) -> Tensor:
    above = int(torch.searchsorted(levels.times, time).clamp(1, len(levels.times) - 1))
    low, high = levels.times[above - 1], levels.times[above]
    share = (time - low) / (high - low)
    return levels.log_sigmas[above - 1] * (1 - share) + levels.log_sigmas[above] * share


@pytest.mark.parametrize("sigma", [1e-4, 1e4])
def test_beyond_the_table_the_score_stays_that_of_the_data(sigma: float) -> None:
    levels = levels_of_sigmas(torch.log, "ve", 1e-2, 50.0)
    clean, noise = MEAN + DEVIATION * points(), points().flip(0)
    made = Parametrisation("epsilon", levels)

    def predict(y: Tensor, time: float) -> Tensor:
        level = levels.at(math.exp(time))
        assert 1e-2 * 0.999 <= level.std <= 50.0 * 1.001
        return exact("epsilon", y, level, MEAN, DEVIATION)

    x = clean + sigma * noise
    truth = -(x - MEAN) / (DEVIATION**2 + sigma**2)
    size = float(truth.abs().max())
    torch.testing.assert_close(made.score(predict, x, 1.0, sigma) / size, truth / size, rtol=2e-3, atol=2e-4)


def test_a_step_is_its_own_time_and_between_two_the_logarithm_decides() -> None:
    levels = linear_levels()
    for step in (0, 1, 500, 999):
        assert levels.at(math.exp(float(levels.log_sigmas[step]))).time == pytest.approx(step)
    between = math.exp(0.25 * float(levels.log_sigmas[10]) + 0.75 * float(levels.log_sigmas[11]))
    assert levels.at(between).time == pytest.approx(10.75)


def test_a_last_step_without_signal_is_left_out() -> None:
    assert len(levels_of_signals(torch.tensor([0.99, 0.5, 0.0])).times) == 2


def test_tables_that_are_none_are_refused() -> None:
    for signals in ([0.5], [0.5, 0.5], [0.5, 0.9], [1.0, 0.5]):
        with pytest.raises(ModelError, match="table of noise levels"):
            levels_of_signals(torch.tensor(signals))


def test_a_table_that_does_not_reach_noise_or_data_is_refused() -> None:
    for smallest, largest in ((0.01, 2.0), (0.5, 80.0)):
        made = Parametrisation("epsilon", levels_of_sigmas(torch.log, "ve", smallest, largest))
        with pytest.raises(ModelError, match=r"folder x knows noise of .* times its data's range"):
            made.require_reach(1.0, "folder x")
    Parametrisation("epsilon", linear_levels()).require_reach(1.0, "folder x")


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown prediction 'energy'"):
        noise_of("energy", points(), points(), NoiseLevel(0.0, 1.0, 1.0))  # type: ignore[arg-type]
