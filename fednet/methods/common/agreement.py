"""What sites with pictures announce before anything trains, and what they agree on: one list of classes, one shape.

The same conclusion at every site from the same announcements, whatever their order. Knows no method and no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from fednet.data.classes import run_classes
from fednet.errors import DataError, MethodError
from fednet.text import plain_json


class DataAnnouncement(BaseModel):
    """What a site tells the others of its pictures.

    Attributes:
        classes: the names of its classes; none where its pictures have no labels.
        shape: channels, height and width of a picture.
        own: whether its pictures are its own, and no share of the run's data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    own: bool


def read_announcements(texts: Mapping[str, str]) -> dict[str, DataAnnouncement]:
    """The sites' announcements by name in sorted order.

    Raises:
        MethodError: one is malformed.
    """
    announced = {}
    for name, text in sorted(texts.items()):
        try:
            announced[name] = DataAnnouncement.model_validate(plain_json(json.loads(text)))
        except (ValueError, RecursionError) as error:  # pydantic's ValidationError is one
            raise MethodError(f"{name} has announced no pictures of this version: {error}") from error
    return announced


def agreed_classes(announced: Mapping[str, DataAnnouncement], labelled: str = "") -> tuple[str, ...]:
    """The classes of the run: the union of the sites'.

    Args:
        announced: by site.
        labelled: what needs a label for every picture, for the message; empty where nothing does.

    Raises:
        DataError: the sites' pictures differ in shape, or some have no labels where they need them.
    """
    shapes = {name: one.shape for name, one in announced.items()}
    if len(set(shapes.values())) > 1:
        listed = "; ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
        raise DataError(
            f"the sites' pictures differ in channels, height or width ({listed}): set data.size and data.channels to "
            "bring all to one shape"
        )
    unlabelled = sorted(name for name, one in announced.items() if not one.classes)
    if labelled and unlabelled:
        raise DataError(
            f"{labelled} needs labels, and the pictures of {', '.join(unlabelled)} have none: put them in one folder "
            "per class, or leave the site out of nodes"
        )
    return run_classes({name: one.classes for name, one in announced.items()})
