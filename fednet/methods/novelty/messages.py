"""What a site and its callers exchange: names of models, tasks and questions, capabilities. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping

from fednet.methods.common.capabilities import ONE_CONFIGURATION, ImageCapabilities, read_capabilities
from fednet.methods.novelty.labels import Labels

CLASSIFIER, DETECTOR, OWN_DETECTOR = "classifier", "detector", "own-detector"
"""The models: two that rounds train and all sites share, and the detector that never leaves its site."""
SHARED_MODELS = (CLASSIFIER, DETECTOR)
MODELS = (*SHARED_MODELS, OWN_DETECTOR)
DETECTORS = (DETECTOR, OWN_DETECTOR)

TRAIN, AVERAGE = "train", "average"
"""The tasks of a round; TRAIN is a question, too, of a site alone."""
VALIDATE, VALIDATE_HELD_OUT = "validate", "validate-held-out"
"""The questions how good a classifier is: on given pictures, on those that the site holds out."""
CALIBRATE, HELD_OUT_SCORES, SET_THRESHOLD = "calibrate", "held-out-scores", "set-threshold"
"""Questions about a detector: a threshold from held-out pictures, their scores, and a threshold that is given."""


class NoveltyCapabilities(ImageCapabilities):
    """What a site says of itself.

    Attributes:
        histogram: its training pictures of each class.
        held_out: its pictures of each class that nothing is trained on.
    """

    histogram: tuple[int, ...]
    held_out: tuple[int, ...]

    def labels(self) -> Labels:
        """The labels of which the site has training pictures."""
        return tuple(label for label, count in enumerate(self.histogram) if count)


def read_novelty_capabilities(texts: Mapping[str, str]) -> dict[str, NoveltyCapabilities]:
    """The sites' capabilities by name in sorted order.

    Raises:
        MethodError: there are none, one is malformed, or the sites' pictures do not fit each other.
    """
    equal = dict.fromkeys(("shape", "classes"), ONE_CONFIGURATION)
    return read_capabilities(texts, NoveltyCapabilities, "novelty", equal)
