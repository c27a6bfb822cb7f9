"""How far a picture is from its reconstruction: one value a pair, 0 for equal pictures, larger for less alike.

`mse` compares pixels, `ssim` local means, spreads and correlations, `perceptual` a network's features. Learned
perceptual distances (LPIPS) need weights that nothing here downloads: `fednet.metrics.lpips` reads them, `perceptual`
follows their formula with equal weights, on whatever network the caller has. Knows no detector.

Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"; Zhang et al.
2018 (LPIPS, arXiv 1801.03924), equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fednet.errors import MeasureError

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures (n, c, h, w) in [-1, 1] -> (n,), at least 0."""
Features = Callable[[Tensor], Sequence[Tensor]]
"""Pictures (n, c, h, w) -> the activations of some layers, each (n, d, ...)."""

SPREAD, WINDOW = 1.5, 11
"""Deviation and side of SSIM's Gaussian window, in pixels; smaller where the picture is."""


def mse(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared difference of the pixels, (n,), at least 0.

    Raises:
        MeasureError: the batches are not (n, c, h, w) of one shape.
    """
    _check(a, b)
    return (a - b).square().flatten(1).mean(1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """One minus the mean structural similarity, (n,) in [0, 2].

    Wang et al. 2004, eq. 13, with their window and constants, on pixels brought from [-1, 1] to [0, 1]: its luminance
    term compares means as amounts of light. With means of both signs the even greys -.05 and .05 were at 1.85, where
    light alone makes at most 1. Only windows that lie within the picture count. In pictures of less than 11 pixels the
    window is the largest odd one that fits.

    Raises:
        MeasureError: the batches are not (n, c, h, w) of one shape.
    """
    _check(a, b)
    a, b = (a + 1) / 2, (b + 1) / 2
    window = _window(min(WINDOW, *a.shape[-2:])).to(a)
    mean_a, mean_b, square_a, square_b, cross = (_blurred(x, window) for x in (a, b, a.square(), b.square(), a * b))
    luminance, contrast = 0.01**2, 0.03**2
    spread = (square_a - mean_a**2) + (square_b - mean_b**2)
    above = (2 * mean_a * mean_b + luminance) * (2 * (cross - mean_a * mean_b) + contrast)
    below = (mean_a**2 + mean_b**2 + luminance) * (spread + contrast)
    similarity: Tensor = (above / below).flatten(1).mean(1)
    return 1 - similarity


def perceptual(features: Features) -> Distance:
    """The distance in a network's features: LPIPS with equal weights.

    At every place of every layer the activations become unit vectors; the squared differences are summed over
    channels, averaged over places and summed over layers (Zhang et al. 2018, eq. 1 with w = 1).
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        _check(a, b)
        with torch.no_grad():
            pairs = list(zip(features(a), features(b), strict=True))
        layers = [(_unit(one) - _unit(two)).square().sum(1).flatten(1).mean(1) for one, two in pairs]
        return torch.stack(layers).sum(0)

    return distance


def _unit(activations: Tensor) -> Tensor:
    """(n, d, places) with unit vectors along d; zero stays zero."""
    flat = activations.flatten(2) if activations.ndim > 2 else activations[:, :, None]
    size: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / (size + 1e-10)


def _window(side: int) -> Tensor:
    """A Gaussian window (side, side) that adds up to 1; `side` made odd."""
    side -= 1 - side % 2
    places = torch.arange(side, dtype=torch.float64) - side // 2
    row = torch.exp(-places.square() / (2 * SPREAD**2))
    row = row / row.sum()
    return row[:, None] * row[None, :]


def _blurred(x: Tensor, window: Tensor) -> Tensor:
    channels = x.shape[1]
    blurred: Tensor = conv2d(x, window.expand(channels, 1, *window.shape), groups=channels)
    return blurred


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 4 or a.shape != b.shape:
        raise MeasureError(f"pictures to compare must be (n, c, h, w) of one shape; got {[*a.shape]} and {[*b.shape]}")
