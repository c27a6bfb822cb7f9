"""Reads what a scheduler of diffusers says of a network's training: its times, their noise, and what is predicted.

Three families: discrete variance-preserving ones (every scheduler with `alphas_cumprod`), EDM's preconditioning, which
is variance preserving for data divided by sigma_data (Karras et al. 2022, arXiv 2206.00364, table 1: c_skip = a^2 and
c_out = -sigma_data b for v), and flows and scores with a continuous time. How a scheduler would sample is not looked
at. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from fednet.diffusion.parametrisation import (
    PREDICTIONS,
    NoiseLevels,
    Parametrisation,
    Prediction,
    levels_of_sigmas,
    levels_of_signals,
)
from fednet.errors import ModelError

MAX_STEPS = 100_000
"""Of a discrete scheduler."""
DISCRETE = (
    diffusers.DDPMScheduler,
    diffusers.DDIMScheduler,
    diffusers.PNDMScheduler,
    diffusers.LMSDiscreteScheduler,
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.DPMSolverMultistepScheduler,
    diffusers.DPMSolverSinglestepScheduler,
    diffusers.UniPCMultistepScheduler,
    diffusers.DEISMultistepScheduler,
    diffusers.KDPM2DiscreteScheduler,
    diffusers.KDPM2AncestralDiscreteScheduler,
    diffusers.LCMScheduler,
)
EDM = (diffusers.EDMEulerScheduler, diffusers.EDMDPMSolverMultistepScheduler)
FLOWS = (diffusers.FlowMatchEulerDiscreteScheduler, diffusers.FlowMatchHeunDiscreteScheduler)
SCORES = (diffusers.ScoreSdeVeScheduler,)
FLOW_ENDS = (1e-4, 1e4)
"""The sigmas of a flow between which it is asked."""


@dataclass(frozen=True)
class TrainedSchedule:
    """What a scheduler's configuration says.

    Attributes:
        name: the scheduler, and how many steps it has where it is discrete.
        levels: the network's times and their sigmas, of data divided by `deviation`.
        prediction: what the network predicts.
        sign: the factor of the network's output, 1 or -1.
        deviation: what the network's data are divided by inside.
        value_range: the smallest and the largest value of its data.
    """

    name: str
    levels: NoiseLevels
    prediction: Prediction
    sign: float = 1.0
    deviation: float = 1.0
    value_range: tuple[float, float] = (-1.0, 1.0)

    def parametrisation(self, value_range: tuple[float, float] | None, whose: str) -> Parametrisation:
        """How a network with this schedule is asked for pictures in [-1, 1].

        Args:
            value_range: of its data; None for what the scheduler says.
            whose: for the message.

        Raises:
            ModelError: its noise does not go from nearly none to nearly everything.
        """
        low, high = value_range or self.value_range
        half, middle = (high - low) / 2 / self.deviation, (high + low) / 2 / self.deviation
        made = Parametrisation(self.prediction, self.levels, half, middle)
        made.require_reach(half, whose)
        return made


def trained_schedule(config: Mapping[str, Any], where: str) -> TrainedSchedule:
    """What a scheduler's configuration (the content of scheduler_config.json) says.

    Args:
        config: its keys.
        where: the file, for messages.

    Raises:
        ModelError: it is of another kind, or malformed.
    """
    name = config.get("_class_name")
    for family, read in _FAMILIES:
        for kind in family:
            if name == kind.__name__:
                return read(kind, config, where)
    known = ", ".join(sorted(kind.__name__ for family, _ in _FAMILIES for kind in family))
    raise ModelError(f"{where} describes a {str(name)[:60]}: expected one of {known}")


def _discrete(kind: type[Any], config: Mapping[str, Any], where: str) -> TrainedSchedule:
    prediction = config.get("prediction_type", "epsilon")
    if prediction == "flow_prediction" or config.get("use_flow_sigmas"):
        return _flow(kind, config, where)
    if config.get("timestep_type", "discrete") != "discrete":
        raise ModelError(f"{where}: timestep_type {config['timestep_type']!r} is not known; expected 'discrete'")
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 2 <= steps <= MAX_STEPS:
        raise ModelError(f"{where}: num_train_timesteps must be a whole number from 2 to {MAX_STEPS}, got {steps!r}")
    scheduler = _scheduler(kind, config, where)
    levels = levels_of_signals((1 - scheduler.betas.double()).cumprod(0))
    clip = scheduler.config.get("clip_sample_range", 1.0) if scheduler.config.get("clip_sample") else 1.0
    schedule = f"{kind.__name__}, {config.get('beta_schedule') or 'own betas'}, {steps} steps"
    return TrainedSchedule(schedule, levels, _prediction(prediction, where), value_range=(-clip, clip))


def _edm(kind: type[Any], config: Mapping[str, Any], where: str) -> TrainedSchedule:
    scheduler = _scheduler(kind, config, where).config
    data, smallest, largest = (
        _positive(scheduler[key], key, where) for key in ("sigma_data", "sigma_min", "sigma_max")
    )
    levels = levels_of_sigmas(lambda sigma: (sigma * data).log() / 4, "vp", smallest / data, largest / data)
    signs = {"v_prediction": 1.0, "epsilon": -1.0}
    if (prediction := scheduler["prediction_type"]) not in signs:
        raise ModelError(f"{where}: prediction_type {prediction!r} is not known; expected one of {', '.join(signs)}")
    return TrainedSchedule(f"{kind.__name__}, sigma_data {data:g}", levels, "v_prediction", signs[prediction], data)


def _flow(kind: type[Any], config: Mapping[str, Any], where: str) -> TrainedSchedule:
    steps = _positive(config.get("num_train_timesteps", 1000), "num_train_timesteps", where)
    levels = levels_of_sigmas(lambda sigma: steps * sigma / (1 + sigma), "flow", *FLOW_ENDS, count=16_385)
    return TrainedSchedule(f"{kind.__name__}, flow", levels, "flow_prediction")


def _score(kind: type[Any], config: Mapping[str, Any], where: str) -> TrainedSchedule:
    smallest = _positive(config.get("sigma_min", 0.01), "sigma_min", where)
    largest = _positive(config.get("sigma_max", 1348.0), "sigma_max", where)
    levels = levels_of_sigmas(lambda sigma: sigma, "ve", smallest, largest, count=16_385)
    return TrainedSchedule(
        f"{kind.__name__}, sigma {smallest:g} to {largest:g}", levels, "score", value_range=(0.0, 1.0)
    )


_FAMILIES: tuple[tuple[tuple[Any, ...], Callable[[type[Any], Mapping[str, Any], str], TrainedSchedule]], ...] = (
    (DISCRETE, _discrete),
    (EDM, _edm),
    (FLOWS, _flow),
    (SCORES, _score),
)


def _scheduler(kind: type[Any], config: Mapping[str, Any], where: str) -> Any:
    try:
        return kind.from_config(dict(config))
    except (TypeError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{where} cannot be used as a {kind.__name__}: {str(error)[:200]}") from error


def _prediction(name: object, where: str) -> Prediction:
    known: dict[object, Prediction] = {each: each for each in PREDICTIONS if each != "score"}
    if name in known:
        return known[name]
    raise ModelError(f"{where}: prediction_type {name!r} is not known; expected epsilon, v_prediction or sample")


def _positive(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ModelError(f"{where}: {key} must be a number above 0, got {value!r}")
    return float(torch.tensor(value, dtype=torch.float64))
