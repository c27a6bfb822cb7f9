"""Tables name images, classes and splits; paths stay below the folder, and rows without a label have no class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fednet.data import tables
from fednet.data.config import Columns, DataConfig
from fednet.data.datasets import load
from fednet.data.survey import survey
from fednet.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(20):
        Image.new("L", (6, 6), index * 10).save(tmp_path / f"{index}.png")
    return tmp_path


def test_rows_without_a_label_are_images_without_a_class(root: Path) -> None:
    rows = (f"{index}.png,{('a', 'b', '')[index % 3]}\n" for index in range(20))
    (root / "labels.csv").write_text("path,label\n" + "".join(rows))
    found = survey(DataConfig(name="table", root=root))
    assert found.counts == {"all": {"a": 7, "b": 7}}
    assert found.files is not None
    assert found.files.unsorted == 6


def test_a_split_column_parts_the_images(root: Path) -> None:
    rows = [{"file_name": f"{index}.png", "label": index % 2, "split": "train" if index < 12 else "test"}
            for index in range(20)]  # fmt: skip
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load(DataConfig(name="table", root=root))
    assert [len(part) for part in (splits.train, splits.judge, splits.test)] == [12, 4, 4]
    assert splits.train.classes == ("0", "1")


@pytest.mark.parametrize("path", ["../x.png", "/etc/passwd", "link/x.png", ""])
def test_a_path_stays_below_the_folder(root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent)
    (root / "it.jsonl").write_text(json.dumps({"path": path}))
    with pytest.raises(DataError, match=r"line 1: .*(leads out|expected a path)"):
        load(DataConfig(name="table", root=root))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_columns_are_named_and_parted_by_what_the_header_is(root: Path, delimiter: str) -> None:
    rows = [("scan", "finding"), *((f"{index}.png", f'"{"ab"[index % 2]}, x"') for index in range(20))]
    (root / "it.csv").write_text("\ufeff" + "\n".join(map(delimiter.join, rows)), "utf-8")
    config = DataConfig(name="table", root=root, columns=Columns(image="scan", label="finding"))
    assert survey(config).classes == ("a, x", "b, x")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("it.csv", "path,label\n0.png\n", "line 2 has 1 values for 2 columns"),
        ("it.csv", "path,path\n0.png,1.png\n", "two columns have the same name"),
        ("it.csv", 'path,label\n"0.png,a\n', "unexpected end of data"),
        ("it.csv", "path,label\n", "holds no row"),
        ("it.csv", "name,label\n0.png,a\n", r"data.columns.image: .* has no column 'path'; it has label, name"),
        ("it.csv", "path,label\n0.png,a\n0.png,b\n", "line 3: .*0.png stands in line 2 already"),
        ("it.jsonl", "[1]\n", "line 1 is no object"),
        ("it.jsonl", "[" * 100_000, "cannot be read"),
        ("it.jsonl", '{"path": "0.png", "label": 0.5}', r"line 1: 0.5 is no label"),
        ("it.jsonl", '{"path": "0.png", "label": {"a": 1}}', "line 1: .* is no label"),
        ("it.jsonl", '{"path": "a\\u0000b"}', "line 1: expected a path"),
        ("it.jsonl", '{"path": 3}', "line 1: expected a path"),
        ("it.jsonl", '{"path": "0.png", "split": "val"}', "no images to train on: the splits are 'val'"),
    ],
)
def test_a_malformed_table_is_one_error_with_its_line(root: Path, name: str, text: str, message: str) -> None:
    (root / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load(DataConfig(name="table", root=root))


def test_which_table_is_said_where_there_are_several(root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.file: expected one table .* which holds none"):
        load(DataConfig(name="table", root=root))
    for name in ("a.csv", "b.csv"):
        (root / name).write_text("path,label\n" + "".join(f"{index}.png,{name}\n" for index in range(20)))
    with pytest.raises(DataError, match=r"which holds a\.csv, b\.csv: name the file"):
        load(DataConfig(name="table", root=root))
    assert load(DataConfig(name="table", root=root, file="b.csv")).train.classes == ("b.csv",)
    with pytest.raises(DataError, match="leads out"):
        load(DataConfig(name="table", root=root, file="../b.csv"))


def test_a_table_that_is_too_large_is_refused_unread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 10)
    (root / "it.csv").write_text("path,label\n0.png,a\n")
    with pytest.raises(DataError, match="more than 10"):
        load(DataConfig(name="table", root=root))


def test_a_file_that_is_missing_is_named_or_left_out(root: Path) -> None:
    (root / "it.csv").write_text("path,label\nnone.png,a\n" + "".join(f"{index}.png,a\n" for index in range(20)))
    with pytest.raises(DataError, match=r"none\.png is not a readable image: No such file"):
        load(DataConfig(name="table", root=root))
    assert survey(DataConfig(name="table", root=root)).total == 20
