"""Reads one picture from the bytes of a file; nothing in them is trusted.

The size is compared with what the sites know before anything is decoded, so that no small file can become a large
picture. Only formats that Pillow decodes by itself are tried. Opens no path; whoever has the file reads it.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fednet.errors import DataError
from fednet.images import from_bytes

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
MAX_FILE_BYTES = 16 * 2**20
"""Bytes of a file."""
_UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, Image.DecompressionBombError)
"""What Pillow raises at files that are no pictures, or damaged."""


def decode_image(content: bytes, shape: tuple[int, int, int], name: str = "the file") -> Tensor:
    """The picture in a file, as the sites' pictures are: grey where theirs are grey, else in colour.

    Args:
        content: the file's bytes.
        shape: channels (1 or 3), height and width of the sites' pictures.
        name: what to call the file in errors.

    Returns:
        float32 (1, c, h, w) in [-1, 1].

    Raises:
        DataError: it is no picture, too large a file, of another size, or has more than 8 bits a channel.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"the sites' pictures have {channels} channels: no file of a picture has")
    if len(content) > MAX_FILE_BYTES:
        raise DataError(
            f"{name} has {len(content)} bytes; a picture of {width} x {height} has at most {MAX_FILE_BYTES}"
        )
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as picture:
            _require_size(picture, (width, height), name)
            pixels = np.array(picture.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    except _UNREADABLE as error:
        raise DataError(
            f"{name} is not a readable picture ({error}): give one of {', '.join(IMAGE_FORMATS)}"
        ) from error
    planes = torch.from_numpy(pixels.reshape(height, width, channels)).permute(2, 0, 1)
    return from_bytes(planes.unsqueeze(0)).contiguous()


def _require_size(picture: Image.Image, size: tuple[int, int], name: str) -> None:
    if picture.size != size:
        raise DataError(
            f"{name} has {picture.size[0]} x {picture.size[1]} pixels; the sites know {size[0]} x {size[1]} only: "
            "crop or resize it first"
        )
    if picture.mode[0] in "IF":
        raise DataError(f"{name} has more than 8 bits a channel (mode {picture.mode}): convert it to 8 bits")
