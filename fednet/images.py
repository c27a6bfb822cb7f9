"""Images as tensors in [-1, 1]: validation, grids, and files to look at; `fednet.data.image_files` reads files.

A batch outside of [-1, 1] is refused and never clamped silently: the code of score inference's source saved 0..255
floats through a [0, 1] clamp and measured the result.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fednet.errors import MeasureError
from fednet.files import write_whole

Pixels = NDArray[np.uint8]
ROWS, PER_ROW = 10, 10
"""Of `by_label`: rows without labels, and images in a row."""
SLACK = 1e-4
"""How far beyond [-1, 1] rounding may carry a value."""
SPREAD = 0.25
"""A batch without a negative value whose values spread wider than this looks like [0, 1]."""


def require_pictures(images: Tensor, what: str = "images") -> None:
    """Checks that a batch is floating, (n, c, h, w), finite, and in [-1, 1] and not in [0, 1] or [0, 255].

    Two or more images without any value below 0 count as [0, 1], unless they are nearly constant.

    Raises:
        MeasureError: it is not; the message gives the range and a guess.
    """
    if images.ndim != 4 or not images.is_floating_point() or images.numel() == 0:
        raise MeasureError(
            f"{what} must be a non-empty floating tensor (n, c, h, w); got {images.dtype} {tuple(images.shape)}"
        )
    if not images.isfinite().all():
        bad = int((~images.isfinite().flatten(1).all(1)).sum())
        raise MeasureError(f"{what}: {bad} of {len(images)} pictures hold NaN or infinity")
    low, high = float(images.min()), float(images.max())
    guess = " (they look like bytes: use from_bytes)" if low >= 0 and high > 2 else ""
    if low < -1 - SLACK or high > 1 + SLACK:
        raise MeasureError(f"{what} must lie in [-1, 1]; got values in [{low:.4g}, {high:.4g}]{guess}")
    if len(images) > 1 and low >= 0 and high - low > SPREAD:
        raise MeasureError(
            f"{what} must lie in [-1, 1]; got values in [{low:.4g}, {high:.4g}], which look like [0, 1]: use 2 * x - 1"
        )


def from_bytes(images: Tensor) -> Tensor:
    """Turns uint8 of any shape into float32 in [-1, 1]: 0 to -1, 255 to 1."""
    return images.to(torch.float32) / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Turns a batch (n, c, h, w) in [-1, 1] into uint8, rounded to the nearest; undoes `from_bytes` exactly.

    Raises:
        MeasureError: it is not in [-1, 1].
    """
    require_pictures(images)
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def grid(images: Tensor, columns: int, scale: int | None = None) -> Pixels:
    """Arranges images in rows, left to right, with a white line between them.

    Args:
        images: (n, c, h, w) in [-1, 1], c 1 or 3.
        columns: images in a row.
        scale: screen pixels per pixel; None enlarges small images to about 32.

    Returns:
        uint8 (height, width, 3).

    Raises:
        MeasureError: the images are not in [-1, 1], or have neither 1 nor 3 channels.
    """
    pixels = to_bytes(images.detach().cpu())
    count, channels, height, width = pixels.shape
    if channels not in (1, 3) or columns < 1:
        raise MeasureError(
            f"a grid needs 1 or 3 channels and at least 1 column; got {channels} channels, {columns} columns"
        )
    factor = scale or max(1, round(32 / max(height, width)))
    tiles = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3).expand(-1, 3, -1, -1)
    high, wide, rows = height * factor + 1, width * factor + 1, math.ceil(count / columns)
    canvas = np.full((rows * high + 1, columns * wide + 1, 3), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles.permute(0, 2, 3, 1).numpy()):
        top, left = index // columns * high + 1, index % columns * wide + 1
        canvas[top : top + high - 1, left : left + wide - 1] = tile
    return canvas


def pixels(image: Tensor) -> Pixels:
    """One image (c, h, w) in [-1, 1], c 1 or 3, as uint8 (h, w, 3).

    Raises:
        MeasureError: as for `grid`.
    """
    return grid(image[None], 1, scale=1)[1:-1, 1:-1]


def by_label(images: Tensor, labels: Tensor | None) -> Pixels:
    """A grid with one row per label; without labels (n,) the first hundred images.

    Raises:
        MeasureError: as for `grid`.
    """
    if labels is None:
        return grid(images[: ROWS * PER_ROW], PER_ROW)
    members = [(labels == label).nonzero().flatten() for label in sorted(set(labels.tolist()))]
    wide = min(PER_ROW, *map(len, members))
    return grid(images[torch.cat([row[:wide] for row in members])], wide)


def save_png(path: Path, pixels: Pixels) -> None:
    """Writes a uint8 (h, w, 3) or (h, w) image atomically; creates missing folders."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    write_whole(path, buffer.getvalue(), shared=True)
