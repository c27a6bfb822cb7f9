"""What a site and its callers exchange: the question for a score, and the capabilities of a site. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping

from fednet.diffusion.expert import COMBINABLE, ExpertCard
from fednet.diffusion.sde import SDEConfig
from fednet.errors import MethodError
from fednet.methods.common.capabilities import ONE_CONFIGURATION, ImageCapabilities, read_capabilities

SCORE = "score"
"""The question: what the score is at (x, t)."""


class ScoreCapabilities(ImageCapabilities):
    """What a site says of itself.

    Attributes:
        pictures: number of its images, its weight under `data-size`.
        histogram: number of its images of each class.
        conditional: whether its model knows labels.
        sde: the forward diffusion at whose marginals the model answers.
        expert: what the model is.
        steps: batches that it was trained on here; 0 for a model that the site has brought along.
        loss: mean training loss over the last tenth of them.
        seconds: how long it trained; 0 where it did not.
    """

    pictures: int
    histogram: tuple[int, ...]
    conditional: bool
    sde: SDEConfig
    expert: ExpertCard
    steps: int = 0
    loss: float | None = None
    seconds: float = 0.0


MODELS_FIT = "only models with the same of it draw together; set the sites' `model` accordingly, or leave one out"


def read_score_capabilities(texts: Mapping[str, str]) -> dict[str, ScoreCapabilities]:
    """The sites' capabilities by name in sorted order.

    Raises:
        MethodError: there are none, one is malformed, or they do not fit each other.
    """
    equal = {"shape": MODELS_FIT, "classes": ONE_CONFIGURATION, "conditional": MODELS_FIT, "sde": ONE_CONFIGURATION}
    capabilities = read_capabilities(texts, ScoreCapabilities, "score-inference", equal)
    (first, expected), *rest = capabilities.items()
    for name, one in rest:
        for field in COMBINABLE:
            values = [getattr(each.expert, field) for each in (one, expected)]
            if values[0] != values[1]:
                raise MethodError(f"{name} and {first} differ in {field} ({values[0]} and {values[1]}): {MODELS_FIT}")
    return capabilities
