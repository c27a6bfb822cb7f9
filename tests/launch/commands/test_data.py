"""`fednet data`: what it prints and writes of a folder, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fednet.errors import DataError
from launch.commands.app import app
from launch.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8), 50 * index).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path / "images"


def test_it_prints_classes_and_writes_a_grid(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", str(folder), "-o", str(tmp_path / "grid.png")])
    assert done.exit_code == 0, done.output
    assert "6 images, 2 classes" in done.stdout
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (10 * (4 * 8 + 1) + 1, 2 * (4 * 8 + 1) + 1)


def test_a_file_that_cannot_be_read_ends_it_unless_it_is_skipped(folder: Path) -> None:
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = CliRunner().invoke(app, ["data", str(folder)])
    assert isinstance(done.exception, DataError)
    assert "1 of 7 images" in str(done.exception)
    assert "3" in done.stdout, "what can be read is shown all the same"
    assert CliRunner().invoke(app, ["data", str(folder), "--set", "unreadable=skip"]).exit_code == 0


def test_a_grid_is_a_png(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", str(folder), "-o", str(tmp_path / "grid.jpg")])
    assert "expected a .png file" in str(done.exception)
    assert not (tmp_path / "grid.jpg").exists()


def test_a_folder_that_is_missing_or_empty_is_called_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", str(tmp_path / "none")])
    assert "is not a folder; expected the folder that holds the images there" in str(done.exception)
    assert "set data.size" not in CliRunner().invoke(app, ["data", str(tmp_path)]).stdout


def test_a_table_is_looked_at_as_a_folder_is(folder: Path) -> None:
    (folder / "findings.csv").write_text("path,label\ncat/0.png,a\ndog/0.png,b\ndog/1.png,b\n")
    done = CliRunner().invoke(app, ["data", str(folder), "--set", "name=table"])
    assert done.exit_code == 0, done.output
    assert "3 images, 2 classes" in done.stdout


def test_a_setting_that_there_is_not_is_refused(folder: Path) -> None:
    done = CliRunner().invoke(app, ["data", str(folder), "--set", "fit=padd"])
    assert isinstance(done.exception, ConfigError)
    assert "Did you mean pad?" in str(done.exception)
