"""What a scheduler's configuration says of a network is what diffusers itself computes from it."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch

from fednet.diffusion.parametrisation import noise_of
from fednet.errors import ModelError
from fednet.models.schedulers import DISCRETE, EDM, FLOWS, trained_schedule
from fednet.seeds import generator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with a newer numpy


def read(scheduler: Any) -> Any:
    return trained_schedule({**scheduler.config, "_class_name": type(scheduler).__name__}, "a file")


@pytest.mark.parametrize("kind", DISCRETE)
def test_a_discrete_scheduler_is_its_table_of_signals(kind: Any) -> None:
    scheduler = kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    levels = read(scheduler).levels
    signals = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(levels.log_sigmas.exp(), ((1 - signals) / signals).sqrt(), rtol=1e-4, atol=0)
    level = levels.at(math.exp(float(levels.log_sigmas[400])))
    assert (level.time, level.alpha**2) == (pytest.approx(400), pytest.approx(float(signals[400]), rel=1e-5))


def test_own_betas_and_a_last_step_of_pure_noise() -> None:
    own = read(diffusers.DDIMScheduler(trained_betas=[0.1, 0.2, 0.3], num_train_timesteps=3))
    assert float(own.levels.log_sigmas[1].exp()) == pytest.approx(math.sqrt(1 / (0.9 * 0.8) - 1), rel=1e-6)
    zero = read(diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    assert len(zero.levels.times) in {999, 1000}
    assert zero.prediction == "v_prediction"


@pytest.mark.parametrize("kind", EDM)
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_edm_is_its_preconditioning(prediction: str, kind: Any) -> None:
    scheduler = kind(sigma_data=0.6, prediction_type=prediction)
    schedule = read(scheduler)
    output, x = torch.randn(2, 3, 1, 2, 2, generator=generator(0, "x"), dtype=torch.float64)
    for sigma in (0.01, 0.4, 30.0):
        told: list[tuple[torch.Tensor, float]] = []

        def predict(y: torch.Tensor, time: float, told: Any = told) -> torch.Tensor:
            told.append((y, time))
            return schedule.sign * output

        score = schedule.parametrisation(None, "x").score(predict, x, 1.0, sigma)
        ((y, time),) = told
        torch.testing.assert_close(y, scheduler.precondition_inputs(x, sigma), rtol=1e-6, atol=1e-8)
        assert time == pytest.approx(float(scheduler.precondition_noise(sigma)), abs=1e-5)
        truth = (scheduler.precondition_outputs(x, output, sigma) - x) / sigma**2
        torch.testing.assert_close(score, truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", FLOWS)
def test_a_flow_goes_straight_from_data_to_noise(kind: Any) -> None:
    schedule = read(kind(shift=3.0))
    clean, noise = torch.randn(2, 3, 4, generator=generator(0, "x"), dtype=torch.float64)
    for share in (0.01, 0.3, 0.97):
        level = schedule.levels.at(share / (1 - share))
        assert (level.time, level.std) == (pytest.approx(1000 * share, rel=1e-5), pytest.approx(share))
        torch.testing.assert_close(
            noise_of(schedule.prediction, noise - clean, (1 - share) * clean + share * noise, level), noise
        )


def test_a_score_network_is_told_sigma_and_has_seen_pixels_from_0_to_1() -> None:
    schedule = read(diffusers.ScoreSdeVeScheduler())
    level = schedule.levels.at(3.7)
    assert (level.time, level.alpha, schedule.prediction) == (pytest.approx(3.7, rel=1e-6), 1.0, "score")
    assert schedule.value_range == (0.0, 1.0)
    assert (schedule.parametrisation(None, "x").scale, schedule.parametrisation(None, "x").shift) == (0.5, 0.5)


def test_the_range_of_clipped_samples_is_the_datas() -> None:
    clipped = diffusers.DDIMScheduler(clip_sample=True, clip_sample_range=1.25)
    assert read(clipped).value_range == (-1.25, 1.25)
    assert read(diffusers.DDIMScheduler(clip_sample=False, clip_sample_range=1.25)).value_range == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "describes a None: expected one of DDIMScheduler"),
        ({"_class_name": "VQDiffusionScheduler"}, "describes a VQDiffusionScheduler"),
        ({"_class_name": "os"}, "describes a os"),
        ({"_class_name": "DDPMScheduler", "prediction_type": "energy"}, "prediction_type 'energy' is not known"),
        ({"_class_name": "DDPMScheduler", "num_train_timesteps": 10**9}, "from 2 to 100000, got 1000000000"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "none"}, "cannot be used as a DDPMScheduler"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ({"_class_name": "ScoreSdeVeScheduler", "sigma_max": "much"}, "sigma_max must be a number above 0"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "expected one of v_prediction, epsilon"),
    ],
)
def test_what_is_not_known_is_refused_with_its_file(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as refused:
        trained_schedule(config, "folder/scheduler_config.json")
    assert "folder/scheduler_config.json" in str(refused.value)
