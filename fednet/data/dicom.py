"""Reads DICOM images with pydicom (the extra `medical`): the first frame, in the window that the file names.

Grey values are those after the modality transformation (PS3.3 C.11.1), so that `limits` are in Hounsfield units for
computed tomography. Without limits the file's first window holds (C.11.2.1.2.1, its linear function), without one the
percentiles 0.5 and 99.5. Files that compress pixels need what pydicom needs for them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fednet.data.intensity import Limits, scaled
from fednet.errors import DataError
from fednet.plugins import missing_modules
from fednet.text import plain_text

if TYPE_CHECKING:
    from pydicom import Dataset

_MAGIC, _OFFSET = b"DICM", 128
_PERCENTILES = (0.5, 99.5)


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM (PS3.10, 7.1): at least 132 bytes."""
    return head[_OFFSET : _OFFSET + len(_MAGIC)] == _MAGIC


def dicom_is_colour(file: Path | io.BytesIO) -> bool:
    """Whether the header says that pixels have colours.

    Raises:
        DataError: pydicom is not installed.
    """
    _require_pydicom()
    from pydicom import dcmread  # noqa: PLC0415 - of the extra `medical`

    return int(dcmread(file, stop_before_pixels=True).SamplesPerPixel) > 1


def read_dicom(
    content: bytes, limits: Limits | None, size: tuple[int, int] | None
) -> tuple[NDArray[np.float32], str, tuple[str, ...]]:
    """The image in a file.

    Args:
        content: the file.
        limits: what becomes -1 and 1; None: its window or percentiles.
        size: width and height; any other is refused before it is decoded.

    Returns:
        Values float32 (h, w, c) in [-1, 1], c 1 or 3; the kind of file; what was done.

    Raises:
        DataError: pydicom is not installed.
        Exception: pydicom's own, where the file is damaged or holds no image.
    """
    _require_pydicom()
    from pydicom import dcmread  # noqa: PLC0415 - of the extra `medical`
    from pydicom.pixels import pixel_array  # noqa: PLC0415

    file = dcmread(io.BytesIO(content))
    width, height, frames = int(file.Columns), int(file.Rows), int(file.get("NumberOfFrames") or 1)
    if size is not None and (width, height) != size:
        raise ValueError(f"it has {width} x {height} pixels; expected {size[0]} x {size[1]}: crop or resize it first")
    if width * height > 2 * (Image.MAX_IMAGE_PIXELS or width * height):
        raise ValueError(f"{width} x {height} pixels are too many for an image")
    kind = plain_text(f"DICOM {file.PhotometricInterpretation} {file.BitsStored} bits")
    done = ("first of several frames",) if frames > 1 else ()
    pixels = pixel_array(file, index=0)
    if int(file.SamplesPerPixel) > 1:  # pydicom has turned YBR into RGB
        return scaled(pixels, None if pixels.dtype == np.uint8 else (0, 2 ** int(file.BitsStored) - 1)), kind, done
    values, how = _windowed(file, pixels, limits)
    return values[:, :, None], kind, (*done, how)


def _windowed(file: Dataset, pixels: NDArray[np.generic], limits: Limits | None) -> tuple[NDArray[np.float32], str]:
    """Grey values in [-1, 1], 1 white, and by what."""
    from pydicom.pixels import apply_modality_lut  # noqa: PLC0415 - of the extra `medical`

    values = np.asarray(apply_modality_lut(pixels, file), dtype=np.float64)
    how = "data.range"
    if limits is None and (limits := _window(file)):
        how = f"window {limits[0]:g} to {limits[1]:g}"
    elif limits is None:
        low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
        limits, how = (low, high if high > low else low + 1), f"percentiles {_PERCENTILES[0]} to {_PERCENTILES[1]}"
    shown = scaled(values, limits)
    return (-shown if file.PhotometricInterpretation == "MONOCHROME1" else shown), how


def _window(file: Dataset) -> Limits | None:
    """The first window's ends: c - .5 - (w - 1) / 2 and c - .5 + (w - 1) / 2."""
    centres, widths = (
        np.atleast_1d(np.asarray(file.get(key) or [], dtype=float)) for key in ("WindowCenter", "WindowWidth")
    )
    if not len(centres) or not len(widths) or widths[0] <= 1:
        return None
    middle, half = float(centres[0]) - 0.5, (float(widths[0]) - 1) / 2
    return middle - half, middle + half


def _require_pydicom() -> None:
    if missing_modules(("pydicom",)):
        raise DataError("DICOM files need pydicom, not installed here: pip install 'fednet[medical]'")
