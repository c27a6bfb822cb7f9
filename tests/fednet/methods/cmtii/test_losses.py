"""Losses: a picture of weight 0 has no effect, and min-SNR weights are the paper's, whatever the network predicts."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fednet.errors import ModelError
from fednet.methods.cmtii.losses import contrastive_losses, denoising_losses, min_snr_weights, weighted_mean
from fednet.seeds import generator

GAMMA = 5.0
SIGNALS = DDPMScheduler(num_train_timesteps=100).alphas_cumprod


def normals(*shape: int, purpose: str = "x") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def test_a_picture_of_weight_0_is_left_out_exactly() -> None:
    texts = normalize(normals(3, 6, purpose="texts").double(), dim=1)
    images, labels = normals(4, 6, purpose="images").double(), torch.tensor([0, 2, 1, 1])

    def gradient(kept: list[int], weights: Tensor) -> Tensor:
        encoder = torch.eye(6, dtype=torch.float64).requires_grad_()
        features = normalize(images[kept] @ encoder, dim=1)
        weighted_mean(contrastive_losses(features, texts, torch.tensor(10.0), labels[kept]), weights).backward()
        assert encoder.grad is not None
        return encoder.grad

    muted = gradient([0, 1, 2, 3], torch.tensor([1.0, 0.0, 0.5, 1.0]).double())
    absent = gradient([0, 2, 3], torch.tensor([1.0, 0.5, 1.0]).double())
    full = gradient([0, 1, 2, 3], torch.tensor([1.0, 1.0, 0.5, 1.0]).double())
    torch.testing.assert_close(muted, absent, rtol=0, atol=1e-15)
    assert (muted - full).abs().max() > 1e-3


def test_equal_weights_make_the_mean_and_a_common_factor_nothing() -> None:
    losses, weights = normals(5).square(), torch.tensor([1.0, 2.0, 0.1, 0.0, 3.0])
    torch.testing.assert_close(weighted_mean(losses, torch.full((5,), 0.1)), losses.mean())
    torch.testing.assert_close(weighted_mean(losses, 7 * weights), weighted_mean(losses, weights))


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1e-6], [1.0, float("nan")], [1.0, float("inf")], [1.0]])
def test_weights_that_weigh_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(ModelError, match="weight"):
        weighted_mean(torch.ones(2), torch.tensor(weights))


def test_the_contrastive_loss_is_the_cross_entropy_of_cosines() -> None:
    images, texts = (normalize(normals(count, 6, purpose=str(count)), dim=1) for count in (4, 3))
    labels = torch.tensor([0, 2, 1, 1])
    losses = contrastive_losses(images, texts, torch.tensor(10.0), labels)
    torch.testing.assert_close(losses.mean(), cross_entropy(10.0 * images @ texts.T, labels))
    assert contrastive_losses(texts, texts, torch.tensor(100.0), torch.arange(3)).max() < 0.01


def test_the_same_error_of_the_picture_costs_the_same_whatever_is_predicted() -> None:
    """One guess expressed as picture, as noise or as velocity has one loss: min(SNR, gamma) e^2."""
    clean, noise, guess = (normals(6, 1, 4, 4, purpose=purpose).double() for purpose in ("clean", "noise", "guess"))
    times = torch.tensor([1, 20, 40, 60, 80, 99])

    def loss_of(prediction: str) -> Tensor:
        def predict(noisy: Tensor, at: Tensor) -> Tensor:
            keep = SIGNALS[at].double().sqrt()[:, None, None, None]
            add = (1 - SIGNALS[at].double()).sqrt()[:, None, None, None]
            implied = (noisy - keep * guess) / add
            return {"sample": guess, "epsilon": implied, "v_prediction": keep * implied - add * guess}[prediction]

        return denoising_losses(predict, clean, noise, times, signals=SIGNALS, prediction=prediction, gamma=GAMMA)

    ratio = SIGNALS[times] / (1 - SIGNALS[times])
    assert (ratio > GAMMA).any()
    assert (ratio < GAMMA).any()
    expected = (ratio.clamp(max=GAMMA) * (guess - clean).square().mean((1, 2, 3))).float()
    for prediction in ("sample", "epsilon", "v_prediction"):
        torch.testing.assert_close(loss_of(prediction), expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_targets_are_those_of_diffusers(prediction: str) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=100, prediction_type=prediction)
    clean, noise, times = normals(3, 1, 4, 4), normals(3, 1, 4, 4, purpose="noise"), torch.tensor([0, 50, 99])
    target = noise if prediction == "epsilon" else scheduler.get_velocity(clean, noise, times)

    def predict(noisy: Tensor, at: Tensor) -> Tensor:
        torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, at))
        return target + 1

    losses = denoising_losses(predict, clean, noise, times, signals=SIGNALS, prediction=prediction, gamma=GAMMA)
    torch.testing.assert_close(losses, min_snr_weights(SIGNALS[times], prediction, GAMMA), rtol=1e-4, atol=1e-5)


def test_weights_stay_finite_without_signal() -> None:
    signal = torch.tensor([0.0, 0.5])
    torch.testing.assert_close(min_snr_weights(signal, "epsilon", GAMMA), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(min_snr_weights(signal, "v_prediction", GAMMA), torch.tensor([0.0, 0.5]))


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ModelError, match="'flow' is not known"):
        min_snr_weights(torch.tensor([0.5]), "flow", GAMMA)
