"""Reads every image of a listing once, to count how they are stored, what is converted, and which cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fednet.data.config import DataConfig
from fednet.data.image_files import decode
from fednet.data.listing import ImageRef
from fednet.errors import UnreadableImage


@dataclass
class FileInspection:
    """What files hold.

    Attributes:
        kinds: files by format and pixels, for example "PNG RGBA".
        sizes: by width and height, after orientation.
        conversions: files by what is done to their pixels.
        colour: how many have colours.
        refused: those that cannot be read.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    colour: int = 0
    refused: list[UnreadableImage] = field(default_factory=list)


def inspect_files(files: Iterable[ImageRef], config: DataConfig) -> FileInspection:
    """Decodes files one after another, as a configuration has them decoded, and keeps no image."""
    found = FileInspection()
    for path in files:
        try:
            image = decode(path, background=config.background_value, limits=config.range)
        except UnreadableImage as error:
            found.refused.append(error)
            continue
        channels, height, width = image.values.shape
        found.kinds[image.kind] += 1
        found.sizes[width, height] += 1
        found.conversions.update(image.conversions)
        found.colour += channels == 3
    return found
