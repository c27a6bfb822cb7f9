"""Compares two folders of pictures in a judge's features: `fednet fid A B`, overall and class by class.

A folder holds pictures (png, jpg and the like) directly, or one folder of them per class, or both; they are brought to
the judge's shape by `fednet.data.pools`. Or it holds the tensors that a run or `fednet sample` leaves.
Knows no data set and trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fednet.data.config import DataConfig
from fednet.data.image_folder import is_folder, list_folder
from fednet.data.pools import stack
from fednet.errors import DataError
from fednet.metrics.frechet import frechet_distance
from fednet.metrics.judge import Judge
from fednet.reporting.samples import SAMPLES_FILE, read_samples


@dataclass(frozen=True)
class FolderComparison:
    """The Frechet distance of two folders of pictures.

    Attributes:
        counts: how many pictures in the first and in the second.
        frechet: of all pictures.
        by_class: by class folder, for those with enough pictures on both sides.
        left_out: by class folder, why it has no distance of its own.
    """

    counts: tuple[int, int]
    frechet: float
    by_class: dict[str, float]
    left_out: dict[str, str]


def compare(a: Path, b: Path, judge: Judge) -> FolderComparison:
    """Compares two folders of pictures in the judge's features.

    Raises:
        DataError: a folder is missing, holds no pictures, or a picture cannot be read.
        MeasureError: a folder holds too few pictures for a Frechet distance.
    """
    names_a, features_a = _features(a, judge)
    names_b, features_b = _features(b, judge)
    by_class: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in sorted((set(names_a) | set(names_b)) - {""}):
        part_a, part_b = features_a[_where(names_a, name)], features_b[_where(names_b, name)]
        if min(len(part_a), len(part_b)) > features_a.shape[1]:
            by_class[name] = frechet_distance(part_a, part_b)
        else:
            needed = features_a.shape[1] + 1
            left_out[name] = f"{len(part_a)} and {len(part_b)} pictures; {needed} are needed on each side"
    return FolderComparison((len(names_a), len(names_b)), frechet_distance(features_a, features_b), by_class, left_out)


def _features(folder: Path, judge: Judge) -> tuple[list[str], Tensor]:
    """The class of every image ("" where it lies in none) and the features (n, d).

    Raises:
        DataError: the folder is missing or holds no image, or one cannot be read.
    """
    if (file := _samples_file(folder)) is not None:
        return _sample_features(file, judge)
    if not is_folder(folder):
        raise DataError(f"{folder} is not a folder; expected pictures in it, or one folder of them per class")
    listing = list_folder(folder)
    named = [("", path) for path in listing.unsorted]
    named += [(name, path) for name, paths in listing.by_class.items() for path in paths]
    if not named:
        raise DataError(f"{folder} holds no pictures, nor do the folders in it")
    channels, side, _ = judge.shape
    config = DataConfig(name="folder", root=folder, size=side)
    return [name for name, _ in named], judge.features(stack([path for _, path in named], config, channels))


def _samples_file(path: Path) -> Path | None:
    """Tensors of samples that a path names, or that lie in the folder, whose images are the same samples again."""
    file = path / SAMPLES_FILE if is_folder(path) else path
    return file if file.suffix == ".safetensors" and file.is_file() else None


def _sample_features(file: Path, judge: Judge) -> tuple[list[str], Tensor]:
    samples, wanted = read_samples(file), (judge.shape[0], *judge.shape[1:])
    if samples.images.shape[1:] != wanted:
        raise DataError(f"{file} holds images {tuple(samples.images.shape[1:])}; the judge's are {wanted}")
    labels = [-1] * len(samples.images) if samples.labels is None else samples.labels.tolist()
    known = dict(enumerate(samples.classes))
    return ["" if label < 0 else known.get(label, str(label)) for label in labels], judge.features(samples.images)


def _where(names: list[str], name: str) -> list[int]:
    return [index for index, other in enumerate(names) if other == name]
