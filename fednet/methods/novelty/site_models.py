"""A site's pictures and models together, and the training that both rounds and questions ask for.

The site's own detector is kept as a checkpoint, since it is trained at length and never travels. Knows no other site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fednet.api import ModelState, Progress, Scalar, SiteContext
from fednet.data.datasets import ImageSet
from fednet.diffusion.training import joint_state
from fednet.errors import MethodError
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.detector import Detector
from fednet.methods.novelty.labels import Labels, labels_for
from fednet.methods.novelty.local_models import (
    LocalClassifier,
    LocalDetector,
    LocalModel,
    LocalTrainingResult,
    TrainBudget,
)
from fednet.methods.novelty.messages import (
    CLASSIFIER,
    DETECTOR,
    MODELS,
    OWN_DETECTOR,
    SHARED_MODELS,
    NoveltyCapabilities,
    integer_option,
    number_option,
)
from fednet.methods.novelty.site_data import split_held_out
from fednet.models.unet import digest
from fednet.reporting.record import RunRecord
from fednet.seeds import derive


@dataclass(frozen=True)
class LocalTrainingTask:
    """What a model is to learn.

    Attributes:
        labels: of the pictures; None for all.
        budget: how long.
        number: which round or training it is, a part of the purpose of its random numbers.
    """

    labels: Labels | None
    budget: TrainBudget
    number: int


@dataclass
class NoveltyModels:
    """The models of a site that has its pictures.

    Attributes:
        taught: by model, the labels and the number of pictures of its last training here since it was taken over.
    """

    config: NoveltyConfig
    site: SiteContext
    share: ImageSet
    taught: dict[str, tuple[Labels | None, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.share.shape
        self.holdings = split_held_out(self.site.name, self.share, self.config.held_out, self.site.seed)
        self.classifier = LocalClassifier(self.config, self.site, shape, len(self.share.classes))
        self.detectors = {
            DETECTOR: LocalDetector(self.config, self.site, shape),
            OWN_DETECTOR: LocalDetector(self.config, self.site, shape, alone=True),
        }

    def card(self) -> NoveltyCapabilities:
        """What the site says of itself."""
        have = self.holdings
        return NoveltyCapabilities(
            histogram=have.train.histogram(),
            held_out=have.held_out.histogram(),
            classes=self.share.classes,
            shape=self.share.shape,
        )

    def learner(self, model: str) -> LocalModel:
        """A model by its name.

        Raises:
            MethodError: there is none of that name.
        """
        if model not in MODELS:
            raise MethodError(f"{self.site.name} has the models {', '.join(MODELS)}, not {model[:40]!r}")
        return self.classifier if model == CLASSIFIER else self.detectors[model]

    def shared(self, model: str) -> LocalModel:
        """A model that may leave the site.

        Raises:
            MethodError: it may not, or there is none of that name.
        """
        if model == OWN_DETECTOR:
            raise MethodError(
                f"the {OWN_DETECTOR} of {self.site.name} never leaves it: ask for {' or '.join(SHARED_MODELS)}"
            )
        return self.learner(model)

    def detector(self, model: str) -> Detector:
        """One of the two detectors, as it is now."""
        return self.detectors[model].detector(self.classifier.net)

    def lesson(self, options: Mapping[str, Scalar], number: int) -> LocalTrainingTask:
        """What options ask to learn.

        Raises:
            MethodError: they are not understood, or the site has no pictures of a label.
        """
        labels = labels_for(self.site.name, options, len(self.share.classes))
        if labels is None and any(name.startswith("labels.") for name in options):
            raise MethodError(f"{self.site.name} is given no labels, others are: it takes no part")
        epochs, steps = integer_option(options, "epochs", None), integer_option(options, "steps", None)
        if epochs is not None and steps is not None:
            raise MethodError("give epochs or steps, not both")
        self.holdings.training_images(labels)
        return LocalTrainingTask(
            labels, TrainBudget(epochs, steps, number_option(options, "mu"), max(0, number - 1)), number
        )

    def learn(
        self, model: str, base: ModelState, lesson: LocalTrainingTask, progress: Progress
    ) -> tuple[LocalTrainingResult, int]:
        """What `base` becomes by a lesson, and from how many pictures; no model of the site changes.

        Raises:
            MethodError: the training diverges.
            Stopped: the watch asks for the end.
        """
        pictures = self.holdings.training_images(lesson.labels)
        seed = derive(self.site.seed, "train", self.site.name, model, lesson.number)
        with RunRecord(self.site.folder, self.site.name) as record:
            learned = self.learner(model).learn(base, pictures, lesson.budget, seed=seed, progress=progress)
            for key, value in learned.values.items():
                record.scalar(f"{model}/{key}", value, lesson.number)
        return learned, len(pictures)

    def train_copy(
        self, model: str, lesson: LocalTrainingTask, *, fresh: bool, progress: Progress
    ) -> LocalTrainingResult:
        """Trains the site's copy of a model, from where it is or from its beginning.

        The site's own detector always begins anew, or comes from its checkpoint.

        Raises:
            MethodError: the training diverges.
            Stopped: the watch asks for the end.
        """
        learner = self.learner(model)
        base = learner.initial_state() if fresh or model == OWN_DETECTOR else learner.state()
        path = self.checkpoint(lesson)
        if model == OWN_DETECTOR and path.exists():
            learned, count = _load_checkpoint(path), len(self.holdings.training_images(lesson.labels))
        else:
            learned, count = self.learn(model, base, lesson, progress)
        learner.take(learned.state, f"what {self.site.name} has learnt")
        self.taught[model] = (lesson.labels, count)
        if model == OWN_DETECTOR and not path.exists():
            self.detector(OWN_DETECTOR).save(path)
        return learned

    def checkpoint(self, lesson: LocalTrainingTask) -> Path:
        """Where the site's own detector lies: the name says which data and training it comes from."""
        config = self.config.model_dump(mode="json", include={"data", "partition", "held_out", "detector"})
        place = [self.site.index, self.site.count, self.site.seed, self.holdings.train.histogram()]
        what = [lesson.labels, lesson.number, lesson.budget.epochs, lesson.budget.steps]
        return (
            self.site.folder
            / "checkpoints"
            / f"{self.site.name}-{OWN_DETECTOR}-{digest([config, place, what])}.safetensors"
        )


def _load_checkpoint(path: Path) -> LocalTrainingResult:
    net = Detector.load(path).net
    return LocalTrainingResult(joint_state(net, net), {"recalled": 1.0})
