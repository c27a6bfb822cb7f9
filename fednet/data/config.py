"""Which pictures a run uses and how they are divided among its agents: the configuration, checked before any work.

Knows the names of data sets and of partitions, and which options belong to which; reads no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(strict=True, ge=1)]
Fraction = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
DatasetName = Literal["digits", "mnist", "cifar10", "cifar100", "tiny-imagenet", "folder"]
PartitionKind = Literal["iid", "pathological", "dirichlet", "matrix", "homogeneous", "heterogeneous", "disjoint"]


class DataConfig(BaseModel):
    """Which pictures, from where, at which size.

    Attributes:
        name: the data set; "digits" comes with scikit-learn, every other one is read below `root`.
        root: the folder that holds the data; nothing is ever downloaded.
        size: height and width to resize to; None keeps the data set's own.
        limit: at most this many pictures in each of train, judge and test, drawn evenly from the classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: DatasetName = "digits"
    root: Path | None = None
    size: Annotated[int, Field(strict=True, ge=4, le=1024)] | None = None
    limit: Count | None = None

    @model_validator(mode="after")
    def _root_where_it_is_needed(self) -> Self:
        if self.name == "digits" and self.root is not None:
            raise ValueError("'digits' come with scikit-learn and take no root: leave root out")
        if self.name != "digits" and self.root is None:
            raise ValueError(f"'{self.name}' needs root, the folder that holds it: nothing is downloaded")
        return self


class PartitionConfig(BaseModel):
    """How the training pictures are divided among the agents.

    Attributes:
        kind: the regime, see `fednet.data.partition`.
        classes_per_client: how many classes each agent sees; for "pathological" only.
        alpha: concentration, small is skewed; for "dirichlet" only.
        matrix: a row per agent, a column per class: the fraction of that class that goes to that agent;
            a column may add up to less than 1, then nobody holds the rest. For "matrix" only.
        least: every agent must get at least this many pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: PartitionKind = "iid"
    classes_per_client: Count | None = None
    alpha: Annotated[float, Field(strict=True, gt=0.0, allow_inf_nan=False)] | None = None
    matrix: tuple[tuple[Fraction, ...], ...] | None = None
    least: Count = 1

    @model_validator(mode="after")
    def _options_of_the_kind(self) -> Self:
        owners = {"classes_per_client": "pathological", "alpha": "dirichlet", "matrix": "matrix"}
        for option, owner in owners.items():
            given = getattr(self, option) is not None
            if given and self.kind != owner:
                raise ValueError(f"{option} belongs to kind '{owner}', not to '{self.kind}': leave it out")
            if not given and self.kind == owner:
                raise ValueError(f"kind '{owner}' needs {option}")
        return self

    @model_validator(mode="after")
    def _matrix_is_a_division(self) -> Self:
        if self.matrix is None:
            return self
        if not self.matrix or len({len(row) for row in self.matrix}) != 1 or not self.matrix[0]:
            raise ValueError("matrix needs one row per agent, each with one number per class")
        for label, column in enumerate(zip(*self.matrix, strict=True)):
            if sum(column) > 1 + 1e-6:
                raise ValueError(f"matrix gives out {sum(column):g} of class {label}: at most 1 can be given")
        return self
