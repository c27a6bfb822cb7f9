"""The words between a site and whoever asks it: works, asks, arms, and the card that a site shows.

Reads options with care, since they come from outside. Knows no model and no picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from fednet.api import Scalar
from fednet.errors import MethodError
from fednet.methods.common.capabilities import ONE_CONFIGURATION
from fednet.methods.common.capabilities import read_capabilities as read

MODELS_DIFFER_HINT = (
    "the same word means something else in other models: give both the same files (for the embedded models copy one "
    "site's store, backend.store, to the other)"
)
LEARN, TUNE = "learn", "tune"
"""What a call can be for: to learn words and offer them, or to tune the image encoder, which offers nothing."""

CmtiiArm = Literal["zero-shot", "local", "exchange", "control"]
"""What a site classifies with.

zero-shot: names' tokens, nothing tuned. local: its own words, tuned on its own pictures. exchange: also the words of
others, and pictures painted from them. control: the same with the names' own tokens in place of the others' words.
"""
ARMS: tuple[CmtiiArm, ...] = get_args(CmtiiArm)
TUNED_ARMS: tuple[CmtiiArm, ...] = ("local", "exchange", "control")


class CmtiiCapabilities(BaseModel):
    """What a site says of itself.

    Attributes:
        histogram: how many pictures of each class it trains on; counts as public.
        tests: how many pictures it tests itself with.
        classes: the classes' names.
        shape: channels, height and width of a picture.
        models: digest of what its token table has for the classes: a word means the same only where it is the same.
        parameters: of its image encoder.
        common: whether its pictures are a share of the run's data, not its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    histogram: tuple[int, ...]
    tests: int
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    models: str
    parameters: int
    common: bool


def read_cmtii_capabilities(capabilities: Mapping[str, str]) -> dict[str, CmtiiCapabilities]:
    """The cards by name, checked.

    Raises:
        MethodError: there are none, they are malformed, or the sites' pictures or models do not fit each other.
    """
    return read(
        capabilities,
        CmtiiCapabilities,
        "cmtii",
        {**dict.fromkeys(("shape", "classes"), ONE_CONFIGURATION), "models": MODELS_DIFFER_HINT},
    )


def parse_arm(options: Mapping[str, Scalar], allowed: tuple[CmtiiArm, ...] = ARMS) -> CmtiiArm:
    """The arm that options name.

    Raises:
        MethodError: they name none of those allowed.
    """
    for arm in allowed:
        if options.get("arm") == arm:
            return arm
    raise MethodError(f"the arm must be one of {', '.join(allowed)}, not {str(options.get('arm'))[:40]!r}")


def parse_round(options: Mapping[str, Scalar]) -> int:
    """The round that options name.

    Raises:
        MethodError: it is no number from 1 on.
    """
    found = options.get("round")
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= 1_000_000:
        raise MethodError(f"the round must be a number from 1 on, not {str(found)[:40]!r}")
    return found
