"""What a site and its callers exchange: the question for a score, and the capabilities of a site. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping

from fednet.diffusion.sde import SDEConfig
from fednet.methods.common.capabilities import ONE_CONFIGURATION, ImageCapabilities, read_capabilities

SCORE = "score"
"""The question: what the score is at (x, t)."""


class ScoreCapabilities(ImageCapabilities):
    """What a site says of itself.

    Attributes:
        pictures: number of its images, its weight under `data-size`.
        histogram: number of its images of each class.
        conditional: whether its model knows labels.
        sde: the forward diffusion that the model was trained for.
        architecture: digest of the network and the SDE.
        steps: batches that it was trained on.
        loss: mean training loss over the last tenth of them.
        seconds: how long it trained; 0 where its checkpoint existed already.
    """

    pictures: int
    histogram: tuple[int, ...]
    conditional: bool
    sde: SDEConfig
    architecture: str
    steps: int
    loss: float
    seconds: float


def read_score_capabilities(texts: Mapping[str, str]) -> dict[str, ScoreCapabilities]:
    """The sites' capabilities by name in sorted order.

    Raises:
        MethodError: there are none, one is malformed, or they do not fit each other.
    """
    equal = dict.fromkeys(("shape", "classes", "conditional", "sde"), ONE_CONFIGURATION)
    return read_capabilities(texts, ScoreCapabilities, "score-inference", equal)
