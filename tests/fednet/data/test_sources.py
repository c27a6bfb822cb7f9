"""Each data set is read from its own files; what is missing or damaged gives one clear message."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, load
from fednet.errors import DataError, UnreadableImage


def paint(path: Path, value: int, side: int = 6, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (side, side), value if mode == "L" else (value, 0, 255 - value)).save(path)


def write_mnist(root: Path, count: int = 40) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = np.arange(count, dtype=np.uint8) % 10
    images = np.repeat(labels[:, None], 28 * 28, axis=1) * 25
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())


def test_mnist_is_read_from_idx_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    splits = load(DataConfig(name="mnist", root=tmp_path))
    assert [len(part) for part in (splits.train, splits.judge, splits.test)] == [40, 20, 20]
    assert splits.train.shape == (1, 28, 28)
    expected = splits.train.labels.float() * 25 / 127.5 - 1
    torch.testing.assert_close(splits.train.images[:, 0, 3, 3], expected)


@pytest.mark.parametrize("damage", ["missing", "truncated", "no idx", "miscounted"])
def test_damaged_mnist_is_refused(tmp_path: Path, damage: str) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    contents = {"truncated": file.read_bytes()[:20], "no idx": b"<html>not found</html>"}
    contents["miscounted"] = struct.pack(">2i", 2049, 2) + b"\0\1"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(contents[damage])
    with pytest.raises(DataError, match=r"mnist: .*t10k"):
        load(DataConfig(name="mnist", root=tmp_path))


def test_missing_cifar_says_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar-10-batches-py is missing.*data\.name=folder"):
        load(DataConfig(name="cifar10", root=tmp_path))


def test_a_foreign_pickle_is_never_opened(tmp_path: Path) -> None:
    inner = tmp_path / "cifar-100-python"
    inner.mkdir()
    for name in ("train", "test", "meta"):
        (inner / name).write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "run") + b"'\ntR.")
    with pytest.raises(DataError, match="cifar-100-python is missing or damaged"):
        load(DataConfig(name="cifar100", root=tmp_path))
    assert not (tmp_path / "run").exists()


def write_cifar(root: Path, kind: Any, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """The Python version as it is unpacked, with few pictures; torchvision is told their digests."""
    inner = root / kind.base_folder
    inner.mkdir()

    def write(name: str, content: dict[str, Any]) -> str:
        (inner / name).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((inner / name).read_bytes()).hexdigest()  # noqa: S324 - what torchvision compares

    key = "fine_labels" if "100" in kind.base_folder else "labels"
    for part in ("train_list", "test_list"):
        labels = list(range(classes)) * 2
        data = np.zeros((len(labels), 3, 32, 32), dtype=np.uint8)
        data[:, 2] = np.array(labels)[:, None, None]
        content = {"data": data.reshape(len(labels), -1), key: labels, "coarse_labels": [0] * len(labels)}
        monkeypatch.setattr(kind, part, [[name, write(name, content)] for name, _ in getattr(kind, part)])
    digest = write(kind.meta["filename"], {kind.meta["key"]: [f"class_{label}" for label in range(classes)]})
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": digest})


@pytest.mark.parametrize(("name", "classes", "batches"), [("cifar10", 10, 5), ("cifar100", 100, 1)])
def test_cifar_is_read_as_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, classes: int, batches: int
) -> None:
    write_cifar(tmp_path, getattr(datasets, name.upper()), monkeypatch, classes)
    splits = load(DataConfig(name=name, root=tmp_path))
    assert splits.train.shape == (3, 32, 32)
    assert splits.train.classes == tuple(f"class_{label}" for label in range(classes))
    assert splits.train.histogram() == (2 * batches,) * classes
    assert splits.judge.histogram() == splits.test.histogram() == (1,) * classes
    blue = splits.train.images[:, 2, 31, 0].add(1).mul(127.5).round().long()
    assert torch.equal(blue, splits.train.labels)


def write_tiny_imagenet(root: Path) -> None:
    """Two classes as tiny-imagenet-200.zip unpacks them; the very first picture is grey, as some there are."""
    for label, wnid in enumerate(("n01", "n02")):
        for index in range(3):
            grey = label == index == 0
            paint(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 100 * label, mode="L" if grey else "RGB")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t5\t5\n")
    rows = [(f"val_{index}.JPEG", ("n02", "n01")[index % 2]) for index in range(4)]
    for name, wnid in rows:
        paint(root / "val" / "images" / name, 100 if wnid == "n02" else 0, mode="RGB")
    paint(root / "test" / "images" / "test_0.JPEG", 7, mode="RGB")
    (root / "val" / "val_annotations.txt").write_text("".join(f"{name}\t{wnid}\t0\t0\t5\t5\n" for name, wnid in rows))
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n00\tentity\nn02\tEgyptian cat\nn01\tgoldfish, Carassius auratus\n")


def test_tiny_imagenet_is_read_as_it_is_unpacked(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    splits = load(DataConfig(name="tiny-imagenet", root=tmp_path))
    assert splits.train.classes == splits.test.classes == ("goldfish", "Egyptian cat")
    assert splits.train.histogram() == (3, 3)
    assert splits.judge.histogram() == (1, 1)
    assert splits.train.shape == (3, 6, 6)
    reds = splits.test.images[:, 0, 2, 2]
    torch.testing.assert_close(reds, splits.test.labels * (200 / 255) - 1, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (None, ("n01", "n02")),
        ("n01\tcrane\nn02\tcrane, crane machine\n", ("crane (n01)", "crane (n02)")),
    ],
)
def test_tiny_imagenet_classes_have_one_name_each(tmp_path: Path, words: str | None, classes: tuple[str, ...]) -> None:
    write_tiny_imagenet(tmp_path)
    if words is None:
        (tmp_path / "words.txt").unlink()
    else:
        (tmp_path / "words.txt").write_text(words)
    assert load(DataConfig(name="tiny-imagenet", root=tmp_path)).train.classes == classes


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("val/val_annotations.txt", "val_0.JPEG\tn99\n", "val_annotations.txt is missing or malformed"),
        ("val/val_annotations.txt", "val_0.JPEG\n", "val_annotations.txt is missing or malformed"),
        ("words.txt", "n01\tgoldfish\nn02\t\n", r"words.txt is malformed \(KeyError\('n02'\)\)"),
        ("words.txt", "n01\tgoldfish\n", r"words.txt is malformed \(KeyError\('n02'\)\)"),
    ],
)
def test_damaged_tiny_imagenet_is_refused(tmp_path: Path, file: str, content: str, said: str) -> None:
    write_tiny_imagenet(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=said):
        load(DataConfig(name="tiny-imagenet", root=tmp_path))


def test_a_folder_without_splits_is_split(tmp_path: Path) -> None:
    for label, name in enumerate(("cat", "dog")):
        for index in range(10):
            paint(tmp_path / name / f"{index}.png", 10 * index + label)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    splits = load(DataConfig(name="folder", root=tmp_path))
    parts = (splits.train, splits.judge, splits.test)
    assert [part.histogram() for part in parts] == [(6, 6), (2, 2), (2, 2)]
    values = torch.cat([part.images[:, 0, 0, 0] for part in parts]).add(1).mul(127.5).round().tolist()
    assert sorted(values) == sorted(10 * index + label for index in range(10) for label in (0, 1))
    assert all(value % 10 == label for value, label in zip(values, _labels(parts), strict=True))


def _labels(parts: tuple[ImageSet, ...]) -> list[int]:
    return [label for part in parts for label in part.labels.tolist()]


def test_one_grey_image_does_not_make_a_folder_grey(tmp_path: Path) -> None:
    for split, first in (("train", "L"), ("test", "RGB")):
        for name in ("a", "b"):
            for index in range(2):
                mode = first if (name, index) == ("a", 0) else "RGB"
                paint(tmp_path / split / name / f"{index}.png", 9, mode=mode)
    data = DataConfig(name="folder", root=tmp_path)
    assert load(data).train.shape == (3, 6, 6)
    assert load(data.model_copy(update={"channels": 1})).train.shape == (1, 6, 6)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for index in range(5):
            paint(tmp_path / name / f"{index}.png", index)
    data = DataConfig(name="folder", root=tmp_path)
    assert load(data).train.classes == ("bus", "train")
    paint(tmp_path / "train" / "deeper" / "0.png", 1)
    with pytest.raises(DataError, match=r"train holds classes, but there is no .*test: set data\.root"):
        load(data)


def test_what_cannot_be_read_is_refused_or_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        for index in range(6):
            paint(tmp_path / name / f"{index}.png", index)
    for path in ("a/5.png", "lost/0.jpg", "lost/1.dcm"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"\x89PNG\r\n\x1a\nno more")
    data = DataConfig(name="folder", root=tmp_path)
    with pytest.raises(UnreadableImage, match=r"5\.png is not a readable image: .*or set data\.unreadable: skip"):
        load(data)
    splits = load(data.model_copy(update={"unreadable": "skip"}))
    assert splits.train.classes == ("a", "b")
    assert sum(map(len, (splits.train, splits.judge, splits.test))) == 11
    assert "3 of 14 images are left out" in caplog.text


def test_train_and_test_must_hold_the_same_classes(tmp_path: Path) -> None:
    for path in ("train/a", "train/b", "test/a", "test/c"):
        paint(tmp_path / path / "0.png", 1)
    with pytest.raises(DataError, match=r"\['b', 'c'\]"):
        load(DataConfig(name="folder", root=tmp_path))


@pytest.mark.parametrize("kind", ["empty", "broken picture", "odd size"])
def test_a_folder_that_does_not_do_is_refused(tmp_path: Path, kind: str) -> None:
    said = {"empty": "holds no images", "broken picture": "not a readable"}
    said |= {"odd size": r"set data\.size"}
    if kind != "empty":
        for name in ("a", "b"):
            for index in range(5):
                paint(tmp_path / name / f"{index}.png", index)
    if kind == "broken picture":
        (tmp_path / "b" / "3.png").write_bytes((tmp_path / "b" / "3.png").read_bytes()[:40])
    if kind == "odd size":
        paint(tmp_path / "b" / "3.png", 3, side=7)
    with pytest.raises(DataError, match=said[kind]):
        load(DataConfig(name="folder", root=tmp_path))
