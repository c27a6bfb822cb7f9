"""Which classes a brought model stands for, and how many pictures of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from fednet.errors import ModelError
from fednet.models.config import DiffusersModelConfig, PythonModelConfig
from fednet.models.pretrained import open_pretrained, picture_counts, total_pictures


def config(**more: object) -> DiffusersModelConfig:
    return DiffusersModelConfig.model_validate({"kind": "diffusers", "path": Path("x"), **more})


@pytest.mark.parametrize(
    ("pictures", "known", "counts", "total"),
    [
        (1, ("a", "c"), (1, 0, 1), 2),
        (50, ("a", "c"), (50, 0, 50), 100),
        (50, (), (0, 0, 0), 50),
        ({"a": 7}, ("a", "c"), (7, 0, 0), 7),
        ({}, ("a",), (0, 0, 0), 0),
    ],
)
def test_pictures_count_by_class_or_in_all(
    pictures: object, known: tuple[str, ...], counts: tuple[int, ...], total: int
) -> None:
    made = config(pictures=pictures)
    assert picture_counts(made, known, ("a", "b", "c")) == counts
    assert total_pictures(made, counts) == total


def test_pictures_of_an_unknown_class_are_refused() -> None:
    with pytest.raises(ModelError, match=r"counts 'b', which is none of the model's classes \(a\)"):
        picture_counts(config(pictures={"b": 3}), ("a",), ("a", "b"))


def test_a_model_is_opened_by_its_kind(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.path"):
        open_pretrained(config(path=tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"model\.object"):
        open_pretrained(PythonModelConfig(kind="python", object="nowhere.to:be_found", shape=(1, 4, 4)))
