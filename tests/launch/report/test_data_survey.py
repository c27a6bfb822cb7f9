"""What is shown of a data set: classes with their labels, how files are read, and each that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from fednet.data.config import DataConfig
from fednet.data.survey import survey
from launch.report.data_survey import MAX_ROWS, MAX_SHOWN, outline, refused, show, split_table
from launch.run.data_split import DataSplit


def shown(config: DataConfig) -> str:
    console = Console(record=True, width=100)
    show(console, config, survey(config))
    return console.export_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, mode, size in (("2", "L", (6, 6)), ("10", "RGBA", (8, 6))):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new(mode, size).save(tmp_path / name / f"{index}.png")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder_is_shown_as_it_is_read(root: Path) -> None:
    text = shown(DataConfig(name="folder", root=root))
    rows = [line.split() for line in text.splitlines()]
    assert ["label", "class", "all"] in rows
    assert ["0", "2", "3"] in rows
    assert ["1", "10", "3"] in rows
    assert "stored as PNG L (3), PNG RGBA (3)" in text
    assert "sizes 6 x 6 (3), 8 x 6 (3)" in text
    assert "read as RGB (3 of 6 files have colours), of several sizes: set data.size" in text
    assert "converted: transparency over the background (3)" in text
    assert "folders without an image: empty" in text
    square = shown(DataConfig(name="folder", root=root, size=8, channels=1, fit="pad"))
    assert "read as grey (3 of 6 files have colours), 8 x 8, pad where they are not square" in square


def test_what_cannot_be_read_is_named_and_refused_unless_it_is_skipped(root: Path) -> None:
    for index in range(MAX_SHOWN + 2):
        (root / "2" / f"broken {index}.png").write_text("no image")
    config = DataConfig(name="folder", root=root)
    text = shown(config)
    assert f"{root / '2' / 'broken 0.png'}: none of the formats" in text
    assert "2 more" in text
    assert refused(config, survey(config)).startswith(f"10 of 16 images of {root} cannot be read, the first: {root}")
    skip = config.model_copy(update={"unreadable": "skip"})
    assert refused(skip, survey(skip)) == ""
    assert outline(skip, survey(skip)) == f"{root}: 6 images, 2 classes, 10 that cannot be read"


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    config = DataConfig(name="folder", root=tmp_path)
    assert refused(config, survey(config)) == f"{tmp_path} holds no image that can be read"


def test_of_many_classes_the_first_are_shown(tmp_path: Path) -> None:
    for name in range(MAX_ROWS + 3):
        (tmp_path / str(name)).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / str(name) / "0.png")
    assert "3 more" in shown(DataConfig(name="folder", root=tmp_path))


def test_the_split_names_whose_pictures_are_used_for_what() -> None:
    split = DataSplit({"a": {"train": 9, "held out": 2}, "b": {"train": 4}}, frozenset({"a"}), {"judge": 3, "test": 5})
    console = Console(record=True, width=100)
    console.print(split_table(split))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert rows == [
        ["split", "pictures", "train", "held", "out", "judge", "test"],
        ["a", "its", "own", "9", "2", "–", "–"],
        ["b", "a", "share", "of", "the", "run's", "4", "–", "–", "–"],
        ["driver", "to", "measure", "with", "–", "–", "3", "5"],
    ]
