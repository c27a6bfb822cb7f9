"""Reads images as the sites' are: one from the bytes of a file, in which nothing is trusted, or those of a folder.

The size of one image is compared with what the sites know before anything is decoded, so that no small file can become
a large image. The images of a folder are read as those of a data set.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fednet.data.config import DataConfig
from fednet.data.datasets import training_images
from fednet.data.image_files import decode
from fednet.data.pools import with_channels
from fednet.errors import DataError

MAX_FILE_BYTES = 16 * 2**20
"""Bytes of a file."""


def read_images(folder: Path, shape: tuple[int, int, int]) -> Tensor:
    """The images of a folder, of all classes or without any, brought to the sites' size.

    Args:
        folder: the folder; class folders in it do not matter.
        shape: channels (1 or 3), height and width of the sites' pictures.

    Returns:
        float32 (n, c, h, w) in [-1, 1].

    Raises:
        DataError: it is no folder, holds no images, or one of them cannot be read.
    """
    channels, height, width = shape
    size = height if height == width else None
    config = DataConfig.model_validate({"name": "folder", "root": folder, "size": size, "channels": channels})
    return training_images(config).images


def decode_image(content: bytes, shape: tuple[int, int, int], name: str = "the file") -> Tensor:
    """The image in a file, as the sites' images are: grey where theirs are grey, else in colour.

    Args:
        content: the file's bytes.
        shape: channels (1 or 3), height and width of the sites' pictures.
        name: what to call the file in errors.

    Returns:
        float32 (1, c, h, w) in [-1, 1].

    Raises:
        DataError: it is no image, too large a file, or of another size.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"the sites' pictures have {channels} channels: no file of a picture has")
    if len(content) > MAX_FILE_BYTES:
        raise DataError(
            f"{name} has {len(content)} bytes; a picture of {width} x {height} has at most {MAX_FILE_BYTES}"
        )
    values = torch.from_numpy(decode(content, size=(width, height), name=name).values)
    return with_channels(values[None], channels).contiguous()
