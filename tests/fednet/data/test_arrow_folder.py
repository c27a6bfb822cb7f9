"""Folders that `datasets` has saved are read as folders of images are, and nothing beyond them is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fednet.data.config import Columns, DataConfig
from fednet.data.datasets import load
from fednet.data.survey import survey
from fednet.errors import DataError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()
NAMES = datasets.ClassLabel(names=["cat", "dog"])


def png(index: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (6, 6), index * 10).save(file, "PNG")
    return file.getvalue()


def labelled(label: Any = NAMES, values: Any = None, **more: Any) -> Any:
    features = datasets.Features(image=datasets.Image(), label=label, **dict.fromkeys(more, datasets.Image()))
    values = [index % 2 for index in range(20)] if values is None else values
    return datasets.Dataset.from_dict({"image": list(map(contents, range(20))), "label": values, **more}, features)


def contents(index: int) -> dict[str, Any]:
    return {"bytes": png(index), "path": None}


def config(root: Path, **keys: Any) -> DataConfig:
    return DataConfig(name="hugging-face", root=root, **keys)


def test_images_and_names_of_classes_are_read(tmp_path: Path) -> None:
    labelled().save_to_disk(tmp_path)
    splits = load(config(tmp_path))
    assert (splits.train.shape, splits.train.classes) == ((1, 6, 6), ("cat", "dog"))
    assert survey(config(tmp_path)).counts == {"all": {"cat": 10, "dog": 10}}


def test_the_parts_of_a_dictionary_are_parts(tmp_path: Path) -> None:
    datasets.DatasetDict(train=labelled(), test=labelled(), validation=labelled()).save_to_disk(tmp_path)
    found = survey(config(tmp_path))
    assert list(found.counts) == ["train", "test"]
    assert found.files is not None
    assert found.files.others == {"split validation": 20}


@pytest.mark.parametrize(
    ("label", "values", "counts"),
    [
        (NAMES, [-1, 0] * 10, {"cat": 10}),
        (datasets.Value("string"), ["x", None] * 10, {"x": 10}),
        (datasets.Value("int64"), [10, 9] * 10, {"9": 10, "10": 10}),
    ],
    ids=["-1", "null", "numbers"],
)
def test_labels_are_classes_texts_or_whole_numbers(tmp_path: Path, label: Any, values: Any, counts: Any) -> None:
    labelled(label, values).save_to_disk(tmp_path)
    assert survey(config(tmp_path)).counts == {"all": counts}


def test_arrays_are_images_under_the_names_of_their_columns(tmp_path: Path) -> None:
    features = datasets.Features(scan=datasets.Array2D((4, 5), "float32"), finding=datasets.Value("string"))
    values = {"scan": np.full((20, 4, 5), 0.5, np.float32), "finding": ["a", "b"] * 10}
    datasets.Dataset.from_dict(values, features).with_format("torch").save_to_disk(tmp_path)
    splits = load(config(tmp_path, columns=Columns(image="scan", label="finding"), size=4))
    assert splits.train.shape == (1, 4, 4)
    assert float(splits.train.images.abs().max()) == pytest.approx(0)


def test_the_format_in_which_it_was_saved_and_other_columns_change_nothing(tmp_path: Path) -> None:
    labelled().save_to_disk(tmp_path / "plain")
    broken = [{"bytes": b"no image", "path": None}] * 20
    labelled(other=broken).with_format("numpy").save_to_disk(tmp_path / "other")
    plain, other = (load(config(tmp_path / name)).train for name in ("plain", "other"))
    assert plain.digest() == other.digest()


def test_a_path_in_place_of_an_image_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(3))
    rows = {"image": [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 20, "label": [0, 1] * 10}
    table = datasets.Dataset.from_dict(rows, datasets.Features(image=datasets.Image(), label=NAMES))
    folder = tmp_path / "saved"
    table.save_to_disk(folder)
    replace_rows(folder, rows, table.features)
    with pytest.raises(DataError, match=r"\[0\] is not a readable image: its bytes are not in the data set"):
        load(config(folder))


def replace_rows(folder: Path, rows: dict[str, Any], features: Any) -> None:
    """`save_to_disk` puts files into the folder; who writes the Arrow file by hand need not."""
    import pyarrow

    (file,) = folder.glob("*.arrow")
    table = pyarrow.Table.from_pydict(rows, schema=features.arrow_schema)
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("link", [False, True], ids=["path", "link"])
def test_files_elsewhere_are_refused(tmp_path: Path, link: bool) -> None:
    labelled().save_to_disk(tmp_path / "theirs")
    labelled().save_to_disk(tmp_path / "saved")
    state, (file,) = tmp_path / "saved" / "state.json", (tmp_path / "saved").glob("*.arrow")
    if link:
        file.unlink()
        file.symlink_to(tmp_path / "theirs" / file.name)
    else:
        values = json.loads(state.read_text())
        values["_data_files"][0]["filename"] = f"../theirs/{file.name}"
        state.write_text(json.dumps(values))
    with pytest.raises(DataError, match="which does not lie in it"):
        load(config(tmp_path / "saved"))


def test_what_is_no_such_folder_or_damaged_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder of `datasets` \(save_to_disk\)"):
        load(config(tmp_path))
    labelled().save_to_disk(tmp_path)
    (file,) = tmp_path.glob("*.arrow")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"is no folder of `datasets`"):
        load(config(tmp_path))


@pytest.mark.parametrize(("key", "name"), [("image", "scan"), ("label", "finding")])
def test_a_column_that_there_is_not_is_refused_with_those_that_are(tmp_path: Path, key: str, name: str) -> None:
    labelled().save_to_disk(tmp_path)
    with pytest.raises(DataError, match=rf"data\.columns\.{key}: .* has no column '{name}'; it has image, label"):
        load(config(tmp_path, columns=Columns(**{key: name})))


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    labelled(datasets.Value("float32"), [0.5] * 20).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"'label' holds 0\.5; expected texts, whole numbers or classes"):
        load(config(tmp_path))
