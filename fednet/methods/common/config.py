"""Base classes of the methods' configurations. Imports no torch, since the command line reads configurations."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from fednet.data.config import DataConfig, HeldOut, PartitionConfig
from fednet.metrics.config import STEPS


class ConfigSection(BaseModel):
    """A section of a configuration: immutable, without unknown keys, without infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MeasureConfig(ConfigSection):
    """What samples are measured with; nobody needs the sites' pictures for it.

    Attributes:
        data: pictures of the asker's own choice; default: those that are held out of the run's `data`.
        held_out: how many are held out of a data set without a test split of its own.
        judge_steps: batches that the judge is trained with; colour photographs need more than digits.
    """

    data: DataConfig | None = None
    held_out: HeldOut = HeldOut()
    judge_steps: int = Field(default=STEPS, ge=1)


class RealPicturesConfig(ConfigSection):
    """What is shown.

    Attributes:
        real: show some of the real pictures that samples are compared with, in the run's folder and in its report.
    """

    real: bool = False


class ImageConfig(ConfigSection):
    """The configuration of a method whose sites have pictures: shares of one data set, or data sets of their own.

    Attributes:
        data: the run's data set.
        partition: how its training pictures are divided among the sites that have no data of their own.
        measure: what samples are measured with; null: nothing is measured, and nothing is held out.
    """

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="homogeneous")
    measure: MeasureConfig | None = MeasureConfig()

    @property
    def held_out_of_run(self) -> HeldOut | None:
        """What of the run's data set no site trains on."""
        return self.measure.held_out if self.measure is not None and self.measure.data is None else None
