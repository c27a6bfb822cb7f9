"""Lists the images of a Python object: any map-style `torch.utils.data.Dataset` that a factory makes.

The factory is named by this site's own configuration. Its data set holds images, or pairs or mappings of an image and a
label; images are tensors (c, h, w), arrays or Pillow's. Every process must get the same items in the same order, so
nothing in it may be random. Knows no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fednet.data.config import DataConfig
from fednet.data.image_folder import root_of
from fednet.data.listing import ImageItem, ImageListing, ImageRef, class_name, split_listings
from fednet.errors import DataError
from fednet.text import plain_text

AS_THEY_ARE = ("L", "LA", "RGB", "RGBA", "I", "F", "I;16")
"""Pillow's modes whose pixels are taken without a conversion."""


def python_listings(config: DataConfig) -> dict[str, ImageListing]:
    """The images of what `data.object` makes: one data set, or a mapping with `train` and perhaps `test`.

    Raises:
        DataError: there is no such factory, it fails, or what it makes is no map-style data set.
    """
    made = _made(config)
    parts = made if isinstance(made, Mapping) else {"": made}
    listed = {str(split): _labelled(config, part, f"{config.object} {split}".strip()) for split, part in parts.items()}
    return split_listings(listed, str(config.object))


def _made(config: DataConfig) -> Any:
    module, _, name = str(config.object).partition(":")
    try:
        factory = getattr(import_module(module), name)
    except Exception as error:  # a foreign module may raise anything while it is imported
        raise DataError(_failure(config, "cannot be imported", error)) from error
    options = config.options if config.root is None else {"root": root_of(config), **config.options}
    try:
        return factory(**options)
    except Exception as error:
        raise DataError(_failure(config, f"failed with {', '.join(options) or 'no options'}", error)) from error


def _labelled(config: DataConfig, dataset: Any, place: str) -> Iterator[tuple[ImageRef, str]]:
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        made = type(dataset).__name__
        raise DataError(
            f"data.object: {place} is a {made}; expected a Dataset with __len__ and __getitem__ (map-style)"
        )
    for index, label in enumerate(_labels(config, dataset, place)):
        name = f"{place}[{index}]"
        yield ImageItem(name, partial(_pixels, config, dataset, index, label)), label


def _labels(config: DataConfig, dataset: Any, place: str) -> list[str]:
    """The class of every item; from `targets`, where torchvision's data sets have them, without an item being read."""
    targets = getattr(dataset, "targets", None)
    try:
        if targets is not None and len(targets) == len(dataset):
            return [_class(dataset, target) for target in targets]
        return [_class(dataset, _parts(config, dataset[index])[1]) for index in range(len(dataset))]
    except DataError:
        raise
    except Exception as error:  # somebody else's code
        raise DataError(_failure(config, f"cannot be read ({place})", error)) from error


def _parts(config: DataConfig, item: Any) -> tuple[Any, Any]:
    """An item's image and label; None where it has none."""
    if isinstance(item, Mapping):
        return item[config.columns.image or "image"], item.get(config.columns.label or "label")
    if isinstance(item, Sequence):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _class(dataset: Any, label: Any) -> str:
    """The name of a class: one of the data set's `classes`, or the label itself; "" for None and for -1."""
    value = label.item() if hasattr(label, "item") else label
    if value is None or isinstance(value, str):
        return class_name(value or "")
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"data.object: {value!r} is no label: expected a text, a whole number or None")
    names = getattr(dataset, "classes", None)
    if value < 0:
        return ""
    if names is not None and value >= len(names):
        raise DataError(f"data.object: the label {value} is none of the {len(names)} classes of the data set")
    return class_name(str(value if names is None else names[value]))


def _pixels(config: DataConfig, dataset: Any, index: int, label: str) -> NDArray[np.generic]:
    """The pixels of an item, which must still have the label that was listed."""
    image, given = _parts(config, dataset[index])
    if (found := _class(dataset, given)) != label:
        raise DataError(f"data.object: {config.object}[{index}] is {found!r} now and was {label!r} (`targets`)")
    if isinstance(image, Image.Image):
        plain = "RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB"
        return np.asarray(image if image.mode in AS_THEY_ARE else image.convert(plain))
    if isinstance(image, torch.Tensor):
        values = image.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return values.permute(1, 2, 0).numpy() if values.ndim == 3 else values.numpy()
    return np.asarray(image)


def _failure(config: DataConfig, what: str, error: Exception) -> str:
    return plain_text(f"data.object: {config.object} {what}: {type(error).__name__}: {str(error)[:200]}")
