"""What a data set holds is known from its list of files, and is what is read later."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from fednet.data.config import DataConfig
from fednet.data.contract import DataOutline
from fednet.data.datasets import outline_of_pools
from fednet.data.outline import outline, require
from fednet.errors import DataError, UnreadableImage


def paint(root: Path, *paths: str, mode: str = "L", size: tuple[int, int] = (8, 6)) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, "red" if mode == "RGB" else 9).save(root / path)


FOLDERS = {
    "grey": ("a/0.png", "a/1.png", "b/0.png"),
    "parts": ("train/a/0.png", "train/b/0.png", "train/b/1.png", "test/a/0.png", "test/b/0.png"),
    "flat": ("0.png", "1.png"),
    "mixed": ("a/0.png", "beside.png"),
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("keys", [{}, {"size": 12}, {"channels": 3}, {"fit": "pad"}, {"aliases": {"a": "b", "b": "c"}}])
def test_it_is_what_the_pictures_are_once_they_are_read(tmp_path: Path, folder: str, keys: dict[str, object]) -> None:
    paint(tmp_path, *FOLDERS[folder])
    config = DataConfig.model_validate({"name": "folder", "root": tmp_path, **keys})
    known, read = outline(config), outline_of_pools(config)
    assert (known.classes, known.shape) == (read.classes, read.shape)
    assert sorted(known.counts or ()) == sorted(read.counts or ())


def test_one_image_in_colours_makes_a_data_set_of_them(tmp_path: Path) -> None:
    paint(tmp_path, "a/0.png")
    paint(tmp_path, "b/1.png", mode="RGB")
    config = DataConfig(name="folder", root=tmp_path)
    assert outline(config) == outline_of_pools(config) == DataOutline(("a", "b"), (3, 6, 8), (1, 1))


def test_what_cannot_be_read_is_left_out_where_the_configuration_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, "b/0.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_text("no image")
    config = DataConfig(name="folder", root=tmp_path)
    with pytest.raises(UnreadableImage, match=r"0\.png is not a readable image"):
        outline(config)
    with caplog.at_level(logging.WARNING):
        assert outline(config.model_copy(update={"unreadable": "skip"})) == DataOutline(("b",), (1, 6, 8), (1,))
    assert "1 of 2 images are left out" in caplog.text


def test_with_a_limit_the_counts_are_not_known_from_the_list(tmp_path: Path) -> None:
    paint(tmp_path, *FOLDERS["grey"])
    assert outline(DataConfig(name="folder", root=tmp_path, limit=2)).counts is None


@pytest.mark.parametrize("keys", [{}, {"size": 12, "channels": 3}, {"aliases": {"1": "one", "7": "one"}}])
def test_the_digits_are_known_without_a_library(keys: dict[str, object]) -> None:
    config = DataConfig.model_validate(keys)
    known, read = outline(config), outline_of_pools(config)
    assert (known.classes, known.shape) == (read.classes, read.shape)


def test_of_a_data_set_without_a_list_one_picture_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is downloaded"):
        outline(DataConfig(name="mnist", root=tmp_path / "nowhere"))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    require(DataConfig())
    with pytest.raises(DataError, match="nothing is downloaded"):
        require(DataConfig(name="mnist", root=tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no images; expected"):
        require(DataConfig(name="folder", root=tmp_path))
    (tmp_path / "0.png").write_text("no image")
    require(DataConfig(name="folder", root=tmp_path))  # not read yet
