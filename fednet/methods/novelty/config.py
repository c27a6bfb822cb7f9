"""What can be set for the federated classifier with its detectors, with its defaults; checked before anything runs.

How the classifier is trained stands in `fitting.py`, what a detector is in `detector.py`, how contributions become
one model in `fednet.federated.config`. This module knows how they fit together, and the steps of the run's job.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.data.config import DataConfig, PartitionConfig
from fednet.data.site_data import check_data
from fednet.diffusion.sde import VP, SDEConfig
from fednet.diffusion.training import ScoreTrainConfig
from fednet.errors import DataError
from fednet.federated.config import Federation
from fednet.methods.novelty.detector import DetectorConfig
from fednet.methods.novelty.training import ClassifierTrainConfig
from fednet.models.unet import UNetConfig

LabelList = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
"""Class numbers."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DetectorTrainingConfig(_Section):
    """The diffusion model of what belongs, and how a picture is compared with it.

    Attributes:
        unet: the shape of its network; it is unconditional.
        sde: its forward diffusion.
        train: how it is trained, in a round and by a site on its own; `steps` is what one round takes.
        alone: batches that a site trains a detector of its own with.
        score: how a picture is compared: mask, reconstructions, steps, distance, false alarms.
        checkpoint: a detector to begin with, a file of this machine that `Detector.save` wrote.
    """

    unet: UNetConfig = UNetConfig(channels=(16, 16), attention=False)
    sde: SDEConfig = VP()
    train: ScoreTrainConfig = ScoreTrainConfig(steps=100, batch=32)
    alone: int = Field(default=1000, ge=1)
    score: DetectorConfig = DetectorConfig()
    checkpoint: Path | None = None

    @model_validator(mode="after")
    def _knows_no_labels(self) -> DetectorTrainingConfig:
        if self.unet.conditional:
            raise ValueError("a detector's network is told no labels: leave unet.conditional out")
        return self


class NoveltyPipelineConfig(_Section):
    """The steps of the run's job, the source's example.

    Attributes:
        first: labels that one site trains the classifier on, before its model is set everywhere.
        first_epochs: how long that takes.
        unseen: labels that such a model cannot know.
        shares: labels that the sites train on in the rounds, dealt to them in the order of their names.
        rounds: rounds of the classifier.
        mu: FedProx's pull in these rounds.
        belongs: labels that the sites' detectors are trained on, dealt in the same way; every other label is novel.
        detector_rounds: rounds of the detector; 0 leaves it out.
        tested: test pictures that the detectors are tried on, half of them novel.
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
        if both := sorted(set(self.first) & set(self.unseen)):
            raise ValueError(f"flow.first and flow.unseen share the labels {both}")
        return self

    def known(self) -> tuple[int, ...]:
        """The labels of the classifier's rounds."""
        return tuple(sorted({label for share in self.shares for label in share}))

    def inside(self) -> tuple[int, ...]:
        """The labels that belong."""
        return tuple(sorted({label for share in self.belongs for label in share}))


class NoveltyConfig(_Section):
    """Everything that can be set for one run.

    Attributes:
        data: the pictures.
        partition: how they are divided among the sites.
        held_out: the part of each class that a site keeps from all training, to measure and to calibrate with.
        dropout: of the classifier.
        classifier: how it is trained.
        detector: what belongs.
        federation: how contributions become one model.
        flow: the steps of the job.
    """

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="homogeneous")
    held_out: float = Field(default=0.2, gt=0.0, lt=1.0)
    dropout: float = Field(default=0.3, gt=0.0, lt=1.0)
    classifier: ClassifierTrainConfig = ClassifierTrainConfig()
    detector: DetectorTrainingConfig = DetectorTrainingConfig()
    federation: Federation = Federation()
    flow: NoveltyPipelineConfig = NoveltyPipelineConfig()


def check(config: NoveltyConfig, own: Mapping[str, Any] | None = None) -> None:
    """Looks whether the data, those of a site with `own`, and a detector's checkpoint are where they are said to be.

    Raises:
        DataError: they are not, or they are malformed.
    """
    checkpoint = config.detector.checkpoint
    if checkpoint is not None and not checkpoint.expanduser().is_file():
        raise DataError(
            f"detector.checkpoint: {checkpoint} is no file; leave it out to begin with an untrained network"
        )
    check_data(config.data, own)
