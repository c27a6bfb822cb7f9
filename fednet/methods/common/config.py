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


class Permission(ConfigSection):
    """A site's own permission for a question that is computed from its private pictures without noise.

    Attributes:
        times: how often the site answers it in all, counted in its ledger of disclosures.
        pictures: fewest pictures that an answer is computed from.
    """

    times: int = Field(default=20, ge=1)
    pictures: int = Field(default=10, ge=2)


class DisclosureConfig(ConfigSection):
    """What a site answers from its private pictures without noise: nothing, unless a method adds a permission.

    A permission, also an empty one (`{}`), switches a question on and marks what the site says as NOT PRIVATE.
    """

    def permitted(self) -> tuple[str, ...]:
        """The names of the permissions that are given."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


class ImageConfig(ConfigSection):
    """The configuration of a method whose sites have pictures: shares of one data set, or data sets of their own.

    Attributes:
        data: the run's data set.
        partition: how its training pictures are divided among the sites that have no data of their own.
        measure: what samples are measured with; null: nothing is measured, and nothing is held out.
        disclose: what a site answers from its private pictures without noise.
    """

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="homogeneous")
    measure: MeasureConfig | None = MeasureConfig()
    disclose: DisclosureConfig = DisclosureConfig()

    @property
    def held_out_of_run(self) -> HeldOut | None:
        """What of the run's data set no site trains on."""
        return self.measure.held_out if self.measure is not None and self.measure.data is None else None
