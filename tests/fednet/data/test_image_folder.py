"""Folders name classes; what systems leave behind, and what may not be read, is no class and no traceback."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from fednet.data.config import DataConfig
from fednet.data.image_folder import is_folder, list_folder
from fednet.data.listing import ImageRef
from fednet.data.outline import require
from fednet.errors import DataError


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def below(root: Path, image: ImageRef) -> str:
    return Path(str(image)).relative_to(root).as_posix()


def test_images_are_listed_by_class_folder_and_name(tmp_path: Path) -> None:
    touch(tmp_path, "dog/2.png", "dog/1.png", "dog/deeper/0.JPG", "cat/x y.webp", "dog/notes.txt", "beside.png")
    listing = list_folder(tmp_path)
    assert listing.classes == ("cat", "dog")
    found = [(below(tmp_path, path), label) for path, label in listing.labelled]
    assert found == [("cat/x y.webp", 0), ("dog/1.png", 1), ("dog/2.png", 1), ("dog/deeper/0.JPG", 1)]
    assert [path.name for path in listing.unsorted] == ["beside.png"]
    assert listing.others == {".txt": 1}


def test_names_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/0.png" for name in (11, 2, 1, 10, 9, 3)))
    assert list_folder(tmp_path).classes == ("1", "2", "3", "9", "10", "11")
    touch(tmp_path, "x/0.png")
    assert list_folder(tmp_path).classes == ("1", "10", "11", "2", "3", "9", "x")


def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path: Path) -> None:
    junk = ("__MACOSX/a/0.png", ".ipynb_checkpoints/0.png", "a/.ipynb_checkpoints/0.png", "a/._0.png", "a/Thumbs.db")
    touch(tmp_path, "a/0.png", *junk, ".DS_Store", "a/__MACOSX/._0.png", ".hidden.png", "@eaDir/0.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    touch(tmp_path, "words/notes.txt")
    listing = list_folder(tmp_path)
    assert [below(tmp_path, path) for path, _ in listing.labelled] == ["a/0.png"]
    assert listing.empty == ("empty", "words")
    assert listing.unsorted == ()


def test_a_folder_without_classes_has_images_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "2.png", "1.png")
    listing = list_folder(tmp_path)
    assert listing.classes == ()
    assert [(path.name, label) for path, label in listing.labelled] == [("1.png", -1), ("2.png", -1)]


def test_decomposed_names_are_the_same_as_composed_ones(tmp_path: Path) -> None:
    touch(tmp_path, f"{unicodedata.normalize('NFD', 'Möwe')}/0.png", f"{unicodedata.normalize('NFC', 'Möwe')}/1.png")
    listing = list_folder(tmp_path)
    assert listing.classes == (unicodedata.normalize("NFC", "Möwe"),)
    assert len(listing.labelled) == 2


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/0.png", "data/a/1.png")
    (tmp_path / "data" / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data" / "a")
    assert sorted(path.name for path, _ in list_folder(tmp_path / "data").labelled) == ["0.png", "1.png"]


def test_a_class_of_which_nothing_stays_is_empty(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "a/1.png", "b/0.png")
    kept = list_folder(tmp_path).without([str(tmp_path / "b" / "0.png"), str(tmp_path / "a" / "0.png")])
    assert kept.classes == ("a",)
    assert [path.name for path, _ in kept.labelled] == ["1.png"]
    assert kept.empty == ("b",)


@pytest.mark.parametrize("closed", ["", "b", "b/deeper"])
def test_what_may_not_be_read_is_said_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    touch(tmp_path, "a/0.png", "b/0.png", "b/deeper/0.png")
    hidden, scan = tmp_path / closed, os.scandir

    def scandir(folder: Any) -> Any:
        if Path(folder) == hidden:
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=f"{hidden} cannot be read: Permission denied$"):
        require(DataConfig(name="folder", root=tmp_path))


def test_a_folder_below_one_that_may_not_be_read_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read: Permission denied$"):
        is_folder(tmp_path)
