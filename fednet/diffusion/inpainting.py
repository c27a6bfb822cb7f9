"""Inpainting with a diffusion model: fills the unknown pixels of an image with what fits the known ones.

The known region of x_t is, at every step, the image itself with fresh noise of the level t; the hole follows the
reverse SDE. At t = eps a denoising step (Tweedie's formula) gives the hole its final values, and the known pixels are
those of the image, bit for bit. Works with any score callable; the caller supplies the noise, so that the noise of one
image can be independent of the rest.

What it draws is no sample of p(hole | known): the hole at t never sees what the known pixels say about it at 0, only
their noised values at t, drawn anew at every step. Of two unit normals with correlation .9 and a known 1 it draws mean
.63 and variance .31 (300 steps) for .9 and .19. Resampling repeats every step, from its end noised to its beginning
again, so that the hole settles to the known region at every t: .88 and .19 with 10 repetitions.

Source: Song et al. 2021 (arXiv 2011.13456), section 5 and appendix I.2; Lugmayr et al. 2022 (RePaint, arXiv
2201.09865), algorithm 1, for the repetitions; Liu et al. 2023 (LMD, arXiv 2302.10326), algorithm 1, whose code
overwrites the denoised hole with its noisy value again, which is not done here.
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
    resamplings: int = 1,
    tick: Callable[[], object] | None = None,
) -> Tensor:
    """Fills the unknown pixels of images.

    Args:
        score: the model's score function.
        sde: the forward diffusion it was trained with.
        images: (n, c, h, w) float32 in [-1, 1]; the values of unknown pixels are not used.
        known: bool, of a shape that broadcasts to that of `images`; True where a pixel is known.
        steps: equal steps in t from 1 down to eps.
        draw: called twice a step, once before each repetition and twice more, always in the same order.
        resamplings: how often each step is taken, at least 1; each time evaluates the score once, and the denoising
            step once more.
        tick: called each time; may raise to stop early.

    Returns:
        (n, c, h, w): the image where known, else the sampled values; not clamped.
    """
    span = (1.0 - sde.eps) / steps
    x = _marginal(sde, 1.0)[1] * draw()
    for index in range(steps):
        t = 1.0 - index * span
        for again in range(resamplings):
            if again:
                x = _renoised(sde, x, t - span, t, draw())
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


def _renoised(sde: SDE, x: Tensor, start: float, end: float, noise: Tensor) -> Tensor:
    """What x at `start` becomes, carried forward to the later `end` by the SDE, whose drift is linear."""
    (alpha, std), (later, wider) = _marginal(sde, start), _marginal(sde, end)
    kept = later / alpha
    return kept * x + math.sqrt(max(0.0, wider**2 - (kept * std) ** 2)) * noise


def _marginal(sde: SDE, t: float) -> tuple[float, float]:
    alpha, std = sde.marginal(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(std)


def _scalar(x: Tensor, t: float) -> Tensor:
    return torch.tensor(t, dtype=x.dtype, device=x.device)
