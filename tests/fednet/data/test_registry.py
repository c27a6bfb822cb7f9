"""Data sets are found by entry point or by module path; an unknown or broken one is a single error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fednet.data import registry
from fednet.data.config import DataConfig
from fednet.data.contract import Dataset
from fednet.data.datasets import load
from fednet.errors import UnknownDataset

BUILT_IN = ("cifar10", "cifar100", "digits", "folder", "hugging-face", "mnist", "python", "table", "tiny-imagenet")
SOURCE = """
from fednet.data.contract import Dataset

def read(config):
    import torch
    from fednet.data.pools import DataSource, ImagePool
    images = torch.linspace(-1, 1, 40).view(40, 1, 1, 1).expand(40, 1, 4, 4)
    return DataSource(ImagePool.of(images, torch.arange(40) % 2, ("even", "odd"), config.size))

DATASET = Dataset("stripes", "two classes", read, root="none")
"""


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_data_sets_are_registered(name: str) -> None:
    assert name in registry.names()
    found = registry.find(name)
    assert isinstance(found, Dataset)
    assert found.name == name
    assert found.summary


def test_a_configuration_is_read_without_torch() -> None:
    code = "import sys; from fednet.data.config import DataConfig; DataConfig(name='digits'); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_a_module_path_is_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripes").mkdir()
    (tmp_path / "stripes" / "data.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    splits = load(DataConfig(name="stripes.data", size=8))
    assert splits.train.shape == (1, 8, 8)
    assert splits.train.classes == ("even", "odd")
    with pytest.raises(ValidationError, match="takes no root"):
        DataConfig(name="stripes.data", root=tmp_path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownDataset, match=r"unknown data set 'digts': expected one of .*digits.*a module"):
        registry.find("digts")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
        ("DATASET = 3", r"is a int; expected a fednet\.data\.contract\.Dataset"),
        ("", "has no attribute 'DATASET'"),
        (SOURCE.replace('root="none"', 'extra="x[y]", requires=("no_such",)'), "needs no_such.* pip install 'x"),
    ],
)
def test_a_broken_module_says_what_is_wrong(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    package = f"broken_{abs(hash(request.node.name))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "data.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValidationError, match=message):
        DataConfig(name=f"{package}.data")
