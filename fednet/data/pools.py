"""Pools of labelled images: labels at once, images when they are asked for, so that a limit saves the work.

What a data set's `read` returns, and how files and arrays become tensors. Knows no data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fednet.data.classes import renamed_classes
from fednet.data.config import DataConfig
from fednet.data.image_files import decode, telling_the_remedy
from fednet.data.listing import ImageRef
from fednet.errors import DataError

Read = Callable[[Tensor], Tensor]
"""Indices int64 (m,) -> images float32 (m, c, h, w) in [-1, 1]."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ImagePool:
    """Images that are not read yet: labels int64 (n,), class names, and the reader.

    Images without labels have the label -1 each, and no class names.
    """

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

    def renamed(self, aliases: Mapping[str, str]) -> ImagePool:
        """The same images under other names of classes; classes that get one name become one."""
        names = [aliases.get(name, name) for name in self.classes]
        classes = renamed_classes(self.classes, aliases)
        return ImagePool(renumbered(self.labels, names, classes), classes, self.read)


@dataclass(frozen=True)
class DataSource:
    """An opened data set: its images to train on and, where it has them, its own test images."""

    train: ImagePool
    test: ImagePool | None = None


def renumbered(labels: Tensor, names: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Labels int64 (n,), positions in `names`, as positions in `classes`; -1 stays, and is what is not in there."""
    place = {name: label for label, name in enumerate(classes)}
    table = torch.tensor([*(place.get(name, -1) for name in names), -1])  # the last one is that of -1
    return table[labels]


def resize(images: Tensor, size: int | None) -> Tensor:
    """Resizes (n, c, h, w) to a square by antialiased bilinear interpolation; None or equal size: as they are."""
    if size is None or images.shape[-2:] == (size, size) or len(images) == 0:
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True).clamp_(-1, 1)


def conform(images: Tensor, config: DataConfig, channels: int | None = None) -> Tensor:
    """Images with the channels and the size that a configuration asks for.

    Args:
        images: float32 (n, c, h, w) in [-1, 1], c 1 or 3.
        config: its `size`, `fit` and `background`, and its `channels` where the argument is None.
        channels: 1 or 3; None for the configuration's, or as they are.
    """
    images = with_channels(images, channels or config.channels)
    height, width = images.shape[-2:]
    if config.size is None or height == width or config.fit == "squash":
        return resize(images, config.size)
    if config.fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(images[..., top : top + side, left : left + side], config.size)
    wide, high = max(height - width, 0), max(width - height, 0)
    margins = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
    return resize(pad(images, margins, value=config.background_value), config.size)


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """Grey (n, 1, h, w) as RGB of equal channels, or RGB as luma (ITU-R BT.601); None: as they are."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor(_LUMA, dtype=torch.float64).view(1, 3, 1, 1)
    return (images.double() * weights).sum(1, keepdim=True).to(images.dtype).clamp_(-1, 1)


def stack(paths: Sequence[ImageRef], config: DataConfig, channels: int) -> Tensor:
    """Reads images as float32 (n, channels, h, w) in [-1, 1].

    Raises:
        DataError: an image cannot be read, or the images differ in size and `config.size` is None.
    """
    images: list[Tensor] = []
    for path in paths:
        with telling_the_remedy():
            decoded = torch.from_numpy(decode(path, background=config.background_value, limits=config.range).values)
        image = conform(decoded[None], config, channels)[0]
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{path} is {tuple(image.shape[1:])}, {paths[0]} is {tuple(images[0].shape[1:])} pixels: "
                "set data.size to bring all pictures to one size"
            )
        images.append(image)
    return torch.stack(images)
