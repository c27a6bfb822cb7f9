"""What a run has measured so far: accuracies by round, scores of test pictures by detector, examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fednet.api import RoundRecord
from fednet.methods.novelty.inference import NoveltyInference
from fednet.methods.novelty.validation import ClassifierValidation, pooled

Validations = Mapping[str, ClassifierValidation]
"""By site, on pictures of the asker's, or on those that each site holds out of the labels that it has."""

SHARED_DETECTOR, OWN_DETECTORS = "detector of the rounds", "own detectors, lowest ratio"
NEAREST_NEIGHBOUR, MAX_SOFTMAX = "baseline: nearest neighbour", "baseline: largest softmax"
"""Names of detectors and baselines in the results."""


@dataclass(frozen=True)
class FirstModel:
    """One site's model, set everywhere.

    Attributes:
        teacher: the site that trained it.
        alone: its accuracy there, on the labels that it was trained on; None where no picture of them is held out.
        seen: by site, on the labels that it was trained on.
        unseen: by site, on labels that it never saw.
        closed: the record of the round that set it everywhere.
    """

    teacher: str
    alone: ClassifierValidation | None
    seen: Validations
    unseen: Validations
    closed: RoundRecord


@dataclass(frozen=True)
class ClassifierRound:
    """A round of the classifier, and the accuracy of every site's copy after it."""

    closed: RoundRecord
    sites: Validations

    @property
    def together(self) -> ClassifierValidation:
        """The accuracy on the pictures of all sites."""
        return pooled(self.sites)


@dataclass(frozen=True)
class DetectorRound:
    """A round of the shared detector."""

    closed: RoundRecord


@dataclass(frozen=True)
class DetectorScores:
    """The scores of test pictures by one detector or baseline.

    Attributes:
        inside: of pictures that belong.
        outside: of novel ones; none where there are none to measure with.
        threshold: above it a picture is novel; None for a detector without one.
    """

    inside: tuple[float, ...]
    outside: tuple[float, ...]
    threshold: float | None


@dataclass(frozen=True)
class NoveltyTrials:
    """The scores of the test pictures.

    Attributes:
        detectors: by detector or baseline.
        thresholds: of the shared detector ("together") and of the sites' own ones ("alone"), by site.
        held_out: whether the pictures are those that the sites hold out, and no picture is scored by two sites.
    """

    detectors: Mapping[str, DetectorScores]
    thresholds: Mapping[str, Mapping[str, float]]
    held_out: bool = False


@dataclass(frozen=True)
class NoveltyFindings:
    """What was measured so far.

    Attributes:
        first: one site's model, set everywhere.
        rounds: of the classifier.
        detector: its rounds.
        trials: scores of test pictures by detector.
        shown: the label of some pictures and what the cluster infers of them.
    """

    first: FirstModel | None = None
    rounds: tuple[ClassifierRound, ...] = ()
    detector: tuple[DetectorRound, ...] = ()
    trials: NoveltyTrials | None = None
    shown: tuple[tuple[int, NoveltyInference], ...] = ()
