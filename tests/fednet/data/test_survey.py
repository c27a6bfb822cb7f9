"""A survey counts what a data set holds; of a folder it reads every file, and stops at none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fednet.data.config import DataConfig
from fednet.data.survey import survey
from fednet.errors import DataError


def paint(path: Path, value: int = 0, size: tuple[int, int] = (6, 6), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_a_folder_is_counted_by_class_and_part_and_nothing_stops_it(tmp_path: Path) -> None:
    for path in ("train/2/0.png", "train/2/1.png", "train/10/0.png", "test/2/0.png", "train/beside.png"):
        paint(tmp_path / path)
    (tmp_path / "train" / "10" / "broken.png").write_text("no image")
    (tmp_path / "test" / "10").mkdir()
    (tmp_path / "test" / "2" / "notes.txt").touch()
    found = survey(DataConfig(name="folder", root=tmp_path))
    assert found.classes == ("2", "10")
    assert found.counts == {"train": {"2": 2, "10": 1}, "test": {"2": 1}}
    assert found.total == 4
    assert found.files is not None
    assert [Path(error.path).name for error in found.files.inspection.refused] == ["broken.png"]
    assert (found.files.empty, found.files.others, found.files.unsorted) == (("10",), {".txt": 1}, 1)


def test_images_without_classes_are_counted(tmp_path: Path) -> None:
    paint(tmp_path / "0.png")
    found = survey(DataConfig(name="folder", root=tmp_path))
    assert (found.classes, found.counts, found.total) == ((), {"all": {"": 1}}, 1)


def test_other_data_sets_are_counted_by_their_labels() -> None:
    found = survey(DataConfig())
    assert found.classes == tuple("0123456789")
    assert found.total == 1797
    assert found.files is None


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        survey(DataConfig(name="folder", root=tmp_path / "nowhere"))
