"""A site's pictures and models, and the training that both rounds and questions ask for.

The site's own detector is kept as a checkpoint, since its training is long and it never travels. Knows no other site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fednet.api import ModelState, Progress, Scalar, SiteContext
from fednet.data.datasets import ImageSet
from fednet.diffusion.training import joint_state
from fednet.errors import MethodError
from fednet.methods.common.options import number, require_known, whole_number
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.detector import Detector
from fednet.methods.novelty.export import export_detector, export_site_classifier
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
)
from fednet.methods.novelty.site_data import split_held_out
from fednet.models.unet import digest
from fednet.reporting.record import RunRecord
from fednet.seeds import derive


@dataclass(frozen=True)
class LocalTrainingTask:
    """What a model is trained on.

    Attributes:
        labels: of the pictures; None for all.
        budget: how long.
        number: which round or training it is, a part of the seed of its random numbers.
    """

    labels: Labels | None
    budget: TrainBudget
    number: int


@dataclass
class NoveltyModels:
    """The models of a site.

    Attributes:
        config: of the run.
        context: where the site lives.
        images: all of its pictures.
        trained: by model, the labels and the number of pictures of its last training here since a round closed.
    """

    config: NoveltyConfig
    context: SiteContext
    images: ImageSet
    trained: dict[str, tuple[Labels | None, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.images.shape
        self.site_data = split_held_out(self.context.name, self.images, self.config.held_out, self.context.seed)
        self.classifier = LocalClassifier(self.config, self.context, shape, len(self.images.classes))
        self.detectors = {
            DETECTOR: LocalDetector(self.config, self.context, shape),
            OWN_DETECTOR: LocalDetector(self.config, self.context, shape, alone=True),
        }

    def capabilities(self) -> NoveltyCapabilities:
        """What the site says of itself."""
        return NoveltyCapabilities(
            histogram=self.site_data.train.histogram(),
            held_out=self.site_data.held_out.histogram(),
            classes=self.images.classes,
            shape=self.images.shape,
        )

    def local(self, model: str) -> LocalModel:
        """A model by its name.

        Raises:
            MethodError: there is no model of this name.
        """
        require_known(model, MODELS, "model", self.context.name)
        return self.classifier if model == CLASSIFIER else self.detectors[model]

    def shared(self, model: str) -> LocalModel:
        """A model that may leave the site.

        Raises:
            MethodError: it may not, or there is no model of this name.
        """
        if model == OWN_DETECTOR:
            raise MethodError(
                f"the {OWN_DETECTOR} of {self.context.name} never leaves it: ask for {' or '.join(SHARED_MODELS)}"
            )
        return self.local(model)

    def detector(self, model: str) -> Detector:
        """One of the two detectors, as it is now."""
        return self.detectors[model].detector(self.classifier.net)

    def export(self, model: str) -> None:
        """Leaves a model as it is now as a folder that libraries load.

        Raises:
            OSError: it cannot be written.
        """
        folder = self.context.folder / "models" / self.context.name / model
        if model == CLASSIFIER:
            export_site_classifier(self.classifier.net, folder, self.images.shape, self.images.classes)
        else:
            export_detector(self.detector(model), folder)

    def training_task(self, options: Mapping[str, Scalar], index: int) -> LocalTrainingTask:
        """The training that options ask for.

        Raises:
            MethodError: an option is malformed, or the site has no pictures of a label.
        """
        labels = labels_for(self.context.name, options, len(self.images.classes))
        if labels is None and any(name.startswith("labels.") for name in options):
            raise MethodError(f"{self.context.name} has no labels in this task, other sites have: it takes no part")
        epochs, steps = whole_number(options, "epochs", None), whole_number(options, "steps", None)
        if epochs is not None and steps is not None:
            raise MethodError("give epochs or steps, not both")
        self.site_data.training_images(labels)
        return LocalTrainingTask(labels, TrainBudget(epochs, steps, number(options, "mu"), max(0, index - 1)), index)

    def trained_from(
        self, model: str, base: ModelState, task: LocalTrainingTask, progress: Progress
    ) -> tuple[LocalTrainingResult, int]:
        """What `base` becomes by a training, and on how many pictures; no model of the site changes.

        Raises:
            MethodError: the training diverges.
            Stopped: `progress` asks for the end.
        """
        pictures = self.site_data.training_images(task.labels)
        seed = derive(self.context.seed, "train", self.context.name, model, task.number)
        with RunRecord(self.context.folder, self.context.name) as record:
            result = self.local(model).train(base, pictures, task.budget, seed=seed, progress=progress)
            for key, value in result.values.items():
                record.scalar(f"{model}/{key}", value, task.number)
        return result, len(pictures)

    def train_copy(
        self, model: str, task: LocalTrainingTask, *, fresh: bool, progress: Progress
    ) -> LocalTrainingResult:
        """Trains the site's copy of a model, from its present state or from its initial one.

        The site's own detector is always trained anew, or read from its checkpoint.

        Raises:
            MethodError: the training diverges.
            Stopped: `progress` asks for the end.
        """
        local = self.local(model)
        base = local.initial_state() if fresh or model == OWN_DETECTOR else local.state()
        path = self.checkpoint(task)
        if model == OWN_DETECTOR and path.exists():
            result, count = _load_checkpoint(path), len(self.site_data.training_images(task.labels))
        else:
            result, count = self.trained_from(model, base, task, progress)
        local.take(result.state, f"the training of {self.context.name}")
        self.trained[model] = (task.labels, count)
        if model == OWN_DETECTOR and not path.exists():
            self.detector(OWN_DETECTOR).save(path)
        self.export(model)
        return result

    def checkpoint(self, task: LocalTrainingTask) -> Path:
        """The file of the site's own detector; its name is a digest of the pictures and training that it comes from."""
        config = self.config.model_dump(mode="json", include={"held_out", "detector"})
        place = [self.context.index, self.context.count, self.context.seed, self.images.digest()]
        what = [task.labels, task.number, task.budget.epochs, task.budget.steps]
        return (
            self.context.folder
            / "checkpoints"
            / f"{self.context.name}-{OWN_DETECTOR}-{digest([config, place, what])}.safetensors"
        )


def _load_checkpoint(path: Path) -> LocalTrainingResult:
    net = Detector.load(path).net
    return LocalTrainingResult(joint_state(net, net), {"recalled": 1.0})
