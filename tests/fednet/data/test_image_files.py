"""Every file of the table in docs/data.md is read as it says; a decoder's errors are one that names the file."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fednet.data import dicom
from fednet.data.image_files import MAX_FILE_BYTES, decode, is_colour, is_image_file
from fednet.errors import DataError, UnreadableImage

ROOT = Path(__file__).parents[3]


def _table() -> ModuleType:
    """The script that makes the table."""
    name = "files_table"
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "experiments" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


files_table = _table()
SAMPLES = {f"{sample.format}, {sample.what}": sample for sample in files_table.samples()}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_read_as_it_was_written_or_refused_by_name(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    path = tmp_path / "it.png"  # the content says what a file is, not its name
    path.write_bytes(sample.content)
    if sample.wanted is None:
        with pytest.raises(UnreadableImage, match=r"it\.png is not a readable image: \S"):
            decode(path, limits=sample.limits)
        return
    image = decode(path, limits=sample.limits)
    assert files_table.difference(sample, image.values) <= sample.bound
    assert is_colour(path) is (len(image.values) == 3)


def test_the_document_has_the_table() -> None:
    """All but the differences, which vary with versions of the libraries that compress."""
    document = (ROOT / "docs" / "data.md").read_text("utf-8").splitlines()
    written = [line.split(" | ")[:3] for line in document if line.startswith("| ")]
    made = [line.split(" | ")[:3] for line in files_table.table().splitlines() if line.startswith("| ")]
    assert [row for row in made if row not in written] == []


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].format != "damaged"])
@pytest.mark.parametrize("part", [0.1, 0.4, 0.8])
def test_whatever_is_cut_off_is_one_error_or_an_image(name: str, part: float) -> None:
    content = SAMPLES[name].content
    fault: UnreadableImage | None = None
    try:
        decode(content[: int(part * len(content))], limits=(0, 1))
    except UnreadableImage as error:
        fault = error
    assert fault is None or re.fullmatch(r"the file is not a readable image: .*", str(fault))


@pytest.mark.parametrize(("background", "wanted"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_transparency_shows_the_background(background: float, wanted: float) -> None:
    found = decode(SAMPLES["PNG, RGB with alpha, 16 bits"].content, background=background).values
    assert float(found[0, 0, 0] + 1) / 2 == pytest.approx(wanted)
    assert float(found[0, 0, 2] + 1) / 2 == pytest.approx(files_table.GREY[0, 2], abs=1e-4)


def test_another_size_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", load)
    for name in ("PNG, grey, 8 bits", "JPEG, EXIF orientation", "DICOM, 12 bits with a window"):
        with pytest.raises(UnreadableImage, match=r"pixels; expected 9 x 9: crop or resize it first"):
            decode(SAMPLES[name].content, size=(9, 9))


def test_a_size_is_that_of_the_image_as_it_is_seen() -> None:
    size = (files_table.WIDTH, files_table.HEIGHT)
    assert decode(SAMPLES["JPEG, EXIF orientation"].content, size=size).values.shape[1:] == size[::-1]
    with pytest.raises(UnreadableImage, match="it has 8 x 6 pixels; expected 6 x 8"):
        decode(SAMPLES["JPEG, EXIF orientation"].content, size=size[::-1])


def test_what_may_not_be_read_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: Any) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    monkeypatch.setattr(Path, "open", refused)
    (tmp_path / "it.png").touch()
    for look in (decode, is_colour):
        with pytest.raises(UnreadableImage, match=r"it\.png is not a readable image: Permission denied$"):
            look(tmp_path / "it.png")


def test_dicom_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "missing_modules", list)
    path = tmp_path / "it.dcm"
    path.write_bytes(SAMPLES["DICOM, RGB"].content)
    for look in (decode, is_colour):
        with pytest.raises(DataError, match=r"pip install 'fednet\[medical\]'") as raised:
            look(path)
        assert not isinstance(raised.value, UnreadableImage), "it is no fault of the file"


@pytest.mark.parametrize("name", ["a.png", "B.JPEG", "c d.Tif", "ä.webp", "e.npy", "f.DCM", "IM0001", "1.2.840.113619"])
def test_image_files_are_known_by_their_ending_or_as_dicom(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SAMPLES["DICOM, RGB"].content)
    assert is_image_file(tmp_path / name)


@pytest.mark.parametrize("name", ["notes.txt", "labels.csv", "README", "x.png.part", "noise.7"])
def test_other_files_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(200))
    assert not is_image_file(tmp_path / name)


def test_eight_bits_are_the_same_values_as_before() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = decode(files_table.saved(Image.fromarray(pixels), "PNG")).values[0]
    assert np.array_equal(found, pixels.astype(np.float32) / 127.5 - 1)


@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder", "broken link", "huge"])
@pytest.mark.parametrize("name", ["one.png", "one", "one.dcm"])
def test_what_has_no_end_is_refused_by_name_and_not_waited_for(tmp_path: Path, kind: str, name: str) -> None:
    """As it may lie, as a link or a pipe, in a data set that somebody has packed."""
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(MAX_FILE_BYTES + 1)  # takes no room
    else:
        path.symlink_to("/dev/zero" if kind == "endless device" else tmp_path / "nothing")
    assert is_image_file(path) == ("." in name)
    for read in (decode, is_colour):
        with pytest.raises(UnreadableImage, match=re.escape(name)):
            read(path)
