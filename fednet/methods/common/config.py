"""Base classes of the methods' configurations. Imports no torch, since the command line reads configurations."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from fednet.data.config import DataConfig, PartitionConfig


class ConfigSection(BaseModel):
    """A section of a configuration: immutable, without unknown keys, without infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageConfig(ConfigSection):
    """The configuration of a method whose sites have shares of one data set of pictures.

    Attributes:
        data: the data set.
        partition: how its training pictures are divided among the sites.
    """

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="homogeneous")
