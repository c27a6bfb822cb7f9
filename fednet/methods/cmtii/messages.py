"""What a site and its callers exchange: names of tasks, questions and arms, options, capabilities. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from fednet.api import Scalar
from fednet.methods.common.capabilities import ONE_CONFIGURATION, ImageCapabilities, read_capabilities
from fednet.methods.common.options import choice, required_whole_number

MODELS_DIFFER_HINT = (
    "a pseudo-word means something else in other models: give both sites the same files (for the small models copy one "
    "site's store, backend.store, to the other)"
)
LEARN, TUNE = "learn", "tune"
"""The tasks of an exchange: learn pseudo-words and offer them, or tune the image encoder, which offers nothing."""
EVALUATE, EVALUATE_OWN, EVALUATE_GENERATED, LEAKAGE = "evaluate", "evaluate-own", "evaluate-generated", "leakage"
"""The questions: an arm on given pictures, on the site's own test; measures of generated pictures; attacks on words."""

CmtiiArm = Literal["zero-shot", "local", "exchange", "control"]
"""What a site classifies with.

zero-shot: names' tokens, nothing tuned. local: its own words, tuned on its own pictures. exchange: also the words of
others, and pictures generated from them. control: the same with the names' own tokens in place of the others' words.
"""
ARMS: tuple[CmtiiArm, ...] = get_args(CmtiiArm)
TUNED_ARMS: tuple[CmtiiArm, ...] = ("local", "exchange", "control")


class CmtiiCapabilities(ImageCapabilities):
    """What a site says of itself.

    Attributes:
        histogram: its training pictures of each class; counts as public.
        tests: how many pictures it tests itself with.
        models: digest of the token table's rows for the classes: a word means the same only where it is the same.
        parameters: of its image encoder.
    """

    histogram: tuple[int, ...]
    tests: int
    models: str
    parameters: int


def read_cmtii_capabilities(texts: Mapping[str, str]) -> dict[str, CmtiiCapabilities]:
    """The sites' capabilities by name in sorted order.

    Raises:
        MethodError: there are none, one is malformed, or the sites' pictures or models do not fit each other.
    """
    equal = {**dict.fromkeys(("shape", "classes"), ONE_CONFIGURATION), "models": MODELS_DIFFER_HINT}
    return read_capabilities(texts, CmtiiCapabilities, "cmtii", equal)


def parse_arm(options: Mapping[str, Scalar], allowed: tuple[CmtiiArm, ...] = ARMS) -> CmtiiArm:
    """The arm that options name.

    Raises:
        MethodError: they name none of those allowed.
    """
    return choice(options, "arm", allowed)


def parse_round(options: Mapping[str, Scalar]) -> int:
    """The round that options name.

    Raises:
        MethodError: it is no whole number from 1 on.
    """
    return required_whole_number(options, "round")
