"""Configuration of a run's data set and of its partition among agents; reads no files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fednet.data import registry
from fednet.data.classes import ClassRef
from fednet.errors import UnknownDataset

PositiveCount = Annotated[int, Field(strict=True, ge=1)]
Fraction = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
PartitionKind = Literal[
    "iid", "pathological", "dirichlet", "shards", "matrix", "homogeneous", "heterogeneous", "disjoint"
]
Part = Annotated[float, Field(strict=True, gt=0.0, le=1.0)]
SIZES_ARE_FREE: tuple[PartitionKind, ...] = ("iid", "pathological", "dirichlet", "shards")
"""The kinds for which `balanced` can be chosen."""


class Columns(BaseModel):
    """What the columns of a data set are called; None for the defaults of the data set.

    Attributes:
        image: of the images or their paths; of a table `path`, or else `file_name`; elsewhere `image`.
        label: of the classes, by default `label` if it is there.
        split: of a table, `train` or `test`; by default `split` if it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str, Field(min_length=1)] | None = None
    label: Annotated[str, Field(min_length=1)] | None = None
    split: Annotated[str, Field(min_length=1)] | None = None


class DataConfig(BaseModel):
    """Which pictures, from where, at which size.

    Attributes:
        name: a registered data set, or the path of a module that defines one, see `fednet.data.registry`.
        root: the folder that holds the data; nothing is ever downloaded.
        size: height and width to resize to; None keeps the data set's own.
        fit: how an image that is not square becomes so where `size` is set: `crop` cuts its middle out, `pad` adds
            background, `squash` distorts it.
        channels: 1 (grey) or 3 (RGB); None keeps the data set's own, which in a folder is 3 if any image has colours.
        background: what shows through transparent pixels, and what `pad` adds.
        range: the values that become black and white in files with more than 8 bits a channel; None: all of 16 bits,
            floats in [0, 1], and what a DICOM file says of itself.
        unreadable: whether a file of a folder that cannot be read is refused, or left out and counted; for `skip` all
            files are read once to find out.
        limit: at most this many pictures in each of train, judge and test, drawn evenly from the classes.
        aliases: names of classes here, to the names under which the run knows them; classes of one name are one.
        file: of `table`, the table below root; None: the only one there.
        columns: of `table`, `hugging-face` and `python`, how the columns are called.
        object: of `python`, `package.module:factory`, which makes a map-style data set, or one each as
            `train` and `test`.
        options: keyword arguments of the factory; it gets `root`, too, where that is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "digits"
    root: Path | None = None
    size: Annotated[int, Field(strict=True, ge=4, le=1024)] | None = None
    fit: Literal["crop", "pad", "squash"] = "crop"
    channels: Literal[1, 3] | None = None
    background: Literal["black", "grey", "white"] = "white"
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    unreadable: Literal["refuse", "skip"] = "refuse"
    limit: PositiveCount | None = None
    aliases: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    file: Annotated[str, Field(min_length=1)] | None = None
    columns: Columns = Columns()
    object: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def background_value(self) -> float:
        """The background in [-1, 1]."""
        return {"black": -1.0, "grey": 0.0, "white": 1.0}[self.background]

    @field_validator("range")
    @classmethod
    def _rising(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError("range needs two numbers, what is black and the larger that is white")
        return limits

    @field_validator("name")
    @classmethod
    def _usable_dataset(cls, name: str) -> str:
        try:
            registry.require_installed(registry.find(name))
        except UnknownDataset as error:
            if not error.known:
                raise ValueError(str(error)) from error
            expected = ", ".join(map(repr, error.known))
            message = "one of {expected}, or the path of a module (a.b)"
            raise PydanticCustomError("unknown_dataset", message, {"expected": expected}) from error
        return name

    @model_validator(mode="after")
    def _root_where_it_is_needed(self) -> Self:
        root = registry.find(self.name).root
        if root == "none" and self.root is not None:
            raise ValueError(f"'{self.name}' is read from no folder and takes no root: leave root out")
        if root == "required" and self.root is None:
            raise ValueError(f"'{self.name}' needs root, the folder that holds it: nothing is downloaded")
        return self

    @model_validator(mode="after")
    def _keys_of_the_data_set(self) -> Self:
        keys = registry.find(self.name).keys
        for key in ("file", "columns", "object", "options"):
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if key not in keys and getattr(self, key) != default:
                raise ValueError(f"'{self.name}' takes no {key}: leave {key} out")
        if "object" in keys and self.object is None:
            raise ValueError(f"'{self.name}' needs object, the factory of its data set (package.module:factory)")
        return self


class HeldOut(BaseModel):
    """What of a data set without a test split of its own nobody trains on, so that something can be measured.

    Attributes:
        judge: the fraction of its pictures that the judge is trained with.
        test: the fraction that samples are compared with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: Annotated[float, Field(strict=True, gt=0.0, lt=1.0)] = 0.2
    test: Annotated[float, Field(strict=True, gt=0.0, lt=1.0)] = 0.2

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.judge + self.test >= 1:
            raise ValueError(f"judge {self.judge:g} and test {self.test:g} leave nothing to train on: lower them")
        return self


class PartitionConfig(BaseModel):
    """How the training pictures are divided among the agents.

    Attributes:
        kind: the regime, see `fednet.data.partition`.
        classes_per_client: how many classes each agent sees; for "pathological" only.
        alpha: concentration, small is skewed; for "dirichlet" only.
        shards_per_client: how many shards of the label-sorted pictures each agent is dealt; for "shards" only.
        matrix: a row per agent, a column per class: the fraction of that class that goes to that agent;
            a column may add up to less than 1, then nobody holds the rest. For "matrix" only.
        balanced: whether the agents get about as many pictures each; for "iid", "pathological", "dirichlet" and
            "shards". None is the kind's own way: as drawn for "dirichlet", balanced for the others.
        least: every agent must get at least this many pictures, those of its local test included.
        imbalance: the fraction of a class that stays in the run at all, by the class's name or number, before anything
            is divided; a class that is not named stays whole. Judge and test pictures are not cut.
        train_ratio: the fraction of its pictures that an agent trains on; the rest is its local test, which stays
            unused where a method has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: PartitionKind = "iid"
    classes_per_client: PositiveCount | None = None
    alpha: Annotated[float, Field(strict=True, gt=0.0, allow_inf_nan=False)] | None = None
    shards_per_client: PositiveCount | None = None
    matrix: tuple[tuple[Fraction, ...], ...] | None = None
    balanced: Annotated[bool, Field(strict=True)] | None = None
    least: PositiveCount = 1
    imbalance: dict[ClassRef, Part] = Field(default_factory=dict)
    train_ratio: Part = 1.0

    @field_validator("imbalance")
    @classmethod
    def _classes_as_text(cls, imbalance: dict[ClassRef, float]) -> dict[ClassRef, float]:
        return {str(name): part for name, part in imbalance.items()}  # as JSON has its keys

    @model_validator(mode="after")
    def _options_of_the_kind(self) -> Self:
        owners = {
            "classes_per_client": "pathological",
            "alpha": "dirichlet",
            "shards_per_client": "shards",
            "matrix": "matrix",
        }
        for option, owner in owners.items():
            given = getattr(self, option) is not None
            if given and self.kind != owner:
                raise ValueError(f"{option} belongs to kind '{owner}', not to '{self.kind}': remove it")
            if not given and self.kind == owner:
                raise ValueError(f"kind '{owner}' needs {option}")
        return self

    @model_validator(mode="after")
    def _balanced_where_sizes_are_free(self) -> Self:
        if self.balanced is not None and self.kind not in SIZES_ARE_FREE:
            raise ValueError(
                f"balanced belongs to the kinds {', '.join(SIZES_ARE_FREE)}; the sizes of '{self.kind}' are "
                "fixed: remove it"
            )
        return self

    @model_validator(mode="after")
    def _matrix_is_a_division(self) -> Self:
        if self.matrix is None:
            return self
        if not self.matrix or len({len(row) for row in self.matrix}) != 1 or not self.matrix[0]:
            raise ValueError("matrix needs one row per agent, each with one number per class")
        for label, column in enumerate(zip(*self.matrix, strict=True)):
            if sum(column) > 1 + 1e-6:
                raise ValueError(f"matrix assigns {sum(column):g} of class {label}: expected at most 1")
        return self
