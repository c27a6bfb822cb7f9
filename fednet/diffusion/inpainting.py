"""Inpainting with a diffusion model: samples the unknown pixels of an image, given the known ones.

The known region of x_t is, at every step, the image itself with fresh noise of the level t; the hole follows the
reverse SDE. At t = eps a denoising step (Tweedie's formula) gives the hole its final values, and the known pixels are
those of the image, bit for bit. Works with any score callable; the caller supplies the noise, so that the noise of one
image can be independent of the rest.

Source: Song et al. 2021 (arXiv 2011.13456), section 5 and appendix I.2; Liu et al. 2023 (LMD, arXiv 2302.10326),
algorithm 1, whose code overwrites the denoised hole with its noisy value again, which is not done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fednet.diffusion.sampling import reverse_step
from fednet.diffusion.sde import SDE

Score = Callable[[Tensor, Tensor], Tensor]
"""(x (n, c, h, w), t a scalar tensor) -> the score of x_t, of x's shape."""
Draw = Callable[[], Tensor]
"""Fresh standard normal noise of the images' shape on every call."""


def inpaint(
    score: Score,
    sde: SDE,
    images: Tensor,
    known: Tensor,
    *,
    steps: int,
    draw: Draw,
    tick: Callable[[], object] | None = None,
) -> Tensor:
    """Samples the unknown pixels of images.

    Args:
        score: the model's score function.
        sde: the forward diffusion it was trained with.
        images: (n, c, h, w) float32 in [-1, 1]; the values of unknown pixels are not used.
        known: bool, of a shape that broadcasts to that of `images`; True where a pixel is known.
        steps: equal steps in t from 1 down to eps; each evaluates the score once, and the denoising step once more.
        draw: called twice a step and twice more, always in the same order.
        tick: called after every step; may raise to stop early.

    Returns:
        (n, c, h, w): the image where known, else the sampled values; not clamped.
    """
    span = (1.0 - sde.eps) / steps
    x = _marginal(sde, 1.0)[1] * draw()
    for index in range(steps):
        t = 1.0 - index * span
        x = torch.where(known, _noised(sde, images, t, draw()), x)
        move = reverse_step(sde, x, t, span)
        x = x + move.displacement(score(x, _scalar(x, t))) + math.sqrt(move.q * span) * draw()
        if tick is not None:
            tick()
    x = torch.where(known, _noised(sde, images, sde.eps, draw()), x)
    alpha, std = _marginal(sde, sde.eps)
    clean = (x + std**2 * score(x, _scalar(x, sde.eps))) / alpha
    return torch.where(known, images, clean)


def _noised(sde: SDE, images: Tensor, t: float, noise: Tensor) -> Tensor:
    alpha, std = _marginal(sde, t)
    return alpha * images + std * noise


def _marginal(sde: SDE, t: float) -> tuple[float, float]:
    alpha, std = sde.marginal(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(std)


def _scalar(x: Tensor, t: float) -> Tensor:
    return torch.tensor(t, dtype=x.dtype, device=x.device)
