"""The first images of a data set's classes, to be looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.data.classes import sorted_classes
from fednet.data.config import DataConfig
from fednet.data.listing import ImageRef
from fednet.data.pools import stack
from fednet.data.survey import ListedImages

SHOWN_SIZE = 64
"""Height and width of the images of a grid where they differ in size and none is configured."""


def first_images(files: ListedImages, config: DataConfig, rows: int, columns: int) -> Tensor:
    """The first images of the first classes, blank where a class has fewer.

    Returns:
        float32 (rows x columns, c, h, w) in [-1, 1], class after class; fewer rows where there are fewer classes.
    """
    by_class = dict[str, list[ImageRef]]()
    for listing in files.listing.values():
        for path, label in listing.labelled:
            by_class.setdefault(listing.classes[label] if label >= 0 else "", []).append(path)
    if config.size is None and len(files.inspection.sizes) > 1:
        config = config.model_copy(update={"size": SHOWN_SIZE})
    channels = config.channels or (3 if files.inspection.colour else 1)
    shown = sorted_classes(by_class)[:rows]
    return torch.cat([_padded(stack(by_class[name][:columns], config, channels), columns) for name in shown])


def _padded(images: Tensor, count: int) -> Tensor:
    blank = torch.ones(count - len(images), *images.shape[1:])
    return torch.cat([images, blank])
