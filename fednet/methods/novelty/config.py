"""The configuration of the federated classifier and its detectors, with its defaults; checked before anything runs.

How contributions become one model is configured in `fednet.federated.config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.data.classes import ClassRef, labels_of
from fednet.data.site_data import check_data
from fednet.diffusion.config import MaskKind, ScoreTrainConfig
from fednet.diffusion.sde import VP, SDEConfig
from fednet.errors import DataError
from fednet.federated.config import Federation
from fednet.methods.common.config import ConfigSection, DisclosureConfig, ImageConfig, Permission, RealPicturesConfig
from fednet.metrics.config import DistanceName
from fednet.models.config import UNetConfig


class DetectorConfig(BaseModel):
    """How a detector looks at a picture.

    Attributes:
        mask: what is taken away, see `fednet.diffusion.masks`.
        blocks: squares of a checkerboard along each edge.
        reconstructions: of a picture; the score is the median of their distances.
        steps: of the reverse SDE, for each reconstruction.
        resamplings: how often each step is taken (RePaint): more fit the hole better to the known pixels, and cost as
            much more.
        distance: between a picture and its reconstruction; "perceptual" needs a trained LeNet, "lpips" the published
            weights.
        false_alarms: the share of pictures that belong which a calibrated threshold may call novel.
        batch: reconstructions drawn at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: MaskKind = "alternating"
    blocks: int = Field(default=4, ge=2, le=256)
    reconstructions: int = Field(default=10, ge=1, le=1000)
    steps: int = Field(default=100, ge=1, le=10_000)
    resamplings: int = Field(default=1, ge=1, le=100)
    distance: DistanceName = "mse"
    false_alarms: float = Field(default=0.05, gt=0.0, lt=1.0)
    batch: int = Field(default=128, ge=1)


class ClassifierTrainConfig(BaseModel):
    """How a classifier is trained.

    Attributes:
        epochs: passes over the chosen pictures; one where neither `epochs` nor `steps` is given.
        steps: instead of `epochs`: number of batches.
        batch: pictures a step.
        lr: step size of SGD.
        momentum: of SGD; it starts anew with every training.
        mu: weight of FedProx's term, which pulls towards the model that the round began with; 0 is FedAvg.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=16, ge=1)
    lr: float = Field(default=0.05, gt=0.0)
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    mu: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_budget(self) -> ClassifierTrainConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give `epochs` or `steps`, not both")
        return self

    def batches(self, images: int) -> int:
        """The number of batches that the budget buys for `images` pictures."""
        return self.steps or (self.epochs or 1) * -(-images // self.batch)


LabelList = Annotated[tuple[ClassRef, ...], Field(min_length=1)]
"""Classes by name or number."""


@dataclass(frozen=True)
class FlowLabels:
    """The classes of a flow's steps as labels, and the names of all classes."""

    classes: tuple[str, ...]
    first: tuple[int, ...]
    unseen: tuple[int, ...]
    shares: tuple[tuple[int, ...], ...]
    belongs: tuple[tuple[int, ...], ...]

    def known(self) -> tuple[int, ...]:
        """The labels of the classifier's rounds."""
        return tuple(sorted({label for share in self.shares for label in share}))

    def inside(self) -> tuple[int, ...]:
        """The labels that belong."""
        return tuple(sorted({label for share in self.belongs for label in share}))


class DetectorTrainingConfig(ConfigSection):
    """The diffusion model of what belongs, and how a picture is compared with it.

    Attributes:
        unet: the shape of its network; it is unconditional.
        sde: its forward diffusion.
        train: how it is trained, in a round and by a site on its own; `steps` is what one round takes.
        alone: batches of the training of a site's own detector.
        score: how a picture is compared: mask, reconstructions, steps, distance, false alarms.
        checkpoint: the initial detector, a file of this machine that `Detector.save` wrote.
    """

    unet: UNetConfig = UNetConfig(channels=(16, 16), attention=False)
    sde: SDEConfig = VP()
    train: ScoreTrainConfig = ScoreTrainConfig(steps=100, batch=32)
    alone: int = Field(default=1000, ge=1)
    score: DetectorConfig = DetectorConfig()
    checkpoint: Path | None = None

    @model_validator(mode="after")
    def _is_unconditional(self) -> DetectorTrainingConfig:
        if self.unet.conditional:
            raise ValueError("a detector's network is unconditional: leave unet.conditional out")
        return self


class NoveltyPipelineConfig(ConfigSection):
    """The steps of the run's job, the source's example.

    Attributes:
        first: classes that one site trains the classifier on, before its model is set everywhere.
        first_epochs: of that training.
        unseen: classes that this model has never seen.
        shares: classes that the sites train on in the rounds, dealt to them in the order of their names.
        rounds: rounds of the classifier.
        mu: of FedProx in these rounds.
        belongs: classes that the sites' detectors are trained on, dealt in the same way; every other class is novel.
        detector_rounds: rounds of the detector; 0 for no detectors.
        tested: test pictures that the detectors score, half of them novel.
        pictured: how many of them are shown with their reconstructions.
        passes: of dropout, for the uncertainty.
    """

    first: LabelList = (0, 1, 2)
    first_epochs: int = Field(default=10, ge=1)
    unseen: LabelList = (3, 4)
    shares: tuple[LabelList, ...] = Field(default=((0, 1, 2, 3), (0, 1, 2, 4)), min_length=1)
    rounds: int = Field(default=3, ge=1)
    mu: float = Field(default=0.01, ge=0.0, allow_inf_nan=False)
    belongs: tuple[LabelList, ...] = Field(default=((0, 1, 2), (2, 3, 4)), min_length=1)
    detector_rounds: int = Field(default=10, ge=0)
    tested: int = Field(default=120, ge=4)
    pictured: int = Field(default=6, ge=2)
    passes: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _unseen_is_unseen(self) -> NoveltyPipelineConfig:
        if both := sorted(map(str, set(self.first) & set(self.unseen))):
            raise ValueError(f"flow.first and flow.unseen share the classes {both}")
        return self

    def labels(self, classes: Sequence[str]) -> FlowLabels:
        """The labels of the steps.

        Raises:
            UnknownClass: a step names a class that there is not.
        """

        def labels(key: str, names: tuple[int | str, ...]) -> tuple[int, ...]:
            default = "" if key in self.model_fields_set else "the default of "
            return labels_of(names, classes, f"{default}flow.{key}")

        return FlowLabels(
            tuple(classes),
            labels("first", self.first),
            labels("unseen", self.unseen),
            tuple(labels("shares", share) for share in self.shares),
            tuple(labels("belongs", share) for share in self.belongs),
        )


class NoveltyDisclosureConfig(DisclosureConfig):
    """What a site answers from its private pictures without noise.

    Attributes:
        calibrate: thresholds of its detectors from its held-out pictures, and their scores; detectors need it.
        evaluate: how good the classifier is on its held-out pictures.
    """

    calibrate: Permission | None = None
    evaluate: Permission | None = None


class NoveltyConfig(ImageConfig):
    """Everything that can be set for one run.

    Attributes:
        held_out: the part of each class that a site keeps from all training, to measure and to calibrate with.
        dropout: of the classifier.
        classifier: how it is trained.
        detector: what belongs.
        federation: how contributions become one model.
        flow: the steps of the job.
        report: whether real pictures are shown with their reconstructions.
        disclose: what a site answers from its private pictures without noise.
    """

    held_out: float = Field(default=0.2, gt=0.0, lt=1.0)
    dropout: float = Field(default=0.3, gt=0.0, lt=1.0)
    classifier: ClassifierTrainConfig = ClassifierTrainConfig()
    detector: DetectorTrainingConfig = DetectorTrainingConfig()
    federation: Federation = Federation()
    flow: NoveltyPipelineConfig = NoveltyPipelineConfig()
    report: RealPicturesConfig = RealPicturesConfig()
    disclose: NoveltyDisclosureConfig = NoveltyDisclosureConfig()


def held_out_count(pictures: int, part: float) -> int:
    """How many of a class's pictures are held out: a part, rounded up, as long as one is left."""
    return min(-int(-part * pictures // 1), pictures - 1)


def check(config: NoveltyConfig, overrides: Mapping[str, Any] | None = None) -> None:
    """Checks that the data, those of a site with `overrides`, and a detector's checkpoint exist.

    Raises:
        DataError: they are missing or malformed.
    """
    checkpoint = config.detector.checkpoint
    if checkpoint is not None and not checkpoint.expanduser().is_file():
        raise DataError(
            f"detector.checkpoint: {checkpoint} is no file; leave it out to begin with an untrained network"
        )
    check_data(config.data, overrides)
