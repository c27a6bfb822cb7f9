"""Values of any depth become [-1, 1]; where nothing says what is black and white, nothing is guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fednet.data.intensity import scaled


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        (np.array([0, 255], np.uint8), [-1, 1]),
        (np.array([0, 65535], np.uint16), [-1, 1]),
        (np.array([0, 65535], ">u2"), [-1, 1]),
        (np.array([False, True]), [-1, 1]),
        (np.array([0, 0.5, 1]), [-1, 0, 1]),
    ],
)
def test_full_ranges_are_used(pixels: Any, wanted: list[float]) -> None:
    found = scaled(pixels)
    assert found.dtype == np.float32
    assert found.tolist() == wanted


def test_limits_are_black_and_white_and_cut_off_what_is_beyond() -> None:
    assert scaled(np.array([-5, 0, 50, 100, 900], np.int32), (0, 100)).tolist() == [-1, -1, 0, 1, 1]
    assert scaled(np.array([0, 4095], np.uint16), (0, 4095)).tolist() == [-1, 1]


@pytest.mark.parametrize("pixels", [np.array([0, 2.0]), np.array([-0.1, 1]), np.array([0, 1], np.int16)])
def test_values_of_unknown_range_are_refused(pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"nothing says which are black and white: set data\.range"):
        scaled(pixels)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        scaled(np.array([0, odd]), (0, 1))
