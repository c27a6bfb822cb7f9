"""The words between a site and whoever asks it: models, asks, options, and the card that a site shows.

Reads options with care, since they come from outside. Knows no model and no picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from fednet.api import Scalar
from fednet.errors import MethodError
from fednet.methods.common.capabilities import ONE_CONFIGURATION
from fednet.methods.common.capabilities import read_capabilities as read
from fednet.methods.novelty.labels import Labels

CLASSIFIER, DETECTOR, OWN_DETECTOR = "classifier", "detector", "own-detector"
"""The models: two that rounds make and everybody has, and the detector that never leaves its site."""
SHARED_MODELS = (CLASSIFIER, DETECTOR)
MODELS = (*SHARED_MODELS, OWN_DETECTOR)
DETECTORS = (DETECTOR, OWN_DETECTOR)

TRAIN, AVERAGE = "train", "average"
"""What a round can be for."""

MAX_COUNT = 1_000_000
"""Steps, epochs or passes that may be asked for."""


class NoveltyCapabilities(BaseModel):
    """What a site says of itself.

    Attributes:
        histogram: its pictures of each class, to learn from.
        held_out: its pictures of each class that nothing learns from.
        classes: the classes' names.
        shape: channels, height and width of a picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    histogram: tuple[int, ...]
    held_out: tuple[int, ...]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]

    def labels(self) -> Labels:
        """The labels of which the site has pictures to learn from."""
        return tuple(label for label, count in enumerate(self.histogram) if count)


def read_novelty_capabilities(capabilities: Mapping[str, str]) -> dict[str, NoveltyCapabilities]:
    """The cards by name, checked.

    Raises:
        MethodError: there are none, they are malformed, or the sites' pictures do not fit each other.
    """
    return read(capabilities, NoveltyCapabilities, "novelty", dict.fromkeys(("shape", "classes"), ONE_CONFIGURATION))


def choice_option(options: Mapping[str, Scalar], name: str, allowed: tuple[str, ...], default: str) -> str:
    """An option that is one of a few words.

    Raises:
        MethodError: it is another.
    """
    value = options.get(name, default)
    if value not in allowed:
        raise MethodError(f"option {name} is one of {', '.join(allowed)}, not {_shown(value)}")
    return str(value)


def integer_option(options: Mapping[str, Scalar], name: str, default: int | None, least: int = 1) -> int | None:
    """An option that is a whole number, from `least` to a million.

    Raises:
        MethodError: it is anything else.
    """
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
        raise MethodError(f"option {name} is a whole number from {least} to {MAX_COUNT}, not {_shown(value)}")
    return value


def number_option(options: Mapping[str, Scalar], name: str) -> float | None:
    """An option that is a number of at least 0; None where it is not there.

    Raises:
        MethodError: it is anything else.
    """
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise MethodError(f"option {name} is a number of at least 0, not {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    return repr(value)[:60]
