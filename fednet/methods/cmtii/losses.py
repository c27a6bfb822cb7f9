"""The losses of the method, one number a picture, and the mean that gives every picture its weight.

The source multiplied the weight with a loss that was a mean already, which changes nothing but the step size; here a
picture of weight 0 has no effect. Pure functions of tensors; knows no model.

Source: Radford et al. 2021 (arXiv 2103.00020), section 2.3, for the contrastive loss, one-sided as in CoOp (Zhou et al.
2022, arXiv 2109.01134, eq. 1); Hang et al. 2023 (arXiv 2303.09556), section 3.4, for the weights of denoising.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy

from fednet.errors import ModelError


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of losses in which each counts by its weight: sum w l / sum w.

    Args:
        losses: (b,).
        weights: (b,), at least 0, one of them above.

    Raises:
        ModelError: they are not as many, or the weights are negative, not finite, or all 0.
    """
    if losses.ndim != 1 or losses.shape != weights.shape:
        raise ModelError(f"{tuple(losses.shape)} losses cannot be weighted by {tuple(weights.shape)} weights")
    total = weights.sum()
    if not bool((weights >= 0).all() & total.isfinite() & (total > 0)):
        raise ModelError("weights must be finite, at least 0, and not all of them 0")
    return (losses * weights).sum() / total


def contrastive_losses(images: Tensor, texts: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
    """The cross entropy of pictures against texts, by their cosines.

    Args:
        images: (b, f), of length 1.
        texts: (k, f), of length 1, one for every class.
        scale: factor from cosines to logits.
        labels: int64 (b,) in 0..k-1.

    Returns:
        (b,).
    """
    return cross_entropy(scale * images @ texts.T, labels, reduction="none")


def min_snr_weights(signal: Tensor, prediction: str, gamma: float) -> Tensor:
    """The weight of a squared error at a noise level, so that no level outweighs the others.

    min(SNR, gamma) times what turns an error of the prediction into one of the clean picture: 1 / SNR for the noise,
    1 / (SNR + 1) for the velocity, 1 for the picture itself.

    Args:
        signal: alpha-bar of every picture's level, (b,) in [0, 1].
        prediction: "epsilon", "v_prediction" or "sample", as diffusers names them.
        gamma: 5 in the paper.

    Raises:
        ModelError: there is no such prediction.
    """
    ratio = signal / (1 - signal)
    match prediction:
        case "epsilon":
            return (gamma / ratio).clamp(max=1.0)
        case "v_prediction":
            return (gamma * (1 - signal)).minimum(signal)  # written without SNR, which is infinite without noise
        case "sample":
            return ratio.clamp(max=gamma)
    raise ModelError(f"a network that predicts {prediction!r} is not known: epsilon, v_prediction or sample")


def denoising_losses(
    predict: Callable[[Tensor, Tensor], Tensor],
    clean: Tensor,
    noise: Tensor,
    times: Tensor,
    *,
    signals: Tensor,
    prediction: str,
    gamma: float,
) -> Tensor:
    """The denoising error of a network by picture, weighted by min-SNR.

    Args:
        predict: (noisy (b, c, h, w), times (b,)) -> what the network predicts, of the same shape.
        clean: (b, c, h, w), pictures or latents.
        noise: standard normal, of the same shape.
        times: int64 (b,), steps of the forward process.
        signals: alpha-bar by step, (steps,), in [0, 1).
        prediction: what the network predicts, as for `min_snr_weights`.
        gamma: of the weights.

    Returns:
        float32 (b,).

    Raises:
        ModelError: there is no such prediction.
    """
    signal = signals.to(clean.device)[times].float()
    weights = min_snr_weights(signal, prediction, gamma)
    keep, add = (part.sqrt()[:, None, None, None] for part in (signal, 1 - signal))
    noisy = keep * clean + add * noise
    targets = {"epsilon": noise, "v_prediction": keep * noise - add * clean, "sample": clean}
    error = predict(noisy, times).float() - targets[prediction].float()
    return weights * error.square().flatten(1).mean(1)
