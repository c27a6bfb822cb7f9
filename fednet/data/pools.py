"""Pools of labelled images: labels at once, images when they are asked for, so that a limit saves the work.

What a data set's `read` returns, and how files and arrays become tensors. Knows no data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fednet.errors import DataError
from fednet.images import from_bytes, read_picture

Read = Callable[[Tensor], Tensor]
"""Indices int64 (m,) -> images float32 (m, c, h, w) in [-1, 1]."""


@dataclass(frozen=True)
class ImagePool:
    """Images that are not read yet: labels int64 (n,), class names, and the reader."""

    labels: Tensor
    classes: tuple[str, ...]
    read: Read

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, classes: tuple[str, ...], size: int | None = None) -> ImagePool:
        """A pool of images in memory.

        Args:
            images: float32 (n, c, h, w) in [-1, 1].
            labels: int64 (n,), positions in `classes`.
            classes: the classes' names.
            size: height and width to resize to; None keeps them.
        """
        return cls(labels, classes, lambda indices: resize(images[indices], size))


@dataclass(frozen=True)
class DataSource:
    """An opened data set: its images to train on and, where it has them, its own test images."""

    train: ImagePool
    test: ImagePool | None = None


def resize(images: Tensor, size: int | None) -> Tensor:
    """Resizes (n, c, h, w) to a square by antialiased bilinear interpolation; None or equal size: as they are."""
    if size is None or images.shape[-2:] == (size, size) or len(images) == 0:
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True).clamp_(-1, 1)


def stack(paths: list[Path], grey: bool, size: int | None) -> Tensor:
    """Reads image files as float32 (n, c, h, w) in [-1, 1]; c is 1 where `grey`, else 3.

    Raises:
        DataError: a file is no image, or the images differ in size and `size` is None.
    """
    images: list[Tensor] = []
    for path in paths:
        image = resize(from_bytes(read_picture(path, grey=grey).unsqueeze(0)), size)[0]
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{path} is {tuple(image.shape[1:])}, {paths[0]} is {tuple(images[0].shape[1:])} pixels: "
                "set data.size to bring all pictures to one size"
            )
        images.append(image)
    return torch.stack(images)
