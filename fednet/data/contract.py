"""What a data set is: one typed value, the same for the built-in data sets and for those of other packages.

A module defines `DATASET = Dataset(...)`. It is found by the entry-point group `fednet.data`, or where a configuration
says `data: {name: my_package.my_module}`. Configurations are checked with it, so nothing that its module imports at its
top may import torch: `read` imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fednet.data.config import DataConfig
    from fednet.data.listing import ImageListing
    from fednet.data.pools import DataSource


@dataclass(frozen=True)
class DataOutline:
    """What can be said of a data set before its pictures are read.

    Attributes:
        classes: the classes' names; none where the pictures have no labels.
        shape: channels, height and width of a picture.
        counts: how many training pictures there are of each class, in any order; of those without a label, one number.
            None where that is not known without a look at their order, of which `limit` takes the first.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """A labelled image data set.

    Attributes:
        name: in a configuration's `data`.
        summary: one line: what it is, and what its folder holds.
        read: opens it: `read(config)` gives pools of labels at once and reads images when they are asked for; nothing
            is downloaded. Raises DataError where it is missing or malformed.
        root: whether a configuration must name a folder that holds it.
        extra: the requirement that installs its libraries, as pip takes it (`fednet[images]`); empty where the core
            suffices.
        requires: the top-level modules of these libraries.
        keys: the keys of `data` that it takes beside those that all do: of `file`, `columns`, `object`, `options`.
        listings: lists its images by part (`all`, or `train` and `test`), where it can; a survey reads each of them.
        outline: says what is known of it without torch, where that needs no list: `outline(config)`.
    """

    name: str
    summary: str
    read: Callable[[DataConfig], DataSource]
    root: Literal["required", "optional", "none"] = "required"
    extra: str = ""
    requires: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    listings: Callable[[DataConfig], dict[str, ImageListing]] | None = None
    outline: Callable[[DataConfig], DataOutline] | None = None
