"""Scales pixel values of any bit depth to [-1, 1]; refuses those of which nothing says what is black and white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Limits = tuple[float, float]
"""The values that become black (-1) and white (1)."""


def scaled(pixels: NDArray[np.generic], limits: Limits | None = None) -> NDArray[np.float32]:
    """Values in [-1, 1], float32, of the same shape.

    Args:
        pixels: bits and 8-bit integers, which use their full range; 16-bit unsigned integers, which do so without
            `limits`; floats in [0, 1]; or any other values with `limits`.
        limits: what becomes -1 and 1; values beyond are cut off.

    Raises:
        ValueError: a value is not finite, or nothing says what is black and what is white.
    """
    if pixels.dtype == np.bool_:
        return pixels.astype(np.float32) * 2 - 1
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(127.5) - 1
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    low, high = limits or _own_limits(pixels.dtype, float(values.min()), float(values.max()))
    return np.clip((values - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32)


def _own_limits(dtype: np.dtype[np.generic], least: float, most: float) -> Limits:
    if dtype.kind == "u" and dtype.itemsize == 2:
        return 0.0, float(np.iinfo(np.uint16).max)
    if dtype.kind == "f" and least >= 0 and most <= 1:
        return 0.0, 1.0
    raise ValueError(
        f"its {dtype} values lie in [{least:g}, {most:g}] and nothing says which are black and white: set data.range"
    )
