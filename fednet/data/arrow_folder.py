"""Lists the images of a folder that Hugging Face's `datasets` has written (`save_to_disk`); the extra `datasets`.

Only what lies in the folder is read: Arrow files, through `load_from_disk`, offline. Nothing is downloaded, no code of
a data set is run, and of an image whose bytes are elsewhere the path is not followed. Reads no image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fednet.data.config import DataConfig
from fednet.data.image_folder import root_of
from fednet.data.listing import ImageItem, ImageListing, ImageRef, class_name, split_listings
from fednet.errors import DataError
from fednet.text import plain_text


def arrow_listings(config: DataConfig) -> dict[str, ImageListing]:
    """The images of a folder of `datasets`: `train` and `test` where both are there, else `all`.

    Raises:
        DataError: the folder is none of `datasets`, or lacks a column.
    """
    root = root_of(config).resolve()
    opened = _opened(root)
    parts = opened if isinstance(opened, dict) else {"": opened}
    return split_listings({split: _labelled(config, part, root / split) for split, part in parts.items()}, str(root))


def _opened(root: Path) -> Any:
    """The data set, or those of its splits."""
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")  # read once, by the import
    import datasets  # noqa: PLC0415 - of the extra `datasets`

    try:
        opened = datasets.load_from_disk(str(root), keep_in_memory=False)
    except Exception as error:  # whatever Arrow and `datasets` raise at files that are missing or damaged
        reason = plain_text(str(error)) or type(error).__name__
        raise DataError(f"data.root: {root} is no folder of `datasets` (save_to_disk): {reason}") from error
    for part in opened.values() if isinstance(opened, dict) else (opened,):
        for file in part.cache_files:
            if not Path(file["filename"]).resolve().is_relative_to(root):
                raise DataError(f"data.root: {root} names {file['filename']}, which does not lie in it")
    return opened


def _labelled(config: DataConfig, part: Any, place: Path) -> Iterator[tuple[ImageRef, str]]:
    import datasets  # noqa: PLC0415 - as above

    image, label = config.columns.image or "image", config.columns.label or "label"
    for key, name in (("image", image), ("label", config.columns.label or image)):
        if name not in part.features:
            raise DataError(f"data.columns.{key}: {place} has no column {name!r}; it has {', '.join(part.features)}")
    names = _class_names(part, label)
    part = part.select_columns([image])  # of what is in other columns nothing is decoded
    if isinstance(part.features[image], datasets.Image):
        part = part.cast_column(image, datasets.Image(decode=False)).with_format(None)
    else:
        part = part.with_format("numpy")
    for index, name in enumerate(names):
        yield ImageItem(f"{place}[{index}]", partial(_stored, part, index, image)), name


def _class_names(part: Any, label: str) -> list[str]:
    """The class of every image; "" for null, for -1 of numbered classes, and where there is no such column."""
    if label not in part.features:
        return [""] * len(part)
    values = part.select_columns([label]).with_format(None)[:][label]
    known = getattr(part.features[label], "names", None)
    if known is not None:
        return [class_name(known[value]) if value is not None and value >= 0 else "" for value in values]
    if odd := next((value for value in values if value is not None and not isinstance(value, str | int)), None):
        raise DataError(f"data.columns.label: {label!r} holds {odd!r}; expected texts, whole numbers or classes")
    return ["" if value is None else class_name(str(value)) for value in values]


def _stored(part: Any, index: int, column: str) -> bytes | NDArray[np.generic]:
    """The bytes of an image, or its pixels.

    Raises:
        ValueError: it has neither.
    """
    value = part[index][column]
    if isinstance(value, dict):
        content = value.get("bytes")
        if not isinstance(content, bytes):
            raise ValueError("its bytes are not in the data set, only a path, which is not followed")
        return content
    if value is None:
        raise ValueError("it is empty")
    pixels: NDArray[np.generic] = np.asarray(value)
    return pixels
