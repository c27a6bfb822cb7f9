"""Any map-style torch Dataset is a data set; what its code raises, or returns, is one error that names it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import Dataset, TensorDataset

from fednet.data import registry
from fednet.data.config import Columns, DataConfig
from fednet.data.datasets import load
from fednet.data.survey import survey
from fednet.errors import DataError

PIXELS = torch.linspace(0, 1, 16).view(1, 4, 4)


class Items(Dataset[Any]):
    """Twenty items, as a function of their index gives them."""

    def __init__(self, item: Callable[[int], Any], **attributes: Any) -> None:
        self.item = item
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DataConfig]:
    """A configuration whose factory gives an object."""

    def config(dataset: Any, **keys: Any) -> DataConfig:
        module = ModuleType("a_data_set")
        vars(module)["make"] = lambda **options: dataset(**options) if callable(dataset) else dataset
        monkeypatch.setitem(sys.modules, "a_data_set", module)
        return DataConfig(name="python", object="a_data_set:make", **keys)

    return config


@pytest.mark.parametrize(
    ("image", "channels"),
    [
        (PIXELS, 1),
        (PIXELS.expand(3, 4, 4).bfloat16(), 3),
        (PIXELS[0].numpy(), 1),
        ((PIXELS * 255).to(torch.uint8), 1),
        (np.zeros((4, 4, 3), np.uint8), 3),
        (Image.new("L", (4, 4)), 1),
        (Image.new("1", (4, 4)), 1),
        (Image.new("CMYK", (4, 4)), 3),
        (Image.new("P", (4, 4)), 3),
    ],
    ids=["tensor", "bfloat16", "array", "bytes", "array of colours", "L", "1", "CMYK", "P"],
)
def test_images_are_tensors_arrays_or_of_pillow(made: Callable[..., DataConfig], image: Any, channels: int) -> None:
    splits = load(made(Items(lambda index: (image, index % 2))))
    assert splits.train.shape == (channels, 4, 4)
    assert splits.train.classes == ("0", "1")


def test_values_arrive_as_they_are(made: Callable[..., DataConfig]) -> None:
    splits = load(made(TensorDataset(PIXELS.expand(20, 1, 4, 4), torch.arange(20) % 2)))
    assert torch.allclose(splits.train.images[0], PIXELS * 2 - 1, atol=1e-6)


def test_labels_are_named_by_the_data_set(made: Callable[..., DataConfig]) -> None:
    found = survey(made(Items(lambda index: (PIXELS, index % 3 - 1), classes=["cat", "dog"])))
    assert found.counts == {"all": {"cat": 7, "dog": 6}}
    assert found.files is not None
    assert found.files.unsorted == 7, "-1 is no class"


def test_items_may_be_images_alone_or_mappings(made: Callable[..., DataConfig]) -> None:
    assert survey(made(Items(lambda _: PIXELS))).counts == {"all": {"": 20}}
    keys = Items(lambda index: {"scan": PIXELS, "finding": "ab"[index % 2]})
    config = made(keys, columns=Columns(image="scan", label="finding"))
    assert survey(config).counts == {"all": {"a": 10, "b": 10}}


def test_targets_spare_reading_and_must_be_those_of_the_items(made: Callable[..., DataConfig]) -> None:
    read = list[int]()

    def item(index: int) -> Any:
        read.append(index)
        return PIXELS, index % 2

    config = made(Items(item, targets=[index % 2 for index in range(20)]), channels=1)
    source = registry.find(config.name).read(config)
    assert read == []
    source.train.read(torch.tensor([3]))
    assert read == [6], "the fourth of the evens"
    with pytest.raises(DataError, match=r"a_data_set:make\[1\] is '1' now and was '0' \(`targets`\)"):
        load(made(Items(item, targets=[1 - index % 2 for index in range(20)])))


def test_a_mapping_has_a_part_to_test_with(made: Callable[..., DataConfig]) -> None:
    parts = {"train": Items(lambda index: (PIXELS, index % 2)), "test": Items(lambda index: (PIXELS, index % 2))}
    splits = load(made(parts))
    assert (len(splits.train), len(splits.judge) + len(splits.test)) == (20, 20)


def test_the_factory_gets_its_options_and_the_folder(made: Callable[..., DataConfig], tmp_path: Path) -> None:
    given = dict[str, Any]()

    def make(**options: Any) -> Any:
        given.update(options)
        return Items(lambda _: (PIXELS, 0))

    survey(made(make, root=tmp_path, options={"year": 2020}))
    assert given == {"root": tmp_path, "year": 2020}


def fail(**_: Any) -> Any:
    raise RuntimeError("no licence\nat all")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (fail, r"a_data_set:make failed with no options: RuntimeError: no licence at all"),
        (iter(()), r"is a tuple_iterator; expected a Dataset with __len__ and __getitem__"),
        (Items(lambda _: 1 / 0), r"cannot be read \(a_data_set:make\): ZeroDivisionError"),
        (Items(lambda _: (PIXELS, 0.5)), "0.5 is no label"),
        (Items(lambda _: (PIXELS, True)), "True is no label"),
        (Items(lambda _: (PIXELS, 2), classes=["cat", "dog"]), "the label 2 is none of the 2 classes"),
        (Items(lambda _: ("a path", 0)), "is not a readable image"),
        (Items(lambda _: (torch.zeros(5, 4, 4), 0)), r"an array \(4, 4, 5\) is no image"),
        ({"validation": Items(lambda _: (PIXELS, 0))}, "no images to train on: the splits are 'validation'"),
    ],
    ids=["raises", "iterable", "item raises", "fraction", "truth", "class", "text", "channels", "split"],
)
def test_what_is_no_data_set_is_one_error(made: Callable[..., DataConfig], dataset: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(made(dataset))


def test_a_factory_that_there_is_not_is_one_error() -> None:
    with pytest.raises(DataError, match=r"nowhere\.at_all:make cannot be imported: ModuleNotFoundError"):
        load(DataConfig(name="python", object="nowhere.at_all:make"))


def test_the_factory_must_be_named_and_is_only_taken_where_it_belongs() -> None:
    with pytest.raises(ValidationError, match="needs object, the factory of its data set"):
        DataConfig(name="python")
    with pytest.raises(ValidationError, match="'digits' takes no object"):
        DataConfig(name="digits", object="a:b")
